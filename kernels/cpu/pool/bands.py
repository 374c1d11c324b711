"""Sums over neighboring values, whose weights are tables, along one to three axes: interpolation and uneven averages.

A row of results is made in two steps: rows of x are added up, by the weights of the axes of depth and height, into a row
that stays in the nearest cache; from that the results come, a pixel's block of channels at a time, or in a plain tensor a
vector of neighbors, which are picked from the few vectors that hold all that they are made of.
"""

from __future__ import annotations

from typing import Any

from numba import types

from .. import Family
from ..code.emit import Emitter, Value, i64
from ..code.loops import for_range, for_vectors
from ..code.vector import FLOATS, INTEGERS, emitted, vectors
from ..target import Target
from .bands_plan import BANDS_ARGUMENTS

_N, _F = types.int64, types.float32


def _weigh(target: Target, adding: bool, rows: int) -> Any:
    """weigh(out, count, row, weight, ...): the sum of rows by their weights, or this added to what is there; 0 of none."""

    def body(e: Emitter, out: Value, count: Value, *given: Value) -> None:
        sources, weights = given[::2], [e.splat(w) for w in given[1::2]]

        def step(i: Value, mask: Value, _: Any) -> None:
            def read(p: Value) -> Value:
                return e.load(p, i) if mask is None else e.masked_load(e.at(p, i), mask)

            total = read(out) if adding else None
            for source, weight in zip(sources, weights, strict=True):
                value = read(source)
                total = e.b.fmul(value, weight) if total is None else e.fma(value, weight, total)
            total = e.const(0) if total is None else total
            if mask is None:
                e.store(total, out, i)
            else:
                e.masked_store(total, e.at(out, i), mask)

        for_vectors(e, count, 2, [], step)

    return emitted(target, None, (FLOATS, _N, *(FLOATS, _F) * rows), body)


def _blocked_row(target: Target, taps: int, chosen: bool) -> Any:
    """row(source, y, count, places, weights, groups, most): the results of a row, a vector of channels each."""
    lanes = target.lanes

    def body(
        e: Emitter, source: Value, y: Value, count: Value, places: Value, weights: Value, groups: Value, most: Value
    ) -> None:
        b = e.b

        def one(i: Value, _: Any) -> None:
            at = b.gep(places, [b.mul(i, i64(2))])
            pixel = b.gep(source, [b.mul(b.load(at), i64(lanes))])
            if chosen:
                e.store(e.load(pixel), y, b.mul(i, i64(lanes)))
                return
            start = b.load(b.gep(at, [i64(1)]))
            weight = b.gep(weights, [start])
            if taps:
                total = b.fmul(e.load(pixel), e.broadcast(weight))
                for t in range(1, taps):
                    total = e.fma(e.load(pixel, t * lanes), e.broadcast(weight, t), total)
            else:

                def tap(t: Value, carried: list[Value]) -> list[Value]:
                    return [e.fma(e.load(pixel, b.mul(t, i64(lanes))), e.broadcast(weight, t), carried[0])]

                end = b.load(b.gep(at, [i64(3)]))
                (total,) = for_range(e, i64(0), b.sub(end, start), 1, [e.const(0)], tap)
            e.store(total, y, b.mul(i, i64(lanes)))

        for_range(e, i64(0), count, 1, [], one)

    return emitted(target, None, (FLOATS, FLOATS, _N, INTEGERS, FLOATS, _N, _N), body)


def _plain_row(target: Target, taps: int, chosen: bool, near: int) -> Any:
    """row(source, y, count, places, weights, groups, most): the results of a row, a vector of neighbors at a time."""
    lanes = target.lanes

    def body(
        e: Emitter, source: Value, y: Value, count: Value, places: Value, weights: Value, groups: Value, most: Value
    ) -> None:
        b = e.b
        indices = b.bitcast(b.gep(places, [groups]), y.type)  # int32 behind the first values

        def vector(i: Value, mask: Value, _: Any) -> None:
            group = b.sdiv(i, i64(lanes))
            first = b.gep(source, [b.load(b.gep(places, [group]))])
            held = [e.load(first, k * lanes) for k in range(near)]
            table = b.mul(b.mul(group, most), i64(lanes))

            def value(at: Value) -> Value:
                index = e.load_ints(indices, at)
                picked = e.among(held, index) if near else e.gather(first, index)
                return picked if taps else e.select(b.icmp_signed(">=", index, e.ints(0)), picked, e.const(0))

            def tap(t: Value, carried: list[Value]) -> list[Value]:
                at = b.add(table, b.mul(t, i64(lanes)))
                return [e.fma(value(at), e.load(weights, at), carried[0])]

            if chosen:
                total = value(table)
            elif taps:
                total = b.fmul(value(table), e.load(weights, table))
                for t in range(1, taps):
                    (total,) = tap(i64(t), [total])
            else:
                (total,) = for_range(e, i64(0), most, 1, [e.const(0)], tap)
            if mask is None:
                e.store(total, y, i)
            else:
                e.masked_store(total, e.at(y, i), mask)

        for_vectors(e, count, 1, [], vector)

    return emitted(target, None, (FLOATS, FLOATS, _N, INTEGERS, FLOATS, _N, _N), body)


def make(target: Target, blocked: bool, rows: str, taps: int, near: int, chosen: bool) -> Any:
    """rows: "chosen" where each row of results is of one row of x, else "sums". taps: the values that each result of a row
    is made of, 0 where they are of several numbers; chosen: whether it is one of them. near: see `bands_plan`.
    """
    module = vectors(target)
    floats, integers, offset = module.floats, module.integers, module.offset
    unit, copied, again = target.lanes if blocked else 1, not (blocked and rows == "chosen"), rows == "chosen"
    clear, add = _weigh(target, False, 0), _weigh(target, True, 1)
    weigh, weigh_two = _weigh(target, False, 1), _weigh(target, False, 2)
    row_of = _blocked_row(target, taps, chosen) if blocked else _plain_row(target, taps, chosen, near)

    def kernel(arguments: Any, chunk: Any, scratch: Any) -> None:
        count, per_chunk, depth, height, width = arguments[0], arguments[1], arguments[2], arguments[3], arguments[4]
        out_depth, out_height, out_width, groups, most = (
            arguments[5], arguments[6], arguments[7], arguments[8], arguments[9],
        )  # fmt: skip
        d_places, d_weights = integers(arguments[10]), floats(arguments[11])
        h_places, h_weights = integers(arguments[12]), floats(arguments[13])
        places, weights = integers(arguments[14]), floats(arguments[15])
        x, y, line = floats(arguments[16]), floats(arguments[17]), width * unit
        for row in range(chunk * per_chunk, min(count, (chunk + 1) * per_chunk)):
            h, rest = row % out_height, row // out_height
            d, plane = rest % out_depth, rest // out_depth
            if again and row > chunk * per_chunk and h > 0 and h_places[2 * h] == h_places[2 * h - 2]:
                line_above = offset(y, (row - 1) * out_width * unit)
                weigh(offset(y, row * out_width * unit), out_width * unit, line_above, 1.0)
                continue
            source = offset(x, ((plane * depth + d_places[2 * d]) * height + h_places[2 * h]) * line)
            if copied:
                d_start, d_end, h_start, h_end = (
                    d_places[2 * d + 1],
                    d_places[2 * d + 3],
                    h_places[2 * h + 1],
                    h_places[2 * h + 3],
                )
                if d_end - d_start == 1 and h_end - h_start == 2:
                    by = d_weights[d_start]
                    weigh_two(
                        scratch,
                        line,
                        source,
                        by * h_weights[h_start],
                        offset(source, line),
                        by * h_weights[h_start + 1],
                    )
                else:
                    fresh = True
                    for i in range(d_end - d_start):
                        for j in range(h_end - h_start):
                            part = offset(source, (i * height + j) * line)
                            by = d_weights[d_start + i] * h_weights[h_start + j]
                            if fresh:
                                weigh(scratch, line, part, by)
                            else:
                                add(scratch, line, part, by)
                            fresh = False
                    if fresh:
                        clear(scratch, line)
                source = scratch
            row_of(source, offset(y, row * out_width * unit), out_width, places, weights, groups, most)

    return kernel


FAMILIES = (
    Family(
        "bands",
        BANDS_ARGUMENTS,
        make,
        "Sums over neighboring values along each axis, with weights from tables. A chunk is some rows of the result.",
    ),
)
