"""Values worked out by hand, among them those of the usual lectures, and cases that have broken others, on the
references.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnc.ir.builder import Builder
from cnnc.ir.interpret import run
from cnnc.ir.op import OPS, InferenceError
from cnnc.ir.types import TensorType, activation
from cnnc.passes.autodiff import differentiate
from tests.ops.checking import reference

NAN, INF = float("nan"), float("inf")


def infer(op: str, *shapes: Any, **attributes: Any) -> tuple[Any, ...]:
    return (
        OPS[op]
        .infer([None if s is None else activation(tuple(s)) for s in shapes], OPS[op].complete(attributes))[0]
        .shape
    )


# ------------------------------------------------------------------------------------------------ lectures


def test_ten_filters_over_a_small_image() -> None:
    b = Builder("g")
    x = b.input("x", activation(("N", 3, 32, 32)))
    w, bias = b.param("w", TensorType("f32", (10, 3, 5, 5), "oihw")), b.param("b", TensorType("f32", (10,)))
    y = b.add("conv", [x, w, bias], {"padding": [2, 2]})
    assert b.type(y).shape == ("N", 10, 32, 32)
    assert sum(int(np.prod(b.type(p).shape)) for p in (w, bias)) == 760
    assert OPS["conv"].macs(b.nodes[-1], [b.type(x), b.type(w), b.type(bias)], 1) == 768_000


@pytest.mark.parametrize(("stride", "size"), [(1, 5), (2, 3), (3, 2)])
def test_seven_wide_three_kernel(stride: int, size: int) -> None:
    assert infer("conv", (1, 1, 7, 7), (1, 1, 3, 3), stride=[stride] * 2)[2:] == (size, size)


def test_maximum_pooling_of_nine_numbers() -> None:
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    assert reference("maxpool", x, kernel=[2, 2], stride=[1, 1]).tolist() == [[[[4, 5], [7, 8]]]]


def test_average_of_sixteen_numbers() -> None:
    x = np.array([[2, 3, 2, 4], [5, 6, 6, 8], [3, 2, 1, 0], [1, 2, 3, 4.0]]).reshape(1, 1, 4, 4)
    assert reference("global_avgpool", x).item() == 3.25
    assert reference("avgpool", x, kernel=[4, 4]).item() == 3.25


def test_backpropagation_by_hand() -> None:
    """f = x0 / exp(-(x0 y0 + x1 y1)) at x = (1, -1), y = (1, -2)."""
    b = Builder("f")
    s = TensorType("f32", ())
    x0, x1, y0, y1 = (b.param(n, s) for n in ("x0", "x1", "y0", "y1"))
    total = b.add("add", [b.add("mul", [x0, y0]), b.add("mul", [x1, y1])])
    f = b.add("div", [x0, b.add("exp", [b.add("neg", [total])])])
    graph, gradients = differentiate(b.finish([("f", f)]), f, ["x0", "x1", "y0", "y1"])
    found = run(graph, {}, {"x0": 1.0, "x1": -1.0, "y0": 1.0, "y1": -2.0}, keep=gradients.values())
    assert round(float(found["f"]), 2) == 20.09
    assert [round(float(found.kept[gradients[n]]), 2) for n in ("x0", "x1", "y0", "y1")] == [
        40.17,
        -40.17,
        20.09,
        -20.09,
    ]


def test_alexnet_s_first_layers() -> None:
    assert infer("conv", (1, 3, 227, 227), (64, 3, 11, 11), stride=[4, 4], padding=[2, 2]) == (1, 64, 56, 56)
    assert infer("maxpool", (1, 64, 56, 56), kernel=[3, 3], stride=[2, 2]) == (1, 64, 27, 27)


# ------------------------------------------------------------------------------------------------ windows


def test_ceil_mode_with_count_include_pad() -> None:
    x = np.arange(1.0, 6).reshape(1, 1, 5)
    for include in (True, False):
        assert reference(
            "avgpool", x, kernel=[2], stride=[2], ceil_mode=True, count_include_pad=include
        ).ravel().tolist() == [1.5, 3.5, 5]


def test_ceil_mode_starts_no_window_in_the_padding_behind() -> None:
    assert infer("maxpool", (1, 1, 3, 3), kernel=[2, 2], stride=[2, 2], padding=[1, 1], ceil_mode=True)[2:] == (2, 2)
    assert infer("maxpool", (1, 1, 1, 1), kernel=[2, 2], stride=[3, 3], padding=[1, 1], ceil_mode=True)[2:] == (1, 1)


def test_a_convolution_s_window_wholly_in_the_padding_gives_the_bias() -> None:
    y = reference("conv", np.ones((1, 1, 1, 1)), np.ones((1, 1, 1, 1)), np.array([7.0]), padding=[2, 2])
    assert y.shape == (1, 1, 5, 5)
    assert y.sum() == 25 * 7 + 1


def test_pooling_padding_beyond_half_the_kernel_is_refused() -> None:
    with pytest.raises(InferenceError, match="more than half"):
        infer("maxpool", (1, 1, 5, 5), kernel=[2, 2], padding=[2, 2])


def test_padding_of_a_maximum_is_minus_infinity() -> None:
    x = -np.arange(1.0, 10).reshape(1, 1, 3, 3)
    y = reference("maxpool", x, kernel=[3, 3], stride=[2, 2], padding=[1, 1])
    assert y.ravel().tolist() == [-1, -2, -4, -5]


def test_nan_and_infinity_in_a_maximum() -> None:
    x = np.array([[1, NAN, 3, -INF], [-INF, -INF, -INF, -INF]]).reshape(1, 2, 1, 4)
    y = reference("maxpool", x, kernel=[1, 2], stride=[1, 1])
    np.testing.assert_array_equal(y.reshape(2, 3), [[NAN, NAN, 3], [-INF] * 3])


def test_the_first_of_equal_values_wins_the_gradient() -> None:
    x = np.full((1, 1, 2, 4), 2.0)
    dx = reference("maxpool_gradient", x, np.ones((1, 1, 1, 2)), kernel=[2, 2], stride=[2, 2], size=[2, 4])
    assert dx.reshape(2, 4).tolist() == [[1, 0, 1, 0], [0, 0, 0, 0]]


def test_the_gradient_of_a_window_of_minus_infinities_goes_to_a_pixel() -> None:
    x = np.full((1, 1, 2, 2), -INF)
    dx = reference(
        "maxpool_gradient", x, np.ones((1, 1, 2, 2)), kernel=[2, 2], stride=[2, 2], padding=[1, 1], size=[2, 2]
    )
    assert dx.sum() == 4


def test_overlapping_windows_accumulate() -> None:
    x = np.array([0, 5, 0.0]).reshape(1, 1, 1, 3)
    assert reference(
        "maxpool_gradient", x, np.array([2, 3.0]).reshape(1, 1, 1, 2), kernel=[1, 2], stride=[1, 1], size=[1, 3]
    ).ravel().tolist() == [0, 5, 0]


def test_a_stride_larger_than_the_kernel_leaves_zero_gradients() -> None:
    dx = reference("avgpool_gradient", np.ones((1, 1, 2, 2)), kernel=[1, 1], stride=[3, 3], size=[5, 5])
    assert dx.sum() == 4
    assert np.count_nonzero(dx) == 4
    dx = reference("conv_data_gradient", np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2)), stride=[4, 4], size=[7, 7])
    assert np.count_nonzero(dx) == 16
    assert dx.shape == (1, 1, 7, 7)


def test_pixels_that_no_window_reaches_have_no_gradient() -> None:
    dx = reference("conv_data_gradient", np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2)), stride=[2, 2], size=[5, 5])
    assert dx[0, 0, 4].sum() == dx[0, 0, :, 4].sum() == 0


@pytest.mark.parametrize(
    ("kernel", "dilation", "pads"), [(2, 1, (0, 1)), (4, 1, (1, 2)), (3, 1, (1, 1)), (2, 3, (1, 2)), (4, 2, (3, 3))]
)
def test_same_padding_puts_the_odd_pixel_behind(kernel: int, dilation: int, pads: tuple[int, int]) -> None:
    x, w = np.random.default_rng(0).standard_normal((1, 2, 9)), np.random.default_rng(1).standard_normal((3, 2, kernel))
    same = reference("conv", x, w, padding="same", dilation=[dilation])
    assert same.shape == (1, 3, 9)
    np.testing.assert_array_equal(same, reference("conv", x, w, padding=[pads], dilation=[dilation]))


def test_a_kernel_larger_than_the_padded_input() -> None:
    with pytest.raises(InferenceError, match="kernel 7 exceeds the padded input 5") as e:
        infer("conv", (1, 1, 3, 3), (1, 1, 7, 7), padding=[1, 1])
    assert e.value.code == "E0202"
    with pytest.raises(InferenceError, match="dilated to 7"):
        infer("conv", (1, 1, 5, 5), (1, 1, 3, 3), dilation=[3, 3])


@pytest.mark.parametrize(
    "attributes",
    [
        {"stride": [0, 1]},
        {"dilation": [0, 0]},
        {"padding": [-1, 0]},
        {"groups": 0},
        {"groups": 2},
        {"stride": [1, 1, 1]},
        {"stride": [True, 1]},
        {"padding": "valid"},
        {"stride": [2**31, 1]},
    ],
)
def test_sizes_that_are_none(attributes: dict[str, Any]) -> None:
    with pytest.raises(InferenceError):
        infer("conv", (1, 3, 5, 5), (4, 3, 3, 3), **attributes)


# ------------------------------------------------------------------------------------------------ channels, batches


@pytest.mark.parametrize("channels", [1, 3, 5, 7, 15, 16, 17, 31, 33])
@pytest.mark.parametrize("groups", [1, "depthwise"])
def test_channels(channels: int, groups: Any) -> None:
    """In whole numbers a convolution is exact, and its data gradient is its transpose."""
    rng = np.random.default_rng(channels)
    g = channels if groups == "depthwise" else 1
    x, w = (
        rng.integers(-4, 5, s).astype(float)
        for s in ((2, channels, 4, 3), (2 * channels if g > 1 else 5, channels // g, 3, 3))
    )
    y = reference("conv", x, w, padding=[1, 1], groups=g)
    expected = np.zeros_like(y)
    per = w.shape[0] // g
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
    for k in range(w.shape[0]):
        for c in range(w.shape[1]):
            for i in range(3):
                for j in range(3):
                    expected[:, k] += w[k, c, i, j] * padded[:, k // per * w.shape[1] + c, i : i + 4, j : j + 3]
    np.testing.assert_array_equal(y, expected)
    dy = rng.integers(-4, 5, y.shape).astype(float)
    dx = reference("conv_data_gradient", dy, w, padding=[1, 1], groups=g, size=[4, 3])
    dw = reference("conv_weight_gradient", x, dy, padding=[1, 1], groups=g, kernel=[3, 3])
    assert (dy * y).sum() == (dx * x).sum() == (dw * w).sum()


@pytest.mark.parametrize("by", [1, 2, 3, 6])
def test_merged_groups(by: int) -> None:
    """A convolution of fewer groups with merged weights is the same; splitting takes the weights back."""
    rng = np.random.default_rng(by)
    x, w = (rng.integers(-4, 5, s).astype(float) for s in ((2, 12, 4, 3), (18, 2, 3, 2)))
    merged = reference("merge_groups", w, groups=6, by=by)
    assert merged.shape == (18, 2 * by, 3, 2)
    np.testing.assert_array_equal(reference("conv", x, w, groups=6), reference("conv", x, merged, groups=6 // by))
    np.testing.assert_array_equal(reference("split_groups", merged, groups=6, by=by), w)
    # what stood between groups does not count
    np.testing.assert_array_equal(
        reference("split_groups", merged + (merged == 0) * (by > 1) * 7.0, groups=6, by=by)[w != 0], w[w != 0]
    )


@pytest.mark.parametrize(("groups", "by"), [(4, 2), (6, 4), (0, 1), (6, 0)])
def test_groups_that_do_not_divide(groups: int, by: int) -> None:
    with pytest.raises(InferenceError):
        infer("merge_groups", (18, 2, 3, 3), groups=groups, by=by)
    with pytest.raises(InferenceError):
        infer("split_groups", (18, 5, 3, 3), groups=6, by=2)


def test_an_empty_batch() -> None:
    x, w = np.zeros((0, 3, 5, 5)), np.ones((4, 3, 3, 3))
    assert reference("conv", x, w).shape == (0, 4, 3, 3)
    assert reference("conv_weight_gradient", x, np.zeros((0, 4, 3, 3)), kernel=[3, 3]).sum() == 0
    assert reference("conv_data_gradient", np.zeros((0, 4, 3, 3)), w, size=[5, 5]).shape == (0, 3, 5, 5)
    assert reference("maxpool", x, kernel=[2, 2]).shape == (0, 3, 4, 4)
    assert reference("flatten", x).shape == (0, 75)
    assert reference("softmax", np.zeros((0, 3))).shape == (0, 3)
    assert reference("linear", np.zeros((0, 3)), np.ones((2, 3))).shape == (0, 2)
    assert reference("lrn", x, size=5).shape == x.shape


# ------------------------------------------------------------------------------------------------ numbers


def test_batchnorm_of_a_constant() -> None:
    x = np.full((4, 2, 3, 3), 5.0)
    mean, variance = reference("moments", x)
    assert variance.tolist() == [0, 0]
    assert reference("batchnorm", x, np.ones(2), np.array([1.0, 2.0]), mean, variance)[0, :, 0, 0].tolist() == [1, 2]


def test_moments_with_a_mean_far_above_the_deviation() -> None:
    x = 1e8 + np.array([-1, 0, 1.0] * 8).reshape(6, 1, 4)
    mean, variance = reference("moments", x)
    assert mean[0] == 1e8
    assert abs(variance[0] - 2 / 3) < 1e-12


def test_batchnorm_with_negative_and_zero_scale() -> None:
    x = np.array([[1.0, 1.0], [3.0, 3.0]])
    y = reference(
        "batchnorm", x, np.array([-1.0, 0.0]), np.array([0.0, 4.0]), np.array([2.0, 2.0]), np.ones(2), eps=0.0
    )
    assert y.tolist() == [[1, 4], [-1, 4]]


def test_one_value_a_channel() -> None:
    mean, variance = reference("moments", np.array([[3.0, 4.0]]))
    assert mean.tolist() == [3, 4]
    assert variance.tolist() == [0, 0]


@pytest.mark.parametrize("shift", [0.0, 1e4, -1e4])
def test_softmax_is_stable(shift: float) -> None:
    y = reference("softmax", np.array([[0.0, np.log(3), -INF]]) + shift)
    np.testing.assert_allclose(y, [[0.25, 0.75, 0]], rtol=1e-11)
    assert reference("softmax", np.array([[1e4, -1e4]])).tolist() == [[1, 0]]


def test_cross_entropy_at_the_limits() -> None:
    labels = np.array([0])
    assert reference("cross_entropy", np.array([[1e4, -1e4]]), labels) == 0
    assert reference("cross_entropy", np.array([[-1e4, 1e4]]), labels) == 2e4
    assert reference("cross_entropy", np.array([[0.0, -INF]]), labels) == 0
    assert reference("cross_entropy", np.array([[-INF, 0.0]]), labels) == INF


@pytest.mark.parametrize("label", [-1, 3, 2**40])
def test_a_label_out_of_range_gives_nan(label: int) -> None:
    x, labels = np.zeros((2, 3)), np.array([0, label])
    assert np.isnan(reference("cross_entropy", x, labels))
    assert np.isnan(reference("cross_entropy_gradient", x, labels, np.float64(1))).all()


def test_accuracy_counts_the_first_largest_logit() -> None:
    x = np.array([[1, 1, 0], [0, 2, 2], [5, 0, 0.0]])
    assert reference("accuracy", x, np.array([0, 2, 0])) == 2 / 3


def test_nan_passes_a_relu() -> None:
    x = np.array([NAN, -1, 2, INF, -INF])
    np.testing.assert_array_equal(reference("relu", x), [NAN, 0, 2, INF, 0])
    np.testing.assert_array_equal(reference("relu6", x), [NAN, 0, 2, 6, 0])
    np.testing.assert_array_equal(reference("leaky_relu", x, negative_slope=0.5), [NAN, -0.5, 2, INF, -INF])


def test_activations_far_out() -> None:
    x = np.array([-1e4, 1e4])
    assert reference("sigmoid", x).tolist() == [0, 1]
    assert reference("tanh", x).tolist() == [-1, 1]
    np.testing.assert_array_equal(reference("silu", x), [-0.0, 1e4])
    np.testing.assert_allclose(reference("elu", x), [-1, 1e4])


@pytest.mark.parametrize("op", ["silu", "sigmoid", "tanh", "elu", "selu"])
def test_gradients_far_out_are_finite(op: str) -> None:
    b = Builder("g")
    x = b.param("x", TensorType("f32", (4,)))
    y = b.add("sum", [b.add(op, [x])], {"axis": 0})
    graph, gradients = differentiate(b.finish([("y", y)]), y, ["x"])
    d = run(graph, {}, {"x": np.array([-800.0, 800.0, -1e4, 1e4])}, keep=gradients.values()).kept[gradients["x"]]
    assert np.isfinite(d).all()


def test_dropout_keeps_the_expectation_and_repeats_itself() -> None:
    x, seed = np.ones((100, 100)), np.array([5, 1])
    y = reference("dropout", x, seed, p=0.25)
    assert set(np.unique(y)) == {0.0, 1 / 0.75}
    assert abs(y.mean() - 1) < 0.03
    np.testing.assert_array_equal(y, reference("dropout", x, seed, p=0.25))
    for other in (
        reference("dropout", x, np.array([5, 2]), p=0.25),
        reference("dropout", x, np.array([6, 1]), p=0.25),
        reference("dropout", x, seed, p=0.25, salt=1),
    ):
        assert abs(((y > 0) == (other > 0)).mean() - 0.625) < 0.03
    whole = np.ones((50, 40, 3))
    by_channel, by_row = (reference("dropout", whole, seed, p=0.25, by=by) for by in ("channel", "row"))
    assert (by_channel == by_channel[:, :, :1]).all()
    assert set(np.unique(by_channel.mean(1)[:, 0] > 0)) == {True}
    assert (by_row == by_row[:, :1, :1]).all()
    assert 0.5 < (by_row > 0).mean() < 0.95


def test_broadcasting_over_channels() -> None:
    x = np.zeros((2, 3, 3, 3))
    assert reference("add", x, np.array([1.0, 2.0, 3.0]))[0, :, 2, 1].tolist() == [1, 2, 3]
    with pytest.raises(InferenceError, match="do not match"):
        infer("add", (2, 3, 4, 4), (4,))


def test_every_op_says_what_it_is() -> None:
    for op in OPS.values():
        assert op.doc
