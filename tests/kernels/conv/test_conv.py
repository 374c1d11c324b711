"""Direct convolution against float64, its epilogue, and the assembly of its register tiles."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from cnnc.backends.cpu.merge_groups import spread
from cnnc.kernels.cpu import Kernel, target
from cnnc.kernels.cpu.code import compile
from cnnc.kernels.cpu.conv import plan as conv_plans
from cnnc.kernels.cpu.conv import rows_plan
from cnnc.kernels.cpu.conv import spread_plan as spread_plans
from cnnc.kernels.cpu.conv.arguments import form_of, register_tile
from cnnc.kernels.cpu.problem import Conv
from tests.kernels.assembly import spills
from tests.kernels.convolving import NONE, SAME, conv_of, data_gradient, direct, forward, gradients, integers, reals
from tests.kernels.launching import TARGETS, in_turn

RELU = ("where", ("gt", ("const", 0.0), ("var", "y")), ("const", 0.0), ("var", "y"))

# (N, C, H, W), filters, kernel, stride, padding, dilation, groups
GEOMETRIES = {
    "3x3": ((1, 16, 9, 11), 16, (3, 3), (1, 1), SAME, (1, 1), 1),
    "3x3, two images, odd channels": ((2, 17, 8, 15), 33, (3, 3), (1, 1), SAME, (1, 1), 1),
    "3x3, stride 2": ((1, 31, 9, 30), 16, (3, 3), (2, 2), SAME, (1, 1), 1),
    "3x3, no padding, read in place": ((1, 33, 9, 18), 15, (3, 3), (1, 1), NONE, (1, 1), 1),
    "1x1": ((2, 64, 5, 5), 48, (1, 1), (1, 1), NONE, (1, 1), 1),
    "3x3, short rows, many channels": ((2, 70, 7, 7), 66, (3, 3), (1, 1), SAME, (1, 1), 1),
    "3x3, stride 2, short rows": ((2, 66, 14, 13), 70, (3, 3), (2, 2), SAME, (1, 1), 1),
    "short rows, dilated, asymmetric": ((3, 67, 8, 9), 65, (3, 2), (1, 2), ((2, 1), (0, 3)), (2, 1), 1),
    "1x1, many panels": ((2, 40, 7, 9), 140, (1, 1), (1, 1), NONE, (1, 1), 1),
    "1x1, few filters": ((3, 70, 11, 10), 9, (1, 1), (1, 1), NONE, (1, 1), 1),
    "1x1, stride 2, many images": ((5, 24, 15, 14), 70, (1, 1), (2, 2), NONE, (1, 1), 1),
    "1x1, stride 2, long rows": ((3, 40, 7, 29), 70, (1, 1), (2, 2), NONE, (1, 1), 1),
    "1x1, cropped, long rows": ((2, 17, 6, 21), 40, (1, 1), (1, 1), ((-1, -2), (-3, 0)), (1, 1), 1),
    "short rows, many channels, in place": ((2, 70, 4, 9), 66, (3, 1), (1, 1), NONE, (1, 1), 1),
    "1x1, cropped": ((2, 17, 9, 11), 40, (1, 1), (1, 1), ((-1, -2), (-3, 0)), (1, 1), 1),
    "1x1, groups": ((2, 64, 5, 6), 96, (1, 1), (1, 1), NONE, (1, 1), 2),
    "1x1, stride 2": ((1, 33, 9, 8), 5, (1, 1), (2, 2), NONE, (1, 1), 1),
    "1x1, stride 3 and padding": ((1, 16, 9, 8), 16, (1, 1), (3, 3), SAME, (1, 1), 1),
    "5x3, dilated, asymmetric": ((1, 7, 17, 19), 33, (5, 3), (3, 2), ((2, 0), (1, 3)), (1, 2), 1),
    "negative padding": ((1, 15, 9, 9), 31, (3, 3), (1, 1), ((-1, 2), (2, -1)), (1, 1), 1),
    "even dilation, stride 2": ((1, 5, 13, 12), 7, (2, 4), (2, 2), ((1, 1), (3, 2)), (2, 2), 1),
    "stride above the kernel": ((1, 3, 11, 11), 1, (2, 2), (3, 3), NONE, (1, 1), 1),
    "kernel of the whole image": ((2, 32, 6, 6), 64, (6, 6), (1, 1), NONE, (1, 1), 1),
    "11x11": ((1, 3, 23, 25), 17, (11, 11), (1, 1), ((5, 5), (5, 5)), (1, 1), 1),
    "window wholly in padding": ((1, 16, 2, 2), 16, (2, 2), (1, 1), ((3, 0), (0, 4)), (1, 1), 1),
    "one row": ((1, 16, 1, 61), 32, (1, 3), (1, 1), ((0, 0), (1, 1)), (1, 1), 1),
    "groups": ((1, 64, 6, 7), 32, (3, 3), (1, 1), SAME, (1, 1), 2),
}
GROUPED = {
    "9 groups of 10": ((2, 90, 8, 15), 45, (3, 3), (1, 1), SAME, (1, 1), 9),
    "19 groups of 8, stride 2": ((1, 152, 7, 9), 152, (3, 3), (2, 2), SAME, (1, 1), 19),
    "3 groups of 24, short rows": ((2, 72, 6, 5), 72, (3, 3), (1, 1), SAME, (1, 1), 3),
    "4 groups of 6 and 12": ((2, 24, 8, 19), 48, (3, 3), (1, 1), SAME, (1, 1), 4),
    "7 groups of 5, 1x1": ((2, 35, 8, 5), 35, (1, 1), (1, 1), NONE, (1, 1), 7),
    "odd channels, in place": ((1, 21, 5, 31), 33, (3, 3), (1, 1), NONE, (1, 1), 3),
    "1x1, 3 groups of 20": ((2, 60, 5, 6), 120, (1, 1), (1, 1), NONE, (1, 1), 3),
    "1x1, strided": ((2, 40, 9, 7), 24, (1, 1), (2, 2), NONE, (1, 1), 4),
    "multiplier 3": ((1, 41, 6, 7), 123, (3, 3), (1, 1), SAME, (1, 1), 41),
    "5x3, dilated, asymmetric": ((2, 14, 17, 19), 35, (5, 3), (3, 2), ((2, 0), (1, 3)), (1, 2), 7),
    "stride above the kernel": ((1, 9, 11, 11), 6, (2, 2), (3, 3), NONE, (1, 1), 3),
    "11 groups of 7, from three blocks": ((1, 77, 5, 6), 77, (3, 3), (1, 1), SAME, (1, 1), 11),
    "32 groups of 4, cropped": ((2, 128, 7, 33), 128, (3, 3), (1, 1), ((-1, 2), (2, -1)), (1, 1), 32),
    "12 groups of 2 and 3": ((1, 24, 9, 8), 36, (1, 5), (1, 2), ((0, 0), (2, 2)), (1, 1), 12),
    "window wholly in padding": ((1, 10, 2, 2), 10, (2, 2), (1, 1), ((3, 0), (0, 4)), (1, 1), 5),
}
PLAIN = {
    "first layer of 7x7, stride 2": ((1, 3, 21, 30), 33, (7, 7), (2, 2), ((3, 3), (3, 3)), (1, 1), 1),
    "first layer of 11x11, stride 4": ((2, 3, 35, 31), 16, (11, 11), (4, 4), ((2, 2), (2, 2)), (1, 1), 1),
    "one channel, 5x5, in place": ((2, 1, 12, 12), 20, (5, 5), (1, 1), NONE, (1, 1), 1),
    "five channels, 3x3": ((1, 5, 7, 7), 16, (3, 3), (1, 1), SAME, (1, 1), 1),
}


@pytest.mark.parametrize(("name", "case"), in_turn(GEOMETRIES))
def test_integers_are_exact(name, case):
    shape, filters, kernel, *rest = GEOMETRIES[case]
    x, w, bias = integers(shape, 1), integers((filters, shape[1] // rest[-1], *kernel), 2), integers(filters, 3)
    want = forward(x, w, *rest) + bias[:, None, None]
    np.testing.assert_array_equal(direct(name, x, w, bias, *rest, packed_by_kernel=True), want)


def grouping(monkeypatch, form):
    """Copies that cost nothing make all that can be spread so, and dear ones nothing."""
    monkeypatch.setattr(spread_plans, "_COPY", 0 if form == "spread" else 1e9)


@pytest.mark.parametrize(("name", "form", "case"), in_turn(["banded", "spread"], GROUPED))
def test_groups_that_are_parts_of_blocks_are_exact(name, form, case, monkeypatch):
    grouping(monkeypatch, form)
    shape, filters, kernel, *rest = GROUPED[case]
    x, w, bias = integers(shape, 1), integers((filters, shape[1] // rest[-1], *kernel), 2), integers(filters, 3)
    want = forward(x, w, *rest) + bias[:, None, None]
    np.testing.assert_array_equal(direct(name, x, w, bias, *rest, packed_by_kernel=True), want)
    plan = conv_plans.direct_plan(target.named(name), conv_of(shape, filters, kernel, *rest))
    parameters = dict(plan.step.kernel.parameters)
    goal, groups = target.named(name), rest[-1]
    weights = spread_plans.SpreadWeights(groups, filters // groups, shape[1] // groups, (), 0, goal.lanes, False)
    narrow = weights.places()[:, 1].max() <= spread_plans.WIDEST
    parts = form_of(goal, conv_of(shape, filters, kernel, *rest)) == "banded"
    assert (parameters["form"] == "spread") == (parts and narrow and kernel != (1, 1) and form == "spread")
    dy = integers(want.shape, 4)
    dx, _ = gradients(x, w, dy, *rest)
    np.testing.assert_array_equal(data_gradient(name, shape, w, dy, *rest), dx)


def test_the_pass_that_merges_groups_knows_which_can_be_spread():
    for groups, filters, channels, lanes in itertools.product(
        (2, 5, 16, 33), (1, 3, 4, 10), (1, 2, 5, 8, 12), (4, 8, 16)
    ):
        places = spread_plans.SpreadWeights(groups, filters, channels, (), 0, lanes, False).places()
        known = math.isfinite(spread(groups, filters, channels, lanes, 9, 1))
        assert known == (places[:, 1].max() <= spread_plans.WIDEST), (groups, filters, channels, lanes)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_not_finite_stays_in_its_group_where_that_is_spread(name, monkeypatch):
    grouping(monkeypatch, "spread")
    x, w = reals((1, 15, 6, 7), 1), reals((15, 3, 3, 3), 2)
    clean = direct(name, x, w, None, (1, 1), SAME, groups=5)
    x[0, 7, 2, 3] = np.inf
    got = direct(name, x, w, None, (1, 1), SAME, groups=5)
    own = np.arange(15) // 3 == 7 // 3
    np.testing.assert_array_equal(got[:, ~own], clean[:, ~own])
    assert not np.isfinite(got[:, own]).all()


@pytest.mark.parametrize(("name", "case"), in_turn(PLAIN))
def test_integers_are_exact_from_plain_input(name, case):
    shape, filters, kernel, *rest = PLAIN[case]
    x, w = integers(shape, 1), integers((filters, shape[1], *kernel), 2)
    np.testing.assert_array_equal(
        direct(name, x, w, None, *rest, plain=True, packed_by_kernel=True), forward(x, w, *rest)
    )


@pytest.mark.parametrize(("name", "channels"), in_turn([1, 3, 5, 7, 15, 16, 17, 31, 33, 64]))
def test_random_numbers_stay_within_the_bound(name, channels):
    x, w = reals((1, channels, 6, 9), 1), reals((channels, channels, 3, 3), 2)
    got, want = direct(name, x, w, None, (1, 1), SAME), forward(x, w, (1, 1), SAME, (1, 1), 1)
    bound = 2 * 9 * channels * 2.0**-24 * forward(abs(x), abs(w), (1, 1), SAME, (1, 1), 1)
    assert (abs(got - want) <= bound).all()


@pytest.mark.parametrize("name", TARGETS)
def test_sums_that_go_through_memory_between_blocks_of_input(name, monkeypatch):
    monkeypatch.setattr(rows_plan, "_WEIGHTS", 0)
    x, w, bias = integers((1, 64, 5, 6), 1), integers((48, 64, 3, 3), 2), integers(48, 3)
    want = np.maximum(forward(x, w, (1, 1), SAME, (1, 1), 1) + bias[:, None, None], 0)
    np.testing.assert_array_equal(direct(name, x, w, bias, (1, 1), SAME, expression=RELU), want)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(("filters", "stride"), [(24, 1), (33, 2), (300, 1)])
@pytest.mark.parametrize("near", [512, 1 << 14])
def test_1x1_with_blocks_of_every_size(name, filters, stride, near, monkeypatch):
    """Small caches: the sums go through memory between blocks of the depth, and chunks begin inside an image."""
    small = replace(target.named(name), near=near, cache=near)
    monkeypatch.setitem(target.TARGETS, name, small)
    x, w, bias = integers((4, 150, 13, 11), 1), integers((filters, 150, 1, 1), 2), integers(filters, 3)
    want = np.maximum(forward(x, w, (stride, stride), NONE, (1, 1), 1) + bias[:, None, None], 0)
    np.testing.assert_array_equal(direct(name, x, w, bias, (stride, stride), expression=RELU), want)


@pytest.mark.parametrize(("name", "width"), in_turn(range(1, 33)))
def test_every_width_is_cut_into_tiles(name, width):
    x, w = integers((1, 2, 2, width), 1), integers((3, 2, 1, 1), 2)
    np.testing.assert_array_equal(direct(name, x, w), forward(x, w, (1, 1), NONE, (1, 1), 1))


@pytest.mark.parametrize("name", TARGETS)
def test_epilogue_with_full_and_channel_operands(name):
    x, w, bias = integers((2, 17, 6, 7), 1), integers((37, 17, 3, 3), 2), integers(37, 3)
    full, scale = integers((2, 37, 6, 7), 4), integers(37, 5)
    tree = ("add", ("mul", ("var", "y"), ("var", "a1")), ("var", "a0"))
    want = (forward(x, w, (1, 1), SAME, (1, 1), 1) + bias[:, None, None]) * scale[:, None, None] + full
    got = direct(name, x, w, bias, (1, 1), SAME, expression=tree, extra=(full, scale))
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(
    "tree",
    [("add", ("var", "y"), ("const", 1.0)), ("div", ("const", 8.0), ("var", "a0"))],
    ids=["constant", "division"],
)
def test_padded_lanes_stay_zero_whatever_the_expression(name, tree):
    # `unblock` asserts the zeros.
    x, w, scale = integers((1, 3, 4, 5), 1), integers((5, 3, 1, 1), 2), np.array([1, 2, 4, 8, -1], np.float32)
    y = forward(x, w, (1, 1), NONE, (1, 1), 1)
    want = y + 1 if tree[0] == "add" else np.broadcast_to(8 / scale[:, None, None], y.shape)
    np.testing.assert_array_equal(direct(name, x, w, expression=tree, extra=() if tree[0] == "add" else (scale,)), want)


@pytest.mark.parametrize("name", TARGETS)
def test_relu_passes_nan(name):
    x, w = np.array([[[[np.nan, -1, 2]]]], np.float32), np.ones((1, 1, 1, 1), np.float32)
    np.testing.assert_array_equal(direct(name, x, w, expression=RELU)[0, 0, 0], [np.nan, 0, 2])


def test_kernel_larger_than_the_image_is_an_error():
    with pytest.raises(ValueError, match="exceeds the padded input"):
        conv_plans.direct_plan(target.host(), Conv(1, 1, (4, 4), 1, (5, 5)))


def test_groups_of_plain_input_are_an_error():
    with pytest.raises(ValueError, match="plain input"):
        conv_plans.direct_plan(target.named("avx512"), Conv(1, 12, (4, 4), 12, (3, 3), groups=3), plain=True)


def test_no_image_makes_no_chunk():
    assert (
        conv_plans.direct_plan(target.named("avx512"), Conv(0, 16, (4, 4), 16, (3, 3), padding=SAME)).step.chunks == 0
    )


@pytest.mark.parametrize(
    "form", ["blocked", "banded", "shifted", "shifted flat", "plain", "matrix", "scattered", "flat"]
)
@pytest.mark.parametrize("name", target.TARGETS)
@pytest.mark.parametrize("blocks", [1, 2])
def test_no_register_tile_spills(name, blocks, form):
    """Every target is compiled for, whether this machine can run it or not."""
    goal = target.named(name)
    pixels, vectors = register_tile(goal, 14 * 28 * 12, blocks)
    kernel = Kernel("conv_direct", (
        ("pixels", pixels), ("vectors", vectors), ("uneven", True), ("tail", vectors > 1), ("form", form),
        ("masked", True), ("expression", RELU), ("operands", ("full",)),
    ))  # fmt: skip
    assert spills(compile.assembly(kernel, goal), pixels - 1) == []


@pytest.mark.parametrize("name", target.TARGETS)
@pytest.mark.parametrize("taps", [1, 2, 3, 4, 5, 6, 7])
def test_no_register_tile_of_spread_input_spills(name, taps):
    goal = target.named(name)
    pixels, operands = spread_plans.most_pixels(goal, taps), ("full", "channel")
    kernel = Kernel("conv_direct", (
        ("pixels", pixels), ("vectors", 1), ("uneven", True), ("tail", False), ("form", "spread"), ("masked", True),
        ("expression", RELU), ("operands", operands), ("near", taps),
    ))  # fmt: skip
    assert spills(compile.assembly(kernel, goal), pixels - 1) == []


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("form", ["banded", "spread"])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(("groups", "each"), [(7, 5), (9, 10), (3, 3)])
def test_epilogue_of_groups_that_are_parts_of_blocks(name, groups, each, kernel, form, monkeypatch):
    grouping(monkeypatch, form)
    count, around = groups * each, ((kernel // 2, kernel // 2),) * 2
    x, w, bias = integers((2, 2 * groups, 6, 7), 1), integers((count, 2, kernel, kernel), 2), integers(count, 3)
    full, scale = integers((2, count, 6, 7), 4), integers(count, 5)
    tree = ("add", ("mul", ("add", ("var", "y"), ("const", 1.0)), ("var", "a1")), ("var", "a0"))
    want = (forward(x, w, (1, 1), around, (1, 1), groups) + bias[:, None, None] + 1) * scale[:, None, None] + full
    got = direct(name, x, w, bias, (1, 1), around, groups=groups, expression=tree, extra=(full, scale))
    np.testing.assert_array_equal(got, want)
