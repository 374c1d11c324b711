"""Convolutions over three axes against float64: runs of slices, planes of weights, and Winograd's algorithm on them."""

from __future__ import annotations

import numpy as np
import pytest

from cnnc.kernels.cpu import target
from cnnc.kernels.cpu.conv.arguments import pack_plan
from cnnc.kernels.cpu.problem import Epilogue
from cnnc.kernels.cpu.volume import depthwise as depthwise_volume
from cnnc.kernels.cpu.volume import plan as volume_plans
from cnnc.kernels.cpu.winograd.scheme import SCHEMES
from tests.kernels.conv.test_conv import RELU
from tests.kernels.convolving import (
    conv_of,
    error_of_long_convolution,
    error_of_long_weight_gradient,
    forward,
    gradients,
    integers,
    reals,
    run,
)
from tests.kernels.launching import TARGETS, block, check_guards, guarded, in_turn, place, unblock
from tests.kernels.packing import pack_weights
from tests.kernels.winograd.test_forward import pack as pack_winograd

SAME = ((1, 1),) * 3
NONE = ((0, 0),) * 3
ONE = (1, 1, 1)
# (N, C, D, H, W), filters, kernel, stride, padding, dilation, groups
VOLUMES = {
    "3x3x3": ((2, 17, 4, 6, 15), 33, (3, 3, 3), ONE, SAME, ONE, 1),
    "one slice": ((3, 16, 1, 5, 6), 16, (3, 3, 3), ONE, SAME, ONE, 1),
    "two slices, 5x3x3": ((2, 16, 2, 5, 6), 16, (5, 3, 3), ONE, ((2, 2), (1, 1), (1, 1)), ONE, 1),
    "stride 2": ((2, 18, 5, 7, 9), 20, (3, 3, 3), (2, 2, 2), SAME, ONE, 1),
    "depth stride 3 above the kernel": ((2, 16, 8, 4, 5), 5, (2, 3, 2), (3, 1, 2), ((0, 1), (1, 1), (0, 0)), ONE, 1),
    "1x1x1, stride 2": ((2, 33, 5, 7, 7), 40, ONE, (2, 2, 2), NONE, ONE, 1),
    "1x3x3": ((2, 16, 3, 6, 7), 32, (1, 3, 3), ONE, ((0, 0), (1, 1), (1, 1)), ONE, 1),
    "dilated": ((1, 16, 7, 8, 9), 16, (3, 2, 3), ONE, ((2, 2), (0, 1), (2, 2)), (2, 1, 2), 1),
    "dilated, stride 2": ((1, 5, 9, 8, 9), 6, (4, 3, 3), (2, 1, 1), ((3, 2), (1, 1), (1, 1)), (3, 1, 1), 1),
    "even dilation, stride 2": ((1, 5, 9, 4, 4), 6, (3, 3, 3), (2, 2, 2), ((1, 2), (1, 1), (1, 1)), (2, 1, 1), 1),
    "short rows, many channels": ((2, 48, 3, 4, 4), 66, (3, 3, 3), ONE, SAME, ONE, 1),
    "in place": ((2, 33, 4, 5, 16), 20, (2, 3, 3), ONE, NONE, ONE, 1),
    "slices wholly in padding": ((1, 16, 2, 3, 3), 16, (2, 2, 2), ONE, ((3, 3), (1, 0), (1, 0)), ONE, 1),
    "groups": ((2, 32, 3, 5, 6), 64, (3, 3, 3), ONE, SAME, ONE, 2),
}
PLAIN = {
    "three channels": ((2, 3, 5, 9, 15), 20, (3, 3, 3), ONE, SAME, ONE, 1),
    "one channel, stride 2": ((2, 1, 6, 9, 14), 33, (5, 5, 5), (1, 2, 2), ((2, 2),) * 3, ONE, 1),
}


def volume(case):
    return conv_of(*case)


def operands(case, make):
    v = volume(case)
    x, w = make(case[0], 1), make((v.filters, v.channels // v.groups, *v.kernel), 2)
    return v, x, w, make((v.images, v.filters, *v.out), 3), case[3:]


def packed(name, w, form):
    buffer = guarded((form.floats,))
    run(pack_plan(form), name, {"source": place(w), "packed": buffer})
    check_guards(buffer)
    np.testing.assert_array_equal(buffer, pack_weights(w, form))
    return buffer


def result(name, pieces, x, w, shape, bias=None, full=None, winograd=False):
    """What the pieces write. full: an operand of the result's shape."""
    lanes = target.named(name).lanes
    y = guarded((shape[0], -(-shape[1] // lanes), *shape[2:], lanes))
    more = {} if full is None else {"a0": place(block(full, lanes))}
    for piece in pieces:
        buffers = {"x": x, "bias": None if bias is None else place(bias), "y": y, **more}
        offsets = {"x": piece.x, "y": piece.y, "a0": piece.y}
        form = piece.plan.weights
        weights = pack_winograd(name, w, form) if winograd else packed(name, w, form)
        run(piece.plan.step, name, {**buffers, "w": weights}, offsets)
    check_guards(y)
    return unblock(y, shape[1])


def weight_gradient(name, planes, x, dy, shape, parts=1):
    dw = guarded((parts, *shape))
    for plane in planes:
        plan = getattr(plane.plan, "step", plane.plan)
        run(plan, name, {"x": x, "dy": dy, "dw": dw}, {"x": plane.x, "dy": plane.dy, "dw": plane.dw})
    check_guards(dw)
    return dw.sum(0)


@pytest.mark.parametrize(("name", "case"), in_turn(VOLUMES))
def test_integers_are_exact(name, case):
    goal = target.named(name)
    v, x, w, dy, rest = operands(VOLUMES[case], integers)
    there = place(block(x, goal.lanes))
    np.testing.assert_array_equal(
        result(name, volume_plans.direct_pieces(goal, v), there, w, dy.shape), forward(x, w, *rest)
    )
    dx, dw = gradients(x, w, dy, *rest)
    there, source = place(block(x, goal.lanes)), place(block(dy, goal.lanes))
    np.testing.assert_array_equal(result(name, volume_plans.direct_gradient_pieces(goal, v), source, w, x.shape), dx)
    found = weight_gradient(name, volume_plans.weight_gradient_planes(goal, v), there, source, w.shape)
    np.testing.assert_array_equal(found, dw)


@pytest.mark.parametrize("name", TARGETS)
def test_epilogue(name):
    goal = target.named(name)
    for winograd in (False, True):
        make = reals if winograd else integers
        v, x, w, y, rest = operands(VOLUMES["3x3x3"], make)
        bias, full = make(v.filters, 4), make(y.shape, 5)
        want = np.maximum(forward(x, w, *rest) + bias[:, None, None, None], 0) + full
        more = Epilogue(("add", RELU, ("var", "a0")), ("full",))
        if winograd:
            pieces = volume_plans.winograd_pieces(goal, v, SCHEMES[3, 3][0], more)
        else:
            pieces = volume_plans.direct_pieces(goal, v, False, more)
        found = result(name, pieces, place(block(x, goal.lanes)), w, y.shape, bias, full, winograd)
        np.testing.assert_allclose(found, want, rtol=0, atol=1e-3 if winograd else 0)


@pytest.mark.parametrize(("name", "case"), in_turn(PLAIN))
def test_integers_are_exact_from_plain_input(name, case):
    goal = target.named(name)
    v, x, w, dy, rest = operands(PLAIN[case], integers)
    pieces = volume_plans.direct_pieces(goal, v, True)
    np.testing.assert_array_equal(result(name, pieces, place(x), w, dy.shape), forward(x, w, *rest))
    planes = volume_plans.weight_gradient_planes(goal, v, True)
    found = weight_gradient(name, planes, place(x), place(block(dy, goal.lanes)), w.shape)
    np.testing.assert_array_equal(found, gradients(x, w, dy, *rest)[1])


WINOGRAD = {
    "3x3x3": ((2, 20, 4, 9, 13), 33, (3, 3, 3), ONE, SAME, ONE, 1),
    "one slice": ((3, 16, 1, 8, 8), 16, (3, 3, 3), ONE, SAME, ONE, 1),
    "depth stride 2": ((2, 16, 5, 8, 9), 17, (3, 3, 3), (2, 1, 1), SAME, ONE, 1),
    "depth dilation 2": ((2, 16, 5, 8, 9), 17, (3, 3, 3), ONE, ((2, 2), (1, 1), (0, 2)), (2, 1, 1), 1),
    "1x5x5": ((3, 16, 3, 12, 12), 32, (1, 5, 5), ONE, ((0, 0), (2, 2), (2, 2)), ONE, 1),
    "2x5x5": ((3, 16, 3, 12, 12), 32, (2, 5, 5), ONE, ((1, 0), (2, 2), (2, 2)), ONE, 1),
}


@pytest.mark.parametrize(("name", "case"), in_turn(WINOGRAD))
def test_winograds_error_is_at_most_four_times_that_of_long_sums(name, case):
    goal = target.named(name)
    v, x, w, dy, rest = operands(WINOGRAD[case], reals)
    (dx, dw), y = gradients(x, w, dy, *rest), forward(x, w, *rest)
    there, source = place(block(x, goal.lanes)), place(block(dy, goal.lanes))

    def rms(a):
        return np.sqrt(np.mean(np.square(a)))

    # of stride 1, the gradient of the input is the convolution of dy with the weights turned round
    turned = w.swapaxes(0, 1)[..., ::-1, ::-1, ::-1]
    around = tuple((k - 1 - b, k - 1 - a) for k, (a, b) in zip(v.kernel, rest[1], strict=True))
    long = (
        error_of_long_convolution(x, w, *rest[:3]),
        error_of_long_convolution(dy, turned, rest[0], around, rest[2]),
        error_of_long_weight_gradient(x, dy, v.kernel, *rest[:3]),
    )
    for scheme in (s for s in SCHEMES[v.kernel[1:]] if s.smallest == 1):
        found = [
            result(name, volume_plans.winograd_pieces(goal, v, scheme), there, w, y.shape, winograd=True),
            result(
                name, volume_plans.winograd_pieces(goal, v, scheme, transposed=True), source, w, x.shape, winograd=True
            ),
        ]
        if volume_plans.like_winograds(goal, v, "conv_weight_gradient") is not None:
            planes = volume_plans.winograd_gradient_planes(goal, v, scheme)
            found.append(weight_gradient(name, planes, there, source, w.shape, planes[0].plan.parts))
        for got, error, want in zip(found, long, (y, dx, dw), strict=False):
            assert rms(got - want) <= 4 * error


def test_runs_share_packed_weights():
    goal = target.named(TARGETS[0])
    v = volume(VOLUMES["3x3x3"])
    pieces = volume_plans.direct_pieces(goal, v)
    assert [piece.plan.step.arguments["w_first"] // piece.plan.weights.channel_blocks for piece in pieces] == [1, 0, 0]
    assert len({piece.plan.weights for piece in pieces}) == 1


def test_winograd_wants_slices_that_meet_something():
    goal = target.named(TARGETS[0])
    assert volume_plans.like_winograds(goal, volume(WINOGRAD["3x3x3"]), "conv") is not None
    for op in ("conv", "conv_data_gradient", "conv_weight_gradient"):
        assert volume_plans.like_winograds(goal, volume(VOLUMES["slices wholly in padding"]), op) is None
    assert volume_plans.like_winograds(goal, volume(VOLUMES["stride 2"]), "conv") is None
    one = volume(((1, 16, 1, 8, 8), 16, (3, 3, 3), ONE, SAME, ONE, 1))
    assert volume_plans.like_winograds(goal, one, "conv") is not None
    assert volume_plans.like_winograds(goal, one, "conv_weight_gradient") is None


DEPTHWISE = {
    "3x3x3": ((2, 20, 4, 6, 7), 20, (3, 3, 3), ONE, SAME, ONE, 20),
    "stride 2": ((2, 16, 5, 7, 6), 16, (3, 3, 3), (2, 2, 2), SAME, ONE, 16),
    "depth stride above the kernel": ((1, 5, 8, 6, 7), 5, (2, 3, 3), (3, 1, 1), ((0, 1), (1, 1), (1, 1)), ONE, 5),
    "slices wholly in padding": ((1, 16, 2, 6, 7), 16, (2, 3, 3), ONE, ((3, 3), (1, 1), (1, 1)), ONE, 16),
}


def depthwise(name, steps, x, w, shape, bias=None, full=None):
    lanes = target.named(name).lanes
    y = guarded((shape[0], -(-shape[1] // lanes), *shape[2:], lanes))
    for piece, first, last in steps:
        operands = [*([full] if last and full is not None else []), *([] if first else [y])]
        buffers = {"x": x, "bias": bias if first else None, "y": y, "w": packed(name, w, piece.plan.weights)}
        buffers |= {f"a{i}": a for i, a in enumerate(operands)}
        run(piece.plan.step, name, buffers, {"x": piece.x, **dict.fromkeys(["y", "a0", "a1"], piece.y)})
    check_guards(y)
    return unblock(y, shape[1])


@pytest.mark.parametrize(("name", "case"), in_turn(DEPTHWISE))
def test_depthwise_integers_are_exact(name, case):
    goal = target.named(name)
    v, x, w, dy, rest = operands(DEPTHWISE[case], integers)
    bias, full = integers(v.channels, 4), integers(dy.shape, 5)
    want = np.maximum(forward(x, w, *rest) + bias[:, None, None, None], 0) + full
    there, source = place(block(x, goal.lanes)), place(block(dy, goal.lanes))
    steps = depthwise_volume.depthwise_pieces(goal, v, Epilogue(("add", RELU, ("var", "a0")), ("full",)))
    more = (place(bias), place(block(full, goal.lanes)))
    np.testing.assert_array_equal(depthwise(name, steps, there, w, dy.shape, *more), want)
    dx, dw = gradients(x, w, dy, *rest)
    steps = depthwise_volume.depthwise_pieces(goal, v, transposed=True)
    np.testing.assert_array_equal(depthwise(name, steps, source, w, x.shape), dx)
    found = guarded(w.shape)
    for plane in depthwise_volume.depthwise_gradient_planes(goal, v):
        sums = guarded((max(plane.plan.floats, 1),))
        run(plane.plan.parts, name, {"x": there, "dy": source, "sums": sums}, {"x": plane.x, "dy": plane.dy})
        run(plane.plan.total, name, {"sums": sums, "dw": found}, {"dw": plane.dw})
    check_guards(found)
    np.testing.assert_array_equal(found, dw)
