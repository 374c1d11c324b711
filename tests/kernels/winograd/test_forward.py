"""Winograd's convolution against float64 and against the error of long sums, its epilogue, its cuts and its tiles."""

from __future__ import annotations

import re

import numpy as np
import pytest

from cnnc.kernels.cpu import Kernel, target
from cnnc.kernels.cpu.code import compile
from cnnc.kernels.cpu.problem import Conv, Epilogue
from cnnc.kernels.cpu.winograd import scheme as winograd_scheme
from cnnc.kernels.cpu.winograd.plan import Blocking, Problem, best, winograd_plan, winograd_times
from cnnc.kernels.cpu.winograd.scheme import SCHEMES, Scheme
from tests.kernels.conv.test_conv import RELU, spills
from tests.kernels.convolving import (
    SAME,
    error_of_long_convolution,
    forward,
    gradients,
    integers,
    reals,
    run,
)
from tests.kernels.launching import TARGETS, block, check_guards, guarded, in_turn, place, unblock

ALL = [scheme for schemes in SCHEMES.values() for scheme in schemes]
SQUARES = [scheme for scheme in ALL if scheme.axes == 2]
F43 = ALL[0]
BY_NAME = {"argvalues": ALL, "ids": [f"F({s}, {s.kernel[0]}x{s.taps})" for s in ALL]}
ONE, UNIT = (1, 1), (1, 1)


def exacting(cases):
    """Without those of seven points where multiply and add round twice."""
    return [case for case in cases if target.named(case.values[0]).fma or not case.values[1].exacting]


def same(scheme):
    return tuple((taps // 2,) * 2 for taps in scheme.kernel)


def pack(name, w, form):
    """The packed weights by the kernel, which must be those of the definition."""
    packed = guarded((form.floats,))
    run(winograd_scheme.winograd_pack_plan(form), name, {"source": place(w), "packed": packed})
    check_guards(packed)
    np.testing.assert_array_max_ulp(packed, winograd_scheme.pack_weights(w, form), 1)
    return packed


def winograd(name, scheme, x, w, padding, bias=None, expression=None, extra=(), transposed=None, blocking=None,
             window=1, dilation=ONE):  # fmt: skip
    """The kernel's result in logical shape. transposed: (height, width) of the gradient that x, a dy, leads to."""
    goal = target.named(name)
    kinds = tuple("full" if a.ndim == 4 else "channel" for a in extra)
    results, size = (len(w), x.shape[2:]) if transposed is None else (w.shape[1], transposed)
    conv = Conv(len(x), w.shape[1], tuple(size), len(w), scheme.kernel, ONE, padding, dilation)
    problem = Problem(goal, scheme, conv, transposed is not None)
    plan = winograd_plan(problem, Epilogue(expression, kinds), window, blocking)
    out = size
    if transposed is None:
        out = [s + sum(p) - d * (k - 1) for s, p, d, k in zip(size, padding, dilation, scheme.kernel, strict=True)]
    out = [size // window for size in out]
    y = guarded((len(x), -(-results // goal.lanes), *out, goal.lanes))
    buffers = {"x": place(block(x, goal.lanes)), "w": pack(name, w, plan.weights), "y": y}
    buffers["bias"] = None if bias is None else place(bias)
    buffers |= {f"a{i}": place(block(a, goal.lanes) if a.ndim == 4 else a) for i, a in enumerate(extra)}
    run(plan.step, name, buffers)
    once = y.copy()
    y[...] = np.nan
    run(plan.step, name, buffers, kept=True)
    np.testing.assert_array_equal(y, once)
    check_guards(y)
    return unblock(y, results)


def rms(a):
    return np.sqrt(np.mean(np.square(a)))


def close(got, want, n):
    """Loosely: for what is in the right place. `n`: the number of products in a sum."""
    assert np.abs(got - want).max() <= 1e-6 * n**0.5 * np.abs(want).max()


@pytest.mark.parametrize(("name", "scheme", "channels"), exacting(in_turn(ALL, [-1, 0, 1, 16, 48])))
def test_error_is_at_most_four_times_that_of_long_sums(name, scheme, channels):
    channels += scheme.fewest
    sizes = ((9, 14), (13, 8), (7, 7)) if scheme.smallest == 1 else ((24, 31), (27, 24), (24, 24))
    for images, size, seed in zip((1, 2, 3), sizes, (1, 2, 3), strict=True):
        assert min(size) >= scheme.smallest
        x, w = reals((images, channels, *size), seed), reals((channels, channels, *scheme.kernel), seed + 10)
        for image in (x, np.maximum(x, 0)):
            want = forward(image, w, UNIT, same(scheme), ONE, 1)
            error = rms(winograd(name, scheme, image, w, same(scheme)) - want)
            assert error <= 4 * error_of_long_convolution(image, w, UNIT, same(scheme), ONE)


@pytest.mark.parametrize(("name", "scheme", "channels"), exacting(in_turn(ALL, [1, 3, 5, 7])))
def test_error_with_the_fewest_channels(name, scheme, channels):
    """Sums of few products are almost exact; nothing chooses Winograd's there."""
    x, w = reals((2, channels, 9, 14), 1), reals((channels, channels, *scheme.kernel), 2)
    want = forward(x, w, UNIT, same(scheme), ONE, 1)
    error = rms(winograd(name, scheme, x, w, same(scheme)) - want)
    times = 12 if scheme.exacting or scheme.axes == 1 else 6
    assert error <= times * error_of_long_convolution(x, w, UNIT, same(scheme), ONE)


PADDINGS = {
    "none": ((0, 0), (0, 0)),
    "same": SAME,
    "asymmetric": ((2, 0), (1, 3)),
    "wide": ((7, 6), (5, 9)),
    "negative": ((-1, 1), (2, -2)),
}


@pytest.mark.parametrize(("name", "scheme", "padding"), in_turn(ALL, PADDINGS.values()))
def test_sizes_and_paddings(name, scheme, padding):
    for size in ((5, 6), (6, 17), (12, 7), (9, 61)):
        x, w, bias = reals((2, 5, *size), 1), reals((18, 5, *scheme.kernel), 2), reals(18, 3)
        want = forward(x, w, UNIT, padding, ONE, 1) + bias[:, None, None]
        close(winograd(name, scheme, x, w, padding, bias), want, 5 * np.prod(scheme.kernel))


@pytest.mark.parametrize(("name", "scheme", "dilation"), in_turn(ALL, [(2, 2), (7, 5)]))
def test_dilation(name, scheme, dilation):
    """Forward and the data gradient, with phases of unlike sizes, and some of no output."""
    products, filters = np.prod(scheme.kernel), 18
    reach = [d * (taps - 1) for d, taps in zip(dilation, scheme.kernel, strict=True)]
    for size, padding in (
        ((17, 19), tuple((r // 2, r // 2) for r in reach)),
        ((30, 31), ((0, 0), (0, 0))),
        ((13, 6), ((reach[0], reach[0] + 1), (reach[1] - 1, reach[1]))),
        ((2, 9), ((reach[0] - 1, 0), (3, reach[1]))),
    ):
        x, w, bias = reals((2, 5, *size), 1), reals((filters, 5, *scheme.kernel), 2), reals(filters, 3)
        want = forward(x, w, UNIT, padding, dilation, 1) + bias[:, None, None]
        full = reals(want.shape, 4)
        tree = ("add", ("var", "y"), ("var", "a0"))
        for cut in (None, Blocking(2, 1), Blocking(3, 1)):
            got = winograd(name, scheme, x, w, padding, bias, tree, (full,), blocking=cut, dilation=dilation)
            close(got, want + full, 5 * products)
        dx, _ = gradients(x, w, full, UNIT, padding, dilation, 1)
        close(winograd(name, scheme, full, w, padding, transposed=size, dilation=dilation), dx, filters * products)


@pytest.mark.parametrize(("name", "scheme"), in_turn(ALL))
def test_the_smallest_images(name, scheme):
    for height in range(1, 6):
        x, w = reals((3, 3, height, 1), 1), reals((2, 3, *scheme.kernel), 2)
        close(
            winograd(name, scheme, x, w, same(scheme)),
            forward(x, w, UNIT, same(scheme), ONE, 1),
            3 * np.prod(scheme.kernel),
        )


@pytest.mark.parametrize(
    ("name", "scheme", "padding"), in_turn(ALL, [SAME, ((0, 0), (0, 0)), ((2, 0), (1, 3)), ((-1, 1), (2, -2))])
)
def test_data_gradient(name, scheme, padding):
    shape, filters, kernel = (2, 17, 9, 8), 35, scheme.kernel
    out = [s + sum(p) - k + 1 for s, p, k in zip(shape[2:], padding, kernel, strict=True)]
    x, w, dy = reals(shape, 1), reals((filters, 17, *kernel), 2), reals((2, filters, *out), 3)
    want, _ = gradients(x, w, dy, UNIT, padding, ONE, 1)
    close(winograd(name, scheme, dy, w, padding, transposed=shape[2:]), want, filters * np.prod(kernel))


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("scheme", **BY_NAME)
def test_every_cut_gives_the_same_bits(name, scheme):
    x, w, taps = reals((2, 33, 13, 17), 1), reals((80, 33, *scheme.kernel), 2), np.prod(scheme.kernel)
    first = winograd(name, scheme, x, w, same(scheme))
    close(first, forward(x, w, UNIT, same(scheme), ONE, 1), 33 * taps)
    for cut in (
        Blocking(1, 1),
        Blocking(2, 2, 2),
        Blocking(3, 2, 2),
        Blocking(1000, 3, 2),
        Blocking(1000, 20, 5),
    ):
        np.testing.assert_array_equal(winograd(name, scheme, x, w, same(scheme), blocking=cut), first)


@pytest.mark.parametrize(("name", "scheme", "filters"), in_turn(ALL, [16, 37]))
def test_epilogue_with_full_and_channel_operands(name, scheme, filters):
    x, w, bias = reals((2, 17, 6, 7), 1), reals((filters, 17, *scheme.kernel), 2), reals(filters, 3)
    full, scale = reals((2, filters, 6, 7), 4), reals(filters, 5)
    tree = ("add", ("mul", ("var", "y"), ("var", "a1")), ("var", "a0"))
    y = forward(x, w, UNIT, same(scheme), ONE, 1) + bias[:, None, None]
    got = winograd(name, scheme, x, w, same(scheme), bias, tree, (full, scale))
    close(got, y * scale[:, None, None] + full, 17 * np.prod(scheme.kernel))
    got = winograd(name, scheme, x, w, same(scheme), bias, RELU)
    close(got, np.maximum(y, 0), 17 * np.prod(scheme.kernel))


@pytest.mark.parametrize(("name", "scheme"), in_turn([s for s in ALL if s.tall % 2 == 0]))
def test_max_pooling_behind_it(name, scheme):
    """The maxima of windows of what the convolution gives by itself, to the bit; NaN is the largest."""
    w, bias, scale = reals((37, 5, *scheme.kernel), 2), reals(37, 3), reals(37, 5)
    tree = ("sub", ("mul", ("var", "y"), ("var", "a0")), ("const", 1.0))
    for size in ((6, 8), (14, 2), (10, 34)):
        x = reals((2, 5, *size), 1)
        x[1, 3, 3, 1] = np.nan
        y = winograd(name, scheme, x, w, same(scheme), bias, tree, (scale,))
        want = y.reshape(*y.shape[:2], size[0] // 2, 2, size[1] // 2, 2).max((3, 5))
        got = winograd(name, scheme, x, w, same(scheme), bias, tree, (scale,), window=2)
        np.testing.assert_array_equal(got, want)
        assert np.isnan(got[1]).any()
        assert not np.isnan(got[0]).any()


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("tree", [("add", ("var", "y"), ("const", 1.0)), ("div", ("var", "y"), ("var", "a0"))], ids=str)
def test_padded_lanes_stay_zero_whatever_the_expression(name, tree):
    # `unblock` asserts the zeros.
    x, w, scale = reals((1, 3, 6, 5), 1), reals((21, 3, 3, 3), 2), np.float32(1) + integers(21, 3) ** 2
    y = forward(x, w, UNIT, SAME, ONE, 1)
    want = y + 1 if tree[0] == "add" else y / scale[:, None, None]
    extra = () if tree[0] == "add" else (scale,)
    close(winograd(name, F43, x, w, SAME, expression=tree, extra=extra), want, 27)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_not_finite_stays_in_its_tile_and_its_image(name):
    x, w = reals((2, 16, 12, 12), 1), reals((5, 16, 3, 3), 2)
    clean = winograd(name, F43, x, w, SAME)
    x[0, 3, 5, 5] = np.nan
    got = winograd(name, F43, x, w, SAME, expression=RELU)
    assert np.isnan(got[0, :, 4:7, 4:7]).all()
    assert np.isfinite(got[0, :, 8:]).all()
    np.testing.assert_array_equal(got[1], np.maximum(clean[1], 0))


def test_kernel_larger_than_the_image_is_an_error():
    with pytest.raises(ValueError, match="exceeds the padded input"):
        Problem(target.host(), F43, Conv(1, 16, (2, 5), 16, (3, 3)))


def test_windows_that_cross_tiles_are_an_error():
    with pytest.raises(ValueError, match="windows of 2 do not fill tiles of 3"):
        winograd_plan(Problem(target.host(), Scheme(3, 3), Conv(1, 16, (12, 12), 16, (3, 3))), window=2)


def test_no_image_makes_no_chunk():
    goal = target.named("avx512")
    conv = Conv(0, 64, (8, 8), 64, (3, 3), padding=SAME)
    assert winograd_plan(Problem(goal, F43, conv)).step.chunks == 0
    assert best(winograd_times(goal, conv)) == (0.0, None)


@pytest.mark.parametrize("name", target.TARGETS)
def test_choice(name):
    """Many channels and tiles take the large tile; few tiles of many channels the small one, whose transformed weights
    are fewer; few channels and other kernels none.
    """
    goal = target.named(name)

    def choice(images, channels, size, filters, taps):
        around = (taps // 2, taps // 2)
        conv = Conv(images, channels, (size, size), filters, (taps, taps), padding=(around, around))
        return best(winograd_times(goal, conv))

    for channels, size in ((64, 56), (128, 28), (64, 224), (128, 112)):
        gain, scheme = choice(1, channels, size, channels, 3)
        assert scheme == Scheme(4, 3)
        assert gain > 1.5
    assert choice(16, 256, 28, 256, 3)[1] == Scheme(4, 3)
    assert choice(16, 64, 27, 192, 5)[1] == Scheme(3 if goal.fma else 2, 5)
    assert choice(16, 32, 27, 64, 5)[1] == Scheme(2, 5)
    assert choice(1, 8, 56, 64, 3)[1] is None
    assert choice(1, 64, 56, 64, 7)[1] is None


def test_points_are_exact_for_every_scheme():
    """The weights' transform is that of the interpolation: at the point p, the polynomial of the taps over the product
    of the distances.
    """
    for scheme in ALL:
        points = [0.0, *(sign * p for p in scheme.pairs for sign in (1, -1))]
        points += [] if scheme.single is None else [scheme.single]
        assert len(points) == scheme.size - 1
        for row, p in zip(winograd_scheme.weight_matrix(scheme)[:-1], points, strict=True):
            distances = np.prod([p - q for q in points if q != p])
            np.testing.assert_allclose(row, p ** np.arange(scheme.taps) / distances, rtol=1e-14)


@pytest.mark.parametrize("scheme", **BY_NAME)
@pytest.mark.parametrize("name", target.TARGETS)
@pytest.mark.parametrize("vectors", [1, 2])
def test_no_register_tile_spills(name, scheme, vectors):
    """Every target is compiled for, whether this machine can run it or not; the transforms are looked at as well."""
    goal = target.named(name)
    if scheme.exacting and not goal.fma:
        return  # never chosen
    tiles = {"avx512": 28, "avx2": 12, "sse2": 8, "neon": 24}[name] // vectors
    kernel = Kernel("winograd", (
        ("outputs", scheme.outputs), ("taps", scheme.taps), ("axes", scheme.axes), ("tiles", tiles), ("vectors", vectors), ("uneven", True),
        ("tail", vectors > 1), ("masked", True), ("expression", RELU), ("operands", ("full",)), ("window", 1),
    ))  # fmt: skip
    text = compile.assembly(kernel, goal)
    most = max(len(re.findall(r"\t(?:vfmadd\w+ps|mulps|fmla)\t", part)) for part in re.split(r"\n(?=[.\w$]+:)", text))
    assert most >= tiles * vectors
    assert spills(text, 6) == []
