"""Losses: their ops by hand and against central differences; the CPU against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnc.driver import build
from cnnc.ir.builder import Builder
from cnnc.ir.interpret import run
from cnnc.ir.op import OPS
from cnnc.ir.types import activation
from tests.ops.checking import check_gradient, reference

RNG = np.random.default_rng(5)
SHAPES = [(3, 4), (2, 3, 5), (2, 3, 2, 2), (1, 2, 1, 2, 3)]


def labels_of(shape: tuple[int, ...], ignored: bool = False) -> Any:
    labels = np.random.default_rng(1).integers(0, shape[1], (shape[0], *shape[2:]))
    if ignored:
        labels.flat[0] = -100
    return labels


def shares_of(shape: tuple[int, ...]) -> Any:
    shares = np.random.default_rng(2).random(shape)
    return shares / shares.sum(1, keepdims=True)


def test_values() -> None:
    x, one = np.log([[1.0, 3.0], [2.0, 2.0]]), np.array([1, -100])
    term, counted = reference("cross_entropy_terms", x, one, [0.5, 2.0])
    assert np.allclose(term, [2 * np.log(4 / 3), 0])
    assert counted.tolist() == [2, 0]
    term, counted = reference("cross_entropy_terms", x, np.array([1, 2]), label_smoothing=0.2)
    assert np.allclose(term, [0.9 * np.log(4 / 3) + 0.1 * np.log(4), np.nan], equal_nan=True)
    assert np.allclose(
        reference("cross_entropy_soft", x, [[0.25, 0.75], [1, 0]]), [np.log(4) - 0.75 * np.log(3), np.log(2)]
    )
    rows = [[1.0, 2.5, 0.5], [0.0, -3.0, -3.0]]
    assert reference("multiclass_hinge", rows, np.array([0, 0])).tolist() == [3 / 3, 0]
    assert np.allclose(reference("multiclass_hinge", rows, np.array([0, 0]), p=2, margin=2), [(3.5**2 + 1.5**2) / 3, 0])
    hit, counted = reference("class_hits", [[1.0, 2.0], [1.0, 1.0], [0.0, 1.0]], np.array([1, 0, -100]))
    assert hit.tolist() == [1, 1, 0]
    assert counted.tolist() == [1, 1, 0]
    assert reference("numbers", values=(0.5, 2)).tolist() == [0.5, 2]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_gradients(shape: tuple[int, ...], weighted: bool, smoothing: float) -> None:
    weight = {"w": RNG.random(shape[1]) + 0.5} if weighted else {}
    x = {"x": RNG.standard_normal(shape)}
    attributes = {"label_smoothing": smoothing}
    terms = lambda op: lambda b, names: b.insert(op, names, attributes, "t").results[0]  # noqa: E731
    check_gradient(terms("cross_entropy_terms"), x, {"labels": labels_of(shape, True), **weight})
    check_gradient(terms("cross_entropy_soft"), x, {"target": shares_of(shape), **weight})
    if len(shape) == 2:
        for p in (1, 2):
            hinge = lambda b, names, p=p: b.add("multiclass_hinge", names, {"p": p, "margin": 0.7}, "t")  # noqa: E731
            check_gradient(hinge, x, {"labels": labels_of(shape), **weight})


def both(op: str, x: Any, target: Any, weight: Any, **attributes: Any) -> None:
    """The op and the gradient of its first result, on the CPU and by the reference."""
    b = Builder("g")
    names = [b.input("x", activation(("N", *x.shape[1:])))]
    kind = "i64" if target.dtype.kind == "i" else "f32"
    names.append(b.input("labels" if kind == "i64" else "target", activation(("N", *target.shape[1:]), kind)))
    extra = [b.add("numbers", [], {"values": tuple(weight.tolist())}, "w")] if weight is not None else []
    results = b.insert(op, [*names, *extra], attributes, "y").results
    outputs = [(r, r) for r in results]
    inputs = {"x": x, names[1]: target}
    if f"{op}_gradient" in OPS:
        dterm = b.input("dterm", b.type(results[0]))
        inputs["dterm"] = np.random.default_rng(3).standard_normal((x.shape[0], *x.shape[2:])).astype(np.float32)
        outputs.append(("dx", b.add(f"{op}_gradient", [*names, dterm, *extra], attributes, "dx")))
    graph = b.finish(outputs)
    found, expected = build(graph, {}).run(inputs), run(graph, inputs, {})
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], rtol=2e-5, atol=2e-6, err_msg=f"{op} {attributes} {name}")


@pytest.mark.parametrize("shape", [(5, 3), (2, 37), (3, 5, 7), (2, 4, 5, 9)])
def test_the_cpu_is_the_reference(shape: tuple[int, ...]) -> None:
    x = (4 * RNG.standard_normal(shape)).astype(np.float32)
    labels, shares = labels_of(shape, True), shares_of(shape).astype(np.float32)
    labels.flat[-1] = shape[1]  # no class
    for weight in (None, RNG.random(shape[1]).astype(np.float32)):
        for smoothing in (0.0, 0.2):
            both("cross_entropy_terms", x, labels, weight, label_smoothing=smoothing)
            both("cross_entropy_soft", x, shares, weight, label_smoothing=smoothing)
        if len(shape) == 2:
            for p in (1, 2):
                both("multiclass_hinge", x, labels, weight, p=p, margin=1.5)
    both("class_hits", np.round(x), labels, None)
