"""Where Winograd's algorithm is taken, what it gives, and what goes along in a convolution's step."""

from __future__ import annotations

import numpy as np
import pytest

from cnnc import driver
from cnnc.backends import backend
from cnnc.ir.builder import Builder
from cnnc.ir.interpret import random_values
from cnnc.ir.types import activation
from tests.backends.comparing import TARGETS, compare, graph_of, vector, weights4
from tests.kernels.convolving import error_of_long_weight_gradient
from tests.kernels.launching import in_turn


@pytest.mark.parametrize(("target", "kernel"), in_turn([3, 5], targets=TARGETS))
def test_winograd_of_groups(kernel, target):
    """Every group by itself, between the others' channels: forward with an epilogue, and both gradients."""
    groups, channels, filters, size, batch = 3, 96, 192, (24, 23), 24
    around = {"padding": (kernel // 2,) * 2, "groups": groups}
    b = Builder("groups")
    x, other, dy = (
        b.input(n, activation(("N", c, *size))) for n, c in (("x", channels), ("other", filters), ("dy", filters))
    )
    w, bias = b.param("w", weights4(filters, channels // groups, kernel, kernel)), b.param("bias", vector(filters))
    y = b.add("relu", [b.add("add", [b.add("conv", [x, w, bias], around), other])])
    dx = b.add("conv_data_gradient", [dy, w], {**around, "size": size})
    dw = b.add("conv_weight_gradient", [x, dy], {**around, "kernel": (kernel, kernel)})
    graph = b.finish([("y", y), ("dx", dx), ("dw", dw)])
    plan = driver.build(graph, random_values(graph, 1, 0)[1], target).runner.plan(batch)
    kernels = [s.kernel.family for s in plan.steps if "winograd" in s.kernel.family]
    assert kernels.count("winograd_weight_gradient") == groups
    assert kernels.count("winograd") >= 2 * groups
    compare(graph, target, batch, exact=False, tolerance=2e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_winograd_weight_gradient_unless_exact(target):
    """Chunks split the tiles, and what they add does not depend on the number of threads either."""

    def build(b, x, dy):
        return b.add("conv_weight_gradient", [x, b.add("relu", [dy])], {"kernel": (3, 3), "padding": (1, 1)})

    graph = graph_of(build, (64, 33, 30), (70, 33, 30))
    inputs, values = random_values(graph, 2, 0, integers=False)
    inputs = {k: np.asarray(v, np.float32) for k, v in inputs.items()}
    want = backend("reference").prepare(graph, values).run(inputs)["y0"]
    results = {}
    for exact in (False, True):
        first, second = (driver.build(graph, values, target, n, exact=exact) for n in (1, 3))
        families = {s.kernel.family for s in first.runner.plan(2).steps}
        names = ("winograd_weight_gradient" in families, "conv_weight_gradient" in families)
        assert names == (not exact, exact)
        results[exact] = first.run(inputs)["y0"]
        np.testing.assert_array_equal(results[exact], second.run(inputs)["y0"])
    one, padding, dy = (1, 1), ((1, 1), (1, 1)), np.maximum(inputs["x1"], 0)
    long = error_of_long_weight_gradient(inputs["x0"], dy, (3, 3), one, padding, one)
    for y in results.values():
        assert np.sqrt(np.mean((y - want) ** 2)) <= 4 * long


@pytest.mark.parametrize(("target", "op"), in_turn(["conv", "conv_data_gradient"], targets=TARGETS))
def test_winograd_unless_exact(op, target):
    """Enough channels and tiles take Winograd's algorithm; its bits do not depend on the number of threads."""

    def build(b, x, w):
        attributes = {"kernel": (3, 3), "padding": (1, 1)} if op == "conv" else {"padding": (1, 1), "size": (33, 30)}
        return b.add("relu", [b.add(op, [x, w], attributes if op != "conv" else {"padding": (1, 1)})])

    graph = graph_of(build, (80, 33, 30), weights=[weights4(80, 80, 3, 3)])
    inputs, values = random_values(graph, 2, 0, integers=False)
    inputs, values = ({k: np.asarray(v, np.float32) for k, v in d.items()} for d in (inputs, values))
    want = backend("reference").prepare(graph, values).run(inputs)["y0"]
    results = {}
    for exact in (False, True):
        first, second = (driver.build(graph, values, target, n, exact=exact) for n in (1, 3))
        families = {s.kernel.family for s in first.runner.plan(2).steps}
        assert ("winograd" in families, "conv_direct" in families) == (not exact, exact)
        results[exact] = first.run(inputs)["y0"]
        np.testing.assert_array_equal(results[exact], second.run(inputs)["y0"])
    error = {exact: np.sqrt(np.mean((y - want) ** 2)) for exact, y in results.items()}
    assert error[False] <= 4 * error[True]


@pytest.mark.parametrize(("target", "size"), in_turn([(16, 12), (15, 12)], targets=TARGETS))
def test_max_pooling_behind_winograd(target, size):
    """An even number of rows and columns is pooled by the convolution's own step, to the same bits."""

    def build(b, x, w, bias, pooled=True):
        y = b.add("relu", [b.add("conv", [x, w, bias], {"padding": (1, 1)})])
        z = b.add("maxpool", [y], {"kernel": (2, 2), "stride": (2, 2)})
        return z if pooled else (z, y)

    weights = [weights4(80, 80, 3, 3), vector(80)]
    graphs = [graph_of(lambda *a, p=p: build(*a, pooled=p), (80, *size), weights=weights) for p in (True, False)]
    inputs, values = random_values(graphs[0], 4, 0, integers=False)
    inputs, values = ({k: np.asarray(v, np.float32) for k, v in d.items()} for d in (inputs, values))
    both = [driver.build(graph, values, target, 2) for graph in graphs]
    families = [[s.kernel.family for s in exe.runner.plan(4).steps] for exe in both]
    assert all("winograd" in names for names in families)
    assert ["maxpool" in names for names in families] == [size[0] % 2 == 1, True]
    alone, kept = (exe.run(inputs)["y0"] for exe in both)
    np.testing.assert_array_equal(alone, kept)
    want = backend("reference").prepare(graphs[0], values).run(inputs)["y0"]
    np.testing.assert_allclose(alone, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())


@pytest.mark.parametrize("target", TARGETS)
def test_max_pooling_behind_a_first_layer(target):
    """One step for the convolution and the maxima, to the bit."""
    attributes = {"kernel": (2, 2), "stride": (2, 2)}

    def build(b, x, w, bias):
        return b.add("maxpool", [b.add("relu", [b.add("conv", [x, w, bias], {"padding": (2, 2)})])], attributes)

    for size, pooled in (((28, 28), True), ((6, 9), False)):
        graph = graph_of(build, (1, *size), weights=[weights4(20, 1, 5, 5), vector(20)])
        compare(graph, target, batch=3)
        values = {k: np.asarray(v, np.float32) for k, v in random_values(graph, 3, 0, integers=True)[1].items()}
        steps = driver.build(graph, values, target, 2).runner.plan(3).steps
        assert ("maxpool" in {s.kernel.family for s in steps}) is not pooled
