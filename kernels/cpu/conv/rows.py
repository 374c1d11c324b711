"""Convolution by rows of outputs. A chunk takes some rows of an image and some panels of filters. Rows of input that need
padding or de-interleaving are first copied into the worker's scratch. `plan.py` computes the arguments.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types

from ..code.emit import F32, Emitter, i64
from ..code.loops import some
from ..code.pieces import panel_at
from ..code.vector import FLOATS, INTEGERS, emitted, external, indices, piece
from ..code.vector import vectors as vector_operations
from ..target import Target
from .arguments import DIRECT_ARGUMENTS

A = indices(DIRECT_ARGUMENTS)


def pixel_of(target: Target, form: str) -> tuple[int, int]:
    """(floats of a pixel, input channels that one entry of the tap table stands for) of the input's form.

    blocked: a block of channels, each of which meets every output channel. banded: some channels of a block. matrix,
    scattered: blocks, copied tile by tile. flat: read where they are. plain: one channel. spread: one channel of each lane's
    group.
    """
    return (1 if form == "plain" else target.lanes, 1 if form in ("plain", "spread") else target.lanes)


def bands_of(form: str) -> tuple[bool, bool, bool]:
    """Whether a form has bands; whether their outputs are no whole blocks; whether the input is read where it lies, far
    apart.
    """
    return form.startswith(("banded", "shifted")), form.startswith("shifted"), form.endswith("flat")


def copy_pixels(target: Target, plain: bool) -> tuple[Any, Any]:
    """Intrinsics over pixels of a row in scratch: clear(to, count), copy(from, to, count, floats between source
    pixels).
    """
    step, together = 1 if plain else target.lanes, 4

    def sample(e: Emitter, source: Any, every: int) -> Any:
        """A vector of every first, second or fourth float, read as vectors without gaps."""
        vectors = [e.load(source, i * e.lanes) for i in range(every)]
        even = ir.Constant(e.int_type, list(range(0, 2 * e.lanes, 2)))
        while len(vectors) > 1:
            vectors = [e.b.shuffle_vector(a, b, even) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
        return vectors[0]

    def pixels(e: Emitter, source: Any, to: Any, count: int, stride: Any, every: int) -> tuple[Any, Any]:
        if every:
            e.store(sample(e, source, every), to)
            return e.at(source, e.lanes * every), e.at(to, e.lanes)
        for i in range(count):
            if plain:
                value = ir.Constant(F32, 0.0) if source is None else e.b.load(source, align=4)
                e.b.store(value, e.at(to, i), align=4)
            else:
                e.store(e.const(0) if source is None else e.load(source), to, i * step)
            source = source if source is None else e.at(source, stride)
        return source, e.at(to, count * step)

    def each(e: Emitter, source: Any, to: Any, count: Any, stride: Any) -> None:
        """A vector at a time where the pixels are near, then a few, then one by one."""
        near = [(e.lanes, every) for every in (1, 2, 4)] if plain and source is not None else []
        for size, every in (*near, (together, 0), (1, 0)):
            turns = e.b.sdiv(count, i64(size))
            if every:  # as often as the last float that is read is the row's
                floats = e.b.add(e.b.mul(e.b.sub(count, i64(1)), i64(every)), i64(1))
                fits = e.b.icmp_signed("==", stride, i64(every))
                turns = e.b.select(fits, e.b.sdiv(floats, i64(size * every)), i64(0))
            carried = [to] if source is None else [to, source]

            def body(_: Any, carried: list[Any], size: int = size, every: int = every) -> list[Any]:
                source, to = pixels(e, carried[1] if len(carried) > 1 else None, carried[0], size, stride, every)
                return [to] if source is None else [to, source]

            to, source = [*some(e, turns, carried, body), None][:2]
            count = e.b.sub(count, e.b.mul(turns, i64(size)))

    def clear(e: Emitter, to: Any, count: Any) -> None:
        each(e, None, to, count, None)

    n = types.int64
    return emitted(target, None, (FLOATS, n), clear), emitted(target, None, (FLOATS, FLOATS, n, n), each)


def _copy_rows(target: Target, form: str) -> Any:
    """A piece: copy(arguments, x, to, line, begin, end) copies the input that some rows of outputs meet, the first of which begins
    at row `line`, of input blocks from `begin` to `end`, with zeros where there is padding.
    """
    V, step = vector_operations(target), pixel_of(target, form)[0]
    clear, copy = copy_pixels(target, form == "plain")

    def copy_rows(arguments, x, to, first_line, begin, end):
        across, pixel_step, width = arguments[A.pack_width], arguments[A.pixel_step], arguments[A.in_width]
        for copied in range(begin * arguments[A.copies], end * arguments[A.copies]):
            first_column = arguments[A.column_first] + copied % arguments[A.copies] * arguments[A.copy_step]
            low = min(max((pixel_step - 1 - first_column) // pixel_step, 0), across)
            high = max(min((width - first_column + pixel_step - 1) // pixel_step, across), low)
            block = copied // arguments[A.copies]
            source = V.offset(
                x, V.two_steps(block, arguments[A.channel_blocks], arguments[A.x_plane], arguments[A.x_block])
            )
            source = V.offset(source, (first_column + low * pixel_step) * step)
            i = first_line
            for _ in range(arguments[A.pack_rows]):
                if i < 0 or i >= arguments[A.height]:
                    clear(to, across)
                else:
                    clear(to, low)
                    line = V.offset(source, i * arguments[A.x_row])
                    copy(line, V.offset(to, low * step), high - low, pixel_step * step)
                    clear(V.offset(to, high * step), across - high)
                to = V.offset(to, across * step)
                i += arguments[A.row_step]

    return piece((INTEGERS, FLOATS, FLOATS, *(types.int64,) * 3), copy_rows)


@cache
def outer(target: Target, form: str, gather_kinds: tuple[Any, ...], tile_kinds: tuple[Any, ...]) -> Any:
    """The loops around the tile: the same function for every specialization."""
    V = vector_operations(target)
    lanes = target.lanes
    step, depth = pixel_of(target, form)
    square = depth * lanes
    banded, shifted, flat = bands_of(form)
    copy, gather, tile = _copy_rows(target, form), external("gather", gather_kinds), external("tile", tile_kinds)

    def kernel(arguments, chunk, scratch):
        panel = arguments[A.panel]
        in_blocks, tap_count, out_blocks = arguments[A.in_blocks], arguments[A.tap_count], arguments[A.out_blocks]
        panel_chunks, groups, row_blocks = arguments[A.panel_chunks], arguments[A.groups], arguments[A.row_blocks]
        part = chunk % panel_chunks
        group = chunk // panel_chunks % groups
        row = chunk // panel_chunks // groups % row_blocks * arguments[A.block_rows]
        image = chunk // panel_chunks // groups // row_blocks
        row_end = min(row + arguments[A.block_rows], arguments[A.rows])
        x = V.offset(V.floats(arguments[A.x]), group * arguments[A.channel_blocks] * arguments[A.x_block])
        x = V.offset(x, V.two_steps(image, arguments[A.slices], arguments[A.x_image], arguments[A.x_slice]))
        home = V.two_steps(image, arguments[A.slices], arguments[A.y_image], arguments[A.y_slice])
        full = out_blocks // panel
        units = full + out_blocks % panel
        first_unit, end_unit = part * arguments[A.chunk_panels], min((part + 1) * arguments[A.chunk_panels], units)
        bands = V.integers(arguments[A.places])
        first_block, end_block = 0, in_blocks
        if banded:
            first_block, end_block = bands[first_unit * 8 + 3], bands[end_unit * 8 - 4]
        if arguments[A.pack_rows] > 0:
            rows_x = V.offset(scratch, arguments[A.head])
            first_line = row * arguments[A.row_stride] + arguments[A.row_first]
            copy(arguments, x, rows_x, first_line, first_block, end_block)
            # the table of taps counts from the first of all blocks
            row_floats = arguments[A.pack_width] * step
            rows_x = V.offset(rows_x, -first_block * arguments[A.copies] * arguments[A.pack_rows] * row_floats)
        else:
            rows_x = V.offset(x, row * arguments[A.out_row])
        w_blocks, w_first = arguments[A.w_blocks], arguments[A.w_first]
        weights = V.offset(V.floats(arguments[A.w]), group * out_blocks * w_blocks * tap_count * square)
        for unit in range(first_unit, end_unit):
            block, size = panel_at(unit, panel, full)
            channel = (group * out_blocks + block) * lanes
            valid = arguments[A.channels] - channel
            if banded:
                channel, valid = bands[unit * 8 + 5], bands[unit * 8 + 6]
                block = channel // lanes
            gather(arguments, scratch, channel, min(valid, size * lanes))
            w = V.offset(weights, (block * w_blocks + w_first * size) * tap_count * square)
            pace = (size * lanes - 1) // ((row_end - row) * arguments[A.tiles]) + 1
            for begin in range(0, in_blocks, arguments[A.depth_blocks]):
                entries = min(arguments[A.depth_blocks], in_blocks - begin) * tap_count
                ahead = V.offset(w, entries * square * size)
                taps = V.integer_offset(V.integers(arguments[A.taps]), begin * tap_count)
                if banded:
                    entries, pace = bands[unit * 8 + 1], 0
                    taps = V.integer_offset(V.integers(arguments[A.taps]), bands[unit * 8])
                    w = V.offset(V.floats(arguments[A.w]), bands[unit * 8 + 2])
                    ahead = w
                first = 1 if begin == 0 else 0
                last = 1 if begin + arguments[A.depth_blocks] >= in_blocks else 0
                if shifted:
                    last = bands[unit * 8 + 7]
                for r in range(row, row_end):
                    tile_x = V.offset(rows_x, (r - row) * arguments[A.out_row])
                    place = home + (group * out_blocks + block) * arguments[A.y_block] + r * arguments[A.y_row]
                    if shifted:
                        place += channel % lanes
                    for t in range(arguments[A.tiles]):
                        tall = 1 if t < arguments[A.tall] else 0
                        wide = 1 if size == panel else 0
                        columns = arguments[A.pixels] - 1 + tall
                        tile(
                            tile_x, taps, entries, w, ahead, pace, flat * columns * step, place, arguments, scratch,
                            first, last, valid, tall, wide,
                        )  # fmt: skip
                        ahead = V.offset(ahead, pace * entries * depth)
                        tile_x = V.offset(tile_x, columns * step)
                        place += columns * arguments[A.y_pixel]
                w = V.offset(w, entries * square * size)

    return kernel
