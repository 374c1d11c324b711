"""Looking into a network: inner values by name, and gradients by anything that has one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc.runtime import room

TEXT = """model m(classes = 3) {
    input image: f32[N, 2, 9, 9]
    input other: f32[N, 2, 9, 9]
    x = image -> conv(5, 3, padding=1) -> batchnorm -> relu -> maxpool(2)
    y = other -> conv(5, 3, padding=1) as side -> tanh -> maxpool(2)
    z = x + y -> conv(7, 3) as block.last
    return z -> dropout(0.3) -> flatten -> linear(classes) as fc
}"""
RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((2, 3, 2, 9, 9)).astype(np.float32)
LABELS = np.array([0, 2, 1])
WRT = ["side.weight", "fc.bias", "image", "conv1", "maxpool2", "add1", "block.last", "fc"]


@pytest.fixture(scope="module")
def net() -> cnnc.Network:
    net = cnnc.parse(TEXT)
    net.weights["batchnorm1.running_mean"] = RNG.standard_normal(5)
    net.weights["batchnorm1.running_var"] = RNG.uniform(0.5, 2, 5)
    return net


def test_every_value_by_both_targets(net: cnnc.Network) -> None:
    ours, exact = net.trace(A, B), net.trace(A, other=B, target="reference")
    assert list(ours) == [
        "image", "other", "conv1", "batchnorm1", "relu1", "maxpool1", "side", "tanh1", "maxpool2", "add1",
        "block.last", "dropout1", "flatten1", "fc",
    ]  # fmt: skip
    assert np.array_equal(ours["image"], A)
    for name, value in exact.items():
        assert (ours[name].dtype, value.dtype, ours[name].shape) == (np.float32, np.float64, value.shape)
        assert np.abs(ours[name] - value).max() <= 1e-5 * max(1.0, float(np.abs(value).max())), name
    w = net.weights
    scale = w["batchnorm1.weight"] / np.sqrt(w["batchnorm1.running_var"].astype(float) + 1e-5)
    normal = (exact["conv1"] - w["batchnorm1.running_mean"][:, None, None]) * scale[:, None, None]
    np.testing.assert_allclose(exact["batchnorm1"], normal + w["batchnorm1.bias"][:, None, None], atol=1e-12)
    np.testing.assert_array_equal(exact["relu1"], np.maximum(exact["batchnorm1"], 0))
    assert list(net.trace(A, B, names=["fc", "conv1"], target="reference")) == ["conv1", "fc"]


@pytest.mark.parametrize(
    ("call", "code", "said"),
    [
        (lambda n: n.trace(A, B, names=["conv"]), "E0830", "did you mean 'conv1'?"),
        (lambda n: n.trace(A, B, names=["block"]), "E0830", "'block' has several: block.last"),
        (lambda n: n.trace(A, B, names=["fc.weight"]), "E0830", "no value 'fc.weight'"),
        (lambda n: n.trace(A, B, names="fc"), "E0706", "a list of names"),
        (lambda n: n.trace(A), "E0703", "other missing"),
        (lambda n: cnnc.value_and_grad(n, wrt=["imgae"]), "E0830", "did you mean 'image'?"),
        (lambda n: cnnc.value_and_grad(n, wrt=["block"]), "E0830", "block.last.weight"),
        (lambda n: cnnc.value_and_grad(n, wrt=["batchnorm1.running_mean"]), "E0830", "no value"),
        (lambda n: cnnc.value_and_grad(n, of="outputs"), "E0830", "did you mean 'output'?"),
        (lambda n: cnnc.value_and_grad(n, of=3), "E0706", "of is 3"),
        (
            lambda n: cnnc.value_and_grad(n, of="fc", target="reference")(A, B, grad_output=np.ones(7)),
            "E0702",
            "[3, 3]",
        ),
    ],
)
def test_names_that_there_are_not(net: cnnc.Network, call: Any, code: str, said: str) -> None:
    with pytest.raises(cnnc.CnncError) as e:
        call(net)
    assert e.value.diagnostics[0].code == code
    assert said in str(e.value)


def test_memory_is_refused_in_words(net: cnnc.Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_limits", lambda: iter([(2 << 20, "by a test")]))
    x = np.zeros((400, 2, 9, 9), np.float32)
    with pytest.raises(cnnc.CnncError, match="for 14 values of a batch of 400") as e:
        net.trace(x, x)
    assert "the largest is 'conv1', 0.6 MiB; names=" in str(e.value)
    assert e.value.exit_code == 5
    assert net.trace(x[:40], x[:40], names=["fc"], target="reference")["fc"].shape == (40, 3)


@pytest.mark.parametrize("of", [None, "output", "block.last"])
def test_gradients_by_inputs_and_inner_values(net: cnnc.Network, of: str | None) -> None:
    """The compiled ones are the reference's, and a small step along them changes the value as they say."""
    more: dict[str, Any] = {"seed": 5} if of is None else {"grad_output": RNG.standard_normal(3)[:, None, None, None]}
    if of == "output":
        more = {"grad_output": np.eye(3)[[2, 0, 1]]}
    given = (A, B, LABELS) if of is None else (A, B)
    (loss, found), (exact, expected) = (
        cnnc.value_and_grad(net, wrt=WRT, of=of, target=target)(*given, **more) for target in ("cpu", "reference")
    )
    assert list(found) == WRT
    assert loss == pytest.approx(exact, rel=1e-5)
    for name, gradient in expected.items():
        assert found[name].shape == gradient.shape
        assert np.abs(found[name] - gradient).max() <= 1e-4 * max(1e-3, np.abs(gradient).max()), name
    if of == "block.last":
        assert not expected["fc.bias"].any(), "what does not lead there has a gradient of 0"
        return
    function = cnnc.value_and_grad(net, wrt=[], of=of, target="reference")
    inputs: dict[str, Any] = {"image": A, "other": B}
    if of is None:
        inputs |= {"labels": LABELS, "seed": np.array([5, 0])}
    else:
        inputs["grad_output"] = more["grad_output"]
    direction, step = RNG.choice([-1.0, 1.0], A.shape), 1e-6
    ahead, behind = (  # in float64 throughout, inputs too
        function.executable.runner.run({**inputs, "image": A + sign * step * direction})[
            "loss" if of is None else "value"
        ]
        for sign in (1, -1)
    )
    assert (ahead - behind) / (2 * step) == pytest.approx((expected["image"] * direction).sum(), rel=1e-5)


def test_the_gradient_of_one_class_is_its_weights(net: cnnc.Network) -> None:
    """d fc[:, 1] / d flatten1, as it predicts: nothing is dropped, no batch is normalized."""
    function = cnnc.value_and_grad(net, of="fc", wrt=["flatten1"], target="reference")
    value, gradients = function(A, B, grad_output=np.eye(3)[1])
    np.testing.assert_allclose(gradients["flatten1"], np.tile(net.weights["fc.weight"][1], (3, 1)))
    assert value == pytest.approx(net.trace(A, B, target="reference")["fc"][:, 1].sum())
    assert {k: v.shape for k, v in function(A[:0], B[:0])[1].items()} == {"flatten1": (0, 28)}


def test_a_network_of_open_sizes_is_asked_for_them() -> None:
    net = cnnc.parse("model m() { input x: f32[N, 1, H, W] return x -> conv(2, 3) as c -> global_avgpool -> flatten }")
    x = np.ones((2, 1, 5, 6), np.float32)
    for call in (lambda: net.trace(x), lambda: cnnc.value_and_grad(net, of="c", wrt=["x"])):
        with pytest.raises(cnnc.CnncError, match="E0655"):
            call()
    assert net.at(H=5, W=6).trace(x, target="reference")["c"].shape == (2, 2, 3, 4)
