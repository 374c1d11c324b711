"""The maxima of windows whose places are tables, and what goes to them and comes from them."""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir

from .. import Family
from ..code.vector import emitted, vectors
from ..target import Target
from .uneven_plan import FAR, UNEVEN_ARGUMENTS
from .unit import Unit


def make(target: Target, blocked: bool, what: str, across: bool = False) -> Any:
    """across: a vector is of pixels side by side, of a plain tensor whose windows reach over less than 2^24."""
    if across:
        return _across(target, what)
    return _gradient(target, blocked) if what == "gradient" else _maxima(target, blocked, what == "pick")


def _across(target: Target, what: str) -> Any:
    """Each lane has the best of its columns, and how far from the window's first pixel that was; then the lanes are compared."""
    V, beats, lanes, gradient, value = (
        vectors(target),
        Unit(target, True).beats,
        target.lanes,
        what == "gradient",
        what == "value",
    )
    numbers = emitted(target, V.vector, (), lambda e: ir.Constant(e.type, [float(i) for i in range(lanes)]))
    lowest, far = -math.inf, FAR

    def kernel(arguments: Any, chunk: Any, scratch: Any) -> None:
        rows, per_chunk, depth, height, breadth = arguments[0], arguments[1], arguments[2], arguments[3], arguments[4]
        out_depth, out_height, out_breadth = arguments[5], arguments[6], arguments[7]
        deep, tall, wide = V.integers(arguments[8]), V.integers(arguments[9]), V.integers(arguments[10])
        size, small = depth * height * breadth, out_depth * out_height
        xs, others, ys = V.floats(arguments[11]), V.floats(arguments[12]), V.floats(arguments[13])
        if gradient:
            dx = V.offset(ys, chunk * size)
            for i in range(0, size - lanes + 1, lanes):
                V.store(V.zero(), dx, i)
            for i in range(size // lanes * lanes, size):
                dx[i] = 0.0
        begin, end = (
            (chunk * small, (chunk + 1) * small)
            if gradient
            else (chunk * per_chunk, min(rows, (chunk + 1) * per_chunk))
        )
        for row in range(begin, end):
            h, rest = row % out_height, row // out_height
            d, plane = rest % out_depth, rest // out_depth
            x, levels = V.offset(xs, plane * size), tall[2 * h + 1]
            for w in range(out_breadth):
                columns = wide[2 * w + 1]
                start = (deep[2 * d] * height + tall[2 * h]) * breadth + wide[2 * w]
                best = V.select(V.first(columns), V.load_first(x, start, columns), V.splat(lowest))
                place = V.select(V.first(columns), numbers(), V.splat(far))
                for i in range(deep[2 * d + 1]):
                    for j in range(levels):
                        line = start + (i * height + j) * breadth
                        for k in range(0, columns, lanes):
                            left = columns - k
                            these = V.select(V.first(left), V.load_first(x, line + k, left), V.splat(lowest))
                            better = beats(these, best)
                            best = V.select(better, these, best)
                            place = V.select(better, numbers() + ((i * height + j) * breadth + k), place)
                top, result = V.largest(best), row * out_breadth + w
                if value:
                    ys[result] = top
                else:
                    found = V.select((best == top) | V.is_nan(best), place, V.splat(far))
                    at = start + int(-V.largest(-found))
                    if gradient:
                        dx[at] += others[result]
                    else:
                        ys[result] = others[plane * size + at]

    return kernel


def _maxima(target: Target, blocked: bool, pick: bool) -> Any:
    unit = Unit(target, blocked)
    load, store, beats, select = unit.load, unit.store, unit.beats, unit.select
    floats, offset, width, integers = unit.floats, unit.offset, unit.width, vectors(target).integers

    def kernel(arguments: Any, chunk: Any, scratch: Any) -> None:
        rows, per_chunk, depth, height, breadth = arguments[0], arguments[1], arguments[2], arguments[3], arguments[4]
        out_depth, out_height, out_breadth = arguments[5], arguments[6], arguments[7]
        deep, tall, wide = integers(arguments[8]), integers(arguments[9]), integers(arguments[10])
        y, size = floats(arguments[13]), depth * height * breadth * width
        for row in range(chunk * per_chunk, min(rows, (chunk + 1) * per_chunk)):
            h, rest = row % out_height, row // out_height
            d, plane = rest % out_depth, rest // out_depth
            x, values = (
                offset(floats(arguments[11]), plane * size),
                offset(floats(arguments[12 if pick else 11]), plane * size),
            )
            for w in range(out_breadth):
                start = ((deep[2 * d] * height + tall[2 * h]) * breadth + wide[2 * w]) * width
                best, found = load(x, start), load(values, start)
                for i in range(deep[2 * d + 1]):
                    for j in range(tall[2 * h + 1]):
                        line = start + (i * height + j) * breadth * width
                        for k in range(wide[2 * w + 1]):
                            value = load(x, line + k * width)
                            better = beats(value, best)
                            found = select(better, load(values, line + k * width), found)
                            best = select(better, value, best)
                store(found, y, (row * out_breadth + w) * width)

    return kernel


def _gradient(target: Target, blocked: bool) -> Any:
    unit = Unit(target, blocked)
    load, store, number, beats, select = unit.load, unit.store, unit.number, unit.beats, unit.select
    floats, offset, width, integers, equal, add = (
        unit.floats, unit.offset, unit.width, vectors(target).integers, unit.equal, unit.add,
    )  # fmt: skip

    def kernel(arguments: Any, chunk: Any, scratch: Any) -> None:
        depth, height, breadth = arguments[2], arguments[3], arguments[4]
        out_depth, out_height, out_breadth = arguments[5], arguments[6], arguments[7]
        deep, tall, wide = integers(arguments[8]), integers(arguments[9]), integers(arguments[10])
        size = depth * height * breadth
        x, dx = offset(floats(arguments[11]), chunk * size * width), offset(floats(arguments[13]), chunk * size * width)
        for i in range(size):
            store(number(0.0), dx, i * width)
        for row in range(out_depth * out_height):
            d, h = row // out_height, row % out_height
            for w in range(out_breadth):
                start = ((deep[2 * d] * height + tall[2 * h]) * breadth + wide[2 * w]) * width
                best, chosen, tap = load(x, start), number(0.0), 0
                for i in range(deep[2 * d + 1]):
                    for j in range(tall[2 * h + 1]):
                        for k in range(wide[2 * w + 1]):
                            value = load(x, start + ((i * height + j) * breadth + k) * width)
                            better = beats(value, best)
                            best, chosen = select(better, value, best), select(better, number(tap), chosen)
                            tap += 1
                above = load(floats(arguments[12]), ((chunk * out_depth * out_height + row) * out_breadth + w) * width)
                tap = 0
                for i in range(deep[2 * d + 1]):
                    for j in range(tall[2 * h + 1]):
                        for k in range(wide[2 * w + 1]):
                            at = start + ((i * height + j) * breadth + k) * width
                            before = load(dx, at)
                            store(select(equal(chosen, number(tap)), add(before, above), before), dx, at)
                            tap += 1

    return kernel


FAMILIES = (
    Family(
        "uneven_max",
        UNEVEN_ARGUMENTS,
        make,
        "Maxima of windows from tables. A chunk is some rows of the result; of a gradient it is a plane.",
    ),
)
