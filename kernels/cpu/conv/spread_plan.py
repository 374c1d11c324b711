"""Plans of convolutions whose groups are not whole blocks of channels: panels that read their groups' bands of channels, or,
of small groups, input that is copied for each channel of a group, so that every lane meets that of its own group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import Kernel
from ..launches import Launch, divide
from ..target import Target
from .arguments import ConvPlan, direct_arguments, in_plane, source_arguments, source_taps
from .bands_plan import Band, best_form, cut_of
from .rows_plan import Placed, Reading, reading_of
from .sums import Sums

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


def spread_pack_plan(weights: SpreadWeights) -> Launch:
    """The step that packs oihw weights (`source`) into the buffer `packed`."""
    arguments = {"outputs": weights.outputs, **source_arguments(weights)}
    launch = Launch.of(Kernel("conv_pack_spread"), SPREAD_PACK_ARGUMENTS, arguments, source_taps(weights))
    return launch.cut(weights.blocks)


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
    registers, most = target.tiles.spread
    return min(registers - near, most)


def _turned(ring: Reading, placed: Placed, depth: int, near: int) -> Any:
    """The table of taps, for each row of the ring where it may begin."""
    taps, lanes, slots = ring.sums.taps, placed.pixel, ring.row_span
    turned = []
    for turn in range(slots):
        moved = [(r - ring.row_first) // ring.row_step for r in taps.rows]
        down = [((slot + turn) % slots - slot) * ring.pack_width * lanes for slot in moved]
        offsets = np.array([at + d for at, d in zip(placed.offsets, down, strict=True)][::near], np.int64)
        turned.append(np.arange(depth, dtype=np.int64)[:, None] * placed.block + offsets)
    return np.concatenate(turned).reshape(-1)


def spread_plan(target: Target, s: Sums) -> ConvPlan | None:
    """None where groups are whole blocks, or bands of them are less work."""
    if s.form != "banded" or len(s.taps) < 2:
        return None
    s = replace(s, taps=s.taps.in_order)
    lanes, taps = target.lanes, len(s.taps)
    weights = SpreadWeights(s.groups, s.out_channels, s.in_channels, s.taps.source, s.taps.all, lanes, s.transposed)
    reading, places = replace(reading_of(s), in_place=False), weights.places()
    if places[:, 1].max() > WIDEST or _work(weights, reading, s.columns) >= taps * best_form(target, s)[1]:
        return None
    blocks = weights.blocks
    # Each output block is like a band of as many whole input blocks as a group has channels.
    wide = s.in_channels * lanes
    bands = [Band(u * lanes, lanes, 1, u * wide, (u + 1) * wide) for u in range(blocks)]
    block_rows, chunk_panels = cut_of(target, s, bands, reading, s.columns * taps, taps / lanes)
    near = together(reading.placed(1, lanes).offsets, s.taps.rows, lanes)
    pixels = divide(s.columns, divide(s.columns, most_pixels(target, near)))
    # The copies are of a tile's columns, and of the rows that a row of outputs meets, in a ring.
    ring = replace(reading, pack_width=reading.pack_width - s.columns + pixels)
    placed = ring.placed(1, lanes)
    depth = min(max(1, int(target.cache * _CACHE) // (4 * placed.block)), s.in_channels)
    tiles = divide(s.columns, pixels)
    tall = s.columns - tiles * (pixels - 1)
    row_blocks, panel_chunks = divide(s.rows, block_rows), divide(blocks, chunk_panels)
    head = s.epilogue.vectors * lanes
    arguments = {
        "pixels": pixels, "panel": 1, "head": head,
        "panel_chunks": panel_chunks, "groups": 1, "row_blocks": row_blocks, "chunk_panels": chunk_panels, "block_rows": block_rows,
        "channels": weights.outputs, "out_blocks": blocks, "in_blocks": s.in_channels, "tap_count": taps // near,
        "last_channels": 1, "depth_blocks": depth, "rows": s.rows, "tiles": tiles, "tall": tall,
        **s.x_arguments(divide(s.groups * s.in_channels, lanes), lanes), **placed.arguments, **s.y_arguments,
        "all_tiles": 0, "block_tiles": 0, **in_plane(s.in_channels), "w_blocks": taps,
    }  # fmt: skip
    parameters = (
        ("pixels", pixels), ("vectors", 1), ("uneven", tall < tiles), ("tail", False), ("form", "spread"),
        ("masked", s.masked(lanes)), *s.epilogue.parameters, ("near", near),
    )  # fmt: skip
    kernel = Kernel("conv_direct", parameters)
    tables = {"taps": _turned(ring, placed, depth, near), "places": places.astype(np.int64).reshape(-1)}
    launch = Launch.of(kernel, direct_arguments(s.epilogue), arguments, tables)
    return ConvPlan(launch.cut(s.images * row_blocks * panel_chunks, head + depth * placed.block, s.images), weights)
