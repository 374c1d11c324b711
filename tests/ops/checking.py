"""Helpers: one op as a graph, its reference on arrays, and its gradient against central differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import cnnc.ops  # noqa: F401
from cnnc.ir.builder import Builder
from cnnc.ir.graph import Attributes, Graph
from cnnc.ir.interpret import run
from cnnc.ir.op import OPS
from cnnc.ir.types import TensorType, activation
from cnnc.ir.verify import verify
from cnnc.passes.autodiff import differentiate

Array = np.ndarray[Any, Any]
# pointwise ops with other constants than their own; what is a factor of x is a power of two, which rounds nothing
SETTINGS: dict[str, dict[str, float]] = {
    "elu": {"alpha": 0.7}, "celu": {"alpha": 0.5}, "silu": {"beta": 2.0}, "leaky_relu": {"negative_slope": 0.3},
    "softplus": {"beta": 2.0, "threshold": 18.0}, "hardtanh": {"min_val": -0.75, "max_val": 2.0},
    "clamp": {"min": -0.75, "max": 1.5}, "threshold": {"threshold": 0.25, "value": -3.0}, "pow": {"exponent": 2.5},
}  # fmt: skip
POSITIVE = ("log", "sqrt", "pow")
WEIGHTS = {3: "oiw", 4: "oihw", 5: "oidhw"}


def type_of(array: Any) -> TensorType:
    a = np.asarray(array)
    return activation(a.shape, "i64" if a.dtype.kind == "i" else "f32")


def reference(op: str, *arrays: Any, **attributes: Any) -> Any:
    """The op on arrays: inference, then the reference; one array, or a tuple of several."""
    record = OPS[op]
    complete = record.complete(attributes)
    given = [
        None if a is None else a if isinstance(a, np.ndarray) and a.dtype.kind == "i" else np.asarray(a, np.float64)
        for a in arrays
    ]
    types = record.infer([None if a is None else type_of(a) for a in given], Attributes(complete))
    results = record.reference(given, complete, types)
    for result, t in zip(results, types, strict=True):
        assert np.shape(result) == t.shape
    return results[0] if len(results) == 1 else results


def scalar_loss(
    build: Callable[[Builder, Sequence[str]], str | Sequence[str]],
    arrays: Mapping[str, Array],
    fixed: Mapping[str, Array],
    layouts: Mapping[str, str] | None = None,
) -> Graph:
    """loss = sum over the results y_i of build(params, ...) of y_i * r_i, with random r_i."""
    b = Builder("check")
    names = [b.input(n, type_of(a)) for n, a in fixed.items()]
    for n, a in arrays.items():
        t = type_of(a)
        b.param(n, t.with_layout(layouts[n]) if layouts and n in layouts else t)
    results = build(b, [*arrays, *names])
    total: str | None = None
    for i, y in enumerate([results] if isinstance(results, str) else results):
        t = b.type(y)
        r = b.input(f"r{i}", TensorType("f32", t.shape, t.layout))
        part = b.add("mul", [y, r], {})
        if t.rank:
            part = b.add("sum", [part], {"axis": tuple(range(t.rank))})
        total = part if total is None else b.add("add", [total, part], {})
    assert total is not None
    return b.finish([("loss", total)])


def check_gradient(
    build: Callable[[Builder, Sequence[str]], str | Sequence[str]],
    arrays: Mapping[str, Any],
    fixed: Mapping[str, Any] | None = None,
    layouts: Mapping[str, str] | None = None,
    tolerance: float = 1e-5,
    step: float = 1e-6,
    seed: int = 0,
) -> None:
    """d loss / d array of every array against central differences: relative to the largest entry."""
    rng = np.random.default_rng(seed)
    weights = {n: np.asarray(a, np.float64) for n, a in arrays.items()}
    given = {
        n: np.asarray(a) if np.asarray(a).dtype.kind == "i" else np.asarray(a, np.float64)
        for n, a in (fixed or {}).items()
    }
    graph = scalar_loss(build, weights, given, layouts)
    verify(graph)
    inputs = dict(given)
    for node in graph.inputs:
        if node.name not in inputs:
            inputs[node.name] = rng.standard_normal(node.type.concrete(1))
    whole, gradients = differentiate(graph, graph.outputs[0][1], list(weights))
    verify(whole)
    found = run(whole, inputs, weights, keep=gradients.values()).kept
    for name, array in weights.items():
        analytic, numeric = found[gradients[name]], np.zeros_like(array)
        assert analytic.shape == array.shape
        for i in range(array.size):
            values = []
            for sign in (1, -1):
                moved = array.copy()
                moved.flat[i] += sign * step
                values.append(float(run(graph, inputs, {**weights, name: moved})["loss"]))
            numeric.flat[i] = (values[0] - values[1]) / (2 * step)
        scale = max(np.abs(numeric).max(initial=0), np.abs(analytic).max(initial=0), 1e-3)
        worst = np.abs(analytic - numeric).max(initial=0) / scale
        assert worst <= tolerance, f"{name}: relative error {worst:.3g}\n{analytic}\n{numeric}"
