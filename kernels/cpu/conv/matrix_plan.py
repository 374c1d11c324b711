"""Plans of convolutions as products of matrices over the pixels of all images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from .. import Kernel, cost
from ..launches import Launch, divide, divisor, panels
from ..target import Target
from .arguments import ConvPlan, PackedWeights, direct_arguments, in_plane, register_tile
from .sums import Sums

# Parts of the second level cache: for what a chunk's tiles read of the input, and for a panel's weights between two
# visits of y, beside which as many more are on their way.
_INPUT, _WEIGHTS = 0.5, 1 / 16
# Lines are too short for a register tile that holds less than this part of what it could.
_SHORT = 0.5
# So many tiles may take the place of one, shorter ones, where they divide into chunks that end with an image.
_MORE = 1.04
# Rows too short for the tile are joined by a copy of the input for every tap, where so many blocks of filters read it; and so
# much shorter than those of all pixels would be.
_AGAIN, _SHORTER = 8, 0.75
_PANEL_CUTS = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)


def applies(target: Target, s: Sums) -> bool:
    """Whether outputs are better taken over all pixels than row by row."""
    if s.form != "blocked" or len(s.taps) < 2:
        return s.form == "blocked" and len(s.taps) == 1
    blocks = s.out_blocks(target.lanes)
    whole, row = (register_tile(target, width, blocks)[0] for width in (s.rows * s.columns, s.columns))
    return row < _SHORTER * whole and s.out_channels >= _AGAIN * target.lanes


@dataclass(frozen=True)
class Lines:
    """Lines of outputs without gaps, in themselves and in what they meet; floats from one to the next in the input. `form`: "flat",
    or where there are none all outputs of an image as one line, "matrix", or "scattered" where they lie apart.
    """

    count: int
    length: int
    out_row: int
    form: str

    @property
    def flat(self) -> bool:
        return self.form == "flat"


def lines_of(target: Target, s: Sums) -> Lines:
    taps, blocks = s.taps, s.out_blocks(target.lanes)
    count, length, out_row = s.rows, s.columns, s.stride[0] * s.width * target.lanes
    whole = s.stride == (1, 1) and s.columns == s.width and not any(taps.columns)
    if (whole and s.y.row == s.columns * s.y.pixel) or s.rows == 1:
        count, length = 1, s.rows * s.columns
    full = math.prod(register_tile(target, s.rows * s.columns, blocks))
    flat = min(taps.rows) >= 0 and (s.rows - 1) * s.stride[0] + max(taps.rows) < s.height
    flat = flat and min(taps.columns) >= 0 and (s.columns - 1) * s.stride[1] + max(taps.columns) < s.width
    if flat and math.prod(register_tile(target, length, blocks)) >= _SHORT * full:
        return Lines(count, length, out_row, "flat")
    return Lines(1, s.rows * s.columns, 0, "matrix" if s.y.row == s.columns * s.y.pixel else "scattered")


def _cut(target: Target, s: Sums, lines: Lines, tile: tuple[int, int], depth: int) -> tuple[int, int]:
    """(tiles, panels) of a chunk: the least estimated time, with at most the tiles whose input stays near."""
    speeds, lanes, (pixels, vectors) = cost.MATRIX, target.lanes, tile
    streamed = speeds.streamed * target.pace.shared
    blocks, entries = s.out_blocks(lanes), divide(s.in_channels, lanes) * len(s.taps)
    channels, units = entries * lanes, panels(blocks, vectors)
    tiles = s.images * lines.count * divide(lines.length, pixels)
    most = max(1, int(target.cache * _INPUT) // (4 * pixels * lanes * (entries if lines.flat else depth)))
    products = pixels * vectors * channels / speeds.compute
    copied = 4 * pixels * channels / (streamed if lines.flat else speeds.copied)
    weights = 4 * vectors * lanes * channels / streamed

    def time(cut: tuple[int, int]) -> float:
        block, part = cut
        each = speeds.chunk + block * part * products + block * copied + part * weights
        return cost.total(s.groups * divide(tiles, block) * divide(units, part), each, target.workers)

    cuts = sorted({round(divide(tiles, most) * 1.25**i) for i in range(24)})
    blocks_of = sorted({divide(tiles, min(cut, tiles)) for cut in cuts}, reverse=True)
    parts = sorted({divide(units, min(cut, units)) for cut in _PANEL_CUTS}, reverse=True)
    return cost.least(product(blocks_of, parts), time, (min(most, tiles), units))


def by_image(target: Target, images: int, tiles: int, block_tiles: int, weights: int) -> tuple[int, int]:
    """(tiles of a chunk, links): the chunks go through the batch image by image, where hardly smaller ones do; much
    smaller ones where the bytes of weights, which they read more often, are near.
    """
    even = divisor(tiles, block_tiles)
    if images > 1 and (2 * even > block_tiles or (2 * even > tiles and 2 * weights <= target.cache)):
        return even, images
    return block_tiles, 0


def _tables(s: Sums, lines: Lines, lanes: int) -> dict[str, Any]:
    """Of each entry what it meets, and of scattered outputs where they lie."""
    x_row = s.width * lanes
    reached = [
        (block * s.height * x_row + c * lanes, r, c)
        for block in range(divide(s.in_channels, lanes))
        for r, c in zip(s.taps.rows, s.taps.columns, strict=True)
    ]
    if lines.flat:
        return {"taps": np.array([at + r * x_row for at, r, _ in reached], np.int64)}
    tables = {"taps": np.array(reached, np.int64).reshape(-1)}
    if lines.form == "scattered":
        places = np.arange(s.rows)[:, None] * s.y.row + np.arange(s.columns) * s.y.pixel
        tables["places"] = places.astype(np.int64).reshape(-1)
    return tables


def matrix_plan(target: Target, s: Sums) -> ConvPlan | None:
    """None where row by row is better."""
    if not applies(target, s):
        return None
    lanes, taps, lines = target.lanes, len(s.taps), lines_of(target, s)
    in_blocks, out_blocks = divide(s.in_channels, lanes), s.out_blocks(lanes)
    entries = in_blocks * taps
    pixels, vectors = register_tile(target, lines.length, out_blocks)
    tiles, units = divide(lines.length, pixels), panels(out_blocks, vectors)
    most_depth = max(1, int(target.cache * _WEIGHTS) // (4 * vectors * lanes * lanes))
    depth = divide(entries, divide(entries, most_depth))
    block_tiles, chunk_panels = _cut(target, s, lines, (pixels, vectors), depth)
    weights = 4 * entries * lanes * s.groups * out_blocks * lanes
    most, links = min(int(_MORE * tiles), (lines.length - 1) // max(1, pixels - 1)), 0
    for more in range(tiles, max(tiles, most) + 1):
        even, links = by_image(target, s.images, lines.count * more, block_tiles, weights)
        if links:
            tiles, block_tiles = more, even
            break
    all_tiles, panel_chunks = s.images * lines.count * tiles, divide(units, chunk_panels)
    tall, head = lines.length - tiles * (pixels - 1), s.epilogue.vectors * vectors * lanes
    arguments = {
        "pixels": pixels, "panel": vectors, "head": head,
        "panel_chunks": panel_chunks, "groups": s.groups, "row_blocks": 1, "chunk_panels": chunk_panels, "block_rows": 1,
        "channels": s.groups * s.out_channels, "out_blocks": out_blocks, "in_blocks": in_blocks, "tap_count": taps,
        "last_channels": min(lanes, divide(s.in_channels - (in_blocks - 1) * lanes, 4) * 4), "depth_blocks": depth,
        "rows": lines.count, "tiles": tiles, "tall": tall, **s.x_arguments(s.groups * in_blocks, lanes),
        "row_first": 0, "row_stride": s.stride[0], "row_step": 1, "pack_rows": 0,
        "column_first": 0, "copy_step": 1, "copies": 1, "pixel_step": s.stride[1], "pack_width": s.columns,
        "out_row": lines.out_row, **s.y_arguments, "all_tiles": all_tiles, "block_tiles": block_tiles,
        **({} if lines.form == "scattered" else {"places": 0}), **in_plane(in_blocks),
    }  # fmt: skip
    parameters = (
        ("pixels", pixels), ("vectors", vectors), ("uneven", tall < tiles), ("tail", out_blocks % vectors != 0),
        ("form", lines.form), ("masked", s.masked(lanes)), *s.epilogue.parameters,
        *([("apart", s.stride[1])] if lines.flat else []),
    )  # fmt: skip
    kernel, tables = Kernel("conv_direct", parameters), _tables(s, lines, lanes)
    launch = Launch.of(kernel, direct_arguments(s.epilogue), arguments, tables).cut(
        s.groups * panel_chunks * divide(all_tiles, block_tiles),
        head + (0 if lines.flat else block_tiles * depth * pixels * lanes),
        links,
    )
    form = PackedWeights(
        s.groups, s.out_channels, s.in_channels, s.taps.source, s.taps.all, vectors, lanes, False, s.transposed
    )
    return ConvPlan(launch, form)
