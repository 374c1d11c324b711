"""From shapes to launches of maxima, minima, products, their places, and running sums. Nothing here imports Numba."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from .. import Kernel
from ..launches import Launch, Shape, divide, split
from ..target import Target
from .reduce_plan import plan_reduce_axes

ALONG = ("units", "per_chunk", "size", "inner", "x", "y")


def plan_fold_axes(target: Target, shape: Shape, axes: Sequence[int], how: str) -> Launch:
    """y: the "max", "min" or "prod" of a plain `x` over the axes, whose sizes vanish or become 1 (the same memory)."""
    sums = plan_reduce_axes(target, shape, axes, False)
    return replace(sums, kernel=Kernel("fold_axes", (*sums.kernel.parameters, ("how", how))))


def _along(target: Target, shape: Shape, axis: int, family: str, parameters: tuple[tuple[str, object], ...]) -> Launch:
    axis %= len(shape)
    outer, size, inner = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    units = outer * (1 if inner == 1 else divide(inner, target.lanes))
    per_chunk = divide(units, split(math.prod(shape), 8192)) if units else 1
    numbers = {"units": units, "per_chunk": per_chunk, "size": size, "inner": inner}
    kernel = Kernel(family, (("strided", inner != 1), *parameters))
    chunks = divide(units, per_chunk) if math.prod(shape) else 0
    return Launch.of(kernel, ALONG, numbers).cut(chunks, 2 * target.lanes)


def plan_place(target: Target, shape: Shape, axis: int, largest: bool) -> Launch:
    """y: where along an axis of a plain `x` the largest, or smallest, is. Memory as if the axis were gone."""
    return _along(target, shape, axis, "place", (("largest", largest),))


def plan_running(target: Target, shape: Shape, axis: int, reverse: bool) -> Launch:
    """y: the sums of a plain `x` along an axis up to each place, or with `reverse` from it on."""
    return _along(target, shape, axis, "running_sum", (("reverse", reverse),))
