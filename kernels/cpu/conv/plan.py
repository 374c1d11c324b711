"""From a convolution to steps of the direct algorithm: which kernel, which integers, tables, chunks and scratch.

Pure Python and NumPy: a plan is made without Numba. `FORMS` are asked in their order for a step; each declines, on its first
lines, what is not its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..launches import divide
from ..problem import BARE, Conv, Epilogue
from ..target import Target
from .arguments import ConvPlan, form_of
from .bands_plan import bands_plan
from .matrix_plan import matrix_plan
from .rows_plan import rows_plan
from .spread_plan import spread_plan
from .sums import Place, Sums, Taps

FORMS: tuple[Callable[[Target, Sums], ConvPlan | None], ...] = (spread_plan, bands_plan, matrix_plan, rows_plan)


def plan_of(target: Target, sums: Sums) -> ConvPlan:
    """The step of the first form that takes it."""
    return next(plan for form in FORMS if (plan := form(target, sums)) is not None)


def direct_plan(target: Target, conv: Conv, epilogue: Epilogue = BARE, plain: bool = False) -> ConvPlan:
    """The forward convolution over two axes, both tensors blocked (x plain nchw with `plain`). ValueError for groups that `form_of`
    does not know, and for a kernel that exceeds the padded input.
    """
    c, lanes = conv, target.lanes
    (height, width), (rows, columns), (down, right) = conv.size, conv.out, conv.stride
    block = rows * columns * lanes
    y = Place(divide(c.filters, lanes) * block, block, columns * lanes, lanes)
    sums = Sums(
        c.images, c.groups, c.channels // c.groups, height, width, c.filters // c.groups, Taps.forward(c), (down, right),
        rows, columns, y, form_of(target, c, plain), False, epilogue,
    )  # fmt: skip
    return plan_of(target, sums)


@dataclass(frozen=True)
class Parity:
    """One step of a data gradient and the offset in floats, to be added to the addresses of y and of the full operands."""

    plan: ConvPlan
    offset: int


def met_by(conv: Conv, axis: int) -> list[tuple[int, list[tuple[int, int]]]]:
    """For each residue modulo the stride along an axis: the kernel's taps that inputs of that residue meet, each with the output
    that the first of them meets by it.
    """
    found = []
    for residue in range(min(conv.stride[axis], conv.size[axis])):
        ends = [(i, residue + conv.padding[axis][0] - i * conv.dilation[axis]) for i in range(conv.kernel[axis])]
        stride = conv.stride[axis]
        found.append((residue, [(i, end // stride) for i, end in ends if end % stride == 0]))
    return found


def data_gradient_plans(target: Target, conv: Conv, epilogue: Epilogue = BARE) -> list[Parity]:
    """The gradient of the input: dy (as `x`) [N, K, OH, OW] -> dx (as `y`) [N, C, H, W], both blocked.

    dx[i] = sum over taps k with (i + pad - dilation k) divisible by the stride of dy[(i + pad - dilation k) / stride]
    w[k]: for each residue of i modulo the stride a convolution of stride 1 with some of the taps. The steps write
    disjoint parts and may run in any order.
    """
    c, lanes, (height, width), (rows, columns), form = conv, target.lanes, conv.size, conv.out, form_of(target, conv)
    block = height * width * lanes
    y = Place(divide(c.channels, lanes) * block, block, c.stride[0] * width * lanes, c.stride[1] * lanes)
    plans = []
    for top, tall in met_by(c, 0):
        for left, wide in met_by(c, 1):
            taps = [(i * c.kernel[1] + j, r, column) for i, r in tall for j, column in wide]
            sums = Sums(
                c.images, c.groups, c.filters // c.groups, rows, columns, c.channels // c.groups,
                Taps.of(taps, c.kernel[0] * c.kernel[1]), (1, 1), divide(height - top, c.stride[0]),
                divide(width - left, c.stride[1]), y, form, True, epilogue,
            )  # fmt: skip
            plans.append(Parity(plan_of(target, sums), (top * width + left) * lanes))
    return plans
