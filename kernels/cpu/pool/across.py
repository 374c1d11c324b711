"""Maxima of the windows of plain tensors, a vector of windows at a time, and what goes to them and comes from them.

A tap of all windows of a vector is picked from the few vectors that hold the row. For a gradient, where the first maximum
was is kept for a row of windows; then each pixel looks at the windows that hold it.
"""

from __future__ import annotations

import math
from typing import Any

from numba import types

from .. import Family
from ..code.emit import F32, Emitter, Value, i64
from ..code.loops import for_range
from ..code.vector import FLOATS, INTEGERS, emitted, indices, vectors
from ..target import Target
from .across_plan import ACROSS_ARGUMENTS
from .bands_plan import NEAR
from .unit import Unit

A, INT = indices(ACROSS_ARGUMENTS), types.int64


def _indices(e: Emitter, places: Value, groups: Value) -> Value:
    """Of a table of places: the int32, which stand behind where vectors begin."""
    return e.b.bitcast(e.b.gep(places, [groups]), F32.as_pointer())


def _each(e: Emitter, many: int, count: Value, carried: list[Value], body: Any) -> list[Value]:
    """body(t, carried) of each of `many` taps; of `count`, where many is 0."""
    if many == 0:
        return list(for_range(e, i64(0), count, 1, carried, body))
    for t in range(many):
        carried = list(body(i64(t), carried))
    return carried


def _windows(target: Target, what: str, near: int, taps: int) -> Any:
    """windows(x, values, out, count, places, groups, most, width, plane, levels, lines): of a row of windows, whose first pixels
    are in the line of x that is given, the maxima; or what `values` has there; or where they were first, from 1 on.
    """
    greater = Unit(target, True).greater

    def body(e: Emitter, x: Value, values: Value, out: Value, count: Value, places: Value, groups: Value, most: Value,
             width: Value, plane: Value, levels: Value, lines: Value) -> None:  # fmt: skip
        b, lanes = e.b, e.lanes
        table = _indices(e, places, groups)

        def vector(i: Value, _: Any) -> None:
            group = b.sdiv(i, i64(lanes))
            base = b.load(b.gep(places, [group]))
            masks = [e.first_lanes(b.sub(b.sub(width, base), i64(k * lanes))) for k in range(near)]
            own = e.at(table, b.mul(b.mul(group, most), i64(lanes)))
            known = [e.load_ints(own, t * lanes) for t in range(taps)]

            def line(place: Value, number: Value, carried: list[Value]) -> list[Value]:
                def held(row: Value) -> Any:
                    row = b.gep(row, [b.add(place, base)])
                    some = [e.masked_load(e.at(row, k * lanes), mask) for k, mask in enumerate(masks)]
                    return lambda index: e.among(some, index) if near else e.gather(row, index)

                pick = held(x)
                pick_value = held(values) if what == "pick" else None
                before = e.splat(b.sitofp(number, F32))

                def tap(t: Value, carried: list[Value]) -> list[Value]:
                    best, found = carried
                    index = known[t.constant] if taps else e.load_ints(own, b.mul(t, i64(lanes)))
                    value = pick(index)
                    better = greater(e, value, best)
                    if pick_value is not None:
                        found = e.select(better, pick_value(index), found)
                    elif what == "gradient":
                        nth = e.const(t.constant + 1) if taps else e.splat(b.sitofp(b.add(t, i64(1)), F32))
                        found = e.select(better, b.fadd(before, nth), found)
                    return [e.select(better, value, best), found]

                return _each(e, taps, most, carried, tap)

            def level(d: Value, carried: list[Value]) -> list[Value]:
                def one(h: Value, carried: list[Value]) -> list[Value]:
                    number = b.mul(b.add(b.mul(d, lines), h), most)
                    return line(b.add(b.mul(d, plane), b.mul(h, width)), number, carried)

                return list(for_range(e, i64(0), lines, 1, carried, one))

            start = e.const(1)
            if what == "pick":  # the first pixel's, where none beats -inf
                row = b.gep(values, [base])
                some = [e.masked_load(e.at(row, k * lanes), mask) for k, mask in enumerate(masks)]
                index = e.load_ints(own)
                start = e.among(some, index) if near else e.gather(row, index)
            best, found = for_range(e, i64(0), levels, 1, [e.const(-math.inf), start], level)
            e.masked_store(best if what == "value" else found, e.at(out, i), e.first_lanes(b.sub(count, i)))

        for_range(e, i64(0), count, lanes, [], vector)

    return emitted(target, None, (FLOATS, FLOATS, FLOATS, INT, INTEGERS, *[INT] * 6), body)


def _spread(target: Target, back: int, options: int) -> Any:
    """spread(dx, found, dy, width, places, groups, taps, most, number): a line of dx is given dy of the windows that `found` it;
    its pixels are the taps behind `number`.
    """

    def body(e: Emitter, dx: Value, found: Value, dy: Value, width: Value, places: Value, groups: Value, taps: Value,
             most: Value, number: Value) -> None:  # fmt: skip
        b, lanes = e.b, e.lanes
        table, before = _indices(e, places, groups), e.splat(b.sitofp(number, F32))

        def vector(i: Value, _: Any) -> None:
            group = b.sdiv(i, i64(lanes))
            base, own = b.load(b.gep(places, [group])), b.mul(b.mul(group, most), i64(lanes))
            mask = e.first_lanes(b.sub(width, i))

            def pick(row: Value) -> Any:
                row = b.gep(row, [base])
                some = [e.load(row, k * lanes) for k in range(back)]
                return lambda index: e.among(some, index) if back else e.gather(row, index)

            where, what = pick(found), pick(dy)

            def option(t: Value, carried: list[Value]) -> list[Value]:
                at = b.add(own, b.mul(t, i64(lanes)))
                index = e.load_ints(table, at)
                here = b.fcmp_ordered("==", where(index), b.fadd(before, e.load(taps, at)))
                return [e.select(here, b.fadd(carried[0], what(index)), carried[0])]

            (total,) = _each(e, options, most, [e.masked_load(e.at(dx, i), mask)], option)
            e.masked_store(total, e.at(dx, i), mask)

        for_range(e, i64(0), width, lanes, [], vector)

    return emitted(target, None, (FLOATS, FLOATS, FLOATS, INT, INTEGERS, INT, FLOATS, INT, INT), body)


def make(target: Target, what: str, taps: int, near: int, options: int, back: int) -> Any:
    """what: "value", "pick" or "gradient". near, back: the vectors that taps, and windows of a pixel, are picked from. taps,
    options: how many of them there are; 0 where that is an argument.
    """
    V, lanes = vectors(target), target.lanes
    windows = _windows(target, what, near, taps)
    return _gradient(V, lanes, windows, _spread(target, back, options)) if what == "gradient" else _maxima(V, windows)


def _maxima(V: Any, windows: Any) -> Any:
    def kernel(arguments: Any, chunk: Any, scratch: Any) -> None:
        depth, height, width = arguments[A.depth], arguments[A.height], arguments[A.width]
        out_depth, out_height, out_width = arguments[A.out_depth], arguments[A.out_height], arguments[A.out_width]
        deep, tall = V.integers(arguments[A.depth_windows]), V.integers(arguments[A.height_windows])
        places, groups, most = V.integers(arguments[A.width_places]), arguments[A.groups], arguments[A.most]
        x, values, y = V.floats(arguments[A.x]), V.floats(arguments[A.dy]), V.floats(arguments[A.y])
        per_chunk = arguments[A.per_chunk]
        for row in range(chunk * per_chunk, min((chunk + 1) * per_chunk, arguments[A.rows])):
            h, d, plane = row % out_height, row // out_height % out_depth, row // out_height // out_depth
            line = ((plane * depth + deep[2 * d]) * height + tall[2 * h]) * width
            source, other, out = V.offset(x, line), V.offset(values, line), V.offset(y, row * out_width)
            levels, lines = deep[2 * d + 1], tall[2 * h + 1]
            windows(source, other, out, out_width, places, groups, most, width, height * width, levels, lines)

    return kernel


def _gradient(V: Any, lanes: int, windows: Any, spread: Any) -> Any:
    room = NEAR  # vectors behind a row, which are read with its last

    def kernel(arguments: Any, chunk: Any, scratch: Any) -> None:
        height, width, size = arguments[A.height], arguments[A.width], arguments[A.depth] * arguments[A.height]
        size *= width
        out_height, out_width = arguments[A.out_height], arguments[A.out_width]
        deep, tall = V.integers(arguments[A.depth_windows]), V.integers(arguments[A.height_windows])
        places, groups, most = V.integers(arguments[A.width_places]), arguments[A.groups], arguments[A.most]
        holding, taps = V.integers(arguments[A.spread_places]), V.floats(arguments[A.spread_taps])
        own, options, per_chunk = arguments[A.spread_groups], arguments[A.options], arguments[A.per_chunk]
        small = arguments[A.out_depth] * out_height
        above = V.offset(scratch, (groups + room) * lanes)
        for plane in range(chunk * per_chunk, min((chunk + 1) * per_chunk, arguments[A.rows])):
            x, dx = V.offset(V.floats(arguments[A.x]), plane * size), V.offset(V.floats(arguments[A.y]), plane * size)
            for i in range(0, size - lanes + 1, lanes):
                V.store(V.zero(), dx, i)
            for i in range(size // lanes * lanes, size):
                dx[i] = 0.0
            for row in range(small):
                d, h = row // out_height, row % out_height
                levels, lines = deep[2 * d + 1], tall[2 * h + 1]
                line = V.offset(x, (deep[2 * d] * height + tall[2 * h]) * width)
                windows(line, x, scratch, out_width, places, groups, most, width, height * width, levels, lines)
                dy = V.offset(V.floats(arguments[A.dy]), (plane * small + row) * out_width)
                for i in range(0, out_width, lanes):
                    V.store(V.load_first(dy, i, out_width - i), above, i)
                for i in range(levels):
                    for j in range(lines):
                        to = V.offset(dx, ((deep[2 * d] + i) * height + tall[2 * h] + j) * width)
                        spread(to, scratch, above, width, holding, own, taps, options, (i * lines + j) * most)

    return kernel


FAMILIES = (
    Family(
        "max_across",
        ACROSS_ARGUMENTS,
        make,
        "Maxima of plain windows from tables. A chunk is some rows of the result; of a gradient some planes.",
    ),
)
