"""A 1x1 convolution and the depthwise one that alone reads it, panel by panel of channels.

A chunk takes a block of rows of the result and some panels. The rows of the 1x1 convolution that it meets, of one panel at a
time, lie in scratch, where they stay in the worker's own cache; the tensor between the two, usually the largest of a
network that has such layers, is never written. Blocks of rows make the rows where they meet again. The tile is that of
`conv/tile.py`, the walk along a row that of `walk.py`; `expanded_plan.py` computes the arguments.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from .. import Family
from ..code.channels import gather_body
from ..code.pieces import panel_at
from ..code.vector import Linked, external, indices
from ..code.vector import vectors as vector_operations
from ..conv import tile
from ..conv.tile import GATHER, TILE, Tile, tiles_body
from ..target import Target
from . import walk
from .expanded_plan import EXPANDED_ARGUMENTS
from .plan import DEPTHWISE_ARGUMENTS, in_pairs
from .walk import GATHER as CHANNELS
from .walk import PARAMETERS, ROW, row_body

A, D = indices(EXPANDED_ARGUMENTS), indices(DEPTHWISE_ARGUMENTS)
BEHIND = len(EXPANDED_ARGUMENTS) - len(DEPTHWISE_ARGUMENTS)


@cache
def _outer(target: Target, pixels: int, pairs: bool) -> Any:
    """The loops around the tile and the row: the same function for every specialization with tiles of so many pixels."""
    V = vector_operations(target)
    lanes = target.lanes
    square = lanes * lanes
    gather, tile = external("gather", GATHER), external("tile", TILE)
    channels, line = external("channels", CHANNELS), external("row", ROW)
    pair = external("pair" if pairs else "row", ROW)

    def kernel(arguments, chunk, scratch):
        behind = V.integer_offset(arguments, BEHIND)
        panel, in_blocks, out_blocks = arguments[A.panel], arguments[A.in_blocks], arguments[A.out_blocks]
        panel_chunks, row_blocks = arguments[A.panel_chunks], behind[D.row_blocks]
        part = chunk % panel_chunks
        first_row = chunk // panel_chunks % row_blocks * behind[D.block_rows]
        image = chunk // panel_chunks // row_blocks
        last_row = min(first_row + behind[D.block_rows], behind[D.rows])
        height, width, columns = behind[D.height], behind[D.width], behind[D.columns] * lanes
        low = first_row * arguments[A.stride] - behind[D.top]
        high = low + (last_row - 1 - first_row) * arguments[A.stride] + arguments[A.reach]
        high = min(max(high, 0), height)
        low = min(max(low, 0), high)
        count = (high - low) * width
        tiles = (count + pixels - 1) // pixels
        tall = count - tiles * (pixels - 1)
        x_image = V.two_steps(image, arguments[A.slices], arguments[A.x_image], arguments[A.x_slice])
        x = V.offset(V.floats(arguments[A.x]), x_image + low * width * lanes)
        home = V.two_steps(image, arguments[A.slices], behind[D.y_image], arguments[A.y_slice])
        plane, vectors = V.offset(scratch, arguments[A.plane_at]), V.offset(scratch, arguments[A.vectors_at])
        zeros = V.offset(vectors, behind[D.head])
        for i in range(width):
            V.store(V.zero(), zeros, i * lanes)
        place_of = V.place(plane)
        full = out_blocks // panel
        units = full + out_blocks % panel
        first_unit = part * arguments[A.chunk_panels]
        for unit in range(first_unit, min(first_unit + arguments[A.chunk_panels], units)):
            (block, size), wide = panel_at(unit, panel, full), 1 if unit < full else 0
            valid = arguments[A.channels] - block * lanes
            gather(arguments, scratch, block * lanes, min(valid, size * lanes))
            w = V.offset(V.floats(arguments[A.w]), block * in_blocks * square)
            ahead = V.offset(w, in_blocks * size * square)
            pace = (size * lanes - 1) // max(tiles, 1) + 1
            reach = 1 if unit == first_unit else 0
            taps = V.integers(arguments[A.taps])
            pixel = 0
            for t in range(tiles):
                whole = 1
                if tall < 0:  # tiles of unequal lengths do not fill the rows: the last one begins earlier
                    pixel = min(pixel, count - pixels)
                elif t >= tall:
                    whole = 0
                across = (pixels - 1 + whole) * lanes
                tile(
                    V.offset(x, pixel * lanes), taps, in_blocks, w, ahead, pace, reach * across,
                    place_of + pixel * lanes, arguments, scratch, 1, 1, valid, whole, wide,
                )  # fmt: skip
                ahead = V.offset(ahead, pace * in_blocks * lanes)
                pixel += pixels - 1 + whole
            for i in range(size):
                channel = (block + i) * lanes
                channels(behind, vectors, channel, min(valid - i * lanes, lanes))
                made = V.offset(plane, i * arguments[A.y_block] - low * width * lanes)
                each = V.offset(V.floats(behind[D.w]), (block + i) * behind[D.taps] * lanes)
                row = first_row
                while row < last_row:
                    place = home + (block + i) * behind[D.y_block] + row * columns
                    if pairs and row + 1 < last_row:
                        pair(made, zeros, each, place, row, behind, vectors, valid - i * lanes)
                        row += 2
                    else:
                        line(made, zeros, each, place, row, behind, vectors, valid - i * lanes)
                        row += 1

    return kernel


def _make(target: Target, pixels: int, vectors: int, uneven: bool, tail: bool, ragged: bool, epilogue: Any,
          operands: tuple[str, ...], **parameters: Any) -> Linked:  # fmt: skip
    values = [parameters[name] for name in PARAMETERS]
    bodies = {
        "gather": (GATHER, gather_body((), tile.A.bias, tile.OPERANDS, vectors)),
        "tile": (TILE, tiles_body(Tile(pixels, vectors, uneven, tail, "flat", ragged, epilogue, ()))),
        "channels": (CHANNELS, gather_body(operands, walk.A.bias, walk.OPERANDS)),
        "row": (ROW, row_body(target, *values, operands)),
    }
    pairs = in_pairs(target, *values[:4])
    if pairs:
        bodies["pair"] = (ROW, row_body(target, *values, operands, together=2))
    return Linked(_outer(target, pixels, pairs), bodies)


FAMILIES = (
    Family("conv_depthwise", EXPANDED_ARGUMENTS, _make, "A 1x1 convolution and the depthwise one that alone reads it."),
)
