"""Sizes that inputs leave open besides the batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cnnc
from cnnc.open_sizes import KEPT, OpenNetwork

TEXT = """model fcn(classes = 4) {
    input image: f32[N, 3, H, W]
    y = image -> conv(8, 3, padding=1) as conv1 -> relu -> maxpool(2)
    expect y: f32[N, 8, H // 2, W // 2]
    return y -> conv(classes, 1) as conv2
}"""
RNG = np.random.default_rng(0)


def net() -> OpenNetwork:
    found = cnnc.parse(TEXT)
    assert isinstance(found, OpenNetwork)
    return found


def test_each_size_is_the_network_of_that_size() -> None:
    network = net()
    assert network.open_sizes == ("H", "W")
    exe = cnnc.compile(network, target="reference")
    fixed = TEXT.replace("H, W]", "6, 9]", 1).replace("H //", "6 //").replace("W //", "9 //")
    closed = cnnc.parse(fixed)
    closed.weights = network.weights
    x = RNG.standard_normal((2, 3, 6, 9)).astype(np.float32)
    assert np.array_equal(exe(x), cnnc.compile(closed, target="reference")(x))
    assert exe(image=RNG.standard_normal((1, 3, 4, 4))).shape == (1, 4, 2, 2)
    assert exe.at(H=6, W=9) is exe.at(W=9, H=6)


def test_weights_are_those_of_all_sizes(tmp_path: Path) -> None:
    network = net()
    network.weights["conv2.bias"] = np.arange(4)
    assert network.at(H=4, W=8).weights["conv2.bias"].tolist() == [0, 1, 2, 3]
    network.at(H=2, W=2).weights["conv2.bias"] = np.ones(4)
    assert network.weights["conv2.bias"].tolist() == [1] * 4
    network.save_weights(tmp_path / "w.safetensors")
    other = net()
    other.load_weights(tmp_path / "w.safetensors")
    assert other.at(H=8, W=8).weights["conv2.bias"].tolist() == [1] * 4


def test_few_sizes_are_kept() -> None:
    network = net()
    exe = cnnc.compile(network, target="reference")
    for size in range(2, 2 * KEPT + 2):
        exe(np.zeros((1, 3, size, 2), np.float32))
    assert len(network._networks) == len(exe._executables) == KEPT


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda n: n.graph, r"E0655.*leaves the sizes H, W"),
        (lambda n: n.summary(), "E0655"),
        (lambda n: n.at(H=3), "E0655.*W is None"),
        (lambda n: n.at(H=3, W=0), "E0655.*W is 0"),
        (lambda n: n.at(H=3, W=3, D=3), "E0655.*D is no open size"),
        (lambda n: n.at(H=1, W=1), "E0202"),
        (lambda n: cnnc.compile(n)(np.zeros((1, 2, 5, 5))), r"E0702.*\[N, 3, H, W\]"),
        (lambda n: cnnc.compile(n)(), "E0703"),
        (lambda n: cnnc.compile(n).graph, "E0655"),
        (lambda n: cnnc.value_and_grad(n), "E0655"),
    ],
)
def test_errors(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(cnnc.CnncError, match=f"(?s){message}"):
        call(net())


def test_sizes_that_inputs_share() -> None:
    text = "model m { input a: f32[N, 1, L] input b: f32[N, 1, L] return a + b }"
    exe = cnnc.compile(cnnc.parse(text), target="reference")
    assert exe(np.ones((1, 1, 3)), np.ones((1, 1, 3))).tolist() == [[[2, 2, 2]]]
    with pytest.raises(cnnc.CnncError, match="E0655"):
        exe(np.ones((1, 1, 3)), np.ones((1, 1, 4)))


def test_parameters_do_not_depend_on_sizes() -> None:
    exe = cnnc.compile(cnnc.parse("model m { input x: f32[N, 2, L] return x -> flatten -> linear(3) as fc }"))
    assert exe(np.zeros((1, 2, 5))).shape == (1, 3)
    with pytest.raises(cnnc.CnncError, match=r"E0655.*'fc.weight' is \[3, 10\] for L=5 and \[3, 12\] for L=6"):
        exe(np.zeros((1, 2, 6)))


def test_a_name_in_small_letters_is_a_mistake() -> None:
    with pytest.raises(cnnc.CnncError, match=r"E0301.*height"):
        cnnc.parse("model m { input a: f32[N, 1, height] return a -> relu }")
