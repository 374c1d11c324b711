"""Convolution as a product of matrices: pixels x (input channels and taps) times (input channels and taps) x filters.

The tiles of all images are one sequence. A chunk takes a part of it and some panels of filters, and goes through the
depth in blocks, so that the weights of a panel stay in the first level cache while the tiles go by. An *entry* of the
depth is a block of input channels under one tap. The chunk copies what the entries of its tiles meet into scratch,
[tile][entry][pixel][lane], for every tile to stream from the second level cache. Outputs are neighbors, but
"scattered" ones have their places in a table. `matrix_plan.py` computes the arguments.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from numba import types

from ..code.pieces import panel_at
from ..code.vector import FLOATS, INTEGERS, emitted, external, indices, piece
from ..code.vector import vectors as vector_operations
from ..target import Target
from .arguments import DIRECT_ARGUMENTS

A = indices(DIRECT_ARGUMENTS)


def _copy_tile(target: Target, pixels: int) -> Any:
    """An intrinsic: copy(from, to, all, floats between source pixels), of all the tile's pixels or of one less."""

    def body(e: Any, source: Any, to: Any, whole: Any, step: Any) -> None:
        for p in range(pixels - 1):
            e.store(e.load(source), to, p * e.lanes)
            source = e.at(source, step)
        with e.b.if_then(e.b.icmp_signed("!=", whole, e.b.sub(whole, whole))):
            e.store(e.load(source), to, (pixels - 1) * e.lanes)

    return emitted(target, None, (FLOATS, FLOATS, types.int64, types.int64), body)


def _copy_entries(target: Target, pixels: int) -> Any:
    """A piece: copy(arguments, x, to, first, count, begin, entries) copies what so many entries of the depth, from `begin` on, meet
    under `count` tiles.
    """
    V, lanes = vector_operations(target), target.lanes
    pixel_floats, copy_tile = pixels * lanes, _copy_tile(target, pixels)

    def copy_entries(arguments, x, packed, first_tile, count, begin, entries):
        taps, tiles, tall = V.integers(arguments[A.taps]), arguments[A.tiles], arguments[A.tall]
        slices, x_image, x_slice = arguments[A.slices], arguments[A.x_image], arguments[A.x_slice]
        width, height = arguments[A.pack_width], arguments[A.height]
        row_stride, stride = arguments[A.row_stride], arguments[A.pixel_step]
        x_row, step = arguments[A.x_row], stride * lanes
        first_image, first_t = first_tile // tiles, first_tile % tiles
        first_pixel = first_t * pixels - max(first_t - tall, 0)
        first_row, first_column = first_pixel // width, first_pixel % width
        x_first = V.two_steps(first_image, slices, x_image, x_slice)
        for entry in range(entries):
            place = (begin + entry) * 3
            entry_x, top, left = V.offset(x, taps[place]), taps[place + 1], taps[place + 2]
            origin, image = V.offset(entry_x, x_first), first_image
            # of a row's outputs, those that meet input
            low = max((stride - 1 - left) // stride, 0)
            high = min((arguments[A.in_width] - left + stride - 1) // stride, width)
            to = V.offset(packed, entry * pixel_floats)
            t, row, column = first_t, first_row, first_column
            for _ in range(count):
                columns = pixels if t < tall else pixels - 1
                i = row * row_stride + top
                if i >= 0 and i < height and column >= low and column + columns <= high:
                    copy_tile(V.offset(origin, i * x_row + column * step), to, columns - pixels + 1, step)
                    column += columns
                else:
                    for p in range(columns):
                        if column == width:
                            column = 0
                            row += 1
                            i += row_stride
                        if i >= 0 and i < height and column >= low and column < high:
                            V.store(V.load(origin, i * x_row + column * step), to, p * lanes)
                        else:
                            V.store(V.zero(), to, p * lanes)
                        column += 1
                if column == width:
                    column = 0
                    row += 1
                to = V.offset(to, arguments[A.depth_blocks] * pixel_floats)
                t += 1
                if t == tiles:
                    t, row, column = 0, 0, 0
                    image += 1
                    origin = V.offset(entry_x, V.two_steps(image, slices, x_image, x_slice))

    return piece((INTEGERS, FLOATS, FLOATS, *(types.int64,) * 4), copy_entries)


@cache
def outer(target: Target, pixels: int, form: str, gather_kinds: tuple[Any, ...], tile_kinds: tuple[Any, ...]) -> Any:
    """The loops around the tile: the same function for every specialization of a form with tiles of so many pixels."""
    V = vector_operations(target)
    lanes = target.lanes
    square, pixel_floats = lanes * lanes, pixels * lanes
    scattered = form == "scattered"
    copy, gather, tile = _copy_entries(target, pixels), external("gather", gather_kinds), external("tile", tile_kinds)

    def kernel(arguments, chunk, scratch):
        panel, in_blocks, out_blocks = arguments[A.panel], arguments[A.in_blocks], arguments[A.out_blocks]
        panel_chunks, groups = arguments[A.panel_chunks], arguments[A.groups]
        tiles, tall, depth = arguments[A.tiles], arguments[A.tall], arguments[A.depth_blocks]
        tap_count, w_blocks, w_first = arguments[A.tap_count], arguments[A.w_blocks], arguments[A.w_first]
        all_entries = in_blocks * tap_count
        slices, y_image, y_slice = arguments[A.slices], arguments[A.y_image], arguments[A.y_slice]
        part = chunk % panel_chunks
        group = chunk // panel_chunks % groups
        first_tile = chunk // panel_chunks // groups * arguments[A.block_tiles]
        count = min(arguments[A.block_tiles], arguments[A.all_tiles] - first_tile)
        first_image, first_t = first_tile // tiles, first_tile % tiles
        first_pixel = first_t * pixels - max(first_t - tall, 0)
        x = V.offset(V.floats(arguments[A.x]), group * arguments[A.channel_blocks] * arguments[A.x_block])
        y_first = V.two_steps(first_image, slices, y_image, y_slice)
        taps = V.integers(arguments[A.taps])
        packed = V.offset(scratch, arguments[A.head])
        full = out_blocks // panel
        units = full + out_blocks % panel
        weights = V.offset(V.floats(arguments[A.w]), group * out_blocks * w_blocks * tap_count * square)
        for begin in range(0, all_entries, depth):
            entries = min(depth, all_entries - begin)
            copy(arguments, x, packed, first_tile, count, begin, entries)
            first = 1 if begin == 0 else 0
            last = 1 if begin + depth >= all_entries else 0
            last_unit = min((part + 1) * arguments[A.chunk_panels], units)
            for unit in range(part * arguments[A.chunk_panels], last_unit):
                (block, size), wide = panel_at(unit, panel, full), 1 if unit < full else 0
                channel = (group * out_blocks + block) * lanes
                valid = arguments[A.channels] - channel
                gather(arguments, scratch, channel, min(valid, size * lanes))
                w = V.offset(weights, ((block * w_blocks + w_first * size) * tap_count + begin * size) * square)
                block_at, image = (group * out_blocks + block) * arguments[A.y_block], first_image
                home = y_first + block_at
                # the weights of the next panel, or of the first one in the next block of the depth
                pace = (size * lanes - 1) // count + 1
                ahead = V.offset(w, w_blocks * tap_count * size * square)
                if unit + 1 == last_unit:
                    there = (part * arguments[A.chunk_panels] * w_blocks + w_first) * tap_count
                    ahead = V.offset(weights, (there + begin + depth) * panel * square)
                t, pixel, tile_x = first_t, first_pixel, packed
                for _ in range(count):
                    whole = 1 if t < tall else 0
                    place, table = home + pixel * arguments[A.y_pixel], taps
                    if scattered:
                        place, table = home, V.integer_offset(V.integers(arguments[A.places]), pixel)
                    tile(
                        tile_x, table, entries, w, ahead, pace, 0, place, arguments, scratch, first, last, valid, whole, wide
                    )  # fmt: skip
                    ahead = V.offset(ahead, pace * entries * lanes)
                    tile_x = V.offset(tile_x, depth * pixel_floats)
                    pixel += pixels - 1 + whole
                    t += 1
                    if t == tiles:
                        t = 0
                        pixel = 0
                        image += 1
                        home = V.two_steps(image, slices, y_image, y_slice) + block_at

    return kernel
