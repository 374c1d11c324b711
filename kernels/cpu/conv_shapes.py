"""From the shape of a convolution to kernels' parameters, integer arguments, tables, chunks and scratch.

Pure Python and NumPy: a plan is made without Numba. A plan names every integer argument of its kernel; whoever builds the argument block adds
the addresses of the buffers (`x`, `w`, `bias`, `y`, the operands a0, a1, ...) and of the plan's tables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import Kernel
from .target import Target

# Buffers: x, w (packed), bias (0: none), y, taps (table), then the operands after the last name.
# chunk = ((image * row_blocks + row block) * groups + group) * panel_chunks + part of the group's panels
DIRECT_ARGUMENTS = (
    "x", "w", "bias", "y", "taps",
    "pixels", "panel", "head",  # of the tile: pixels, output blocks; floats of channel vectors before the copied rows in scratch
    "panel_chunks", "groups", "row_blocks", "chunk_panels", "block_rows",
    "channels", "out_blocks",  # outputs that exist, in all; output blocks of a group
    "in_blocks", "tap_count", "depth_blocks",  # of a group; input blocks (plain: channels) between two visits of y
    "rows", "tiles", "tall",  # output rows; column tiles, of which the first `tall` have all pixels, the others one less
    "x_image", "x_block", "x_row", "height", "in_width",  # strides in floats; size of the input
    "row_first", "row_stride", "row_step", "pack_rows",  # copied input rows: row_first + row_stride * output row + row_step * j
    "column_first", "copy_step", "copies", "pixel_step", "pack_width",  # copied columns: column_first + copy_step * copy + pixel_step * q
    "out_row",  # floats from one output row to the next in what the tile reads
    "y_image", "y_block", "y_row", "y_pixel",  # strides in floats
)  # fmt: skip
PACK_ARGUMENTS = (
    "source", "packed", "source_taps",
    "units", "panel", "out_blocks", "in_blocks", "tap_count", "out_channels", "in_channels",
    "group_stride", "out_stride", "in_stride",
)  # fmt: skip
# Buffers: x, dy, dw (oihw), taps: pairs (row offset, column offset) in pixels.
# chunk = ((group * units + unit of output blocks) * in_blocks + input block) * tap_chunks + part of the taps
WEIGHT_GRADIENT_ARGUMENTS = (
    "x", "dy", "dw", "taps",
    "images", "in_blocks", "out_blocks", "in_channels", "out_channels", "tap_count", "tap_chunks", "chunk_taps",  # of a group
    "height", "width", "rows", "columns", "block_rows", "row_stride", "column_stride",
    "x_image", "x_block", "dy_image", "dy_block",
)  # fmt: skip
# Buffers: x (nchw), dy (blocked), dw. chunk = (unit of output blocks * channels + channel) * tap_chunks + part of the kernel's rows
PLAIN_WEIGHT_GRADIENT_ARGUMENTS = (
    "x", "dy", "dw",
    "images", "channels", "out_blocks", "out_channels", "kernel_rows", "tap_chunks", "chunk_taps",
    "height", "width", "top", "left", "rows", "columns", "block_rows", "pitch", "row_stride", "column_stride", "row_dilation",
    "dy_image", "dy_block",
)  # fmt: skip
# Buffers: forward x, w, bias, y; data gradient dy as `x`, w, dx as `y`; weight gradient x, dw as `w`, dy as `y`; then operands. Sizes are those
# of the convolution in all three. chunk = image * filters + filter; image * channels + channel; filter * channels of a group + channel
PLAIN_ARGUMENTS = (
    "x", "w", "bias", "y",
    "images", "channels", "filters", "groups", "depth", "height", "width", "out_depth", "out_rows", "out_columns",
    "kernel_depth", "kernel_rows", "kernel_columns", "depth_stride", "row_stride", "column_stride", "front", "top", "left",
    "depth_dilation", "row_dilation", "column_dilation",
)  # fmt: skip


@dataclass(frozen=True)
class KernelPlan:
    """One step: the kernel, its integer arguments by name, its tables of int64 by argument name, chunks, and floats of scratch."""

    kernel: Kernel
    arguments: dict[str, int]
    tables: dict[str, Any] = field(default_factory=dict)
    chunks: int = 1
    scratch: int = 0


@dataclass(frozen=True)
class PackedWeights:
    """How `conv_direct` wants its weights: [group][panel of output blocks][input block][tap][KI][panel * lanes].

    Out and in are those of the kernel that reads them: in a data gradient the convolution's outputs are the inputs. `source_taps` are indices
    into the kh * kw taps of the oihw source. Tail blocks that fill no panel follow, each a panel of its own.
    """

    groups: int
    out_channels: int  # of one group
    in_channels: int
    source_taps: tuple[int, ...]
    all_taps: int
    panel: int
    lanes: int
    plain: bool
    transposed: bool  # the roles of in and out are swapped

    @property
    def out_blocks(self) -> int:
        return -(-self.out_channels // self.lanes)

    @property
    def in_blocks(self) -> int:
        return self.in_channels if self.plain else -(-self.in_channels // self.lanes)

    @property
    def depth(self) -> int:
        """KI: input channels per block."""
        return 1 if self.plain else self.lanes

    @property
    def floats(self) -> int:
        return self.groups * self.out_blocks * self.lanes * self.in_blocks * self.depth * len(self.source_taps)


def pack_plan(weights: PackedWeights) -> KernelPlan:
    """The step that packs oihw weights (`source`) into the buffer `packed`."""
    size = weights.all_taps
    out_stride, in_stride = weights.in_channels * size, size
    if weights.transposed:
        out_stride, in_stride = size, weights.out_channels * size
    units = weights.out_blocks // weights.panel + weights.out_blocks % weights.panel
    arguments = {
        "units": units, "panel": weights.panel, "out_blocks": weights.out_blocks, "in_blocks": weights.in_blocks,
        "tap_count": len(weights.source_taps), "out_channels": weights.out_channels, "in_channels": weights.in_channels,
        "group_stride": weights.out_channels * weights.in_channels * size, "out_stride": out_stride, "in_stride": in_stride,
    }  # fmt: skip
    kernel = Kernel("conv_pack_weights", (("plain", weights.plain),))
    return KernelPlan(kernel, arguments, {"source_taps": np.array(weights.source_taps, np.int64)}, weights.groups * units)


@dataclass(frozen=True)
class ConvPlan:
    """A step of `conv_direct`, with the packing of its weights."""

    step: KernelPlan
    weights: PackedWeights


def register_tile(target: Target, width: int, blocks: int) -> tuple[int, int]:
    """(pixels, vectors) of the register tile for rows of `width` outputs and `blocks` output blocks in a group.

    A tile of P x V needs P * V accumulators, V weights and one broadcast; without fused multiply-add, products besides. Rows are cut into tiles
    of P and P - 1.
    """
    vectors = min(2, blocks)
    sums = 28 if target.registers == 32 else 12 if target.fma else 10
    tiles = -(-width // (sums // vectors))
    return -(-width // tiles), vectors


def _divide(count: int, parts: int) -> int:
    return -(-count // parts)


# What the cost model assumes of a core; only ratios matter. Bytes and operations per microsecond, and the cost of one chunk in microseconds.
_FLOPS, _COPIED, _STREAMED, _CHUNK = 200e3, 10e3, 30e3, 0.5
# Images of at most so many pixels have short rows joined.
_JOINED = 400
# Bytes of one panel's weights between two visits of y: they stay close while the chunk's rows go by.
_NEAR = 192 * 1024


def _blocking(images: int, rows: int, units: int, groups: int, flops: float, copied: float, halo: float, weights: float) -> tuple[int, int]:
    """(output rows, panels) of a chunk: the least estimated time, averaged over 2 and 8 workers.

    `flops`, `copied` and `weights` are operations of one row and panel, bytes copied for one input row, and bytes of one panel's weights. Small
    chunks balance better, but repeat the copying of `halo` rows and the reading of weights. The choice follows the problem alone.
    """
    best, choice = math.inf, (rows, units)
    row_choices = sorted({_divide(rows, parts) for parts in range(1, min(rows, 64) + 1)}, reverse=True)
    unit_choices = sorted({_divide(units, parts) for parts in range(1, min(units, 64) + 1)}, reverse=True)
    for block in row_choices:
        for part in unit_choices:
            chunks = images * groups * _divide(rows, block) * _divide(units, part)
            time = _CHUNK + block * part * flops / _FLOPS + (block + halo) * copied / _COPIED + part * weights / _STREAMED
            estimate = sum(_divide(chunks, workers) * workers * time for workers in (2, 8))
            if estimate < best:
                best, choice = estimate, (block, part)
    return choice


def _direct(
    target: Target, images: int, groups: int, in_channels: int, height: int, width: int, out_channels: int,
    row_offsets: Sequence[int], column_offsets: Sequence[int], source_taps: Sequence[int], all_taps: int, stride: tuple[int, int],
    rows: int, columns: int, y_origin_strides: tuple[int, int, int, int], plain: bool, transposed: bool, expression: Any,
    operands: tuple[str, ...],
) -> ConvPlan:  # fmt: skip
    """The general form: output (r, c) sums input (stride * r + row_offsets[t], stride * c + column_offsets[t]) over the taps t.

    Channels are those of one group; strides of y are (image, block, row, pixel) in floats.
    """
    lanes = target.lanes
    step = 1 if plain else lanes
    depth = 1 if plain else lanes
    in_blocks = in_channels if plain else _divide(in_channels, lanes)
    out_blocks = _divide(out_channels, lanes)
    taps = len(row_offsets)
    x_row = width * step
    x_block = height * x_row
    row_first, row_last = (min(row_offsets), max(row_offsets)) if taps else (0, 0)
    column_first, column_last = (min(column_offsets), max(column_offsets)) if taps else (0, 0)
    last_row, last_column = (rows - 1) * stride[0] + row_last, (columns - 1) * stride[1] + column_last
    inside = row_first >= 0 and column_first >= 0 and last_row < height and last_column < width
    in_place = not taps or (stride[1] == 1 and inside)
    flat = in_place and taps == 1 and stride == (1, 1) and rows == height and columns == width and rows > 1
    y_image, y_block, y_row, y_pixel = y_origin_strides
    if flat and y_row == columns * y_pixel and register_tile(target, columns, out_blocks)[0] < 10:
        return _direct(
            target, images, groups, in_channels, 1, height * width, out_channels, [0], [0], source_taps, all_taps, stride,
            1, rows * columns, (y_image, y_block, y_row * rows, y_pixel), plain, transposed, expression, operands,
        )  # fmt: skip
    copy_step = math.gcd(stride[1], *(c - column_first for c in column_offsets))
    row_step = math.gcd(stride[0], *(r - row_first for r in row_offsets))
    span = (column_last - column_first) // copy_step
    # Rows that are too short for the tile are joined: a copy for every column offset makes the pixels of successive rows neighbors.
    joined = not in_place and row_step == stride[0] and 1 < rows and rows * columns <= _JOINED and y_row == columns * y_pixel
    joined = joined and register_tile(target, columns, out_blocks)[0] < 10 and target.registers == 32
    copies = span + 1 if joined else stride[1] // copy_step
    pack_width = columns if joined else columns + span // copies
    tile_columns, tile_rows = (rows * columns, 1) if joined else (columns, rows)
    pixels, vectors = register_tile(target, tile_columns, out_blocks)
    row_span, row_advance = (row_last - row_first) // row_step + 1, stride[0] // row_step

    panel_bytes = in_blocks * taps * depth * vectors * lanes * 4
    units = out_blocks // vectors + out_blocks % vectors
    flops = 2.0 * tile_columns * vectors * lanes * in_blocks * depth * taps
    copied = 0 if in_place else in_blocks * copies * pack_width * step * 4 * row_advance * (rows if joined else 1)
    halo = max(row_span - row_advance, 0) / row_advance / (rows if joined else 1)
    block_rows, chunk_panels = _blocking(images, tile_rows, units, groups, flops, copied, halo, panel_bytes)
    if in_place:
        pack_rows = 0
        block_stride, out_row = x_block, stride[0] * x_row
        offsets = [r * x_row + c * step for r, c in zip(row_offsets, column_offsets, strict=True)]
    else:
        pack_rows = ((rows if joined else block_rows) - 1) * row_advance + row_span
        out_row = row_advance * pack_width * step
        copy_stride = pack_rows * pack_width * step
        block_stride = copies * copy_stride
        offsets = []
        for r, c in zip(row_offsets, column_offsets, strict=True):
            column = (c - column_first) // copy_step
            place = (r - row_first) // row_step * pack_width * step + column % copies * copy_stride
            offsets.append(place + (0 if joined else column // copies * step))
    table = (np.arange(in_blocks, dtype=np.int64)[:, None] * block_stride + np.array(offsets, np.int64)[None, :]).reshape(-1)
    tiles = _divide(tile_columns, pixels)
    row_blocks, panel_chunks = _divide(tile_rows, block_rows), _divide(units, chunk_panels)
    tall = tile_columns - tiles * (pixels - 1)
    head = (1 + len(operands)) * vectors * lanes
    arguments = {
        "pixels": pixels, "panel": vectors, "head": head,
        "panel_chunks": panel_chunks, "groups": groups, "row_blocks": row_blocks, "chunk_panels": chunk_panels, "block_rows": block_rows,
        "channels": groups * out_channels, "out_blocks": out_blocks, "in_blocks": in_blocks, "tap_count": taps,
        "depth_blocks": max(1, _NEAR * in_blocks // panel_bytes) if taps else in_blocks,
        "rows": tile_rows, "tiles": tiles, "tall": tall,
        "x_image": groups * in_blocks * x_block, "x_block": x_block, "x_row": x_row, "height": height, "in_width": width,
        "row_first": row_first, "row_stride": stride[0], "row_step": row_step, "pack_rows": pack_rows,
        "column_first": column_first, "copy_step": copy_step, "copies": copies, "pixel_step": stride[1], "pack_width": pack_width,
        "out_row": out_row,
        "y_image": y_image, "y_block": y_block, "y_row": y_row, "y_pixel": y_pixel,
    }  # fmt: skip
    parameters = (
        ("pixels", pixels), ("vectors", vectors), ("uneven", tall < tiles), ("tail", out_blocks % vectors != 0), ("plain", plain),
        ("expression", expression), ("operands", tuple(operands)),
    )  # fmt: skip
    scratch = head + in_blocks * copies * pack_rows * pack_width * step
    step_plan = KernelPlan(
        Kernel("conv_direct", parameters), arguments, {"taps": table}, images * row_blocks * groups * panel_chunks, scratch
    )
    packed = PackedWeights(groups, out_channels, in_channels, tuple(source_taps), all_taps, vectors, lanes, plain, transposed)
    return ConvPlan(step_plan, packed)


def output_size(size: int, kernel: int, stride: int, padding: tuple[int, int], dilation: int) -> int:
    """The number of outputs along an axis."""
    return (size + sum(padding) - dilation * (kernel - 1) - 1) // stride + 1


Pair = tuple[int, int]
Padding = tuple[Pair, Pair]


def direct_plan(
    target: Target, images: int, channels: int, height: int, width: int, filters: int, kernel: Pair, stride: Pair = (1, 1),
    padding: Padding = ((0, 0), (0, 0)), dilation: Pair = (1, 1), groups: int = 1, plain: bool = False, expression: Any = None,
    operands: tuple[str, ...] = (),
) -> ConvPlan:  # fmt: skip
    """The forward convolution [N, C, H, W] -> [N, K, OH, OW], both blocked (x plain nchw with `plain`).

    Padding is ((top, bottom), (left, right)) and may be negative. With groups, C / groups and K / groups must be multiples of the lanes, and
    `plain` is not possible; ValueError otherwise. `expression` is applied to `y`, and to a0, a1, ... whose kinds are `operands`: "full", a
    tensor like y, or "channel", a vector of K floats.
    """
    _check_groups(target, channels, filters, groups, plain)
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
        (groups * _divide(filters // groups, lanes) * y_block, y_block, columns * lanes, lanes), plain, False, expression, operands,
    )  # fmt: skip


def _check_groups(target: Target, channels: int, filters: int, groups: int, plain: bool) -> None:
    if channels % groups or filters % groups:
        raise ValueError(f"{channels} and {filters} channels do not divide into {groups} groups")
    if groups > 1 and (plain or channels // groups % target.lanes or filters // groups % target.lanes):
        raise ValueError(f"groups of {channels // groups} and {filters // groups} channels are not whole blocks of {target.lanes}")


@dataclass(frozen=True)
class Parity:
    """One step of a data gradient and the offset in floats, to be added to the addresses of y and of the full operands."""

    plan: ConvPlan
    offset: int


def data_gradient_plans(
    target: Target, images: int, channels: int, height: int, width: int, filters: int, kernel: Pair, stride: Pair = (1, 1),
    padding: Padding = ((0, 0), (0, 0)), dilation: Pair = (1, 1), groups: int = 1, expression: Any = None, operands: tuple[str, ...] = (),
) -> list[Parity]:  # fmt: skip
    """The gradient of the input: dy (as `x`) [N, K, OH, OW] -> dx (as `y`) [N, C, H, W], both blocked. The arguments are the convolution's.

    dx[i] = sum over taps k with (i + pad - dilation k) divisible by the stride of dy[(i + pad - dilation k) / stride] w[k]: for each residue
    of i modulo the stride a convolution of stride 1 with some of the taps. The steps write disjoint parts and may run in any order.
    """
    _check_groups(target, channels, filters, groups, False)
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
                _divide(height - first_row, stride[0]), _divide(width - first_column, stride[1]),
                (groups * _divide(channels // groups, lanes) * y_block, y_block, stride[0] * width * lanes, stride[1] * lanes),
                False, True, expression, operands,
            )  # fmt: skip
            plans.append(Parity(plan, (first_row * width + first_column) * lanes))
    return plans


# Bytes of x and dy that a pass over one tap may touch: what fits the first level cache beside the sums.
_ROWS_NEAR = 24 * 1024
_FEW_CHUNKS = 8


def weight_gradient_plan(
    target: Target, images: int, channels: int, height: int, width: int, filters: int, kernel: Pair, stride: Pair = (1, 1),
    padding: Padding = ((0, 0), (0, 0)), dilation: Pair = (1, 1), groups: int = 1, plain: bool = False,
) -> KernelPlan:  # fmt: skip
    """The gradient of the weights: x [N, C, H, W], dy [N, K, OH, OW] -> dw [K, C / groups, kh, kw]. Both blocked, or x plain with `plain`."""
    _check_groups(target, channels, filters, groups, plain)
    lanes = target.lanes
    rows = output_size(height, kernel[0], stride[0], padding[0], dilation[0])
    columns = output_size(width, kernel[1], stride[1], padding[1], dilation[1])
    in_channels, out_channels = channels // groups, filters // groups
    out_blocks = _divide(out_channels, lanes)
    vectors = min(2, out_blocks)
    if plain and kernel[1] * vectors > target.registers - vectors - 2:
        vectors = 1
    units = out_blocks // vectors + out_blocks % vectors
    dy_block = rows * columns * lanes
    dy_image = groups * out_blocks * dy_block
    line = columns * (vectors * lanes + (stride[1] if plain else stride[0] * stride[1] * lanes)) * 4
    block_rows = max(1, min(rows, _ROWS_NEAR // line))
    if rows * line <= 2 * _ROWS_NEAR:
        block_rows = rows
    if plain:
        parts = min(kernel[0], _divide(_FEW_CHUNKS, units * channels))
        chunk_taps = _divide(kernel[0], parts)
        pitch = _round_up((columns - 1) * stride[1] + (kernel[1] - 1) * dilation[1] + 1, lanes)
        lines = (block_rows - 1) * stride[0] + (chunk_taps - 1) * dilation[0] + 1
        arguments = {
            "images": images, "channels": channels, "out_blocks": out_blocks, "out_channels": filters, "kernel_rows": kernel[0],
            "tap_chunks": _divide(kernel[0], chunk_taps), "chunk_taps": chunk_taps, "height": height, "width": width,
            "top": padding[0][0], "left": padding[1][0], "rows": rows, "columns": columns, "block_rows": block_rows, "pitch": pitch,
            "row_stride": stride[0], "column_stride": stride[1], "row_dilation": dilation[0], "dy_image": dy_image, "dy_block": dy_block,
        }  # fmt: skip
        parameters = (("vectors", vectors), ("taps", kernel[1]), ("dilation", dilation[1]))
        scratch = chunk_taps * kernel[1] * vectors * lanes + lines * pitch + lanes
        step = Kernel("conv_weight_gradient_nchw", parameters)
        return KernelPlan(step, arguments, {}, units * channels * arguments["tap_chunks"], scratch)
    taps = kernel[0] * kernel[1]
    in_blocks = _divide(in_channels, lanes)
    parts = min(taps, _divide(_FEW_CHUNKS, groups * units * in_blocks))
    chunk_taps = _divide(taps, parts)
    offsets = [(i * dilation[0] - padding[0][0], j * dilation[1] - padding[1][0]) for i in range(kernel[0]) for j in range(kernel[1])]
    x_block = height * width * lanes
    arguments = {
        "images": images, "in_blocks": in_blocks, "out_blocks": out_blocks, "in_channels": in_channels, "out_channels": out_channels,
        "tap_count": taps, "tap_chunks": _divide(taps, chunk_taps), "chunk_taps": chunk_taps, "height": height, "width": width,
        "rows": rows, "columns": columns, "block_rows": block_rows, "row_stride": stride[0], "column_stride": stride[1],
        "x_image": groups * in_blocks * x_block, "x_block": x_block, "dy_image": dy_image, "dy_block": dy_block,
    }  # fmt: skip
    parameters = (("vectors", vectors), ("channels", 8 if target.registers == 32 and lanes >= 8 else 4))
    chunks = groups * units * in_blocks * arguments["tap_chunks"]
    return KernelPlan(
        Kernel("conv_weight_gradient", parameters), arguments, {"taps": np.array(offsets, np.int64).reshape(-1)}, chunks,
        chunk_taps * lanes * vectors * lanes,
    )  # fmt: skip


def _round_up(count: int, unit: int) -> int:
    return _divide(count, unit) * unit


def plain_plan(
    target: Target, what: str, images: int, channels: int, size: Sequence[int], filters: int, kernel: Sequence[int],
    stride: Sequence[int], padding: Sequence[Pair], dilation: Sequence[int], groups: int = 1, expression: Any = None,
    operands: tuple[str, ...] = (),
) -> KernelPlan:  # fmt: skip
    """A step on plain tensors of one to three spatial dimensions; `what` is "forward", "data_gradient" or "weight_gradient".

    The expression applies to the forward result or to the data gradient, with operands as in `direct_plan`.
    """
    missing = 3 - len(size)
    size, kernel, stride, dilation = ((1,) * missing + tuple(values) for values in (size, kernel, stride, dilation))
    padding = ((0, 0),) * missing + tuple(padding)
    out = [output_size(*geometry) for geometry in zip(size, kernel, stride, padding, dilation, strict=True)]
    if min(out) < 1:
        raise ValueError(f"kernel {kernel} exceeds the padded input {size}")
    values = (images, channels, filters, groups, *size, *out, *kernel, *stride, *(before for before, _ in padding), *dilation)
    arguments = dict(zip(PLAIN_ARGUMENTS[4:], values, strict=True))
    if what == "weight_gradient":
        return KernelPlan(Kernel("conv_plain_weight_gradient"), arguments, {}, filters * (channels // groups), target.lanes)
    parameters = (("expression", expression), ("operands", tuple(operands)))
    if what == "data_gradient":
        return KernelPlan(Kernel("conv_plain_data_gradient", parameters), arguments, {}, images * channels)
    return KernelPlan(Kernel("conv_plain", parameters), arguments, {}, images * filters)
