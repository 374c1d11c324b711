"""Winograd's weight gradient against float64 and against the error of long sums, its cuts and its tiles."""

from __future__ import annotations

import re

import numpy as np
import pytest

from cnnc.kernels.cpu import target
from cnnc.kernels.cpu.code import compile
from cnnc.kernels.cpu.problem import Conv
from cnnc.kernels.cpu.winograd.gradient_plan import FEWEST_PIXELS, Cut, GradientProblem, gradient_plan, gradient_times
from cnnc.kernels.cpu.winograd.plan import best
from cnnc.kernels.cpu.winograd.scheme import Scheme
from tests.kernels.conv.test_conv import spills
from tests.kernels.convolving import SAME, conv_of, error_of_long_weight_gradient, reals, run, windows
from tests.kernels.launching import TARGETS, block, check_guards, guarded, in_turn, place
from tests.kernels.winograd.test_forward import PADDINGS, SQUARES, close, exacting, rms, same

BY_NAME = {"argvalues": SQUARES, "ids": [f"F({s}, {s.taps}x{s.taps})" for s in SQUARES]}


def reference(x, dy, taps, padding):
    """dw in float64."""
    seen = windows(x, (taps, taps), (1, 1), padding, (1, 1), dy.shape[2:])
    flat = seen.reshape(*seen.shape[:3], -1)
    dw = np.einsum("tncs,nks->kct", flat, dy.astype(np.float64).reshape(*dy.shape[:2], -1), optimize=True)
    return dw.reshape(*dw.shape[:2], taps, taps)


def winograd(name, scheme, x, dy, padding, cut=None):
    """The kernel's dw, its parts added."""
    goal = target.named(name)
    shape = (dy.shape[1], x.shape[1], scheme.taps, scheme.taps)
    conv = conv_of(x.shape, dy.shape[1], scheme.kernel, (1, 1), padding)
    plan = gradient_plan(GradientProblem(goal, scheme, conv), cut)
    dw = guarded((plan.parts, *shape))
    run(plan.step, name, {"x": place(block(x, goal.lanes)), "dy": place(block(dy, goal.lanes)), "dw": dw})
    check_guards(dw)
    return dw.sum(0)


def case(shape, filters, scheme, padding, seed=1):
    out = [s + sum(p) - scheme.taps + 1 for s, p in zip(shape[2:], padding, strict=True)]
    return reals(shape, seed), reals((shape[0], filters, *out), seed + 10)


@pytest.mark.parametrize(("name", "scheme", "channels"), exacting(in_turn(SQUARES, [-1, 0, 1, 16, 48])))
def test_error_is_at_most_four_times_that_of_long_sums(name, scheme, channels):
    channels += scheme.fewest
    shapes = ((3, (9, 14), 1), (2, (13, 8), 2), (4, (7, 7), 2), (3, (13, 12), 0))
    if scheme.smallest > 1:
        shapes = ((8, (24, 31), 2), (9, (27, 24), 2), (9, (28, 29), 0))
    for images, size, padding in shapes:
        padding, images = ((padding, padding),) * 2, images * (4 if scheme == Scheme(2, 5) else 1)
        x, dy = case((images, channels, *size), channels, scheme, padding)
        for image in (x, np.maximum(x, 0)):
            assert len(dy) * dy[0, 0].size >= FEWEST_PIXELS[scheme]
            want = reference(image, dy, scheme.taps, padding)
            long = error_of_long_weight_gradient(image, dy, want.shape[2:], (1, 1), padding, (1, 1))
            assert rms(winograd(name, scheme, image, dy, padding) - want) <= 4 * long


@pytest.mark.parametrize(("name", "scheme", "padding"), in_turn(SQUARES, PADDINGS.values()))
def test_sizes_and_paddings(name, scheme, padding):
    for size in ((5, 6), (6, 17), (12, 7), (9, 61)):
        x, dy = case((2, 5, *size), 18, scheme, padding)
        close(winograd(name, scheme, x, dy, padding), reference(x, dy, scheme.taps, padding), 2 * dy[0, 0].size)


@pytest.mark.parametrize(("name", "scheme"), in_turn(SQUARES))
def test_the_smallest_images(name, scheme):
    for height in range(1, 6):
        x, dy = case((3, 3, height, 1), 2, scheme, same(scheme))
        close(winograd(name, scheme, x, dy, same(scheme)), reference(x, dy, scheme.taps, same(scheme)), 27)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("scheme", **BY_NAME)
def test_cuts_of_the_channels_and_of_the_scratch(name, scheme):
    """Parts of the channels give the same bits; splits and blocks of tiles add in another order."""
    x, dy = case((2, 33, 13, 17), 45, scheme, same(scheme))
    want = reference(x, dy, scheme.taps, same(scheme))
    for splits, block_tiles in ((1, 1000), (1, 5), (3, 7), (4, 1)):
        first = winograd(name, scheme, x, dy, same(scheme), Cut(1, 1, splits, block_tiles))
        close(first, want, x[0, 0].size)
        for part_blocks, part_units in ((2, 1), (1, 2), (3, 4), (100, 100)):
            cut = Cut(min(part_blocks, 9), min(part_units, 12), splits, block_tiles)
            np.testing.assert_array_equal(winograd(name, scheme, x, dy, same(scheme), cut), first)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_not_finite_reaches_its_channels_only(name):
    x, dy = case((2, 16, 12, 12), 5, Scheme(4, 3), SAME)
    clean = winograd(name, Scheme(4, 3), x, dy, SAME)
    x[0, 3, 5, 5] = np.nan
    got = winograd(name, Scheme(4, 3), x, dy, SAME)
    assert np.isnan(got[:, 3]).all()
    np.testing.assert_array_equal(np.delete(got, 3, 1), np.delete(clean, 3, 1))


def test_kernel_larger_than_the_image_is_an_error():
    with pytest.raises(ValueError, match="exceeds the padded input"):
        GradientProblem(target.host(), Scheme(4, 3), Conv(1, 16, (2, 5), 16, (3, 3)))


@pytest.mark.parametrize("name", target.TARGETS)
def test_choice(name):
    """Many channels and tiles take the large tile; few channels and other kernels none. Scratch is bounded."""
    goal = target.named(name)

    def conv(images, channels, size, filters, taps):
        around = (taps // 2, taps // 2)
        return Conv(images, channels, (size, size), filters, (taps, taps), padding=(around, around))

    def choice(*sizes):
        return best(gradient_times(goal, conv(*sizes)))

    for channels, size in ((64, 56), (128, 28), (256, 14), (64, 224)):
        gain, scheme = choice(16, channels, size, channels, 3)
        assert scheme == Scheme(4, 3)
        assert gain > 1.3
        plan = gradient_plan(GradientProblem(goal, scheme, conv(16, channels, size, channels, 3)))
        assert plan.step.scratch <= 1 << 19
        assert plan.step.chunks >= 8
    assert choice(16, 8, 56, 64, 3)[1] is None
    assert choice(1, 64, 56, 64, 7)[1] is None
    assert choice(0, 64, 56, 64, 3)[1] is None
    # So few products that the direct gradient is almost exact.
    assert choice(1, 512, 7, 512, 3)[1] != Scheme(4, 3)
    assert choice(1, 64, 14, 192, 5)[1] is None


@pytest.mark.parametrize("scheme", **BY_NAME)
@pytest.mark.parametrize("name", target.TARGETS)
def test_no_register_tile_spills(name, scheme):
    goal = target.named(name)
    for filters in (goal.lanes, 64):
        conv = Conv(2, 64, (12, 12), filters, scheme.kernel, padding=same(scheme))
        kernel = gradient_plan(GradientProblem(goal, scheme, conv)).step.kernel
        text = compile.assembly(kernel, goal)
        sizes = dict(kernel.parameters)
        parts = re.split(r"\n(?=[.\w$]+:)", text)
        most = max(len(re.findall(r"\t(?:vfmadd\w+ps|mulps|fmla)\t", part)) for part in parts)
        assert most >= sizes["channels"] * sizes["vectors"]
        assert spills(text, 6) == []
