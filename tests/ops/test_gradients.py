"""The gradient of every op that has one, against central differences of its reference in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnc.ir.builder import Builder
from cnnc.ir.op import OPS
from cnnc.ops.definitions import DEFINITIONS
from tests.ops.checking import POSITIVE, SETTINGS, WEIGHTS, check_gradient

RNG = np.random.default_rng(7)


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape)


def one(op: str, **attributes: Any) -> Any:
    return lambda b, names: b.add(op, names, attributes)


# ------------------------------------------------------------------------------------------------ pointwise


@pytest.mark.parametrize("op", [n for n, d in DEFINITIONS.items() if d.operands == 1])
def test_activation(op: str) -> None:
    x = normal(2, 3, 4) * 2
    if op in POSITIVE or op == "log1p":
        x = np.abs(x) + 0.5
    check_gradient(one(op, **SETTINGS.get(op, {})), {"x": x})


def test_choices_and_trained_activations() -> None:
    arrays = {"a": normal(2, 3, 4), "b": normal(2, 3, 4)}
    for op in ("maximum", "minimum", "gt", "ge", "eq", "ne"):
        check_gradient(one(op), arrays)
    check_gradient(one("where"), {"c": np.array([1.0, 0.0, -2.0]), "a": normal(2, 3, 4), "b": normal(3)})
    for op in ("prelu", "swish"):
        for shape in ((3,), (1,), ()):
            check_gradient(one(op), {"x": normal(2, 3, 4) * 2, "a": np.abs(normal(*shape))})


@pytest.mark.parametrize("op", ["add", "sub", "mul", "div"])
@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((2, 3, 4, 4), (2, 3, 4, 4)),
        ((2, 3, 4, 4), (3,)),
        ((2, 3, 4, 4), ()),
        ((2, 3, 4, 4), (2, 3, 1, 1)),
        ((2, 3, 4, 4), (1, 3, 1, 1)),
        ((2, 3, 1, 1), (2, 3, 4, 4)),
        ((3,), (2, 3)),
        ((), (4,)),
        ((2, 3, 4, 4), (3, 4, 4)),
        ((2, 1, 4, 1), (1, 3, 1, 5)),
        ((2, 3), (1,)),
    ],
)
def test_arithmetic_broadcasts(op: str, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    check_gradient(one(op), {"a": normal(*left), "b": np.abs(normal(*right)) + 0.5})


def test_same_value_twice() -> None:
    check_gradient(lambda b, n: b.add("mul", [n[0], n[0]], {}), {"x": normal(2, 3)})


def test_pointwise_expressions() -> None:
    check_gradient(
        lambda b, n: (
            b.insert(
                "pointwise",
                n,
                {"expressions": ["a0 * tanh(a1) + a2", "where(a0 > a1, exp(a0), a2 / 3)", "max(a0, a1)"]},
            ).results
        ),
        {"x": normal(2, 3, 4), "y": normal(2, 3, 4), "v": normal(3)},
    )


def test_a_constant_expression_has_no_gradient() -> None:
    check_gradient(
        lambda b, n: b.add("pointwise", n, {"expressions": ["a1 * 2"]}), {"x": normal(2, 3), "y": normal(2, 3)}
    )


# ------------------------------------------------------------------------------------------------ convolution, linear

CONVOLUTIONS = [
    ((2, 3, 6, 5), (4, 3, 3, 3), {}),
    ((2, 3, 6, 5), (4, 3, 3, 3), {"padding": (1, 1)}),
    ((2, 3, 7, 6), (4, 3, 3, 2), {"stride": (2, 3)}),
    ((2, 3, 5, 5), (4, 3, 2, 2), {"padding": ((0, 1), (1, 0))}),
    ((2, 3, 7, 7), (2, 3, 3, 2), {"dilation": (2, 3), "padding": (1, 1)}),
    ((2, 4, 5, 5), (6, 2, 3, 3), {"groups": 2, "padding": (1, 1)}),
    ((2, 3, 5, 5), (6, 1, 3, 3), {"groups": 3, "stride": (2, 2)}),
    ((2, 3, 5, 4), (4, 3, 1, 1), {"stride": (2, 2)}),
    ((1, 2, 9), (3, 2, 4), {"stride": (3,), "padding": ((1, 2),)}),
    ((1, 2, 4, 4, 3), (2, 2, 2, 3, 1), {"padding": (1, 0, 0)}),
    ((1, 1, 3, 3), (1, 1, 3, 3), {}),
    ((1, 2, 8, 8), (1, 2, 2, 2), {"stride": (4, 4)}),
]


@pytest.mark.parametrize(("x", "w", "attributes"), CONVOLUTIONS)
def test_convolution(x: tuple[int, ...], w: tuple[int, ...], attributes: dict[str, Any]) -> None:
    check_gradient(
        one("conv", **attributes), {"x": normal(*x), "w": normal(*w), "b": normal(w[0])}, layouts={"w": WEIGHTS[len(w)]}
    )


def test_convolution_twice_with_one_weight() -> None:
    def build(b: Builder, n: Any) -> str:
        return b.add("conv", [b.add("conv", [n[0], n[1]], {"padding": (1, 1)}), n[1]], {})

    check_gradient(build, {"x": normal(1, 2, 5, 5), "w": normal(2, 2, 3, 3)}, layouts={"w": "oihw"})


def test_linear() -> None:
    check_gradient(one("linear"), {"x": normal(3, 4), "w": normal(5, 4), "b": normal(5)})
    check_gradient(one("linear"), {"x": normal(3, 4), "w": normal(5, 4)})


# ------------------------------------------------------------------------------------------------ pooling

WINDOWS = [
    {"kernel": (2, 2)},
    {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)},
    {"kernel": (2, 3), "stride": (3, 2)},
    {"kernel": (2, 2), "stride": (2, 2), "ceil_mode": True},
    {"kernel": (1, 1), "stride": (3, 3)},
]


@pytest.mark.parametrize("attributes", [*WINDOWS, {"kernel": (2, 2), "dilation": (2, 2), "padding": (1, 1)}])
def test_maxpool(attributes: dict[str, Any]) -> None:
    check_gradient(one("maxpool", **attributes), {"x": normal(2, 2, 7, 5)})


@pytest.mark.parametrize(
    "attributes",
    [
        *WINDOWS,
        {"kernel": (3, 3), "padding": (1, 1), "count_include_pad": False},
        {"kernel": (2, 2), "stride": (2, 2), "ceil_mode": True, "padding": (1, 1), "count_include_pad": False},
    ],
)
def test_avgpool(attributes: dict[str, Any]) -> None:
    check_gradient(one("avgpool", **attributes), {"x": normal(2, 2, 7, 5)})


def test_pooling_of_other_ranks() -> None:
    check_gradient(one("maxpool", kernel=(3,), stride=(2,)), {"x": normal(2, 2, 7)})
    check_gradient(one("avgpool", kernel=(2, 2, 2)), {"x": normal(1, 2, 3, 3, 3)})
    check_gradient(one("global_avgpool"), {"x": normal(2, 3, 4)})
    check_gradient(one("global_avgpool"), {"x": normal(2, 3, 4, 5)})


# ------------------------------------------------------------------------------------------------ normalization


def test_batchnorm_over_all_operands() -> None:
    for shape in ((2, 3, 4, 4), (5, 3)):
        check_gradient(
            one("batchnorm", eps=0.01),
            {"x": normal(*shape), "g": normal(3), "b": normal(3), "m": normal(3), "v": np.abs(normal(3)) + 0.5},
        )


def test_batchnorm_with_the_batch_s_statistics() -> None:
    def build(b: Builder, n: Any) -> str:
        return b.add("batchnorm", [*n, *b.insert("moments", [n[0]], {}).results], {"eps": 1e-3})

    for shape in ((2, 3, 4, 4), (5, 3)):
        check_gradient(build, {"x": normal(*shape), "g": normal(3), "b": normal(3)})


def test_moments() -> None:
    check_gradient(lambda b, n: b.insert("moments", n, {}).results, {"x": normal(3, 2, 4)})
    check_gradient(lambda b, n: b.insert("moments", n, {}).results[1], {"x": normal(3, 2)})


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
def test_lrn(size: int) -> None:
    check_gradient(one("lrn", size=size, alpha=0.3, beta=0.6, k=1.5), {"x": normal(2, 5, 3, 2)})


def test_dropout() -> None:
    for by, shape in (("element", (4, 5)), ("channel", (4, 5)), ("channel", (2, 3, 2, 2)), ("row", (5, 3, 2))):
        attributes = {"p": 0.4, "salt": 3, "by": by}
        drop = lambda b, n, attributes=attributes: b.add("dropout", n, attributes)  # noqa: E731
        check_gradient(drop, {"x": normal(*shape)}, {"seed": np.array([11, 2])})
    check_gradient(one("dropout"), {"x": normal(4, 5)})


# ------------------------------------------------------------------------------------------------ loss, shapes


def test_softmax_and_cross_entropy() -> None:
    check_gradient(one("softmax"), {"x": normal(3, 4)})
    check_gradient(one("softmax", axis=2), {"x": normal(2, 3, 4, 2)})
    check_gradient(one("cross_entropy"), {"x": normal(5, 4) * 3}, {"labels": np.array([0, 3, 2, 2, 1])})


@pytest.mark.parametrize("op", ["sum", "mean"])
@pytest.mark.parametrize(
    ("axis", "keepdim"), [(0, False), ((2, 3), False), ((2, 3), True), (1, True), ((0, 1, 2, 3), False), (-1, False)]
)
def test_reductions(op: str, axis: Any, keepdim: bool) -> None:
    check_gradient(one(op, axis=axis, keepdim=keepdim), {"x": normal(2, 3, 2, 4)})


def test_shapes() -> None:
    check_gradient(one("flatten"), {"x": normal(2, 3, 4)})
    check_gradient(one("flatten", start=2), {"x": normal(2, 3, 4, 2)})
    check_gradient(one("reshape", shape=(2, 6, 2)), {"x": normal(2, 3, 4)})
    check_gradient(one("slice", axis=1, start=1, size=2), {"x": normal(2, 5, 3)})
    check_gradient(one("slice", axis=2, start=0, size=3), {"x": normal(2, 2, 3, 2)})
    check_gradient(one("concat"), {"x": normal(2, 3, 2), "y": normal(2, 1, 2), "z": normal(2, 2, 2)})
    check_gradient(
        lambda b, n: b.add("concat", [n[0], n[1], n[0]], {"axis": 2}), {"x": normal(2, 3, 2), "y": normal(2, 3, 4)}
    )
    check_gradient(
        lambda b, n: b.add("to_layout", [b.add("to_layout", n, {"layout": "nchw16c"})], {"layout": "nchw"}),
        {"x": normal(2, 3, 2, 2)},
    )


def test_groups() -> None:
    check_gradient(one("merge_groups", groups=6, by=3), {"x": normal(12, 2, 3, 1)})
    check_gradient(one("split_groups", groups=6, by=3), {"x": normal(12, 6, 3, 1)})


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 1, 1), (1, 3, 1, 1), (2, 3, 4, 4)])
def test_expand(shape: tuple[int, ...]) -> None:
    check_gradient(one("expand", shape=(2, 3, 4, 4)), {"x": normal(*shape)})


def test_sums_over_channels() -> None:
    x = {"x": RNG.standard_normal((3, 4, 5)), "v": RNG.standard_normal(4)}
    check_gradient(lambda b, n: b.add("reduce_channels", n, {"expressions": ["a0 * a0 * a1"]}), x)


def test_what_depends_on_no_values() -> None:
    x = {"x": RNG.standard_normal((3, 4, 5))}
    check_gradient(lambda b, n: b.add("mul", [b.add("exp", n), b.add("count", n)]), x)
    weights = {"values": (0.5, 1.0, -2.0, 3.0)}
    check_gradient(lambda b, n: b.add("mul", [b.add("exp", n), b.add("numbers", [], weights)]), x)


def test_every_gradient_is_checked() -> None:
    tested = {
        "count",
        "numbers",
        "reduce_channels",
        "cross_entropy_soft",  # in test_losses.py, as the two that follow
        "cross_entropy_terms",
        "multiclass_hinge",
        *DEFINITIONS,
        "pointwise",
        "constant",
        "conv",
        "conv_transpose",
        "adaptive_avgpool",
        "adaptive_maxpool",
        "unpool",
        "lppool",
        "upsample",
        "linear",
        "maxpool",
        "avgpool",
        "global_avgpool",
        "batchnorm",
        "moments",
        "lrn",
        "normalize",
        "matmul",
        "max",
        "min",
        "prod",
        "logsumexp",
        "cumsum",
        "dropout",
        "softmax",
        "log_softmax",
        "cross_entropy",
        "sum",
        "mean",
        "flatten",
        "reshape",
        "slice",
        "gather",
        "flip",
        "repeat",
        "pad",
        "channel_shuffle",
        "transpose",
        "pixel_shuffle",
        "pixel_unshuffle",
        "concat",
        "to_layout",
        "expand",
        "merge_groups",
        "split_groups",
    }
    assert {n for n, op in OPS.items() if op.gradient is not None} <= tested
