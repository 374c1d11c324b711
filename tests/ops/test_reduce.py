"""Maxima, minima, products, logarithms of sums of powers, norms, places of extremes, and running sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc.ir.interpret import random_values, run
from cnnc.ir.op import OPS
from cnnc.ops.reduce import REDUCTIONS
from tests.ops.agreeing import trained
from tests.ops.checking import check_gradient, reference

RNG = np.random.default_rng(3)
AXES: list[Any] = [0, 1, (2, 3), (0, 2), (0, 1, 2, 3), -1]


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("op", REDUCTIONS)
def test_gradients(op: str, axis: Any, keepdim: bool) -> None:
    x = RNG.standard_normal((2, 3, 2, 4))
    check_gradient(lambda b, n: b.add(op, n, {"axis": axis, "keepdim": keepdim}), {"x": x})


def test_products_with_zeros() -> None:
    x = np.array([[2.0, 3, 4], [2, 0, 4], [0, 0, 4]])
    check_gradient(lambda b, n: b.add("prod", n, {"axis": 1}), {"x": x}, step=1e-5)


def test_equals_share() -> None:
    graph = cnnc.parse("model m { input x: f32[N, 3] return x -> max(1) }").graph
    from tests.bench.layers import with_gradients

    found = run(with_gradients(graph), {"x": np.array([[2.0, 5, 5]]), "given": np.array([4.0])}, {})
    assert found["grad:x"].tolist() == [[0, 2, 2]]


def test_values() -> None:
    x = np.array([[1.0, 3, 3], [-2, -5, np.nan]])
    assert reference("argmax", x, axis=1).tolist() == [1, 2]
    assert reference("argmin", x[:1], axis=1, keepdim=True).tolist() == [[0]]
    assert reference("cumsum", x[:1], axis=1).tolist() == [[1, 4, 7]]
    assert reference("cumsum", x[:1], axis=1, reverse=True).tolist() == [[7, 6, 3]]
    assert np.allclose(reference("logsumexp", x[:1] * 1000, axis=1), 3000 + np.log(2))
    assert reference("logsumexp", np.full((1, 2), -np.inf), axis=1).tolist() == [-np.inf]


@pytest.mark.parametrize(("axis", "reverse"), [(1, False), (2, True), (-1, False)])
def test_running_sums(axis: int, reverse: bool) -> None:
    check_gradient(
        lambda b, n: b.add("cumsum", n, {"axis": axis, "reverse": reverse}), {"x": RNG.standard_normal((2, 3, 4))}
    )


NETWORKS = [
    "y = x -> conv(20, 3) -> max([2, 3]) -> logsumexp(1, keepdim=true)",
    "y = x -> conv(17, 2) -> logsumexp([2, 3]) -> prod(1, keepdim=true)",
    "y = concat([x -> min([1, 3], keepdim=true), x -> conv(1, 1) -> prod(3, keepdim=true)], axis=2)",
    "y = (x -> cumsum(1) -> cumsum(2)) * 0.1 + (x -> cumsum(3)) -> conv(3, 3)",
    "y = concat([x -> norm(axis=1), x -> norm(1, axis=1), x -> logsumexp(1)], axis=1)",
    "y = max(x, x -> max(3, keepdim=true)) - min(x, 0.5) -> conv(5, 3)",
]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("text", NETWORKS)
def test_the_cpu_is_the_reference(text: str, batch: int) -> None:
    trained(f"model m {{ input x: f32[N, 3, 7, 19] {text} return y -> flatten -> linear(5) }}", batch)


EXACT = [
    (op, axis) for op in ("max", "min", "prod") for axis in (0, 1, (2, 3), (1, 3), (0, 1, 2, 3))
] + [(op, axis) for op in ("argmax", "argmin", "cumsum") for axis in (1, 2, 3)]  # fmt: skip


@pytest.mark.parametrize(("op", "axis"), EXACT)
def test_whole_numbers_are_met_to_the_bit(op: str, axis: Any) -> None:
    """With equals, infinities and NaN among them; rows longer than all registers together."""
    from cnnc.driver import build
    from cnnc.ir.builder import Builder
    from cnnc.ir.types import activation

    x = RNG.integers(-3, 4, (2, 3, 5, 150)).astype(np.float32)
    if op == "prod":
        x = np.where(RNG.random(x.shape) < 0.02, 2, np.sign(x) + (x == 0)).astype(np.float32)
    elif op != "cumsum":
        x[0, 1, 2, 70], x[1, 2, :, 149], x[0, 0, 3, 5:9], x[1, 1] = np.nan, np.inf, -np.inf, np.nan
    for reverse in (False, True) if op == "cumsum" else (None,):
        b = Builder("m")
        given = {"axis": axis} | ({} if reverse is None else {"reverse": reverse})
        y = b.add(op, [b.input("x", activation(("N", 3, 5, 150)))], given, "y")
        found = build(b.finish([("y", y)]), {}, "cpu", 1).run({"x": x})["y"]
        assert np.array_equal(found, reference(op, x, **given), equal_nan=True)


@pytest.mark.parametrize("axis", [1, 2])
def test_long_running_sums(axis: int) -> None:
    x = RNG.random((2, 3000, 2) if axis == 1 else (2, 2, 3000)).astype(np.float32)
    sizes = ", ".join(map(str, x.shape[1:]))
    y = cnnc.compile(cnnc.parse(f"model m {{ input x: f32[N, {sizes}] return x -> cumsum({axis}) }}"))(x)
    exact = x.astype(np.float64).cumsum(axis)
    assert (np.abs(y - exact) <= 3e-7 * exact + 1e-6).all()


OTHERS = [f"{op}({axis}, keepdim=true)" for op in REDUCTIONS for axis in ("1", "[2, 3]")]
OTHERS += ["argmax(1)", "argmin(3, keepdim=true)", "cumsum(2)", "norm(2, axis=[1, 2])", "norm(1, axis=3)"]


@pytest.mark.parametrize("layer", OTHERS)
def test_other_programs(layer: str) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from cnnc.bench import torch_network
    from tests.bench.layers import with_gradients
    from tests.interop.test_onnx import agree

    net = cnnc.parse(f"model m {{ input x: f32[N, 3, 4, 5] return x -> {layer} }}")
    agree(net.graph)
    inputs, values = random_values(net.graph, 2)
    module, x = torch_network.module(net.graph, values), torch.from_numpy(inputs["x"]).requires_grad_()
    y = module(x)
    if "arg" in layer:
        assert np.array_equal(y.detach().numpy(), run(net.graph, inputs, {})["output"])
        return
    given = RNG.standard_normal(y.shape)
    y.backward(torch.from_numpy(given))
    found = run(with_gradients(net.graph), {**inputs, "given": given}, {})
    np.testing.assert_allclose(y.detach().numpy(), found["output"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(x.grad.numpy(), found["grad:x"], rtol=1e-9, atol=1e-12)


def test_places_have_no_gradient() -> None:
    assert OPS["argmax"].gradient is None
    net = cnnc.parse("model m { input x: f32[N, 3, 4] return x -> conv(2, 1) -> argmax(2) -> linear(2) }")
    with pytest.raises(cnnc.CnncError, match="E0807"):
        cnnc.value_and_grad(net)(np.zeros((1, 3, 4), np.float32), np.zeros(1, np.int64))
