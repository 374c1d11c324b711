"""Activations in networks: on the CPU and in the reference, in inference and training, fused, refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc import driver
from cnnc.backends.cpu.pipeline import layouts
from cnnc.ir.text import parse_graph, print_graph
from tests.ops.checking import check_gradient, reference

RNG = np.random.default_rng(5)
LAYERS = (
    "celu(0.5)", "gelu", 'gelu(approximate="tanh")', "mish", "softplus(2, 3)", "log_sigmoid", "softsign", "hardsigmoid", "hardswish",
    "hardtanh(-0.5, 1.5)", "clamp(max=1)", "threshold(0.1, -1)", "expm1", "erf", "sign", "floor", "pow(3)", "prelu",
    "prelu(x.channels, init=0.1)", "silu(1.5)", "silu(0.5, trained=true)", "elu", "leaky_relu", "selu",
)  # fmt: skip
SUM = " + ".join(f"0.25 * (x -> {layer})" for layer in LAYERS)
# in epilogues of convolutions of channels that fill the vectors and of such that do not, behind batch norm, in lines and volumes
NETWORKS = {
    "pointwise": f"block all(x) {{ return {SUM} }} "
    "model m { input x: f32[N, 3, 7, 5]  x = x -> conv(20, 3, padding=1) -> all "
    "return x -> global_avgpool -> flatten -> linear(5) }",
    "epilogues": "model m { input x: f32[N, 3, 9, 8] "
    "x = x -> conv(20, 3, padding=1) -> gelu -> conv(16, 3) -> batchnorm -> mish -> conv(24, 1) -> hardswish "
    "x = x + (x -> conv(24, 3, padding=1) -> prelu(24)) -> conv(8, 1) -> prelu "
    "return x -> glu -> maxout(2) -> global_avgpool -> flatten -> linear(12) -> silu(trained=true) -> linear(5) -> log_softmax }",
    "line": "model m { input x: f32[N, 3, 19] return x -> conv(6, 3) -> gelu -> prelu(6) -> maxout(3) -> flatten -> linear(4) }",
    "volume": "model m { input x: f32[N, 2, 4, 5, 3] "
    "return x -> conv(8, 2) -> softplus -> glu -> log_softmax -> flatten -> linear(4) -> glu }",
}


def near(found: Any, expected: Any, tolerance: float) -> None:
    scale = max(1e-3, float(np.abs(expected).max(initial=0)))
    assert np.abs(np.asarray(found) - expected).max(initial=0) <= tolerance * scale


@pytest.mark.parametrize("name", NETWORKS)
def test_the_cpu_is_the_reference(name: str) -> None:
    net = cnnc.parse(NETWORKS[name])
    shape = net.graph.inputs[0].type.shape[1:]
    for batch in (1, 3):
        x = RNG.standard_normal((batch, *map(int, shape))).astype(np.float32)
        near(cnnc.compile(net)(x), cnnc.compile(net, target="reference")(x), 2e-5)
    labels = np.array([0, 1, 1])
    if name == "volume":
        return  # two classes
    (loss, found), (exact, expected) = (cnnc.value_and_grad(net, target=t)(x, labels) for t in ("cpu", "reference"))
    near(loss, exact, 1e-5)
    assert set(found) == set(expected)
    for key, gradient in expected.items():
        near(found[key], gradient, 1e-4)


def test_they_become_epilogues() -> None:
    graph, _ = driver.optimize(cnnc.parse(NETWORKS["epilogues"]).graph, layouts(8))
    convolutions = [n for n in graph.nodes if n.op == "conv"]
    assert all("epilogue" in n.attributes for n in convolutions)
    assert not any(n.op in ("gelu", "mish", "prelu", "hardswish") for n in graph.nodes)
    assert parse_graph(print_graph(graph)) == graph


def test_values() -> None:
    x = np.array([[-2.0, 0.0, 1.0, 3.0]])
    assert reference("log_softmax", np.zeros((1, 4)))[0, 0] == pytest.approx(-np.log(4))
    net = cnnc.parse("model m { input x: f32[N, 4] return {a: x -> glu, b: x -> maxout(2), c: x -> prelu} }")
    results = cnnc.compile(net, target="reference")(x)
    assert np.allclose(results["a"], [[-2 / (1 + np.exp(-1)), 0]])
    assert results["b"].tolist() == [[0, 3]]
    assert results["c"].tolist() == [[-0.5, 0, 1, 3]]


def test_log_softmax() -> None:
    check_gradient(lambda b, n: b.add("log_softmax", n, {}), {"x": RNG.standard_normal((3, 4))})
    check_gradient(lambda b, n: b.add("log_softmax", n, {"axis": 2}), {"x": RNG.standard_normal((2, 3, 4, 2))})
    assert np.isfinite(reference("log_softmax", np.array([[1e4, -1e4]]))).all()
