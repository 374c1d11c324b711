"""Local response normalization against its definition in float64, its gradient against central differences."""

import numpy as np
import pytest

from cnnc.kernels.cpu import target
from cnnc.kernels.cpu.elementwise.loss_plan import plan_lrn
from tests.kernels.launching import TARGETS, block, check_guards, guarded, launch, place, unblock


def reference(x, size, alpha, beta, k):
    padded = np.pad(x * x, ((0, 0), (size // 2, (size - 1) // 2), (0, 0), (0, 0)))
    total = sum(padded[:, i : i + x.shape[1]] for i in range(size))
    return x / (k + alpha / size * total) ** beta


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("beta", [0.5, 0.75, 1.0, 0.6])
def test_lrn(name, beta):
    this, rng = target.named(name), np.random.default_rng(0)
    for channels, size in ((1, 5), (3, 4), (7, 5), (16, 5), (17, 3), (33, 2), (31, 37), (96, 5)):
        x = rng.standard_normal((2, channels, 3, 5)).astype(np.float32)
        dy = rng.standard_normal(x.shape).astype(np.float32)
        args = (size, 0.5, beta, 2.0)
        want = reference(x.astype(np.float64), *args)
        y, dx = guarded(block(x, this.lanes).shape), guarded(block(x, this.lanes).shape)
        launch(plan_lrn(this, x.shape, *args), name, {"x": place(block(x, this.lanes)), "y": y})
        np.testing.assert_allclose(unblock(y, channels), want, rtol=3e-6, atol=1e-7)
        check_guards(y)
        buffers = {"x": place(block(x, this.lanes)), "y": place(block(dy, this.lanes)), "dx": dx}
        launch(plan_lrn(this, x.shape, *args, gradient=True), name, buffers)
        got = unblock(dx, channels)
        check_guards(dx)
        for _ in range(5):
            direction = rng.standard_normal(x.shape)
            step = 1e-5
            upper, lower = (reference(x.astype(np.float64) + s * step * direction, *args) for s in (1, -1))
            slope = ((upper - lower) * dy).sum() / (2 * step)
            np.testing.assert_allclose((got * direction).sum(), slope, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", TARGETS)
def test_zero_k_keeps_padded_lanes_zero(name):
    this = target.named(name)
    x = np.ones((1, 5, 2, 2), np.float32)
    y = guarded(block(x, this.lanes).shape)
    launch(plan_lrn(this, x.shape, 3, 1.0, 0.75, 0.0), name, {"x": place(block(x, this.lanes)), "y": y})
    np.testing.assert_allclose(unblock(y, 5), reference(x.astype(np.float64), 3, 1.0, 0.75, 0.0), rtol=1e-6)
