"""Convolution of plain channels with max pooling behind it: against what the direct kernel gives, pooled."""

from __future__ import annotations

import re

import numpy as np
import pytest

from cnnc.kernels.cpu import Kernel, target
from cnnc.kernels.cpu.code import compile
from cnnc.kernels.cpu.conv.arguments import pack_plan
from cnnc.kernels.cpu.conv.pooled_plan import pooled_plan
from cnnc.kernels.cpu.problem import Conv, Epilogue
from tests.kernels.conv.test_conv import RELU, spills
from tests.kernels.convolving import conv_of, forward, integers, reals, run
from tests.kernels.launching import TARGETS, check_guards, guarded, in_turn, place, unblock


def pooled(name, x, w, bias, padding, expression=None):
    goal = target.named(name)
    plan = pooled_plan(goal, conv_of(x.shape, len(w), w.shape[2:], (1, 1), padding), Epilogue(expression))
    packed = guarded((plan.weights.floats,))
    run(pack_plan(plan.weights), name, {"source": place(w), "packed": packed})
    rows, columns = plan.step.arguments["rows"], plan.step.arguments["columns"]
    y = guarded((len(x), -(-len(w) // goal.lanes), rows, columns, goal.lanes))
    buffers = {"x": place(x), "w": packed, "y": y, "bias": None if bias is None else place(bias)}
    run(plan.step, name, buffers)
    check_guards(y)
    return unblock(y, len(w))


def maxima(y):
    n, k, rows, columns = y.shape
    return y.reshape(n, k, rows // 2, 2, columns // 2, 2).max((3, 5))


@pytest.mark.parametrize(("name", "filters", "channels"), in_turn([1, 15, 16, 17, 20, 33], [1, 3]))
def test_filters_and_channels(name, filters, channels):
    x, w, bias = integers((2, channels, 12, 28), 1), integers((filters, channels, 5, 5), 2), integers(filters, 3)
    want = forward(x, w, (1, 1), ((2, 2), (2, 2)), (1, 1), 1)
    np.testing.assert_array_equal(pooled(name, x, w, None, ((2, 2), (2, 2))), maxima(want))
    want = np.maximum(want + bias[:, None, None], 0)
    np.testing.assert_array_equal(pooled(name, x, w, bias, ((2, 2), (2, 2)), RELU), maxima(want))


KERNELS = [(1, 1), (3, 3), (2, 5), (7, 1)]
PADDINGS = [((0, 0), (0, 0)), ((1, 2), (3, 0)), ((9, 8), (20, 21)), ((-1, 1), (2, -2))]


@pytest.mark.parametrize(("name", "kernel", "padding"), in_turn(KERNELS, PADDINGS))
def test_kernels_and_paddings(name, kernel, padding):
    for size in ((8, 9), (31, 46)):
        odd = [(s + sum(p) - k + 1) % 2 for s, p, k in zip(size, padding, kernel, strict=True)]
        x, w = integers((1, 2, size[0] + odd[0], size[1] + odd[1]), 1), integers((18, 2, *kernel), 2)
        want = forward(x, w, (1, 1), padding, (1, 1), 1)
        np.testing.assert_array_equal(pooled(name, x, w, None, padding), maxima(want))


@pytest.mark.parametrize("name", TARGETS)
def test_padded_lanes_stay_zero_and_nan_wins(name):
    # `unblock` asserts the zeros.
    x, w = reals((2, 1, 6, 6), 1), reals((21, 1, 3, 3), 2)
    x[1, 0, 2, 2] = np.nan
    got = pooled(name, x, w, None, ((1, 1), (1, 1)), ("add", ("var", "y"), ("const", 1.0)))
    assert np.isnan(got[1, :, :2, :2]).all()
    assert np.isfinite(got[0]).all()


def test_kernel_larger_than_the_image_is_an_error():
    with pytest.raises(ValueError, match="exceeds the padded input"):
        pooled_plan(target.host(), Conv(1, 1, (4, 9), 16, (5, 5)))


@pytest.mark.parametrize("name", target.TARGETS)
def test_no_register_tile_spills(name):
    pairs = {"avx512": 7, "avx2": 3, "sse2": 2, "neon": 6}[name]
    kernel = Kernel("conv_pooled", (("pairs", pairs), ("masked", True), ("expression", RELU)))
    text = compile.assembly(kernel, target.named(name))
    most = max(len(re.findall(r"\t(?:vfmadd\w+ps|mulps|fmla)\t", part)) for part in re.split(r"\n(?=[.\w$]+:)", text))
    assert most >= 4 * pairs
    assert spills(text, 6) == []
