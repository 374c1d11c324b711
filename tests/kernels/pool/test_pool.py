"""Pooling against a NumPy definition; PyTorch's word on the divisor is in the cases."""

import itertools
from functools import partial

import numpy as np
import pytest

from cnnc.kernels.cpu import target
from cnnc.kernels.cpu.pool.plan import plan_avgpool, plan_global_average, plan_global_average_gradient, plan_maxpool
from cnnc.kernels.cpu.problem import Pool
from tests.kernels.launching import TARGETS, block, check_guards, guarded, in_turn, launch, place, unblock


def windows(shape, out, kernel, stride, padding, dilation):
    """For each output position: the input positions of its window in order, and PyTorch's count with padding."""
    for position in itertools.product(*(range(n) for n in out)):
        starts = [o * s - p for o, s, (p, _) in zip(position, stride, padding, strict=True)]
        axes = [[b + t * d for t in range(k) if 0 <= b + t * d < n]
                for b, k, d, n in zip(starts, kernel, dilation, shape, strict=True)]  # fmt: skip
        counted = [min(k, n + e - b) for b, k, n, (_, e) in zip(starts, kernel, shape, padding, strict=True)]
        yield position, list(itertools.product(*axes)), int(np.prod(counted))


def reference(x, dy, out, kernel, stride, padding, dilation, count_include_pad):
    n, c, *space = x.shape
    best, mean = np.full((n, c, *out), -np.inf), np.zeros((n, c, *out))
    dbest, dmean = np.zeros(x.shape), np.zeros(x.shape)
    for position, inside, counted in windows(space, out, kernel, stride, padding, dilation):
        divisor = counted if count_include_pad else len(inside)
        for i, j in itertools.product(range(n), range(c)):
            at, chosen = (i, j, *position), None
            for place_ in inside:
                value = x[(i, j, *place_)]
                if chosen is None or value > best[at] or (np.isnan(value) and not np.isnan(best[at])):
                    chosen, best[at] = place_, value
                mean[at] += value / divisor
                dmean[(i, j, *place_)] += dy[at] / divisor
            if chosen is not None:
                dbest[(i, j, *chosen)] += dy[at]
    return best, mean, dbest, dmean


def out_size(n, k, s, p, d, ceil=False):
    room = n + sum(p) - d * (k - 1) - 1
    size = (-(-room // s) if ceil else room // s) + 1
    if ceil and (size - 1) * s >= n + p[0]:
        size -= 1
    return size


CASES = [
    ((5, 5), (2, 2), (2, 2), [(0, 0), (0, 0)], (1, 1), False),
    ((5, 5), (2, 2), (2, 2), [(0, 0), (0, 0)], (1, 1), True),
    ((7, 9), (3, 3), (2, 2), [(1, 1), (1, 1)], (1, 1), False),
    ((7, 6), (3, 2), (1, 3), [(1, 0), (0, 1)], (1, 1), True),
    ((9, 8), (3, 2), (2, 1), [(1, 1), (1, 0)], (2, 3), False),
    ((1, 1), (3, 3), (1, 1), [(1, 1), (1, 1)], (1, 1), False),
    ((3, 4), (1, 1), (3, 3), [(0, 0), (0, 0)], (1, 1), False),
    ((3, 3), (2, 2), (2, 2), [(2, 2), (2, 2)], (1, 1), False),
    ((7,), (3,), (2,), [(1, 1)], (1,), False),
    ((3, 5, 4), (2, 3, 2), (1, 2, 2), [(0, 1), (1, 1), (0, 0)], (1, 1, 1), False),
]


def store(array, lanes):
    return place(block(array, lanes) if lanes else array)


def pool(plan, result, name, lanes, **buffers):
    """What the plan makes of the buffers, in the logical shape of `result`; lanes: 0 for plain tensors."""
    y = guarded(store(result, lanes).shape)
    launch(plan, name, buffers | {plan.buffers[-1]: y}, order=range(plan.chunks)[::-1])
    check_guards(y)
    return unblock(y, result.shape[1]) if lanes else y


@pytest.mark.parametrize(("name", "case"), in_turn(CASES))
def test_windows(name, case):
    space, kernel, stride, padding, dilation, ceil = case
    this, rng = target.named(name), np.random.default_rng(0)
    out = tuple(out_size(*a, ceil) for a in zip(space, kernel, stride, padding, dilation, strict=True))
    for channels in (1, 5, 17):
        x = rng.integers(-4, 5, (2, channels, *space)).astype(np.float64)
        dy = rng.integers(-4, 5, (2, channels, *out)).astype(np.float64)
        for blocked, include in itertools.product((False, True), (False, True)):
            best, mean, dbest, dmean = reference(x, dy, out, kernel, stride, padding, dilation, include)

            stored = partial(store, lanes=this.lanes if blocked else 0)
            run = partial(pool, name=name, lanes=this.lanes if blocked else 0)
            windows = Pool(x.shape, (2, channels, *out), blocked, kernel, stride, padding, dilation)
            np.testing.assert_array_equal(run(plan_maxpool(this, windows), best, x=stored(x)), best)
            got = run(plan_maxpool(this, windows, True), dbest, x=stored(x), dy=stored(dy))
            np.testing.assert_array_equal(got, dbest)
            if all(d == 1 for d in dilation):
                got = run(plan_avgpool(this, windows, include), mean, x=stored(x))
                np.testing.assert_allclose(got, mean, rtol=1e-6, atol=1e-6)
                plan = plan_avgpool(this, windows, include, True)
                got = run(plan, dmean, **{plan.buffers[0]: stored(dy)})
                np.testing.assert_allclose(got, dmean, rtol=1e-6, atol=2e-6)


def test_ceil_mode_divisor():
    """1..5 by twos with ceil mode: PyTorch gives 1.5, 3.5, 5 whether padding counts or not, because nothing is padded."""
    this = target.host()
    for include in (False, True):
        y = guarded((1, 1, 3))
        plan = plan_avgpool(this, Pool((1, 1, 5), (1, 1, 3), False, (2,), (2,), ((0, 0),), (1,)), include)
        launch(plan, this.name, {"x": place(np.arange(1.0, 6).reshape(1, 1, 5)), "y": y})
        np.testing.assert_array_equal(y.ravel(), [1.5, 3.5, 5])


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("name", TARGETS)
def test_nan_and_infinity(name):
    this, rng = target.named(name), np.random.default_rng(3)
    x = rng.choice(np.array([-1, 0, 1, np.nan, -np.inf, np.inf], np.float32), (1, 19, 9, 9))
    x[:, 3] = -np.inf
    x[:, 18, 4, 4] = np.nan
    dy = rng.integers(-4, 5, (1, 19, 5, 5)).astype(np.float32)
    args = ((3, 3), (2, 2), [(1, 1), (1, 1)], (1, 1))
    best, _, dbest, _ = reference(x, dy, (5, 5), *args, True)
    for blocked in (False, True):
        store = (lambda a: place(block(a, this.lanes))) if blocked else place
        y, dx = guarded(store(best).shape), guarded(store(x).shape)
        windows = Pool(x.shape, best.shape, blocked, *args)
        launch(plan_maxpool(this, windows), name, {"x": store(x), "y": y})
        back = plan_maxpool(this, windows, True)
        launch(back, name, dict(zip(back.buffers, (store(x), store(dy), dx), strict=True)))
        if blocked and 19 % this.lanes:
            np.testing.assert_array_equal(np.moveaxis(y, -1, 2).reshape(1, -1, 5, 5)[:, :19], best)
            assert (np.moveaxis(y, -1, 2).reshape(1, -1, 5, 5)[:, 19:] == 0).all()
        else:
            np.testing.assert_array_equal(y, best)
        np.testing.assert_array_equal(unblock(dx, 19) if blocked else dx, dbest)


@pytest.mark.parametrize("name", TARGETS)
def test_global_average(name):
    this, rng = target.named(name), np.random.default_rng(4)
    for channels in (1, 5, 16, 17, 33):
        for space in ((1, 1), (7, 7), (31, 33)):
            x = rng.standard_normal((2, channels, *space)).astype(np.float32)
            want = x.astype(np.float64).mean((2, 3))
            blocks = -(-channels // this.lanes)
            y = guarded((2, blocks, 1, 1, this.lanes))
            launch(plan_global_average(this, x.shape, True), name, {"x": place(block(x, this.lanes)), "y": y})
            np.testing.assert_allclose(unblock(y, channels)[..., 0, 0], want, rtol=1e-5, atol=1e-6)
            plain = guarded((2, channels))
            launch(plan_global_average(this, x.shape, False), name, {"x": place(block(x, this.lanes)), "y": plain})
            np.testing.assert_array_equal(plain, unblock(y, channels)[..., 0, 0])
            check_guards(plain)
            dy = rng.standard_normal((2, channels, 1, 1)).astype(np.float32)
            want = np.broadcast_to(dy / np.float64(np.prod(space)), x.shape)
            for blocked, source in ((True, True), (True, False), (False, False)):
                dx = guarded(block(x, this.lanes).shape if blocked else x.shape)
                plan = plan_global_average_gradient(this, x.shape, blocked, source)
                launch(plan, name, {"y0": dx, "a0": place(block(dy, this.lanes) if source else dy)})
                np.testing.assert_allclose(unblock(dx, channels) if blocked else dx, want, rtol=1e-6)
                check_guards(dx)
