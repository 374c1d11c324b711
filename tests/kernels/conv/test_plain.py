"""Plain convolution in one, two and three dimensions, any groups, against float64."""

from __future__ import annotations

import numpy as np
import pytest

from cnnc.kernels.cpu import target
from cnnc.kernels.cpu.conv.gradient_plan import plain_plan
from cnnc.kernels.cpu.problem import Conv, Epilogue
from tests.kernels.convolving import conv_of, forward, gradients, integers, reals, run
from tests.kernels.launching import TARGETS, check_guards, guarded, in_turn, place

# shape, filters, kernel, stride, padding, dilation, groups
CASES = {
    "grouped, 3 channels a group": ((2, 9, 7, 21), 6, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 3),
    "depthwise": ((1, 7, 6, 33), 7, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 7),
    "depthwise, multiplier 2, stride 2": ((1, 5, 9, 10), 10, (3, 3), (2, 2), ((1, 1), (1, 0)), (1, 1), 5),
    "one dimension": ((2, 4, 40), 3, (5,), (3,), ((1, -1),), (2,), 1),
    "three dimensions": ((1, 4, 5, 6, 7), 6, (2, 3, 3), (2, 1, 2), ((0, 1), (2, -1), (1, 1)), (1, 2, 1), 2),
    "stride above the kernel": ((1, 2, 11, 11), 2, (2, 1), (3, 3), ((0, 0), (0, 0)), (1, 1), 1),
    "window wholly in padding": ((1, 1, 2, 2), 1, (2, 2), (1, 1), ((3, 0), (0, 4)), (1, 1), 1),
}


def plan(name, what, case, expression=None, operands=()):
    shape, filters, *rest = case
    op = {"forward": "conv"}.get(what, f"conv_{what}")
    return plain_plan(target.named(name), op, conv_of(shape, filters, *rest), Epilogue(expression, operands))


@pytest.mark.parametrize(("name", "case"), in_turn(CASES))
def test_integers_are_exact(name, case):
    shape, filters, kernel, *rest = CASES[case]
    x, w, bias = integers(shape, 1), integers((filters, shape[1] // rest[-1], *kernel), 2), integers(filters, 3)
    want = forward(x, w, *rest) + bias.reshape(-1, *[1] * len(kernel))
    y = guarded(want.shape)
    run(plan(name, "forward", CASES[case]), name, {"x": place(x), "w": place(w), "bias": place(bias), "y": y})
    check_guards(y)
    np.testing.assert_array_equal(y, want)

    dy = integers(want.shape, 4)
    dx, dw = gradients(x, w, dy, *rest)
    got_x, got_w = guarded(dx.shape), guarded(dw.shape)
    run(plan(name, "data_gradient", CASES[case]), name, {"x": place(dy), "w": place(w), "bias": None, "y": got_x})
    run(plan(name, "weight_gradient", CASES[case]), name, {"x": place(x), "w": got_w, "bias": None, "y": place(dy)})
    check_guards(got_x)
    check_guards(got_w)
    np.testing.assert_array_equal(got_x, dx)
    np.testing.assert_array_equal(got_w, dw)


@pytest.mark.parametrize("name", TARGETS)
def test_epilogue(name):
    case = CASES["grouped, 3 channels a group"]
    shape, filters, kernel, *rest = case
    x, w, full, shift = (
        integers(shape, 1),
        integers((filters, 3, *kernel), 2),
        integers((2, 6, 7, 21), 3),
        integers(6, 4),
    )
    tree = ("max", ("add", ("mul", ("var", "y"), ("var", "a0")), ("var", "a1")), ("const", 0.0))
    y = guarded(full.shape)
    buffers = {"x": place(x), "w": place(w), "bias": None, "y": y, "a0": place(full), "a1": place(shift)}
    run(plan(name, "forward", case, tree, ("full", "channel")), name, buffers)
    check_guards(y)
    np.testing.assert_array_equal(y, np.maximum(forward(x, w, *rest) * full + shift[:, None, None], 0))


@pytest.mark.parametrize("name", TARGETS)
def test_random_numbers_stay_within_the_bound(name):
    case = CASES["depthwise"]
    shape, _filters, kernel, *rest = case
    x, w = reals(shape, 1), reals((7, 1, *kernel), 2)
    y = guarded((1, 7, 6, 33))
    run(plan(name, "forward", case), name, {"x": place(x), "w": place(w), "bias": None, "y": y})
    assert (abs(y - forward(x, w, *rest)) <= 2 * 9 * 2.0**-24 * forward(abs(x), abs(w), *rest)).all()


def test_kernel_larger_than_the_image_is_an_error():
    with pytest.raises(ValueError, match="exceeds the padded input"):
        plain_plan(target.host(), "conv", Conv(1, 1, (4,), 1, (5,), (1,), ((0, 0),), (1,)))
