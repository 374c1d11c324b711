"""A 1x1 convolution goes along in the step of the depthwise one that alone reads it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc import driver
from cnnc.backends.cpu import CpuBackend
from cnnc.backends.cpu.rules import depthwise
from cnnc.lowering.lower import lower
from cnnc.passes.optimizer import SGD
from cnnc.passes.training import training_graph
from cnnc.runtime import profile

TOGETHER = "conv_depthwise"


def network(middle: str, result: str = "d") -> cnnc.Network:
    return cnnc.parse(f"""
model m() {{
    input x: f32[N, 20, 14, 15]
    e = x -> conv(40, 1) as wide
    a = e -> relu6
    {middle}
    return {result} -> conv(7, 1) as last
}}""")


def families(net: cnnc.Network, batch: int = 1) -> list[str]:
    machine = CpuBackend()
    return [s.kernel.family for s in lower(driver.optimize(net.graph, machine.layouts())[0], batch, machine).steps]


ALONG = {
    "plain": "d = a -> conv(40, 3, padding=1, groups=40) as deep -> relu6",
    "batch norms": "d = e -> batchnorm -> silu -> conv(40, 3, padding=1, stride=2, groups=40, bias=false) as deep -> batchnorm -> relu",
    "5x5": "d = a -> conv(40, 5, padding=2, groups=40) as deep",
    "dilated": "d = a -> conv(40, 3, padding=2, dilation=2, groups=40) as deep",
    "a sum behind": "d = (a -> conv(40, 3, padding=1, groups=40) as deep) + (x -> conv(40, 1) as other)",
}
APART = {
    "read twice": "d = (a -> conv(40, 3, padding=1, groups=40) as deep) + a",
    "another kernel": "a = x -> conv(40, 3, padding=1) as three -> relu\n d = a -> conv(40, 3, padding=1, groups=40) as deep",
    "groups": "d = a -> conv(40, 3, padding=1, groups=4) as deep",
    "a stride ahead": "a = x -> conv(40, 1, stride=2) as far -> relu\n d = a -> conv(40, 3, padding=1, groups=40) as deep",
    "a sum ahead": "a = e + (x -> conv(40, 1) as other)\n d = a -> conv(40, 3, padding=1, groups=40) as deep",
    "pooling between": "d = a -> maxpool(2) -> conv(40, 3, padding=1, groups=40) as deep",
    "tap by tap": "d = a -> conv(40, 9, padding=4, groups=40) as deep",
}


@pytest.mark.parametrize("case", ALONG)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_bits_are_those_of_two_steps(case: str, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net = network(ALONG[case])
    x = np.random.default_rng(0).standard_normal((batch, 20, 14, 15)).astype(np.float32)
    assert families(net, batch).count(TOGETHER) == 1
    y = cnnc.compile(net)(x)
    np.testing.assert_allclose(y, cnnc.compile(net, target="reference")(x), atol=3e-5)
    monkeypatch.setattr(depthwise, "_along", lambda low, node: None)
    assert TOGETHER not in families(net, batch)
    np.testing.assert_array_equal(cnnc.compile(net)(x), y)


@pytest.mark.parametrize("case", APART)
def test_what_stays_apart(case: str) -> None:
    net = network(APART[case])
    x = np.random.default_rng(0).standard_normal((2, 20, 14, 15)).astype(np.float32)
    assert TOGETHER not in families(net)
    np.testing.assert_allclose(cnnc.compile(net)(x), cnnc.compile(net, target="reference")(x), atol=3e-5)


def test_outputs_and_training_stay_apart() -> None:
    text = """
model m() {
    input x: f32[N, 20, 14, 15]
    e = x -> conv(40, 1) as wide
    d = e -> conv(40, 3, padding=1, groups=40) as deep -> global_avgpool -> flatten
    return BOTH
}"""
    assert TOGETHER in families(cnnc.parse(text.replace("BOTH", "d")))
    assert TOGETHER not in families(cnnc.parse(text.replace("BOTH", "(d, e)")))
    net = cnnc.parse(text.replace("BOTH", "d"))
    machine = CpuBackend()
    graph = driver.optimize(training_graph(net.graph, optimizer=SGD(momentum=0.9)), machine.layouts())[0]
    assert TOGETHER not in [s.kernel.family for s in lower(graph, 2, machine).steps]


def test_its_work_is_counted() -> None:
    """The step's flops are both convolutions', its bytes without the tensor between them."""
    net = network(ALONG["plain"])
    exe = cnnc.compile(net)
    compiled: Any = exe.runner
    x = np.zeros((2, 20, 14, 15), np.float32)
    rows = {row.layer: row for row in profile.layers(exe.graph, profile.steps(compiled, {"x": x}, 1), 2)}
    assert set(rows) >= {"deep", "last"}
    assert "wide" not in rows
    pixels = 2 * 14 * 15
    assert rows["deep"].flops == 2 * pixels * 40 * (20 + 9)
    blocks = 4 * pixels * 16 * (-(-20 // 16) + -(-40 // 16))
    assert rows["deep"].bytes == pytest.approx(blocks, rel=0.1)
    assert "1x1 of" in rows["deep"].why
