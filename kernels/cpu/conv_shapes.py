"""From the shape of a convolution to kernels' parameters, integer arguments, tables, chunks and scratch.

Pure Python and NumPy: a plan is made without Numba. A plan names every integer argument of its kernel; whoever builds
the argument block adds the addresses of the buffers (`x`, `w`, `bias`, `y`, the operands a0, a1, ...) and of the plan's
tables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import Kernel
from .conv_arguments import (
    DIRECT_ARGUMENTS,
    PACK_ARGUMENTS,
    PIXEL_WEIGHT_GRADIENT_ARGUMENTS,
    PLAIN_ARGUMENTS,
    PLAIN_WEIGHT_GRADIENT_ARGUMENTS,
    WEIGHT_GRADIENT_ARGUMENTS,
    ConvPlan,
    KernelPlan,
    PackedWeights,
    Padding,
    Pair,
    divide,
    form_of,
    in_plane,
    output_size,
    pack_plan,
    register_tile,
)  # fmt: skip
from .conv_shapes_gradient import plain_plan, weight_gradient_plan
from .conv_shapes_matrix import matrix_plan
from .conv_shapes_rows import reading_of
from .conv_shapes_spread import groups_plan
from .target import Target

__all__ = [
    "DIRECT_ARGUMENTS", "PACK_ARGUMENTS", "PIXEL_WEIGHT_GRADIENT_ARGUMENTS", "PLAIN_ARGUMENTS", "PLAIN_WEIGHT_GRADIENT_ARGUMENTS",
    "WEIGHT_GRADIENT_ARGUMENTS", "ConvPlan", "KernelPlan", "PackedWeights", "Parity", "data_gradient_plans", "direct_plan", "form_of",
    "output_size", "pack_plan", "plain_plan", "register_tile", "weight_gradient_plan",
]  # fmt: skip


# What the cost model assumes of a core; only ratios matter. Bytes and operations per microsecond, and the cost of one
# chunk in microseconds.
_FLOPS, _COPIED, _STREAMED, _CHUNK = 200e3, 10e3, 30e3, 0.5
# Rows too short for the tile are joined by a copy of the input for every tap, where so many blocks of filters read it.
_AGAIN = 8
# Parts of the caches: of the first, for one panel's weights between two visits of y; of the second, for copied rows.
_WEIGHTS, _ROWS = 0.75, 0.5


def _blocking(
    images: int,
    rows: int,
    units: int,
    groups: int,
    flops: float,
    copied: float,
    halo: float,
    weights: float,
    near: float,
    streamed: float,
    shared: Sequence[int],
) -> tuple[int, int]:
    """(output rows, panels) of a chunk: the least estimated time, summed over `shared`, numbers of workers.

    `flops`, `copied` and `weights` are operations of one row and panel, bytes copied for one input row, and bytes of
    one panel's weights. Small chunks balance better, but repeat the copying of `halo` rows and the reading of weights;
    copies of more than `near` bytes are read from afar for every panel, `streamed` bytes a microsecond. Any
    choice gives the same bits.
    """
    best, choice = math.inf, (rows, units)
    row_choices = sorted({divide(rows, parts) for parts in range(1, min(rows, 64) + 1)}, reverse=True)
    unit_choices = sorted({divide(units, parts) for parts in range(1, min(units, 64) + 1)}, reverse=True)
    for block in row_choices:
        size = (block + halo) * copied
        again = 0 if size <= near else size / streamed
        for part in unit_choices:
            chunks = images * groups * divide(rows, block) * divide(units, part)
            time = _CHUNK + block * part * flops / _FLOPS + size / _COPIED + part * (weights / streamed + again)
            estimate = sum(divide(chunks, workers) * workers * time for workers in shared)
            if estimate < best:
                best, choice = estimate, (block, part)
    return choice


def _direct(
    target: Target, images: int, groups: int, in_channels: int, height: int, width: int, out_channels: int,
    row_offsets: Sequence[int], column_offsets: Sequence[int], source_taps: Sequence[int], all_taps: int, stride: tuple[int, int],
    rows: int, columns: int, y_origin_strides: tuple[int, int, int, int], form: str, transposed: bool, expression: Any,
    operands: tuple[str, ...],
) -> ConvPlan:  # fmt: skip
    """The general form: output (r, c) sums input (stride * r + row_offsets[t], stride * c + column_offsets[t]) over the
    taps t.

    Channels are those of one group; strides of y are (image, block, row, pixel) in floats. `form` is "blocked", "plain" or
    "banded".
    """
    lanes = target.lanes
    step = 1 if form == "plain" else lanes
    depth = lanes if form == "blocked" else 1
    channels = groups * out_channels
    in_blocks = divide(in_channels, depth)
    out_blocks = divide(out_channels, lanes)
    taps = len(row_offsets)
    y_image, y_block, y_row, y_pixel = y_origin_strides
    x_row = width * step
    x_block = height * x_row
    full_tile, tile = (
        register_tile(target, rows * columns, out_blocks)[0],
        register_tile(target, columns, out_blocks)[0],
    )
    short = 4 * tile < 3 * full_tile
    if form == "banded":
        return groups_plan(
            target, images, groups, in_channels, height, width, out_channels, row_offsets, column_offsets, source_taps, all_taps,
            stride, rows, columns, y_origin_strides, transposed, expression, operands,
        )  # fmt: skip
    if form == "blocked" and (taps == 1 or (taps > 1 and short and out_channels >= _AGAIN * lanes)):
        return matrix_plan(
            target, images, groups, in_channels, height, width, out_channels, row_offsets, column_offsets, source_taps, all_taps,
            stride, rows, columns, y_origin_strides, transposed, expression, operands,
        )  # fmt: skip
    flat = taps == 1 and (row_offsets[0], column_offsets[0]) == (0, 0) and stride == (1, 1) and rows > 1
    flat = flat and rows == height and columns == width
    if flat and y_row == columns * y_pixel and register_tile(target, columns, out_blocks)[0] < 10:
        height, width, rows, columns, y_row = 1, height * width, 1, rows * columns, y_row * rows
        x_row = x_block
    reading = reading_of(row_offsets, column_offsets, stride, height, width, rows, columns)
    pixels, vectors = register_tile(target, columns, out_blocks)

    panel_bytes = in_blocks * taps * depth * vectors * lanes * 4
    units = out_blocks // vectors + out_blocks % vectors
    flops = 2.0 * columns * vectors * lanes * in_blocks * depth * taps
    block_rows, chunk_panels = _blocking(
        images, rows, units, groups, flops, in_blocks * step * 4 * reading.copied, reading.halo, panel_bytes,
        target.cache * _ROWS, _STREAMED * target.pace.shared, target.workers,
    )  # fmt: skip
    placed = reading.placed(block_rows, x_row, x_block, step)
    table = (
        np.arange(in_blocks, dtype=np.int64)[:, None] * placed.block + np.array(placed.offsets, np.int64)[None, :]
    ).reshape(-1)
    tiles = divide(columns, pixels)
    row_blocks, panel_chunks = divide(rows, block_rows), divide(units, chunk_panels)
    tall = columns - tiles * (pixels - 1)
    head = (1 + len(operands)) * vectors * lanes
    arguments = {
        "pixels": pixels, "panel": vectors, "head": head,
        "panel_chunks": panel_chunks, "groups": groups, "row_blocks": row_blocks, "chunk_panels": chunk_panels, "block_rows": block_rows,
        "channels": channels, "out_blocks": out_blocks, "in_blocks": in_blocks, "tap_count": taps,
        "last_channels": min(depth, divide(in_channels - (in_blocks - 1) * depth, 4) * 4),
        "depth_blocks": max(1, int(target.near * _WEIGHTS) * in_blocks // panel_bytes) if taps else in_blocks,
        "rows": rows, "tiles": tiles, "tall": tall,
        "x_image": groups * in_blocks * x_block, "x_block": x_block, "x_row": x_row, "height": height, "in_width": width,
        **placed.arguments,
        "y_image": y_image, "y_block": y_block, "y_row": y_row, "y_pixel": y_pixel,
        "all_tiles": 0, "block_tiles": 0, "places": 0, **in_plane(in_blocks),
    }  # fmt: skip
    parameters = (
        ("pixels", pixels), ("vectors", vectors), ("uneven", tall < tiles), ("tail", out_blocks % vectors != 0), ("form", form),
        ("masked", channels % lanes != 0), ("expression", expression), ("operands", tuple(operands)),
    )  # fmt: skip
    scratch = head + (0 if reading.in_place else in_blocks * placed.block)
    step_plan = KernelPlan(
        Kernel("conv_direct", parameters),
        arguments,
        {"taps": table},
        images * row_blocks * groups * panel_chunks,
        scratch,
        images,
    )
    weights = PackedWeights(
        groups, out_channels, in_channels, tuple(source_taps), all_taps, vectors, lanes, depth == 1, transposed
    )
    return ConvPlan(step_plan, weights)


def direct_plan(
    target: Target, images: int, channels: int, height: int, width: int, filters: int, kernel: Pair, stride: Pair = (1, 1),
    padding: Padding = ((0, 0), (0, 0)), dilation: Pair = (1, 1), groups: int = 1, plain: bool = False, expression: Any = None,
    operands: tuple[str, ...] = (),
) -> ConvPlan:  # fmt: skip
    """The forward convolution [N, C, H, W] -> [N, K, OH, OW], both blocked (x plain nchw with `plain`).

    Padding is ((top, bottom), (left, right)) and may be negative. ValueError for groups that `form_of` does not know.
    `expression` is applied to `y`, and to a0, a1, ... whose kinds are `operands`: "full", a tensor like y,
    "channel", a vector of K floats, or "scalar".
    """
    form = form_of(target, channels, filters, groups, plain)
    rows = output_size(height, kernel[0], stride[0], padding[0], dilation[0])
    columns = output_size(width, kernel[1], stride[1], padding[1], dilation[1])
    if rows < 1 or columns < 1:
        raise ValueError(f"kernel {kernel} exceeds the padded input {height}x{width}")
    taps = [(i, j) for i in range(kernel[0]) for j in range(kernel[1])]
    lanes = target.lanes
    y_block = rows * columns * lanes
    return _direct(
        target, images, groups, channels // groups, height, width, filters // groups,
        [i * dilation[0] - padding[0][0] for i, _ in taps], [j * dilation[1] - padding[1][0] for _, j in taps],
        range(len(taps)), len(taps), stride, rows, columns,
        (divide(filters, lanes) * y_block, y_block, columns * lanes, lanes), form, False, expression, operands,
    )  # fmt: skip


@dataclass(frozen=True)
class Parity:
    """One step of a data gradient and the offset in floats, to be added to the addresses of y and of the full operands."""

    plan: ConvPlan
    offset: int


def data_gradient_plans(
    target: Target, images: int, channels: int, height: int, width: int, filters: int, kernel: Pair, stride: Pair = (1, 1),
    padding: Padding = ((0, 0), (0, 0)), dilation: Pair = (1, 1), groups: int = 1, expression: Any = None, operands: tuple[str, ...] = (),
) -> list[Parity]:  # fmt: skip
    """The gradient of the input: dy (as `x`) [N, K, OH, OW] -> dx (as `y`) [N, C, H, W], both blocked. The arguments
    are the convolution's.

    dx[i] = sum over taps k with (i + pad - dilation k) divisible by the stride of dy[(i + pad - dilation k) / stride]
    w[k]: for each residue of i modulo the stride a convolution of stride 1 with some of the taps. The steps write
    disjoint parts and may run in any order.
    """
    form = form_of(target, channels, filters, groups, False)
    rows = output_size(height, kernel[0], stride[0], padding[0], dilation[0])
    columns = output_size(width, kernel[1], stride[1], padding[1], dilation[1])
    lanes = target.lanes
    y_block = height * width * lanes
    plans = []
    for first_row in range(min(stride[0], height)):
        tall = [(i, first_row + padding[0][0] - i * dilation[0]) for i in range(kernel[0])]
        tall = [(i, offset // stride[0]) for i, offset in tall if offset % stride[0] == 0]
        for first_column in range(min(stride[1], width)):
            wide = [(j, first_column + padding[1][0] - j * dilation[1]) for j in range(kernel[1])]
            wide = [(j, offset // stride[1]) for j, offset in wide if offset % stride[1] == 0]
            taps = [(i * kernel[1] + j, r, c) for i, r in tall for j, c in wide]
            plan = _direct(
                target, images, groups, filters // groups, rows, columns, channels // groups,
                [r for _, r, _ in taps], [c for _, _, c in taps], [t for t, _, _ in taps], kernel[0] * kernel[1], (1, 1),
                divide(height - first_row, stride[0]), divide(width - first_column, stride[1]),
                (divide(channels, lanes) * y_block, y_block, stride[0] * width * lanes, stride[1] * lanes),
                form, True, expression, operands,
            )  # fmt: skip
            plans.append(Parity(plan, (first_row * width + first_column) * lanes))
    return plans
