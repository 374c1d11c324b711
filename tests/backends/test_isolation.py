"""A value that is not finite reaches what depends on it, and nothing of another group, image, row or filter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnc.driver import build
from cnnc.ir.types import TensorType, activation
from tests.passes.networks import WEIGHTS, Net

# channels, filters, groups, kernel, size, axes
GROUPED = {
    "merged, flat": (48, 48, 8, 1, 6, 2),
    "merged, more filters": (24, 48, 3, 3, 7, 2),
    "merged, 5x5": (36, 36, 4, 5, 9, 2),
    "merged, plain input": (3, 6, 3, 3, 8, 2),
    "bands": (40, 40, 10, 1, 5, 2),
    "shifted bands": (30, 15, 5, 3, 6, 2),
    "spread": (64, 64, 16, 3, 8, 2),
    "whole blocks": (64, 32, 2, 3, 6, 2),
    "depthwise": (20, 20, 20, 3, 7, 2),
    "volume": (24, 24, 3, 3, 4, 3),
    "line": (48, 48, 8, 3, 12, 1),
}
BAD = [np.inf, np.nan]


def grouped(name: str, op: str) -> tuple[Net, Any, Any, int]:
    """The network of one convolution, its input and weights, and how many channels of the input a group has."""
    channels, filters, groups, kernel, size, axes = GROUPED[name]
    rng, b, space = np.random.default_rng(0), Net("grouped"), (size,) * axes
    w = TensorType("f32", (filters, channels // groups, *(kernel,) * axes), WEIGHTS[axes + 2])
    given = {"groups": groups, "padding": [kernel // 2] * axes}
    there = channels if op == "conv" else filters
    b.input("x", activation(("N", there, *space)))
    b.param("w", w)
    b.add(op, ["x", "w"], given if op == "conv" else {**given, "size": space}, "y")
    x = rng.standard_normal((3, there, *space)).astype(np.float32)
    return b, x, rng.standard_normal(w.concrete(1)).astype(np.float32), there // groups


CASES = [
    *((name, "conv", True) for name in GROUPED),
    *((name, "conv", False) for name in ("merged, more filters", "merged, 5x5", "volume")),
    *((name, "conv_data_gradient", True) for name in ("merged, flat", "shifted bands")),
    ("merged, more filters", "conv_data_gradient", False),
]


@pytest.mark.parametrize(("name", "op", "exact"), CASES)
def test_groups_and_images(name: str, op: str, exact: bool) -> None:
    b, x, w, per_group = grouped(name, op)
    run = build(b.finish([("y", "y")]), {"w": w}, exact=exact, tune=False).run
    clean, group = run({"x": x})["y"].copy(), x.shape[1] // per_group // 2
    for bad in BAD:
        spoiled = x.copy()
        spoiled[(1, group * per_group, *(x.shape[2] // 2 for _ in x.shape[2:]))] = bad
        y = run({"x": spoiled})["y"]
        np.testing.assert_array_equal(y[::2], clean[::2])
        mine = y.shape[1] * per_group // x.shape[1]
        others = np.delete(np.arange(y.shape[1]), np.s_[group * mine : (group + 1) * mine])
        np.testing.assert_allclose(y[1, others], clean[1, others], atol=1e-5 * np.abs(clean).max())
        assert not np.isfinite(y[1, group * mine : (group + 1) * mine]).all()


@pytest.mark.parametrize("name", ["merged, flat", "merged, more filters", "bands", "volume"])
def test_exact_sums_are_infinite_where_the_reference_is(name: str) -> None:
    b, x, w, _ = grouped(name, "conv")
    x[1, 0, ...] = np.inf
    graph = b.finish([("y", "y")])
    got = build(graph, {"w": w}, exact=True, tune=False).run({"x": x})["y"]
    want = build(graph, {"w": w}, "reference").run({"x": x})["y"]
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(np.where(np.isinf(got), got, 0), np.where(np.isinf(want), want, 0))


@pytest.mark.parametrize(
    ("name", "exact"), [("merged, flat", True), ("merged, more filters", False), ("bands", True), ("spread", True)]
)
def test_filters(name: str, exact: bool) -> None:
    b, x, w, _ = grouped(name, "conv")
    graph = b.finish([("y", "y")])
    clean = build(graph, {"w": w}, exact=exact, tune=False).run({"x": x})["y"].copy()
    w[5] = np.inf
    y = build(graph, {"w": w}, exact=exact, tune=False).run({"x": x})["y"]
    np.testing.assert_array_equal(np.delete(y, 5, 1), np.delete(clean, 5, 1))


@pytest.mark.parametrize("rows", [1, 3, 20])
def test_rows_and_outputs_of_linear_layers(rows: int) -> None:
    rng, b = np.random.default_rng(0), Net("rows")
    b.add("linear", [b.input("x", activation(("N", 70))), b.param("w", TensorType("f32", (37, 70)))], {}, "y")
    graph, x = b.finish([("y", "y")]), rng.standard_normal((rows, 70)).astype(np.float32)
    w = rng.standard_normal((37, 70)).astype(np.float32)
    clean = build(graph, {"w": w}, tune=False).run({"x": x})["y"].copy()
    for bad in BAD:
        spoiled, odd = x.copy(), w.copy()
        spoiled[rows // 2, 3], odd[11, 60] = bad, bad
        y = build(graph, {"w": w}, tune=False).run({"x": spoiled})["y"]
        np.testing.assert_array_equal(np.delete(y, rows // 2, 0), np.delete(clean, rows // 2, 0))
        y = build(graph, {"w": odd}, tune=False).run({"x": x})["y"]
        np.testing.assert_array_equal(np.delete(y, 11, 1), np.delete(clean, 11, 1))
        assert not np.isfinite(y[:, 11]).any()


def test_padded_channels_stay_out_of_it() -> None:
    """Blocks of channels are padded with zeros, which an infinite operand of the layer before would make NaN."""
    b = Net("padded")
    x, scale = b.image(5, 6, 6), b.input("s", activation(("N", 1, 1, 1)))
    y = b.add("mul", [b.conv(x, 5, "first", padding=[1, 1]), scale], {}, "scaled")
    y = b.add("relu", [b.add("neg", [y], {}, "negative")], {}, "cut")
    graph = b.finish([("y", b.conv(y, 7, "second", padding=[1, 1]))])
    rng = np.random.default_rng(0)
    values = {
        n.name: rng.standard_normal(n.type.concrete(1)).astype(np.float32) for n in graph.nodes if n.op == "param"
    }
    x = rng.standard_normal((3, 5, 6, 6)).astype(np.float32)
    s = np.array([1, np.inf, 1], np.float32).reshape(3, 1, 1, 1)
    got = build(graph, values, exact=True, tune=False).run({"x": x, "s": s})["y"]
    want = build(graph, values, "reference").run({"x": x, "s": s})["y"]
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
