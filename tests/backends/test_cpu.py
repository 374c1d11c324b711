"""Every op through passes, lowering and kernels, on every instruction set that this machine executes, against the
float64 reference.

Integers from -4 to 4 keep sums exact: where an op has no division, results agree to the bit.
"""

from __future__ import annotations

import pytest

from cnnc.ir.builder import Builder
from cnnc.ir.types import TensorType, activation
from tests.backends.comparing import TARGETS, compare, conv, graph_of, vector, weights4
from tests.kernels.launching import in_turn

ODD = (1, 3, 5, 7, 15, 16, 17, 31, 33)


CONVOLUTIONS = {
    **{f"channels {c}": conv(c, 17, (3, 3), padding=(1, 1)) for c in ODD},
    **{f"filters {k}": conv(5, k, (3, 3), padding=(1, 1)) for k in ODD},
    "1x1": conv(33, 35, (1, 1)),
    "1x1 stride 2": conv(33, 35, (1, 1), stride=(2, 2)),
    "1x1 of one pixel": conv(33, 35, (1, 1), (1, 1)),
    "7x7 stride 2": conv(3, 33, (7, 7), (21, 19), stride=(2, 2), padding=(3, 3)),
    "11x11 stride 4": conv(3, 18, (11, 11), (35, 27), stride=(4, 4), padding=(2, 2)),
    "asymmetric": conv(19, 5, (2, 4), padding=((1, 0), (0, 3))),
    "dilated": conv(19, 5, (3, 2), (11, 13), dilation=(2, 3), padding=(1, 2)),
    "stride 3": conv(17, 16, (3, 3), (13, 11), stride=(3, 3)),
    "stride beyond kernel": conv(17, 16, (1, 2), (13, 11), stride=(3, 4)),
    "whole image": conv(17, 16, (9, 8)),
    "one row": conv(17, 16, (1, 3), (1, 37), padding=(0, 1)),
    "one column": conv(17, 16, (3, 1), (37, 1)),
    "prime": conv(7, 31, (3, 3), (23, 29), padding=(1, 1), bias=False),
    "groups of whole blocks": conv(64, 32, (3, 3), groups=2, padding=(1, 1)),
    **{f"groups of {c}": conv(4 * c, 8, (3, 3), groups=4, padding=(1, 1)) for c in (1, 3, 5, 7)},
    "depthwise": conv(19, 19, (3, 3), groups=19, padding=(1, 1), stride=(2, 2)),
    "depthwise multiplier": conv(5, 15, (3, 3), groups=5),
    "groups merged to blocks": conv(128, 128, (3, 3), groups=16, padding=(1, 1)),
    "groups of 4 to 2": conv(128, 64, (3, 3), groups=32, padding=(1, 1)),
    "groups merged to one": conv(48, 48, (3, 3), groups=2, padding=(1, 1)),
    "groups of 10 to 5": conv(90, 45, (3, 3), groups=9, padding=(1, 1), stride=(2, 1)),
    "groups left over": conv(40, 40, (3, 3), groups=5, padding=(1, 1), stride=(2, 2)),
    "groups left over, 1x1": conv(40, 80, (1, 1), groups=5),
    "many groups of one": conv(41, 123, (3, 3), groups=41),
    "groups in one dimension": graph_of(
        lambda b, x, w: b.add("conv", [x, w], {"groups": 3, "padding": (2,)}),
        (21, 31),
        weights=[TensorType("f32", (15, 7, 5), "oiw")],
    ),
    "groups in three dimensions": graph_of(
        lambda b, x, w: b.add("conv", [x, w], {"groups": 3}),
        (6, 4, 5, 3),
        weights=[TensorType("f32", (9, 2, 2, 3, 1), "oidhw")],
    ),
    "one dimension": graph_of(
        lambda b, x, w, c: b.add("conv", [x, w, c], {"padding": (2,), "stride": (2,)}),
        (17, 31),
        weights=[TensorType("f32", (9, 17, 5), "oiw"), vector(9)],
    ),
    "three dimensions": graph_of(
        lambda b, x, w, c: b.add("conv", [x, w, c], {"padding": (1, 0, 1), "stride": (1, 2, 1)}),
        (5, 4, 7, 6),
        weights=[TensorType("f32", (6, 5, 3, 3, 2), "oidhw"), vector(6)],
    ),
}


@pytest.mark.parametrize(("target", "name"), in_turn(CONVOLUTIONS, targets=TARGETS))
def test_convolution(name, target):
    compare(CONVOLUTIONS[name], target)


GRADIENTS = [
    "channels 3",
    "channels 17",
    "filters 33",
    "1x1 stride 2",
    "7x7 stride 2",
    "11x11 stride 4",
    "asymmetric",
    "dilated",
    "stride 3",
    "stride beyond kernel",
    "whole image",
    "groups of whole blocks",
    "groups of 3",
    "groups merged to blocks",
    "groups of 4 to 2",
    "groups merged to one",
    "groups of 10 to 5",
    "groups left over",
    "groups left over, 1x1",
    "groups in one dimension",
    "many groups of one",
    "groups in three dimensions",
    "depthwise",
    "one dimension",
    "three dimensions",
]


@pytest.mark.parametrize(("target", "name"), in_turn(GRADIENTS, targets=TARGETS))
def test_convolution_gradients(name, target):
    (node,) = CONVOLUTIONS[name].of("conv")
    forward = CONVOLUTIONS[name]
    x, w = forward.type("x0"), forward.type("w0")
    shared = {k: v for k, v in node.attributes.items() if k != "layout"}
    b = Builder("gradients")
    x0, dy, w0 = b.input("x0", x), b.input("dy", node.type), b.param("w0", w)
    # a second convolution in front makes x blocked, so that both ways of reading it are met
    data = b.add("conv_data_gradient", [dy, w0], {**shared, "size": x.shape[2:]})
    weight = b.add("conv_weight_gradient", [x0, dy], {**shared, "kernel": w.shape[2:]})
    compare(b.finish([("dx", data), ("dw", weight)]), target, batch=3)


def epilogue(op):
    def build(b, x, other, w, bias, scale):
        y = b.add(op, [x, w, bias])
        y = b.add("mul", [b.add("sub", [y, other]), scale])
        return b.add("relu", [y])

    return build


@pytest.mark.parametrize("target", TARGETS)
def test_epilogues(target):
    compare(
        graph_of(epilogue("conv"), (5, 6, 7), (19, 4, 5), weights=[weights4(19, 5, 3, 3), vector(19), vector(19)]),
        target,
    )
    compare(
        graph_of(epilogue("linear"), (23,), (19,), weights=[TensorType("f32", (19, 23)), vector(19), vector(19)]),
        target,
    )

    # f(0) is not 0: padded lanes must not become 1/2, or the next convolution would see them
    def chain(b, x, w, v):
        return b.add("conv", [b.add("sigmoid", [b.add("conv", [x, w])]), v])

    compare(graph_of(chain, (5, 6, 7), weights=[weights4(19, 5, 3, 3), weights4(3, 19, 1, 1)]), target, exact=False)


@pytest.mark.parametrize(
    ("target", "shape", "batch"),
    in_turn([(1, 1), (7, 5), (17, 33), (2450, 10), (100, 129)], [1, 2, 9, 12], targets=TARGETS),
)
def test_linear(shape, batch, target):
    inputs, outputs = shape
    b = Builder("linear")
    x, dy = b.input("x", activation(("N", inputs))), b.input("dy", activation(("N", outputs)))
    w, c = b.param("w", TensorType("f32", (outputs, inputs))), b.param("c", vector(outputs))
    results = [
        b.add("linear", [x, w, c]),
        b.add("linear_data_gradient", [dy, w]),
        b.add("linear_weight_gradient", [x, dy]),
    ]
    compare(b.finish([(f"y{i}", r) for i, r in enumerate(results)]), target, batch)
