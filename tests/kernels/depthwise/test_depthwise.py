"""Depthwise convolution and its gradients against float64."""

from __future__ import annotations

import numpy as np
import pytest

from cnnc.kernels.cpu import target
from cnnc.kernels.cpu.code import compile
from cnnc.kernels.cpu.depthwise import plan as depthwise_plans
from cnnc.kernels.cpu.problem import Conv, Epilogue, output_size
from tests.kernels.conv.test_conv import RELU, spills
from tests.kernels.convolving import NONE, SAME, conv_of, forward, gradients, integers, pack, reals, run
from tests.kernels.launching import TARGETS, block, check_guards, guarded, in_turn, place, unblock
from tests.kernels.packing import pack_weights

WIDE = ((2, 2), (2, 2))
# (N, C, H, W), kernel, stride, padding, dilation
GEOMETRIES = {
    "3x3": ((2, 17, 8, 31), (3, 3), (1, 1), SAME, (1, 1)),
    "3x3, one row": ((1, 16, 1, 13), (3, 3), (1, 1), SAME, (1, 1)),
    "3x3, one column": ((1, 5, 6, 1), (3, 3), (1, 1), SAME, (1, 1)),
    "3x3, one pixel": ((3, 33, 1, 1), (3, 3), (1, 1), SAME, (1, 1)),
    "3x3, two pixels": ((1, 8, 2, 2), (3, 3), (1, 1), SAME, (1, 1)),
    "3x3, no padding": ((1, 15, 7, 9), (3, 3), (1, 1), NONE, (1, 1)),
    "3x3, wide padding": ((1, 7, 4, 5), (3, 3), (1, 1), ((3, 4), (4, 5)), (1, 1)),
    "3x3, negative padding": ((1, 9, 9, 9), (3, 3), (1, 1), ((-1, 2), (2, -1)), (1, 1)),
    "stride 2": ((2, 33, 9, 10), (3, 3), (2, 2), SAME, (1, 1)),
    "stride 2, even": ((1, 16, 8, 8), (3, 3), (2, 2), SAME, (1, 1)),
    "stride 2, one pixel": ((1, 16, 1, 1), (3, 3), (2, 2), SAME, (1, 1)),
    "stride 2, padded behind only": ((1, 7, 8, 8), (3, 3), (2, 2), ((0, 1), (0, 1)), (1, 1)),
    "stride 2, negative padding": ((1, 7, 9, 11), (3, 3), (2, 2), ((-1, 1), (-2, 1)), (1, 1)),
    "5x5": ((1, 17, 9, 11), (5, 5), (1, 1), WIDE, (1, 1)),
    "5x5, stride 2": ((1, 31, 12, 13), (5, 5), (2, 2), WIDE, (1, 1)),
    "5x5, larger than the image": ((2, 3, 2, 3), (5, 5), (1, 1), WIDE, (1, 1)),
    "7x7": ((1, 16, 9, 8), (7, 7), (1, 1), ((3, 3), (3, 3)), (1, 1)),
    "7x7, whole image": ((2, 16, 7, 7), (7, 7), (1, 1), NONE, (1, 1)),
    "2x2": ((1, 16, 6, 5), (2, 2), (1, 1), NONE, (1, 1)),
    "1x1": ((1, 5, 6, 5), (1, 1), (1, 1), NONE, (1, 1)),
    "1x3": ((1, 5, 6, 5), (1, 3), (1, 1), ((0, 0), (1, 1)), (1, 1)),
    "1x1, stride 2": ((1, 5, 6, 5), (1, 1), (2, 2), SAME, (1, 1)),
    "stride above the kernel": ((1, 3, 11, 13), (2, 2), (3, 3), NONE, (1, 1)),
    "stride above the kernel, padded": ((1, 3, 11, 13), (2, 2), (3, 4), ((2, 1), (3, 2)), (1, 1)),
    "dilated": ((1, 7, 9, 12), (3, 3), (1, 1), WIDE, (2, 2)),
    "dilated, stride 2": ((1, 7, 9, 12), (3, 3), (2, 2), WIDE, (2, 2)),
    "dilated by 3, stride 2": ((1, 7, 9, 12), (3, 3), (2, 2), ((3, 3), (3, 3)), (3, 3)),
    "5x3, dilated, asymmetric": ((1, 7, 6, 5), (5, 3), (1, 2), ((4, 3), (2, 1)), (2, 1)),
    "window wholly in padding": ((1, 16, 2, 2), (2, 2), (1, 1), ((3, 0), (0, 4)), (1, 1)),
    "tap by tap": ((1, 5, 13, 12), (9, 9), (1, 1), ((4, 4), (4, 4)), (1, 1)),
    "tap by tap, stride 3": ((2, 5, 14, 12), (9, 9), (3, 2), ((4, 3), (4, 4)), (1, 1)),
    "tap by tap, dilated": ((1, 5, 7, 70), (2, 2), (1, 1), NONE, (2, 33)),
}


def outputs(shape, kernel, stride, padding, dilation):
    geometry = zip(shape[2:], kernel, stride, padding, dilation, strict=True)
    return (*shape[:2], *(output_size(*g) for g in geometry))


def convolve(name, plan, x, w, shape, bias=None, extra=()):
    """The result, of the logical shape, of a plan of the forward convolution or of the data gradient."""
    goal = target.named(name)
    packed = pack(name, w, plan.weights)
    np.testing.assert_array_equal(packed, pack_weights(w, plan.weights))
    y = guarded((shape[0], -(-shape[1] // goal.lanes), *shape[2:], goal.lanes))
    buffers = {"x": place(block(x, goal.lanes)), "w": packed, "bias": None if bias is None else place(bias), "y": y}
    buffers |= {f"a{i}": place(block(a, goal.lanes) if a.ndim == 4 else a) for i, a in enumerate(extra)}
    run(plan.step, name, buffers)
    check_guards(y)
    return unblock(y, shape[1])


def kinds(extra):
    return tuple("full" if a.ndim == 4 else "channel" for a in extra)


def depthwise(name, x, w, bias=None, rest=((1, 1), SAME, (1, 1)), expression=None, extra=(), chunk=None):
    conv = conv_of(x.shape, x.shape[1], w.shape[2:], *rest, x.shape[1])
    plan = depthwise_plans.depthwise_plan(target.named(name), conv, Epilogue(expression, kinds(extra)), chunk)
    return convolve(name, plan, x, w, outputs(x.shape, w.shape[2:], *rest), bias, extra)


def data_gradient(name, shape, w, dy, rest, expression=None, extra=()):
    conv = conv_of(shape, shape[1], w.shape[2:], *rest, shape[1])
    plan = depthwise_plans.depthwise_data_gradient_plan(target.named(name), conv, Epilogue(expression, kinds(extra)))
    return convolve(name, plan, dy, w, shape, None, extra)


def weight_gradient(name, x, dy, kernel, rest):
    goal = target.named(name)
    plan = depthwise_plans.depthwise_weight_gradient_plan(goal, conv_of(x.shape, x.shape[1], kernel, *rest, x.shape[1]))
    sums, dw = guarded((plan.floats,)), guarded((x.shape[1], 1, *kernel))
    run(plan.parts, name, {"x": place(block(x, goal.lanes)), "dy": place(block(dy, goal.lanes)), "sums": sums})
    run(plan.total, name, {"sums": sums, "dw": dw})
    check_guards(sums)
    check_guards(dw)
    return dw


@pytest.mark.parametrize(("name", "case"), in_turn(GEOMETRIES))
def test_integers_are_exact(name, case):
    shape, kernel, *rest = GEOMETRIES[case]
    x, w, bias = integers(shape, 1), integers((shape[1], 1, *kernel), 2), integers(shape[1], 3)
    want = forward(x, w, *rest, shape[1]) + bias[:, None, None]
    np.testing.assert_array_equal(depthwise(name, x, w, bias, rest), want)
    dy = integers(want.shape, 4)
    dx, dw = gradients(x, w, dy, *rest, shape[1])
    np.testing.assert_array_equal(data_gradient(name, shape, w, dy, rest), dx)
    np.testing.assert_array_equal(weight_gradient(name, x, dy, kernel, rest), dw)


@pytest.mark.parametrize(("name", "stride", "size"), in_turn([1, 2], [1, 2, 3]))
def test_every_width_and_height(name, size, stride):
    for width in range(1, 12):
        for padding in (0, 1, 2):
            if min(size, width) + 2 * padding < 3:
                continue
            rest = ((stride, stride), ((padding, padding),) * 2, (1, 1))
            x, w = integers((1, 3, size, width), 1), integers((3, 1, 3, 3), 2)
            want = forward(x, w, *rest, 3)
            np.testing.assert_array_equal(depthwise(name, x, w, None, rest), want)
            dy = integers(want.shape, 4)
            dx, dw = gradients(x, w, dy, *rest, 3)
            np.testing.assert_array_equal(data_gradient(name, x.shape, w, dy, rest), dx)
            np.testing.assert_array_equal(weight_gradient(name, x, dy, (3, 3), rest), dw)


@pytest.mark.parametrize(("name", "stride"), in_turn([1, 2]))
def test_random_numbers_stay_within_the_bound(name, stride):
    x, w = reals((3, 17, 19, 21), 1), reals((17, 1, 3, 3), 2)
    rest = ((stride, stride), SAME, (1, 1))
    want = forward(x, w, *rest, 17)
    dy, unit = reals(want.shape, 3), 2.0**-24
    dx, dw = gradients(x, w, dy, *rest, 17)
    dx_sizes, dw_sizes = gradients(abs(x), abs(w), abs(dy), *rest, 17)
    assert (abs(depthwise(name, x, w, None, rest) - want) <= 2 * 9 * unit * forward(abs(x), abs(w), *rest, 17)).all()
    assert (abs(data_gradient(name, x.shape, w, dy, rest) - dx) <= 2 * 9 * unit * dx_sizes).all()
    assert (abs(weight_gradient(name, x, dy, (3, 3), rest) - dw) <= 2 * dy[:, 0].size * unit * dw_sizes).all()


@pytest.mark.parametrize(("name", "stride"), in_turn([(1, 1), (2, 2), (3, 2)]))
def test_epilogue_with_full_and_channel_operands(name, stride):
    x, w, bias = integers((2, 19, 6, 7), 1), integers((19, 1, 3, 3), 2), integers(19, 3)
    rest = (stride, SAME, (1, 1))
    want = forward(x, w, *rest, 19)
    full, scale = integers(want.shape, 4), integers(19, 5)
    tree = ("add", ("mul", ("var", "y"), ("var", "a1")), ("var", "a0"))
    got = depthwise(name, x, w, bias, rest, tree, (full, scale))
    np.testing.assert_array_equal(got, (want + bias[:, None, None]) * scale[:, None, None] + full)
    dx = gradients(x, w, full, *rest, 19)[0]
    tree = ("where", ("gt", ("var", "a0"), ("const", 0.0)), ("add", ("var", "y"), ("const", 1.0)), ("const", 0.0))
    np.testing.assert_array_equal(data_gradient(name, x.shape, w, full, rest, tree, (x,)), np.where(x > 0, dx + 1, 0))


@pytest.mark.parametrize(("name", "kernel"), in_turn([(3, 3), (9, 9)]))
def test_padded_lanes_stay_zero_whatever_the_expression(name, kernel):
    x, w, scale = integers((1, 3, 9, 9), 1), integers((3, 1, *kernel), 2), np.array([1, 2, -1], np.float32)
    rest = ((1, 1), NONE, (1, 1))
    y = forward(x, w, *rest, 3)
    np.testing.assert_array_equal(depthwise(name, x, w, None, rest, ("add", ("var", "y"), ("const", 1.0))), y + 1)
    tree = ("add", ("var", "y"), ("div", ("const", 8.0), ("var", "a0")))
    got = depthwise(name, x, w, None, rest, tree, (scale,))
    np.testing.assert_array_equal(got, y + 8 / scale[:, None, None])


@pytest.mark.parametrize(("name", "chunk"), in_turn([(1, 1), (2, 3), (3, 2), (9, 5), (4, 100)]))
def test_any_cut_into_chunks(name, chunk):
    x, w = integers((2, 37, 9, 5), 1), integers((37, 1, 3, 3), 2)
    want = forward(x, w, (1, 1), SAME, (1, 1), 37)
    np.testing.assert_array_equal(depthwise(name, x, w, chunk=chunk), want)


def test_chunks_are_neither_tiny_nor_few():
    for images, channels, size in ((1, 32, 112), (1, 144, 56), (1, 576, 14), (16, 144, 56), (16, 960, 7)):
        conv = Conv(images, channels, (size, size), channels, (3, 3), padding=SAME, groups=channels)
        plan = depthwise_plans.depthwise_plan(target.named("avx2"), conv)
        vectors = images * channels // 8 * size * size
        assert vectors / plan.step.chunks >= 500
        assert plan.step.chunks >= 8


def test_kernel_larger_than_the_image_is_an_error():
    with pytest.raises(ValueError, match="exceeds the padded input"):
        depthwise_plans.depthwise_plan(target.host(), Conv(1, 1, (4, 4), 1, (5, 5)))


def test_no_image_makes_no_chunk():
    goal = target.named("avx512")
    conv = Conv(0, 16, (4, 4), 16, (3, 3), padding=SAME, groups=16)
    assert depthwise_plans.depthwise_plan(goal, conv).step.chunks == 0
    plan = depthwise_plans.depthwise_weight_gradient_plan(goal, conv)
    assert (plan.parts.chunks, plan.total.arguments["parts"]) == (0, 0)


@pytest.mark.parametrize("name", TARGETS)
def test_no_image_gives_no_gradient(name):
    dw = weight_gradient(name, integers((0, 5, 4, 4), 1), integers((0, 5, 4, 4), 2), (3, 3), ((1, 1), SAME, (1, 1)))
    assert (dw == 0).all()


@pytest.mark.parametrize("name", target.TARGETS)
@pytest.mark.parametrize("stride", [(1, 1), (2, 2)])
def test_no_row_spills(name, stride):
    """Every target is compiled for, whether this machine can run it or not."""
    goal = target.named(name)
    conv = Conv(1, 32, (28, 28), 32, (3, 3), stride, SAME, groups=32)
    added = Epilogue(("add", ("var", "y"), ("var", "a0")), ("full",))
    for plan in (
        depthwise_plans.depthwise_plan(goal, conv, Epilogue(RELU)).step,
        depthwise_plans.depthwise_plan(goal, conv, added).step,
        depthwise_plans.depthwise_data_gradient_plan(goal, conv).step,
        depthwise_plans.depthwise_weight_gradient_plan(goal, conv).parts,
    ):
        assert spills(compile.assembly(plan.kernel, goal), 6) == [], plan.kernel


@pytest.mark.parametrize("name", target.TARGETS)
@pytest.mark.parametrize("size", [2, 4, 5, 7])
def test_no_row_of_other_kernels_spills(name, size):
    """Taps that hardly fit the registers are among them. One bias comes from the stack instead of from scratch."""
    goal, around = target.named(name), ((size // 2, size // 2), (size // 2, size // 2))
    for stride in ((1, 1), (2, 2), (3, 3)):
        conv = Conv(1, 32, (28, 28), 32, (size, size), stride, around, groups=32)
        step = depthwise_plans.depthwise_plan(goal, conv, Epilogue(RELU)).step
        if (name, size, stride) != ("sse2", 7, (2, 2)):
            assert spills(compile.assembly(step.kernel, goal), 6) == [], step.kernel


@pytest.mark.parametrize("kernel", [(5, 5), (7, 7)])
def test_no_pair_of_rows_spills(kernel):
    paired = [goal for goal in target.TARGETS.values() if depthwise_plans.in_pairs(goal, kernel, (1, 1), (1, 1), False)]
    assert target.named("avx512") in paired
    for goal in paired:
        around, tree = tuple((k // 2, k // 2) for k in kernel), ("add", ("var", "y"), ("var", "a0"))
        conv = Conv(1, 32, (28, 28), 32, kernel, (1, 1), around, groups=32)
        step = depthwise_plans.depthwise_plan(goal, conv, Epilogue(tree, ("full",))).step
        assert spills(compile.assembly(step.kernel, goal), 6) == []
