"""Channel sums, moments and sums over axes against float64."""

import numpy as np
import pytest

from cnnc.kernels.cpu import target
from cnnc.kernels.cpu.elementwise.map_plan import Operand
from cnnc.kernels.cpu.elementwise.reduce_plan import (
    channel_parts,
    plan_combine_moments,
    plan_moments,
    plan_reduce_axes,
    plan_reduce_channels,
)
from tests.kernels.launching import SIZES, TARGETS, block, check_guards, guarded, launch, place

A0, A1, A2 = (("var", f"a{k}") for k in range(3))


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("blocked", [False, True])
def test_channel_sums_of_integers_are_exact(name, blocked):
    rng = np.random.default_rng(0)
    lanes = target.named(name).lanes
    expressions = [A0, ("mul", A0, ("sub", A1, A2))]
    for channels in SIZES:
        for shape in ((2, channels, 1, 1), (3, channels, 5, 7), (1, channels, 17, 31)):
            dy, x, mean = (
                rng.integers(-4, 5, shape),
                rng.integers(-4, 5, shape),
                rng.integers(-4, 5, (1, channels, 1, 1)),
            )
            operands = [Operand(shape, blocked), Operand(shape, blocked), Operand((1, channels, 1, 1))]
            plan = plan_reduce_channels(target.named(name), shape, blocked, operands, expressions, scale=0.5)
            results = {"y0": guarded(channels), "y1": guarded(channels)}
            stored = [place(block(a, lanes) if blocked else a) for a in (dy, x)]
            launch(
                plan,
                name,
                results | {"a0": stored[0], "a1": stored[1], "a2": place(mean.ravel())},
                order=range(plan.chunks)[::-1],
            )
            np.testing.assert_array_equal(results["y0"], dy.sum((0, 2, 3)) / 2)
            np.testing.assert_array_equal(results["y1"], (dy * (x - mean)).sum((0, 2, 3)) / 2)
            for array in results.values():
                check_guards(array)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("blocked", [False, True])
def test_sums_of_a_constant_keep_their_accuracy(name, blocked):
    lanes = target.named(name).lanes
    shape = (2, 3, 300, 301)
    x = np.full(shape, 0.1, np.float32)
    y = guarded(3)
    plan = plan_reduce_channels(target.named(name), shape, blocked, [Operand(shape, blocked)], [A0])
    launch(plan, name, {"y0": y, "a0": place(block(x, lanes) if blocked else x)})
    np.testing.assert_allclose(y, x.astype(np.float64).sum((0, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("blocked", [False, True])
def test_moments(name, blocked):
    rng = np.random.default_rng(1)
    lanes = target.named(name).lanes
    for channels in (1, 5, 16, 17):
        for shape in ((1, channels, 1, 1), (7, channels, 1, 1), (3, channels, 5, 7), (2, channels, 131, 67)):
            for center, spread in ((0, 1), (1000, 0.01), (-3e4, 1), (5, 0)):
                x = (center + spread * rng.standard_normal(shape)).astype(np.float32)
                mean, variance = guarded(channels), guarded(channels)
                plan = plan_moments(target.named(name), shape, blocked)
                launch(plan, name, {"mean": mean, "variance": variance, "a0": place(block(x, lanes) if blocked else x)})
                exact = x.astype(np.float64)
                np.testing.assert_allclose(mean, exact.mean((0, 2, 3)), rtol=1e-6, atol=1e-6)
                np.testing.assert_allclose(variance, exact.var((0, 2, 3)), rtol=5e-6, atol=1e-12)
                check_guards(mean)
                check_guards(variance)


@pytest.mark.parametrize("name", TARGETS)
def test_moments_with_an_outlier_first_and_a_jump(name):
    rng = np.random.default_rng(2)
    lanes = target.named(name).lanes
    x = rng.standard_normal((4, 2, 90, 90))
    x[0, 0, 0, 0] = 1e4
    x[2:, 1] += 1e4
    x = x.astype(np.float32)
    for blocked in (False, True):
        mean, variance = guarded(2), guarded(2)
        plan = plan_moments(target.named(name), x.shape, blocked)
        launch(plan, name, {"mean": mean, "variance": variance, "a0": place(block(x, lanes) if blocked else x)})
        np.testing.assert_allclose(mean, x.astype(np.float64).mean((0, 2, 3)), rtol=1e-5)
        np.testing.assert_allclose(variance, x.astype(np.float64).var((0, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("name", TARGETS)
def test_any_axes(name):
    rng = np.random.default_rng(3)
    cases = [((5,), (0,)), ((33, 17), (0,)), ((33, 17), (1,)), ((1, 1), (0, 1)), ((3, 5, 7, 31), (0, 2, 3)), ((3, 5, 7, 31), (1, 3)),
             ((3, 5, 7, 31), (0, 2)), ((2, 3, 5, 7, 17), (0, 2, 4)), ((2, 3, 5, 7, 17), (1, 3)), ((64, 1000), (0,)), ((7, 5000), (1,)),
             ((3, 5), (0, 1))]  # fmt: skip
    for shape, axes in cases:
        x = rng.integers(-4, 5, shape)
        want = x.sum(axes).astype(np.float64)
        y = guarded(want.shape)
        plan = plan_reduce_axes(target.named(name), shape, axes, mean=False)
        launch(plan, name, {"x": place(x), "y": y})
        np.testing.assert_array_equal(y, want, str((shape, axes)))
        check_guards(y)
        launch(plan_reduce_axes(target.named(name), shape, axes, mean=True), name, {"x": place(x), "y": y})
        np.testing.assert_allclose(y, x.mean(axes), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("blocked", [False, True])
def test_parts(name, blocked):
    this, rng = target.named(name), np.random.default_rng(4)
    for channels in (1, 7, 16, 19):
        shape = (6, channels, 9, 5)
        for parts in (1, 2, 6):
            x = rng.integers(-4, 5, shape)
            stored = place(block(x, this.lanes) if blocked else x)
            sums, y = guarded((parts, channels)), guarded(channels)
            plan = plan_reduce_channels(this, shape, blocked, [Operand(shape, blocked)], [A0], parts=parts)
            launch(plan, name, {"y0": sums, "a0": stored})
            check_guards(sums)
            launch(plan_reduce_axes(this, (parts, channels), (0,), mean=False), name, {"x": sums, "y": y})
            np.testing.assert_array_equal(y, x.sum((0, 2, 3)))
            x = (100 + rng.standard_normal(shape) + 3 * rng.standard_normal((6, 1, 1, 1))).astype(np.float32)
            stored = place(block(x, this.lanes) if blocked else x)
            means, variances, mean, variance = (guarded(s) for s in ((parts, channels),) * 2 + (channels,) * 2)
            launch(
                plan_moments(this, shape, blocked, parts), name, {"mean": means, "variance": variances, "a0": stored}
            )
            buffers = {"means": means, "variances": variances, "mean": mean, "variance": variance}
            launch(plan_combine_moments(this, channels, parts), name, buffers)
            np.testing.assert_allclose(mean, x.astype(np.float64).mean((0, 2, 3)), rtol=1e-6)
            np.testing.assert_allclose(variance, x.astype(np.float64).var((0, 2, 3)), rtol=5e-6)
            for array in (mean, variance):
                check_guards(array)


def test_number_of_parts():
    this = target.named("avx512")
    assert channel_parts(this, (16, 16, 112, 112), True) == 16
    assert channel_parts(this, (12, 24, 112, 112), True) == 12
    assert channel_parts(this, (1, 64, 56, 56), True) == 1
    assert channel_parts(this, (12, 24, 112, 112), False) == 1
    assert channel_parts(this, (64, 512, 7, 7), True) == 1
