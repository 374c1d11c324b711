"""Convolution as a product of matrices whose left side is the input as it lies there, without padding.

The tiles of all images are one sequence: an image has lines of tiles, one line where its outputs and what they meet
have no gaps. A chunk takes a part of the sequence and some panels of filters; its input stays in the second level cache
while the panels go by. A panel's weights go by in blocks of the depth, each of them asked for from memory while the
tiles meet the one before. `matrix_plan.py` computes the arguments.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from ..code.pieces import panel_at
from ..code.vector import external, indices
from ..code.vector import vectors as vector_operations
from ..target import Target
from .arguments import DIRECT_ARGUMENTS

A = indices(DIRECT_ARGUMENTS)


@cache
def outer(target: Target, pixels: int, apart: int, gather_kinds: tuple[Any, ...], tile_kinds: tuple[Any, ...]) -> Any:
    """The loops around the tile: the same function for every specialization with tiles of so many pixels, so far apart."""
    V = vector_operations(target)
    lanes = target.lanes
    square, step = lanes * lanes, lanes * apart
    gather = external("gather", gather_kinds)
    tile = external("tile", tile_kinds)

    def kernel(arguments, chunk, scratch):
        panel, in_blocks, out_blocks = arguments[A.panel], arguments[A.in_blocks], arguments[A.out_blocks]
        panel_chunks, groups = arguments[A.panel_chunks], arguments[A.groups]
        rows, tiles, tall, depth = arguments[A.rows], arguments[A.tiles], arguments[A.tall], arguments[A.depth_blocks]
        slices, x_image, x_slice = arguments[A.slices], arguments[A.x_image], arguments[A.x_slice]
        y_image, y_slice = arguments[A.y_image], arguments[A.y_slice]
        x_line, y_line, y_pixel = arguments[A.out_row], arguments[A.y_row], arguments[A.y_pixel]
        tap_count = arguments[A.tap_count]
        all_entries = in_blocks * tap_count
        part = chunk % panel_chunks
        group = chunk // panel_chunks % groups
        first_tile = chunk // panel_chunks // groups * arguments[A.block_tiles]
        count = min(arguments[A.block_tiles], arguments[A.all_tiles] - first_tile)
        first_image, first_row, first_t = first_tile // (rows * tiles), first_tile // tiles % rows, first_tile % tiles
        first_pixel = first_t * pixels - max(first_t - tall, 0)
        all_x = V.offset(V.floats(arguments[A.x]), group * arguments[A.channel_blocks] * arguments[A.x_block])
        x = V.offset(all_x, V.two_steps(first_image, slices, x_image, x_slice))
        y_first = V.two_steps(first_image, slices, y_image, y_slice)
        full = out_blocks // panel
        units = full + out_blocks % panel
        first_unit = part * arguments[A.chunk_panels]
        w_blocks, w_first = arguments[A.w_blocks], arguments[A.w_first]
        weights = V.offset(V.floats(arguments[A.w]), group * out_blocks * w_blocks * tap_count * square)
        for unit in range(first_unit, min(first_unit + arguments[A.chunk_panels], units)):
            (block, size), wide = panel_at(unit, panel, full), 1 if unit < full else 0
            channel = (group * out_blocks + block) * lanes
            valid = arguments[A.channels] - channel
            gather(arguments, scratch, channel, min(valid, size * lanes))
            w = V.offset(weights, (block * w_blocks + w_first * size) * tap_count * square)
            pace = (size * lanes - 1) // count + 1
            # The first panel meets input that is not near yet: the next tile's is asked for.
            reach = 1 if unit == first_unit else 0
            for begin in range(0, all_entries, depth):
                entries = min(depth, all_entries - begin)
                taps = V.integer_offset(V.integers(arguments[A.taps]), begin)
                ahead = V.offset(w, entries * size * square)
                first = 1 if begin == 0 else 0
                last = 1 if begin + depth >= all_entries else 0
                row, t = first_row, first_t
                home_x = V.offset(x, first_row * x_line)
                image, block_at = first_image, (group * out_blocks + block) * arguments[A.y_block]
                line = y_first + block_at + first_row * y_line
                tile_x, place = V.offset(home_x, first_pixel * step), line + first_pixel * y_pixel
                for _ in range(count):
                    whole = 1 if t < tall else 0
                    columns = pixels - 1 + whole
                    tile(
                        tile_x, taps, entries, w, ahead, pace, reach * columns * step, place, arguments, scratch, first, last,
                        valid, whole, wide,
                    )  # fmt: skip
                    ahead = V.offset(ahead, pace * entries * lanes)
                    tile_x = V.offset(tile_x, columns * step)
                    place += columns * y_pixel
                    t += 1
                    if t == tiles:
                        t = 0
                        row += 1
                        line += y_line
                        home_x = V.offset(home_x, x_line)
                        if row == rows:
                            row = 0
                            image += 1
                            line = V.two_steps(image, slices, y_image, y_slice) + block_at
                            home_x = V.offset(all_x, V.two_steps(image, slices, x_image, x_slice))
                        tile_x, place = home_x, line
                w = V.offset(w, entries * size * square)

    return kernel
