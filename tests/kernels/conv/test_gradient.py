"""The gradients of a convolution against float64."""

from __future__ import annotations

import numpy as np
import pytest

from cnnc.kernels.cpu import target
from cnnc.kernels.cpu.code import compile
from cnnc.kernels.cpu.conv.gradient_plan import weight_gradient_plan
from cnnc.kernels.cpu.problem import Conv, output_size
from tests.kernels.conv.test_conv import GEOMETRIES, GROUPED, PLAIN, spills
from tests.kernels.convolving import NONE, SAME, data_gradient, gradients, integers, reals, weight_gradient
from tests.kernels.launching import TARGETS, in_turn


def outputs(shape, filters, kernel, stride, padding, dilation):
    geometry = zip(shape[2:], kernel, stride, padding, dilation, strict=True)
    return (shape[0], filters, *(output_size(*g) for g in geometry))


@pytest.mark.parametrize(("name", "case"), in_turn(GEOMETRIES))
def test_integers_are_exact(name, case):
    shape, filters, kernel, *rest = GEOMETRIES[case]
    x, w = integers(shape, 1), integers((filters, shape[1] // rest[-1], *kernel), 2)
    dy = integers(outputs(shape, filters, kernel, *rest[:3]), 3)
    dx, dw = gradients(x, w, dy, *rest)
    np.testing.assert_array_equal(data_gradient(name, shape, w, dy, *rest), dx)
    np.testing.assert_array_equal(weight_gradient(name, x, dy, w.shape, *rest), dw)


@pytest.mark.parametrize(("name", "case"), in_turn(GROUPED))
def test_data_gradients_of_bands_are_exact(name, case):
    shape, filters, kernel, *rest = GROUPED[case]
    w = integers((filters, shape[1] // rest[-1], *kernel), 2)
    dy = integers(outputs(shape, filters, kernel, *rest[:3]), 3)
    dx, _ = gradients(np.zeros(shape), w, dy, *rest)
    np.testing.assert_array_equal(data_gradient(name, shape, w, dy, *rest), dx)


@pytest.mark.parametrize(("name", "case"), in_turn(PLAIN))
def test_weight_gradient_from_plain_input(name, case):
    shape, filters, kernel, *rest = PLAIN[case]
    x, w = integers(shape, 1), integers((filters, shape[1], *kernel), 2)
    dy = integers(outputs(shape, filters, kernel, *rest[:3]), 3)
    np.testing.assert_array_equal(
        weight_gradient(name, x, dy, w.shape, *rest, plain=True), gradients(x, w, dy, *rest)[1]
    )


@pytest.mark.parametrize("name", TARGETS)
def test_random_numbers_stay_within_the_bound(name):
    x, w, dy = reals((3, 17, 7, 9), 1), reals((33, 17, 3, 3), 2), reals((3, 33, 4, 5), 3)
    rest = ((2, 2), SAME, (1, 1), 1)
    dx, dw = gradients(x, w, dy, *rest)
    dx_sizes, dw_sizes = gradients(abs(x), abs(w), abs(dy), *rest)
    assert (abs(data_gradient(name, x.shape, w, dy, *rest) - dx) <= 2 * 9 * 33 * 2.0**-24 * dx_sizes).all()
    assert (abs(weight_gradient(name, x, dy, w.shape, *rest) - dw) <= 2 * 3 * 20 * 2.0**-24 * dw_sizes).all()


@pytest.mark.parametrize("name", TARGETS)
def test_epilogue_of_a_strided_data_gradient_sees_every_parity(name):
    """The mask of a ReLU before the convolution; a stride above the kernel leaves inputs without any tap."""
    shape, w = (2, 5, 7, 8), integers((3, 5, 2, 1), 2)
    dy, before = integers((2, 3, 2, 3), 3), integers(shape, 4)
    rest = ((3, 3), NONE, (1, 1), 1)
    tree = ("where", ("gt", ("var", "a0"), ("const", 0.0)), ("add", ("var", "y"), ("const", 1.0)), ("const", 0.0))
    want = np.where(before > 0, gradients(before, w, dy, *rest)[0] + 1, 0)
    np.testing.assert_array_equal(data_gradient(name, shape, w, dy, *rest, expression=tree, extra=(before,)), want)


@pytest.mark.parametrize("name", TARGETS)
def test_weights_without_any_valid_pixel_have_no_gradient(name):
    x, dy = integers((1, 4, 1, 1), 1), integers((1, 6, 1, 1), 2)
    dw = weight_gradient(name, x, dy, (6, 4, 3, 3), (1, 1), SAME)
    np.testing.assert_array_equal(dw[:, :, 1, 1], dy[0, :, 0, 0, None] * x[0, :, 0, 0])
    assert np.count_nonzero(dw[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]]) == 0


POINTWISE = {
    "parts of the pixels": ((3, 8, 40, 41), 5, (1, 1), 1),
    "parts of the channels, blocks of images": ((9, 150, 5, 4), 130, (1, 1), 1),
    "rows that fill no block": ((2, 24, 1, 700), 40, (1, 1), 1),
    "gathered": ((4, 70, 23, 29), 97, (2, 3), 1),
    "gathered blocks of images": ((5, 33, 7, 7), 17, (2, 2), 1),
    "groups": ((3, 96, 9, 9), 192, (2, 2), 2),
}


@pytest.mark.parametrize(("name", "case"), in_turn(POINTWISE))
def test_weight_gradient_of_1x1(name, case):
    shape, filters, stride, groups = POINTWISE[case]
    x, w = integers(shape, 1), integers((filters, shape[1] // groups, 1, 1), 2)
    dy = integers(outputs(shape, filters, (1, 1), stride, NONE, (1, 1)), 3)
    got = weight_gradient(name, x, dy, w.shape, stride, groups=groups)
    seen = x[:, :, :: stride[0], :: stride[1]].reshape(len(x), groups, shape[1] // groups, -1)
    pairs = np.einsum("ngip,ngop->goi", seen, dy.reshape(len(x), groups, filters // groups, -1), dtype=np.float64)
    np.testing.assert_array_equal(got, pairs.reshape(w.shape))


def test_pixels_are_cut_where_channels_make_few_chunks():
    goal = target.named("avx2")

    def plan(images, channels, size, filters):
        return weight_gradient_plan(goal, Conv(images, channels, (size, size), filters, (1, 1)))

    assert (plan(8, 64, 56, 64).arguments["parts"], plan(8, 64, 56, 64).links) == (8, 8)  # an image a part
    assert (plan(8, 2048, 7, 512).arguments["parts"], plan(8, 2048, 7, 512).links) == (1, 0)
    assert plan(8, 2048, 7, 512).chunks >= 8


@pytest.mark.parametrize("name", target.TARGETS)
@pytest.mark.parametrize("kind", ["blocked", "plain", "1x1"])
def test_no_register_tile_spills(name, kind):
    goal = target.named(name)
    kernel, padding = ((1, 1), NONE) if kind == "1x1" else ((7, 7), ((3, 3), (3, 3)))
    conv = Conv(2, 3 if kind == "plain" else 32, (32, 32), 64, kernel, (2, 2), padding)
    plan = weight_gradient_plan(goal, conv, plain=kind == "plain")
    assert spills(compile.assembly(plan.kernel, goal), 4) == []
