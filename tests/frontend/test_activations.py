"""Operators and functions on tensors, and activations that a file writes: graphs, errors, results, gradients."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

import cnnc
from cnnc import describe, driver
from cnnc.backends.cpu.pipeline import layouts
from cnnc.ir.text import parse_graph, print_graph
from tests.frontend.models import model

HEAD = """
## Bent at 0.
activation bent(x, a = HALF) = where(x < 0, a * x, log1p(max(x, 0)))
activation soft(x, b) = bent(x, b) * sigmoid(2 * x) + (x -> gelu("tanh")) / 4
activation last(x) = x -> soft(b=0.25) -> leaky_relu(0.5) -> clamp(max=3)
const HALF = 1 / 2
"""
NETWORK = (
    HEAD
    + """
model m(act = bent) {
    input x: f32[N, 3, 7, 6]
    y = x -> conv(20, 3) -> batchnorm -> act -> conv(20, 1) -> bent(0.3) as bend -> soft(1) -> last
    larger = max(y, 0.5, bend(y)) as larger
    y = where(y > 0.25, y ** 3 - larger, min(y, -y)) + (0 <= y <= 1) * (y != larger)
    return y -> global_avgpool -> flatten -> linear(4)
}
""".replace("bent(0.3) as bend", "bent(0.3)").replace("bend(y)", "bent(y)")
)


def values(body: str, x: list[float], head: str = "") -> list[float]:
    """What a model gives for x: f32[N, numbers], by the reference and by the CPU."""
    net = cnnc.parse(f"{head}\nmodel m() {{ input x: f32[N, {len(x)}] {body} }}")
    given = np.array([x], np.float32)
    exact = cnnc.compile(net, target="reference")(given)[0]
    np.testing.assert_allclose(cnnc.compile(net)(given)[0], exact, rtol=1e-6, atol=1e-6)
    return [float(v) for v in exact]


def test_operators_on_tensors() -> None:
    body = (
        "s = x ** 2  return concat([where(x > 1, s, -1), max(x, 0, s), min(x, 1) -> abs, (0 <= x < 2) + 2 * (x == 3)])"
    )
    found = values(body, [-1.0, 0.5, 3.0])
    assert found == [-1, -1, 9, 1, 0.5, 9, 1, 0.5, 1, 0, 1, 2]


def test_a_layer_of_a_function_s_name_has_arguments_by_name() -> None:
    found = values("return concat([max(x, axis=1, keepdim=true), x -> max(1, true), max(x, 2)])", [1.0, 3.0])
    assert found == [3, 3, 2, 3]


def test_they_are_nodes_with_names() -> None:
    graph = model("a = where(x > 0, x, x ** 2) as chosen\nreturn max(a, x) + (x < a as mask) + (1 >= a)").graph
    made = [(n.name, n.op) for n in graph.nodes if n.op not in ("input", "constant")]
    assert made[:4] == [("gt1", "gt"), ("pow1", "pow"), ("chosen", "where"), ("maximum1", "maximum")]
    assert ("mask", "gt") in made
    assert graph.node("mask").operands == ("chosen", "x")


def test_an_activation_is_a_layer() -> None:
    program = cnnc.parse(NETWORK)
    graph = program.graph
    bent = graph.node("bent1")
    assert bent.attributes["expressions"] == ("where(0 > a0, 0.5 * a0, log1p(max(a0, 0)))",)
    assert describe.layer(graph, bent) == "bent"
    assert "bent" in str(program.summary())
    assert parse_graph(print_graph(graph)) == graph
    again = pickle.loads(pickle.dumps(program))
    assert again.graph == graph
    optimized, _ = driver.optimize(graph, layouts(8))
    assert all("epilogue" in n.attributes for n in optimized.nodes if n.op == "conv")


def test_its_value_and_gradient() -> None:
    assert values("return x -> bent", [-2.0, 0.0, np.e - 1], HEAD) == pytest.approx([-1, 0, 1])
    net = cnnc.parse(NETWORK, act="relu")
    assert "relu1" in net.graph
    net = cnnc.parse(NETWORK)
    x, labels = np.random.default_rng(0).standard_normal((3, 3, 7, 6)).astype(np.float32), np.array([0, 1, 3])
    given, exact = cnnc.compile(net)(x), cnnc.compile(net, target="reference")(x)
    assert np.abs(given - exact).max() <= 2e-5 * np.abs(exact).max()
    (_, found), (_, expected) = (cnnc.value_and_grad(net, target=t)(x, labels) for t in ("cpu", "reference"))
    for name, gradient in expected.items():
        assert np.abs(found[name] - gradient).max() <= 1e-4 * max(1e-3, np.abs(gradient).max()), name


def test_it_comes_from_other_files(tmp_path: Path) -> None:
    (tmp_path / "acts.cnn").write_text(HEAD)
    main = tmp_path / "m.cnn"
    main.write_text('include "acts.cnn"\nmodel m() { input x: f32[N, 3]  activation = x -> last  return activation }')
    graph = cnnc.load(str(main)).graph
    assert describe.layer(graph, graph.node("last1")) == "last"


def test_a_parameter_that_changes_nothing_is_warned_of() -> None:
    program = model("return x -> f", "activation f(x, a = 1) = x + a * 0 + tanh(x)\nactivation g(x, b = 2) = -x")
    assert [w.code for w in program.warnings] == ["W0106"]
    assert "the parameter b of activation g" in program.warnings[0].message
