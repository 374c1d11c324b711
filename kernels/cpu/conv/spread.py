"""Convolution of groups that are parts of a block of channels: pixels are copied once for each channel of a group, with that
channel of a lane's own group in every lane, so that no product is with zero. A tile goes down the rows of outputs; the copies
that it meets, of its columns, lie in a ring of as many rows as the kernel spans. `spread_plan.py` has the arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from numba import types

from .. import Family
from ..code.emit import Emitter, Value, i64
from ..code.loops import some, when
from ..code.vector import FLOATS, INTEGERS, emitted, external, indices
from ..code.vector import vectors as vector_operations
from ..target import Target
from .arguments import DIRECT_ARGUMENTS
from .spread_plan import SPREAD_PACK_ARGUMENTS, WIDEST

A, P = indices(DIRECT_ARGUMENTS), indices(SPREAD_PACK_ARGUMENTS)
INT = types.int64
TOGETHER = 4  # planes that are copied at once


def _spread(target: Target, planes: int) -> Any:
    """An intrinsic: spread(from, floats between input blocks, blocks, lanes, to, floats between planes, zeros, pixels, floats
    between them, zeros). Lane l of a pixel in plane k is float `lanes[k][l]` of the pixel's blocks.
    """

    def body(e: Emitter, source: Value, apart: Value, blocks: Value, places: Value, to: Value, *numbers: Value) -> None:
        b = e.b
        plane, before, count, step, after = numbers

        def write(values: Sequence[Value], at: Value) -> Value:
            here = at
            for k, value in enumerate(values):
                here = b.gep(here, [plane]) if k else here
                e.store(value, here)
            return e.at(at, e.lanes)

        def clear(to: Value, count: Value) -> Value:
            return some(e, count, [to], lambda _, carried: [write([e.const(0)] * planes, carried[0])])[0]

        def of(size: int, to: Value) -> Value:
            take = e.taking([b.gep(places, [i64(k * e.lanes)]) for k in range(planes)], apart, size)

            def over_pixels(_: Value, carried: list[Value]) -> list[Value]:
                return [e.at(carried[0], step), write(take(carried[0]), carried[1])]

            return some(e, count, [source, to], over_pixels)[1]

        to = clear(to, before)
        for size in range(1, WIDEST + 1):
            (to,) = when(e, b.icmp_signed("==", blocks, i64(size)), [to], lambda size=size, to=to: [of(size, to)])
        clear(to, after)

    return emitted(target, None, (FLOATS, INT, INT, INTEGERS, FLOATS, *(INT,) * 5), body)


@cache
def outer(target: Target, gather_kinds: tuple[Any, ...], tile_kinds: tuple[Any, ...]) -> Any:
    """The loops around the tile: the same function for every specialization."""
    V = vector_operations(target)
    lanes = target.lanes
    several, single = _spread(target, TOGETHER), _spread(target, 1)
    gather, tile = external("gather", gather_kinds), external("tile", tile_kinds)

    def kernel(arguments, chunk, scratch):
        panel_chunks, row_blocks = arguments[A.panel_chunks], arguments[A.row_blocks]
        planes, copies, across = arguments[A.in_blocks], arguments[A.copies], arguments[A.pack_width]
        pixel_step, width = arguments[A.pixel_step], arguments[A.in_width]
        row = chunk // panel_chunks % row_blocks * arguments[A.block_rows]
        rows = min(row + arguments[A.block_rows], arguments[A.rows]) - row
        image = chunk // panel_chunks // row_blocks
        x = V.offset(
            V.floats(arguments[A.x]),
            V.two_steps(image, arguments[A.slices], arguments[A.x_image], arguments[A.x_slice]),
        )
        home = V.two_steps(image, arguments[A.slices], arguments[A.y_image], arguments[A.y_slice])
        home += row * arguments[A.y_row]
        top = row * arguments[A.row_stride] + arguments[A.row_first]
        ring = V.offset(scratch, arguments[A.head])
        slots = arguments[A.pack_rows]
        line = across * lanes
        plane, advance = copies * slots * line, arguments[A.out_row] // line
        floats, depth, x_block = arguments[A.w_blocks] * lanes, arguments[A.depth_blocks], arguments[A.x_block]
        first_unit = chunk % panel_chunks * arguments[A.chunk_panels]
        for unit in range(first_unit, min(first_unit + arguments[A.chunk_panels], arguments[A.out_blocks])):
            valid = arguments[A.channels] - unit * lanes
            gather(arguments, scratch, unit * lanes, min(valid, lanes))
            places = V.integer_offset(V.integers(arguments[A.places]), unit * (2 + planes * lanes))
            first_x, blocks = V.offset(x, places[0] * arguments[A.x_block]), places[1]
            places = V.integer_offset(places, 2)
            for begin in range(0, planes, depth):
                end = min(begin + depth, planes)
                w = V.offset(V.floats(arguments[A.w]), (unit * planes + begin) * floats)
                first, last = 1 if begin == 0 else 0, 1 if end == planes else 0
                entries = (end - begin) * arguments[A.tap_count]
                column, place_y = 0, home + unit * arguments[A.y_block]
                for t in range(arguments[A.tiles]):
                    tall = 1 if t < arguments[A.tall] else 0
                    columns = arguments[A.pixels] - 1 + tall
                    strip = across - arguments[A.pixels] + columns
                    place, there = place_y, 0
                    for r in range(rows):
                        # A row of outputs meets as many rows as there are slots; what the last one met is still there.
                        for j in range(max(there, r * advance), r * advance + slots):
                            i = top + j * arguments[A.row_step]
                            for copied in range(copies):
                                left = column * pixel_step + arguments[A.column_first] + copied * arguments[A.copy_step]
                                zeros = min(max((pixel_step - 1 - left) // pixel_step, 0), strip)
                                count = max(min((width - left + pixel_step - 1) // pixel_step, strip) - zeros, 0)
                                if i < 0 or i >= arguments[A.height]:
                                    zeros, count = strip, 0
                                rest = strip - zeros - count
                                source = V.offset(first_x, i * arguments[A.x_row] + (left + zeros * pixel_step) * lanes)
                                to = V.offset(ring, (copied * slots + j % slots) * line)
                                k = begin
                                while k < end:
                                    which = V.integer_offset(places, k * lanes)
                                    if k + TOGETHER <= end:
                                        several(
                                            source, x_block, blocks, which, to, plane, zeros, count, pixel_step * lanes, rest
                                        )  # fmt: skip
                                        k, to = k + TOGETHER, V.offset(to, TOGETHER * plane)
                                    else:
                                        single(
                                            source, x_block, blocks, which, to, plane, zeros, count, pixel_step * lanes, rest
                                        )  # fmt: skip
                                        k, to = k + 1, V.offset(to, plane)
                        there = r * advance + slots
                        table = V.integer_offset(
                            V.integers(arguments[A.taps]), r * advance % slots * depth * arguments[A.tap_count]
                        )
                        tile(ring, table, entries, w, w, 0, 0, place, arguments, scratch, first, last, valid, tall, 1)
                        place += arguments[A.y_row]
                    column, place_y = column + columns, place_y + columns * arguments[A.y_pixel]

    return kernel


def _make_pack(target: Target) -> Any:
    V = vector_operations(target)
    lanes = target.lanes

    def kernel(arguments, chunk, scratch):
        taps, channels, across = arguments[P.tap_count], arguments[P.in_channels], arguments[P.out_channels]
        to = V.offset(V.floats(arguments[P.packed]), chunk * channels * taps * lanes)
        for i in range(channels * taps):
            V.store(V.zero(), to, i * lanes)
        source_taps = V.integers(arguments[P.source_taps])
        for o in range(chunk * lanes, min((chunk + 1) * lanes, arguments[P.outputs])):
            group = o // across
            filters = V.offset(
                V.floats(arguments[P.source]),
                group * arguments[P.group_stride] + (o - group * across) * arguments[P.out_stride],
            )
            for k in range(channels):
                place, line = (
                    V.offset(to, k * taps * lanes + o - chunk * lanes),
                    V.offset(filters, k * arguments[P.in_stride]),
                )
                for tap in range(taps):
                    place[tap * lanes] = line[source_taps[tap]]

    return kernel


FAMILIES = (
    Family(
        "conv_pack_spread",
        SPREAD_PACK_ARGUMENTS,
        _make_pack,
        "oihw weights of groups into the form of spread conv_direct.",
    ),
)
