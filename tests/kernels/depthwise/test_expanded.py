"""A 1x1 convolution and the depthwise one behind it in one step, against the two one after the other."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from cnnc.kernels.cpu import Kernel, target
from cnnc.kernels.cpu.code import compile
from cnnc.kernels.cpu.depthwise.expanded_plan import expanded_plan
from cnnc.kernels.cpu.problem import Conv, Epilogue
from tests.kernels.assembly import spills
from tests.kernels.conv.test_conv import RELU
from tests.kernels.convolving import conv_of, forward, integers, pack, reals, run
from tests.kernels.depthwise.test_depthwise import GEOMETRIES, kinds, outputs
from tests.kernels.launching import TARGETS, block, check_guards, guarded, in_turn, place, unblock

WALKED = [case for case in GEOMETRIES if not case.startswith("tap by tap")]
UNIT, NONE = (1, 1), ((0, 0), (0, 0))
SAME = (UNIT, (UNIT, UNIT), UNIT)


def expanded(name, x, wide, w, bias=None, later=None, rest=SAME, inner=None, expression=None, extra=(), cut=None):
    """The step's result, in logical shape. wide: weights [C, I, 1, 1], w: [C, 1, kh, kw]."""
    goal, channels = target.named(name), len(w)
    conv = conv_of((len(x), channels, *x.shape[2:]), channels, w.shape[2:], *rest, channels)
    plan = expanded_plan(goal, conv, x.shape[1], inner, Epilogue(expression, kinds(extra)), cut)
    assert plan is not None
    shape = outputs((len(x), channels, *x.shape[2:]), w.shape[2:], *rest)
    y = guarded((shape[0], -(-channels // goal.lanes), *shape[2:], goal.lanes))
    buffers = {"x": place(block(x, goal.lanes)), "w": pack(name, wide, plan.weights), "depthwise_y": y}
    buffers |= {"bias": bias, "depthwise_bias": later, "depthwise_w": pack(name, w, plan.depthwise)}
    buffers |= {f"a{i}": place(block(a, goal.lanes) if a.ndim == 4 else a) for i, a in enumerate(extra)}
    run(plan.step, name, buffers)
    check_guards(y)
    return unblock(y, channels)


def reference(x, wide, w, bias, later, rest, rectified=False):
    y = forward(x, wide, UNIT, NONE, UNIT, 1) + bias[:, None, None]
    y = np.maximum(y, 0) if rectified else y
    return forward(y, w, *rest, len(w)) + later[:, None, None]


@pytest.mark.parametrize(("name", "case"), in_turn(WALKED))
def test_integers_are_exact(name, case):
    (images, channels, *size), kernel, *rest = GEOMETRIES[case]
    for ins in (1, 5, 17):
        x, wide = integers((images, ins, *size), 1), integers((channels, ins, 1, 1), 2)
        w, bias, later = integers((channels, 1, *kernel), 3), integers(channels, 4), integers(channels, 5)
        want = reference(x, wide, w, bias, later, rest)
        np.testing.assert_array_equal(expanded(name, x, wide, w, bias, later, rest), want)
        want = np.maximum(reference(x, wide, w, bias, later, rest, rectified=True), 0)
        got = expanded(name, x, wide, w, bias, later, rest, inner=RELU, expression=RELU)
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("name", "channels"), in_turn([1, 3, 15, 16, 17, 31, 33, 50]))
def test_tails_of_channels(name, channels):
    """Padded lanes stay zero in between too, where the inner expression makes something of a zero."""
    shifted = ("add", ("var", "y"), ("const", 2.0))
    x, wide = integers((2, 19, 6, 7), 1), integers((channels, 19, 1, 1), 2)
    w, none, two = integers((channels, 1, 3, 3), 3), np.zeros(channels, np.float32), np.full(channels, 2, np.float32)
    got = expanded(name, x, wide, w, inner=shifted, expression=shifted)
    np.testing.assert_array_equal(got, reference(x, wide, w, two, none, SAME) + 2)


SIZES = [(1, 1), (1, 9), (13, 1), (7, 7), (11, 13), (14, 14), (29, 5)]


@pytest.mark.parametrize(("name", "size", "stride"), in_turn(SIZES, [(1, 1), (2, 2), (1, 3)]))
def test_every_cut_gives_the_same_bits(name, size, stride):
    rest = (stride, (UNIT, UNIT), UNIT)
    x, wide = reals((2, 21, *size), 1), reals((70, 21, 1, 1), 2)
    w, bias, later = reals((70, 1, 3, 3), 3), reals(70, 4), reals(70, 5)
    first = expanded(name, x, wide, w, bias, later, rest, RELU, RELU)
    want = np.maximum(reference(x, wide, w, bias, later, rest, rectified=True), 0)
    np.testing.assert_allclose(first, want, atol=1e-4)
    for cut in ((1, 1), (2, 3), (3, 100), (5, 2), (100, 1)):
        cut = (min(cut[0], first.shape[2]), min(cut[1], 3))
        np.testing.assert_array_equal(expanded(name, x, wide, w, bias, later, rest, RELU, RELU, cut=cut), first)


@pytest.mark.parametrize("name", TARGETS)
def test_operands_behind(name):
    x, wide, w = integers((2, 7, 9, 8), 1), integers((20, 7, 1, 1), 2), integers((20, 1, 5, 5), 3)
    rest = (UNIT, ((2, 2), (2, 2)), UNIT)
    full, scale = integers((2, 20, 9, 8), 4), integers(20, 5)
    tree = ("add", ("mul", ("var", "y"), ("var", "a1")), ("var", "a0"))
    none = np.zeros(20, np.float32)
    want = reference(x, wide, w, none, none, rest) * scale[:, None, None] + full
    np.testing.assert_array_equal(expanded(name, x, wide, w, rest=rest, expression=tree, extra=(full, scale)), want)


def test_what_it_does_not_do():
    goal = target.named("avx512")
    conv = Conv(1, 32, (20, 20), 32, (3, 3), UNIT, (UNIT, UNIT), UNIT, 32)
    assert expanded_plan(goal, replace(conv, kernel=(9, 9), padding=((4, 4), (4, 4))), 16) is None
    assert expanded_plan(goal, replace(conv, images=0), 16) is None
    assert expanded_plan(goal, conv, 4096) is None
    with pytest.raises(ValueError, match="exceeds the padded input"):
        expanded_plan(goal, replace(conv, size=(2, 2), padding=NONE), 16)


@pytest.mark.parametrize("name", target.TARGETS)
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_no_register_tile_spills(name, kernel, stride):
    goal, pad = target.named(name), (kernel // 2, kernel // 2)
    channels = 8 * goal.lanes + 1
    conv = Conv(1, channels, (23, 23), channels, (kernel, kernel), (stride, stride), (pad, pad), UNIT, channels)
    plan = expanded_plan(goal, conv, 32, RELU, Epilogue(RELU))
    parameters = dict(plan.step.kernel.parameters)
    assert parameters["uneven"]
    assert parameters["tail"]
    assert parameters["ragged"]
    text = compile.assembly(Kernel("conv_depthwise", plan.step.kernel.parameters), goal)
    most = max(len(re.findall(r"\t(?:vfmadd\w+ps|mulps|fmla)\t", part)) for part in re.split(r"\n(?=[.\w$]+:)", text))
    assert most >= parameters["pixels"] * parameters["vectors"]
    if (name, kernel, stride) != ("sse2", 7, 2):  # a bias from the stack instead of from scratch
        assert spills(text, 6) == []
