"""Losses over classes against the references of the ops."""

from __future__ import annotations

import numpy as np
import pytest

import cnnc.ops  # noqa: F401  (registers the ops)
from cnnc.ir.graph import Attributes
from cnnc.ir.op import OPS
from cnnc.ir.types import TensorType
from cnnc.kernels.cuda.loss.classes_plan import plan_classes
from tests.kernels.cuda.running import Array, normal, run


def reference(op: str, *operands: Array) -> Array:
    (found,) = OPS[op].reference(operands, Attributes({}), [TensorType("f32", operands[0].shape)])
    return np.asarray(found)


@pytest.mark.parametrize(("rows", "classes"), [(1, 2), (5, 10), (6, 70)])
@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_classes(rows: int, classes: int, kind: type) -> None:
    x, scale = 4 * normal(rows, classes), np.array([2.5], np.float32)
    x[0, 0] = x.max() + 1
    labels = np.random.default_rng(3).integers(0, classes, rows).astype(kind)
    labels[0] = 0
    given, size = {"x": x, "labels": labels}, labels.itemsize
    terms = run(plan_classes("term", rows, classes, size), given, {"y": np.empty(rows, np.float32)})["y"]
    assert np.allclose(terms.mean(), reference("cross_entropy", x, labels), rtol=1e-6)
    for row in range(rows):
        expected = reference("cross_entropy", x[row : row + 1], labels[row : row + 1])
        assert abs(terms[row] - expected) <= 1e-6 * abs(expected) + 1e-9
    dx = run(plan_classes("gradient", rows, classes, size), {**given, "scale": scale}, {"y": x})["y"]
    assert np.allclose(dx, reference("cross_entropy_gradient", x, labels, scale[0]), rtol=2e-6, atol=1e-9)
    hits = run(plan_classes("hit", rows, classes, size), given, {"y": np.empty(rows, np.float32)})["y"]
    assert np.array_equal(hits, x.argmax(1) == labels)


def test_labels_of_no_class_and_numbers_that_are_none() -> None:
    x, labels = normal(4, 40), np.array([40, -1, 3, 33])
    x[2, [3, 9]] = x[2].max() + 1  # the first of equals
    x[3, [33, 35]] = np.nan
    given = {"x": x, "labels": labels}
    terms = run(plan_classes("term", 4, 40, 8), given, {"y": np.empty(4, np.float32)})["y"]
    assert np.isnan(terms).tolist() == [True, True, False, True]
    dx = run(plan_classes("gradient", 4, 40, 8), {**given, "scale": np.ones(1, np.float32)}, {"y": x})["y"]
    assert np.isnan(dx).all(1).tolist() == [True, True, False, True]
    hits = run(plan_classes("hit", 4, 40, 8), given, {"y": np.empty(4, np.float32)})["y"]
    assert hits.tolist() == [0, 0, 1, 1]
