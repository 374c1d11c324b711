"""Plans of convolutions whose groups are not whole blocks of channels: panels that read their groups' bands of channels, or,
of small groups, input that is copied for each channel of a group, so that every lane meets that of its own group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import Kernel
from .conv_arguments import ConvPlan, KernelPlan, Pair, divide, in_plane, source_arguments
from .conv_shapes_bands import STREAMED, Band, bands_plan, best_form, blocking
from .conv_shapes_rows import Reading, reading_of
from .target import Target

# Buffers: source (oihw), packed. chunk = output block
SPREAD_PACK_ARGUMENTS = (
    "source", "packed", "source_taps", "outputs", "tap_count", "out_channels", "in_channels",  # channels of a group
    "group_stride", "out_stride", "in_stride",
)  # fmt: skip
# Input blocks that a vector is put together from, at most.
WIDEST = 4
# What a copied vector takes, in products; rows of outputs in a chunk and pixels of a tile, as they are for this choice.
_COPY, _ROWS = 6, (8, 16)
# Taps that follow each other, at most; part of the second level cache for copies.
_NEAR, _CACHE = 7, 0.4
# Registers that a tile's sums and neighboring taps may take together, and the most sums.
_REGISTERS = {"avx512": (23, 20), "avx2": (14, 12), "sse2": (11, 8), "neon": (24, 20)}


@dataclass(frozen=True)
class SpreadWeights:
    """[output block][channel of a group][tap][lanes]; channels are those of one group, the rest is as in `PackedWeights`."""

    groups: int
    out_channels: int
    in_channels: int
    source_taps: tuple[int, ...]
    all_taps: int
    lanes: int
    transposed: bool

    @property
    def outputs(self) -> int:
        return self.groups * self.out_channels

    @property
    def blocks(self) -> int:
        return divide(self.outputs, self.lanes)

    @property
    def floats(self) -> int:
        return self.blocks * self.in_channels * len(self.source_taps) * self.lanes

    def places(self) -> Any:
        """[output block, 2 + channels of a group * lanes]: the first input block that is read, how many of them, and where each
        lane's channels lie in them. Lanes past the last output read what that does.
        """
        outputs = np.minimum(np.arange(self.blocks * self.lanes), self.outputs - 1).reshape(self.blocks, 1, self.lanes)
        channels = outputs // self.out_channels * self.in_channels + np.arange(self.in_channels)[:, None]
        channels = channels.reshape(self.blocks, -1)
        first, last = (ends(axis=1, keepdims=True) // self.lanes for ends in (channels.min, channels.max))
        return np.concatenate([first, last - first + 1, channels - first * self.lanes], axis=1)


def spread_pack_plan(weights: SpreadWeights) -> KernelPlan:
    """The step that packs oihw weights (`source`) into the buffer `packed`."""
    arguments = {"outputs": weights.outputs, **source_arguments(weights)}
    tables = {"source_taps": np.array(weights.source_taps, np.int64)}
    return KernelPlan(Kernel("conv_pack_spread"), arguments, tables, weights.blocks)


def _work(weights: SpreadWeights, reading: Reading, columns: int) -> float:
    """Products for an output of each block, and what the copies take for it."""
    across = 1 + (reading.pack_width - columns) / min(columns, _ROWS[1])
    copied = reading.copies * reading.advance * across * (1 + reading.halo / _ROWS[0])
    return weights.blocks * weights.in_channels * (len(weights.source_taps) + _COPY * copied)


def together(offsets: Sequence[int], rows: Sequence[int], lanes: int) -> int:
    """How many taps follow each other in every row, a pixel from one to the next, so that they meet the same pixels."""
    near = max(1, list(rows).count(rows[0])) if rows else 1
    regular = all(offsets[t] == offsets[t - t % near] + t % near * lanes for t in range(len(offsets)))
    return near if regular and len(offsets) % near == 0 and near <= _NEAR else 1


def most_pixels(target: Target, near: int) -> int:
    """Of the register tile, for so many taps that follow each other."""
    registers, most = _REGISTERS[target.name]
    return min(registers - near, most)


def groups_plan(
    target: Target, images: int, groups: int, in_channels: int, height: int, width: int, out_channels: int,
    row_offsets: Sequence[int], column_offsets: Sequence[int], source_taps: Sequence[int], all_taps: int, stride: Pair,
    rows: int, columns: int, y_strides: tuple[int, int, int, int], transposed: bool, expression: Any, operands: tuple[str, ...],
) -> ConvPlan:  # fmt: skip
    """The arguments are those of `conv_shapes._direct`."""
    lanes, taps = target.lanes, len(row_offsets)
    order = sorted(range(taps), key=lambda t: (row_offsets[t], column_offsets[t]))
    row_offsets, column_offsets, source_taps = ([list[t] for t in order] for list in (row_offsets, column_offsets, source_taps))
    weights = SpreadWeights(groups, out_channels, in_channels, tuple(source_taps), all_taps, lanes, transposed)
    reading = reading_of(row_offsets, column_offsets, stride, height, width, rows, columns)
    reading = replace(reading, in_place=False)
    _, products = best_form(
        target, groups, in_channels, height, width, out_channels, rows, columns, source_taps, all_taps, transposed
    )
    places = weights.places()
    if taps < 2 or places[:, 1].max() > WIDEST or _work(weights, reading, columns) >= taps * products:
        return bands_plan(
            target, images, groups, in_channels, height, width, out_channels, row_offsets, column_offsets, source_taps, all_taps,
            stride, rows, columns, y_strides, transposed, expression, operands,
        )  # fmt: skip
    y_image, y_block, y_row, y_pixel = y_strides
    x_row, blocks = width * lanes, weights.blocks
    # Each output block is like a band of as many whole input blocks as a group has channels.
    bands = [Band(u * lanes, lanes, 1, u * in_channels * lanes, (u + 1) * in_channels * lanes) for u in range(blocks)]
    block_rows, chunk_panels = blocking(
        images, rows, bands, lanes, columns * taps, 4 * lanes * reading.copied, reading.halo, taps / lanes,
        STREAMED * target.pace.shared, target.workers,
    )  # fmt: skip
    near = together(reading.placed(1, x_row, height * x_row, lanes).offsets, row_offsets, lanes)
    pixels = divide(columns, divide(columns, most_pixels(target, near)))
    # The copies are of a tile's columns, and of the rows that a row of outputs meets, in a ring.
    ring = replace(reading, pack_width=reading.pack_width - columns + pixels)
    placed, slots = ring.placed(1, x_row, height * x_row, lanes), reading.row_span
    depth = min(max(1, int(target.cache * _CACHE) // (4 * placed.block)), in_channels)
    turned = []
    for turn in range(slots):
        moved = [(r - reading.row_first) // reading.row_step for r in row_offsets]
        down = [((slot + turn) % slots - slot) * ring.pack_width * lanes for slot in moved]
        offsets = np.array([at + d for at, d in zip(placed.offsets, down, strict=True)][::near], np.int64)
        turned.append(np.arange(depth, dtype=np.int64)[:, None] * placed.block + offsets)
    tiles = divide(columns, pixels)
    tall = columns - tiles * (pixels - 1)
    row_blocks, panel_chunks = divide(rows, block_rows), divide(blocks, chunk_panels)
    head = (1 + len(operands)) * lanes
    arguments = {
        "pixels": pixels, "panel": 1, "head": head,
        "panel_chunks": panel_chunks, "groups": 1, "row_blocks": row_blocks, "chunk_panels": chunk_panels, "block_rows": block_rows,
        "channels": weights.outputs, "out_blocks": blocks, "in_blocks": in_channels, "tap_count": taps // near,
        "last_channels": 1, "depth_blocks": depth, "rows": rows, "tiles": tiles, "tall": tall,
        "x_image": divide(groups * in_channels, lanes) * height * x_row, "x_block": height * x_row, "x_row": x_row,
        "height": height, "in_width": width, **placed.arguments,
        "y_image": y_image, "y_block": y_block, "y_row": y_row, "y_pixel": y_pixel, "all_tiles": 0, "block_tiles": 0,
        **in_plane(in_channels), "w_blocks": taps,
    }  # fmt: skip
    parameters = (
        ("pixels", pixels), ("vectors", 1), ("uneven", tall < tiles), ("tail", False), ("form", "spread"),
        ("masked", weights.outputs % lanes != 0), ("expression", expression), ("operands", tuple(operands)), ("near", near),
    )  # fmt: skip
    tables = {"taps": np.concatenate(turned).reshape(-1), "places": places.astype(np.int64).reshape(-1)}
    step = KernelPlan(
        Kernel("conv_direct", parameters), arguments, tables, images * row_blocks * panel_chunks,
        head + depth * placed.block, images,
    )  # fmt: skip
    return ConvPlan(step, weights)
