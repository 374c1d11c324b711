"""Plans of convolutions as products of matrices over the pixels of all images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import Kernel
from .conv_arguments import ConvPlan, KernelPlan, PackedWeights, divide, in_plane, register_tile
from .shapes import divisor
from .target import Target

# What the cost model assumes of a core; only ratios matter. Multiply-adds of a lane, bytes copied and bytes of weights
# read in a microsecond, and the cost of one chunk in microseconds.
_PRODUCTS, _COPIED, _STREAMED, _CHUNK = 6e3, 10e3, 30e3, 0.5
# Parts of the second level cache: for what a chunk's tiles read of the input, and for a panel's weights between two
# visits of y, beside which as many more are on their way.
_INPUT, _WEIGHTS = 0.5, 1 / 16
# Lines are too short for a register tile that holds less than this part of what it could.
_SHORT = 0.5
# So many tiles may take the place of one, shorter ones, where they divide into chunks that end with an image.
_MORE = 1.04


def blocking(
    tiles: int, most: int, units: int, groups: int, products: float, copied: float, weights: float,
    shared: Sequence[int],
) -> tuple[int, int]:
    """(tiles, panels) of a chunk: the least estimated time, summed over `shared`, numbers of workers, with at most `most` tiles.

    `products`, `copied` and `weights` are the microseconds that one tile takes for one panel, one tile's copying takes
    for all panels, and reading one panel's weights takes for all tiles.
    """
    best, choice = math.inf, (min(most, tiles), units)
    least = divide(tiles, most)
    cuts = sorted({round(least * 1.25**i) for i in range(24)})
    for block in sorted({divide(tiles, min(cut, tiles)) for cut in cuts}, reverse=True):
        for part in sorted(
            {divide(units, min(cut, units)) for cut in (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)}, reverse=True
        ):
            chunks = groups * divide(tiles, block) * divide(units, part)
            time = _CHUNK + block * part * products + block * copied + part * weights
            estimate = sum(divide(chunks, workers) * workers * time for workers in shared)
            if estimate < best:
                best, choice = estimate, (block, part)
    return choice


def by_image(target: Target, images: int, tiles: int, block_tiles: int, weights: int) -> tuple[int, int]:
    """(tiles of a chunk, links): the chunks go through the batch image by image, where hardly smaller ones do; much
    smaller ones where the bytes of weights, which they read more often, are near.
    """
    even = divisor(tiles, block_tiles)
    if images > 1 and (2 * even > block_tiles or (2 * even > tiles and 2 * weights <= target.cache)):
        return even, images
    return block_tiles, 0


def matrix_plan(
    target: Target, images: int, groups: int, in_channels: int, height: int, width: int, out_channels: int,
    row_offsets: Sequence[int], column_offsets: Sequence[int], source_taps: Sequence[int], all_taps: int, stride: tuple[int, int],
    rows: int, columns: int, y_strides: tuple[int, int, int, int], transposed: bool, expression: Any, operands: tuple[str, ...],
) -> ConvPlan:  # fmt: skip
    """The arguments are those of `conv_shapes._direct`; there is a tap."""
    lanes, streamed = target.lanes, _STREAMED * target.pace.shared
    in_blocks, out_blocks, taps = divide(in_channels, lanes), divide(out_channels, lanes), len(row_offsets)
    y_image, y_block, y_row, y_pixel = y_strides
    x_row = width * lanes
    x_block = height * x_row
    entries = in_blocks * taps
    # Lines of outputs without gaps, in themselves and in what they meet.
    lines, line, out_row = rows, columns, stride[0] * x_row
    whole = stride == (1, 1) and columns == width and not any(column_offsets) and y_row == columns * y_pixel
    if whole or rows == 1:
        lines, line = 1, rows * columns
    full = math.prod(register_tile(target, rows * columns, out_blocks))
    flat = min(row_offsets) >= 0 and (rows - 1) * stride[0] + max(row_offsets) < height
    flat = flat and min(column_offsets) >= 0 and (columns - 1) * stride[1] + max(column_offsets) < width
    flat = flat and math.prod(register_tile(target, line, out_blocks)) >= _SHORT * full
    form, tables = "flat", {}
    if not flat:
        form = "matrix" if y_row == columns * y_pixel else "scattered"
        lines, line, out_row = 1, rows * columns, 0
    pixels, vectors = register_tile(target, line, out_blocks)
    tiles = divide(line, pixels)
    units = out_blocks // vectors + out_blocks % vectors
    most_depth = max(1, int(target.cache * _WEIGHTS) // (4 * vectors * lanes * lanes))
    depth = divide(entries, divide(entries, most_depth))
    tile_bytes = 4 * pixels * lanes * (entries if flat else depth)
    channels = entries * lanes
    block_tiles, chunk_panels = blocking(
        images * lines * tiles, max(1, int(target.cache * _INPUT) // tile_bytes), units, groups,
        pixels * vectors * channels / _PRODUCTS, 4 * pixels * channels / (streamed if flat else _COPIED),
        4 * vectors * lanes * channels / streamed, target.workers,
    )  # fmt: skip
    weights = 4 * channels * groups * out_blocks * lanes
    most = min(int(_MORE * tiles), (line - 1) // max(1, pixels - 1))
    for more in range(tiles, max(tiles, most) + 1):
        even, links = by_image(target, images, lines * more, block_tiles, weights)
        if links:
            tiles, block_tiles = more, even
            break
    tall = line - tiles * (pixels - 1)
    head = (1 + len(operands)) * vectors * lanes
    panel_chunks = divide(units, chunk_panels)
    reached = [
        (block * x_block + c * lanes, r, c)
        for block in range(in_blocks)
        for r, c in zip(row_offsets, column_offsets, strict=True)
    ]
    if flat:
        tables["taps"] = np.array([at + r * x_row for at, r, _ in reached], np.int64)
    else:
        tables["taps"] = np.array(reached, np.int64).reshape(-1)
    if form == "scattered":
        places = np.arange(rows)[:, None] * y_row + np.arange(columns) * y_pixel
        tables["places"] = places.astype(np.int64).reshape(-1)
    arguments = {
        "pixels": pixels, "panel": vectors, "head": head,
        "panel_chunks": panel_chunks, "groups": groups, "row_blocks": 1, "chunk_panels": chunk_panels, "block_rows": 1,
        "channels": groups * out_channels, "out_blocks": out_blocks, "in_blocks": in_blocks, "tap_count": taps,
        "last_channels": min(lanes, divide(in_channels - (in_blocks - 1) * lanes, 4) * 4), "depth_blocks": depth,
        "rows": lines, "tiles": tiles, "tall": tall,
        "x_image": groups * in_blocks * x_block, "x_block": x_block, "x_row": x_row, "height": height, "in_width": width,
        "row_first": 0, "row_stride": stride[0], "row_step": 1, "pack_rows": 0,
        "column_first": 0, "copy_step": 1, "copies": 1, "pixel_step": stride[1], "pack_width": columns, "out_row": out_row,
        "y_image": y_image, "y_block": y_block, "y_row": y_row, "y_pixel": y_pixel,
        "all_tiles": images * lines * tiles, "block_tiles": block_tiles, **({} if form == "scattered" else {"places": 0}),
        **in_plane(in_blocks),
    }  # fmt: skip
    parameters = (
        ("pixels", pixels), ("vectors", vectors), ("uneven", tall < tiles), ("tail", out_blocks % vectors != 0),
        ("form", form), ("masked", groups * out_channels % lanes != 0),
        ("expression", expression), ("operands", tuple(operands)),
        *([("apart", stride[1])] if flat else []),
    )  # fmt: skip
    chunks = groups * panel_chunks * divide(images * lines * tiles, block_tiles)
    scratch = head + (0 if flat else block_tiles * depth * pixels * lanes)
    step = KernelPlan(Kernel("conv_direct", parameters), arguments, tables, chunks, scratch, links)
    weights = PackedWeights(
        groups, out_channels, in_channels, tuple(source_taps), all_taps, vectors, lanes, False, transposed
    )
    return ConvPlan(step, weights)
