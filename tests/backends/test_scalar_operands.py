"""One number for all channels as the operand of an epilogue: of every kernel that has one."""

from __future__ import annotations

import pytest

from cnnc.ir.builder import Builder
from cnnc.ir.types import TensorType, activation
from tests.backends.comparing import TARGETS, compare

# channels, filters, kernel, size, attributes
CASES = {
    "direct": (5, 19, (3, 3), (9, 8), {"stride": (2, 2)}),
    "winograd": (32, 35, (3, 3), (24, 23), {"padding": (1, 1)}),
    "1x1": (33, 19, (1, 1), (9, 8), {}),
    "short rows": (70, 66, (3, 3), (7, 7), {"padding": (1, 1), "stride": (2, 2)}),
    "spread": (30, 30, (3, 3), (9, 8), {"groups": 10, "padding": (1, 1)}),
    "banded": (60, 30, (3, 3), (9, 8), {"groups": 3, "stride": (2, 2)}),
    "depthwise": (19, 19, (3, 3), (9, 8), {"groups": 19}),
    "large depthwise": (19, 19, (9, 9), (12, 11), {"groups": 19}),
    "one axis": (17, 19, (3,), (20,), {}),
    "three axes": (17, 19, (3, 3, 3), (5, 6, 4), {"padding": (1, 1, 1)}),
    "three axes, generic": (6, 9, (2, 3, 3), (5, 6, 4), {"groups": 3}),
    "depthwise, three axes": (19, 19, (3, 3, 3), (5, 6, 4), {"groups": 19}),
}
LAYOUTS = {1: "oiw", 2: "oihw", 3: "oidhw"}


def scaled(b, y, s):
    """Not 0 where the convolution is."""
    return b.add("add", [b.add("mul", [y, s], {}, "scaled"), s], {}, "z")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_convolutions(case, exact, target):
    channels, filters, kernel, size, attributes = CASES[case]
    b = Builder("case")
    x, s = b.input("x", activation(("N", channels, *size))), b.param("s", TensorType("f32", ()))
    shape = (filters, channels // attributes.get("groups", 1), *kernel)
    w, bias = (
        b.param("w", TensorType("f32", shape, LAYOUTS[len(kernel)])),
        b.param("bias", TensorType("f32", (filters,))),
    )
    z = scaled(b, b.add("conv", [x, w, bias], attributes, "y"), s)
    results = [("z", z)] if exact else [("z", z), ("pooled", b.add("global_avgpool", [z], {}, "pooled"))]
    compare(b.finish(results), target, exact=exact, tolerance=1e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_a_convolution_that_goes_along_and_the_depthwise_one(target):
    b = Builder("case")
    x, s = b.input("x", activation(("N", 24, 9, 8))), b.param("s", TensorType("f32", ()))
    wide = b.add("conv", [x, b.param("w", TensorType("f32", (40, 24, 1, 1), "oihw"))], {}, "wide")
    deep = b.param("d", TensorType("f32", (40, 1, 3, 3), "oihw"))
    y = b.add("conv", [b.add("relu", [wide], {}, "r"), deep], {"groups": 40, "padding": (1, 1)}, "y")
    compare(b.finish([("z", scaled(b, y, s))]), target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("batch", [1, 5])
def test_linear(batch, target):
    b = Builder("case")
    x, s = b.input("x", activation(("N", 33))), b.param("s", TensorType("f32", ()))
    y = b.add("linear", [x, b.param("w", TensorType("f32", (19, 33)))], {}, "y")
    compare(b.finish([("z", scaled(b, y, s))]), target, batch=batch)
