"""Maxima, minima and products over axes of a plain tensor, where the largest is along one, and running sums."""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import types

from .. import Family
from ..code.emit import I32, Emitter, Value
from ..code.vector import emitted, vectors
from ..target import Target
from .fold_plan import ALONG

REDUCE = (
    "outputs",
    "per_chunk",
    "size1",
    "length",
    "count0",
    "count1",
    "scale",
    "kept0",
    "kept1",
    "reduced0",
    "reduced1",
    "x",
    "y",
)
NEUTRAL = {"max": -math.inf, "min": math.inf, "prod": 1.0}


def make_fold_axes(target: Target, inner: str, how: str) -> Any:
    """inner: whether the contiguous axis is "kept" or "reduced"."""
    V, lanes, kept, neutral = vectors(target), target.lanes, inner == "kept", NEUTRAL[how]

    def combine(e: Emitter, x: Value, y: Value) -> Value:
        return e.b.fmul(x, y) if how == "prod" else e.maximum(x, y) if how == "max" else e.minimum(x, y)

    def over_lanes(e: Emitter, x: Value) -> Value:
        if how == "prod":
            return e._fold(x, e.b.fmul)
        return e.largest(x) if how == "max" else e.b.fneg(e.largest(e.b.fneg(x)))

    both = emitted(target, V.vector, (V.vector, V.vector), combine)
    whole = emitted(target, types.float32, (V.vector,), over_lanes)

    def kernel(arguments: Any, chunk: Any, scratch: Any) -> None:
        outputs, per_chunk, size1, length = arguments[0], arguments[1], arguments[2], arguments[3]
        count0, count1 = arguments[4], arguments[5]
        kept0, kept1, reduced0, reduced1 = arguments[7], arguments[8], arguments[9], arguments[10]
        x, y, start = V.floats(arguments[11]), V.floats(arguments[12]), V.splat(neutral)
        tiles = (length + lanes - 1) // lanes if kept else 1
        for unit in range(chunk * per_chunk, min((chunk + 1) * per_chunk, outputs)):
            index, column = unit // tiles, unit % tiles * lanes
            base = V.offset(x, index // size1 * kept0 + index % size1 * kept1 + column)
            first, second, third, fourth = start, start, start, start
            for i in range(count0):
                for j in range(count1):
                    row = V.offset(base, i * reduced0 + j * reduced1)
                    if kept:
                        first = both(first, V.load_first(row, 0, length - column))
                        continue
                    k = 0
                    while length - k >= 4 * lanes:
                        first, second = both(first, V.load(row, k)), both(second, V.load(row, k + lanes))
                        third, fourth = (
                            both(third, V.load(row, k + 2 * lanes)),
                            both(fourth, V.load(row, k + 3 * lanes)),
                        )
                        k += 4 * lanes
                    while k < length:
                        value = V.load_first(row, k, length - k)
                        first = both(first, V.select(V.first(length - k), value, start))
                        k += lanes
            if kept:
                V.store_first(first, y, index * length + column, length - column)
            else:
                y[index] = whole(both(both(first, second), both(third, fourth)))

    return kernel


def make_place(target: Target, strided: bool, largest: bool) -> Any:
    V, lanes, sign = vectors(target), target.lanes, 1.0 if largest else -1.0

    def rows(arguments: Any, chunk: Any, scratch: Any) -> None:
        units, per_chunk, size = arguments[0], arguments[1], arguments[2]
        for row in range(chunk * per_chunk, min((chunk + 1) * per_chunk, units)):
            x = V.offset(V.floats(arguments[4]), row * size)
            best, place = V.splat(-math.inf), V.splat(-1.0)
            for i in range(0, size, lanes):
                value = V.load_first(x, i, size - i) * sign
                better = V.first(size - i) & (((value > best) | V.is_nan(value)) & ~V.is_nan(best) | (place < 0.0))
                best, place = V.select(better, value, best), V.select(better, V.splat(float(i)), place)
            V.store(best, scratch, 0)
            V.store(place, scratch, lanes)
            top, at = scratch[0], int(scratch[lanes])
            for lane in range(1, min(lanes, size)):  # each lane has the first of its own; of equals the first counts
                value, where = scratch[lane], int(scratch[lanes + lane]) + lane
                nan, known = value != value, top != top
                if (nan and (not known or where < at)) or (
                    not known and (value > top or (value == top and where < at))
                ):
                    top, at = value, where
            V.floats(arguments[5])[row] = at

    def columns(arguments: Any, chunk: Any, scratch: Any) -> None:
        units, per_chunk, size, inner = arguments[0], arguments[1], arguments[2], arguments[3]
        tiles = (inner + lanes - 1) // lanes
        for unit in range(chunk * per_chunk, min((chunk + 1) * per_chunk, units)):
            column, outer = unit % tiles * lanes, unit // tiles
            x = V.offset(V.floats(arguments[4]), outer * size * inner + column)
            best, place = V.load_first(x, 0, inner - column) * sign, V.zero()
            for i in range(1, size):
                value = V.load_first(x, i * inner, inner - column) * sign
                better = ((value > best) | V.is_nan(value)) & ~V.is_nan(best)
                best, place = V.select(better, value, best), V.select(better, V.splat(float(i)), place)
            V.store_first(place, V.floats(arguments[5]), outer * inner + column, inner - column)

    return columns if strided else rows


def make_running_sum(target: Target, strided: bool, reverse: bool) -> Any:
    """Sums along rows have a carry in float64; down columns what each addition loses is put back with the next (Kahan, 1965)."""
    V, lanes = vectors(target), target.lanes

    def prefix(e: Emitter, x: Value) -> Value:
        """Each lane with those before it, or behind it: doubled distances."""
        distance, none = 1, e.const(0)
        while distance < lanes:
            if reverse:
                order = [k + distance if k + distance < lanes else lanes for k in range(lanes)]
            else:
                order = [k - distance if k >= distance else lanes for k in range(lanes)]
            x = e.b.fadd(x, e.b.shuffle_vector(x, none, ir.Constant(ir.VectorType(I32, lanes), order)))
            distance *= 2
        return x

    within = emitted(target, V.vector, (V.vector,), prefix)

    def rows(arguments: Any, chunk: Any, scratch: Any) -> None:
        units, per_chunk, size = arguments[0], arguments[1], arguments[2]
        steps = (size + lanes - 1) // lanes
        for row in range(chunk * per_chunk, min((chunk + 1) * per_chunk, units)):
            x, y = V.offset(V.floats(arguments[4]), row * size), V.offset(V.floats(arguments[5]), row * size)
            carry = 0.0
            for step in range(steps):
                i = (steps - 1 - step if reverse else step) * lanes
                value = V.load_first(x, i, size - i)
                V.store_first(within(value) + V.splat(carry), y, i, size - i)
                carry += V.total(value)

    def columns(arguments: Any, chunk: Any, scratch: Any) -> None:
        units, per_chunk, size, inner = arguments[0], arguments[1], arguments[2], arguments[3]
        tiles = (inner + lanes - 1) // lanes
        for unit in range(chunk * per_chunk, min((chunk + 1) * per_chunk, units)):
            column = unit % tiles * lanes
            start, count = unit // tiles * size * inner + column, inner - column
            x, y = V.offset(V.floats(arguments[4]), start), V.offset(V.floats(arguments[5]), start)
            total, lost = V.zero(), V.zero()
            for step in range(size):
                i = size - 1 - step if reverse else step
                value = V.load_first(x, i * inner, count)
                added = value - lost
                new = total + added
                lost = V.select(V.absolute(new) < math.inf, (new - total) - added, V.zero())
                total = new
                V.store_first(total, y, i * inner, count)

    return columns if strided else rows


FAMILIES = (
    Family(
        "fold_axes",
        REDUCE,
        make_fold_axes,
        "y = the largest, smallest or product of a plain x over some axes, as `reduce_axes` walks over them.",
    ),
    Family(
        "place",
        ALONG,
        make_place,
        "y = where along the middle axis of [outer, size, inner] the largest or smallest is.",
    ),
    Family(
        "running_sum", ALONG, make_running_sum, "y = sums of x along the middle axis, up to each place or from it on."
    ),
)
