"""Plans of convolutions row by row of outputs: how these meet rows of input, where they lie or in copies that have what no tap
meets left out. The form of last resort: it does for all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np

from .. import Kernel, cost
from ..launches import Launch, divide, panels
from ..target import Target
from .arguments import ConvPlan, PackedWeights, direct_arguments, in_plane, register_tile
from .sums import Sums

# Parts of the caches: of the first, for one panel's weights between two visits of y; of the second, for copied rows.
_WEIGHTS, _ROWS = 0.75, 0.5
# A tile of fewer pixels than that is short: then all rows are one where they can be.
_SHORT = 10


@dataclass(frozen=True)
class Placed:
    """For chunks of some rows: floats of a pixel, between input blocks, and of each tap from the input of an output to what it
    meets; and the kernel's arguments.
    """

    pixel: int
    block: int
    offsets: tuple[int, ...]
    arguments: dict[str, int]


@dataclass(frozen=True)
class Reading:
    """Rows are copied with every `copy_step`-th column in `copies` copies, unless `in_place`."""

    sums: Sums
    in_place: bool
    row_first: int
    row_step: int
    row_span: int
    column_first: int
    copy_step: int
    copies: int
    pack_width: int

    @property
    def advance(self) -> int:
        """Copied rows from one row of outputs to the next."""
        return self.sums.stride[0] // self.row_step

    @property
    def copied(self) -> int:
        """Copied pixels of a block for one row more."""
        return 0 if self.in_place else self.copies * self.pack_width * self.advance

    @property
    def halo(self) -> float:
        """Rows that are copied besides, in rows of outputs."""
        return max(self.row_span - self.advance, 0) / self.advance

    def placed(self, block_rows: int, step: int) -> Placed:
        """Where it all lies for chunks of `block_rows` rows; `step`: floats of a pixel."""
        s = self.sums
        x_row = s.width * step
        taps = list(zip(s.taps.rows, s.taps.columns, strict=True))
        if self.in_place:
            pack_rows, block, out_row = 0, s.height * x_row, s.stride[0] * x_row
            offsets = [r * x_row + c * step for r, c in taps]
        else:
            pack_rows = (block_rows - 1) * self.advance + self.row_span
            across = self.pack_width * step
            out_row, copy = self.advance * across, pack_rows * across
            block = self.copies * copy
            offsets = []
            for r, c in taps:
                column = (c - self.column_first) // self.copy_step
                place = (r - self.row_first) // self.row_step * across + column % self.copies * copy
                offsets.append(place + column // self.copies * step)
        arguments = {
            "row_first": self.row_first, "row_stride": s.stride[0], "row_step": self.row_step, "pack_rows": pack_rows,
            "column_first": self.column_first, "copy_step": self.copy_step, "copies": self.copies, "pixel_step": s.stride[1],
            "pack_width": self.pack_width, "out_row": out_row,
        }  # fmt: skip
        return Placed(step, block, tuple(offsets), arguments)


def reading_of(s: Sums) -> Reading:
    """How the outputs meet their input."""
    rows, columns = s.taps.rows, s.taps.columns
    row_first, row_last = min(rows, default=0), max(rows, default=0)
    column_first, column_last = min(columns, default=0), max(columns, default=0)
    inside = row_first >= 0 and (s.rows - 1) * s.stride[0] + row_last < s.height
    inside = inside and column_first >= 0 and (s.columns - 1) * s.stride[1] + column_last < s.width
    in_place = not rows or (s.stride[1] == 1 and inside)
    copy_step = math.gcd(s.stride[1], *(c - column_first for c in columns))
    row_step = math.gcd(s.stride[0], *(r - row_first for r in rows))
    copies = s.stride[1] // copy_step
    return Reading(
        s, in_place, row_first, row_step, (row_last - row_first) // row_step + 1,
        column_first, copy_step, copies, s.columns + (column_last - column_first) // copy_step // copies,
    )  # fmt: skip


def _cut(target: Target, s: Sums, reading: Reading, units: int, depth: int, vectors: int) -> tuple[int, int]:
    """(output rows, panels) of a chunk: the least estimated time. Any choice gives the same bits.

    Small chunks balance better, but repeat the copying of the halo and the reading of weights; copies that do not stay near are
    read from afar for every panel.
    """
    speeds, channels = cost.ROWS, s.in_channels if depth == 1 else divide(s.in_channels, depth) * depth
    streamed = speeds.streamed * target.pace.shared
    flops = 2.0 * s.columns * vectors * target.lanes * channels * len(s.taps)
    copied = channels * 4 * reading.copied
    weights = 4 * channels * len(s.taps) * vectors * target.lanes

    def time(cut: tuple[int, int]) -> float:
        block, part = cut
        size = (block + reading.halo) * copied
        again = 0 if size <= target.cache * _ROWS else size / streamed
        chunks = s.images * s.groups * divide(s.rows, block) * divide(units, part)
        each = speeds.chunk + block * part * flops / speeds.compute + size / speeds.copied
        return cost.total(chunks, each + part * (weights / streamed + again), target.workers)

    return cost.least(product(cost.parts(s.rows), cost.parts(units)), time, (s.rows, units))


def rows_plan(target: Target, s: Sums) -> ConvPlan:
    """Of blocked or plain input."""
    lanes, taps, epilogue = target.lanes, len(s.taps), s.epilogue
    step = 1 if s.form == "plain" else lanes
    depth = lanes if s.form == "blocked" else 1
    in_blocks, out_blocks = divide(s.in_channels, depth), s.out_blocks(lanes)
    if s.flat and s.rows > 1 and register_tile(target, s.columns, out_blocks)[0] < _SHORT:
        s = s.as_row
    reading = reading_of(s)
    pixels, vectors = register_tile(target, s.columns, out_blocks)
    units = panels(out_blocks, vectors)
    block_rows, chunk_panels = _cut(target, s, reading, units, depth, vectors)
    placed = reading.placed(block_rows, step)
    table = np.arange(in_blocks, dtype=np.int64)[:, None] * placed.block + np.array(placed.offsets, np.int64)[None, :]
    tiles = divide(s.columns, pixels)
    row_blocks, panel_chunks = divide(s.rows, block_rows), divide(units, chunk_panels)
    tall = s.columns - tiles * (pixels - 1)
    head = epilogue.vectors * vectors * lanes
    panel_bytes = in_blocks * taps * depth * vectors * lanes * 4
    arguments = {
        "pixels": pixels, "panel": vectors, "head": head,
        "panel_chunks": panel_chunks, "groups": s.groups, "row_blocks": row_blocks, "chunk_panels": chunk_panels,
        "block_rows": block_rows, "channels": s.groups * s.out_channels, "out_blocks": out_blocks, "in_blocks": in_blocks,
        "tap_count": taps, "last_channels": min(depth, divide(s.in_channels - (in_blocks - 1) * depth, 4) * 4),
        "depth_blocks": max(1, int(target.near * _WEIGHTS) * in_blocks // panel_bytes) if taps else in_blocks,
        "rows": s.rows, "tiles": tiles, "tall": tall, **s.x_arguments(s.groups * in_blocks, step), **placed.arguments,
        **s.y_arguments, "all_tiles": 0, "block_tiles": 0, "places": 0, **in_plane(in_blocks),
    }  # fmt: skip
    parameters = (
        ("pixels", pixels), ("vectors", vectors), ("uneven", tall < tiles), ("tail", out_blocks % vectors != 0),
        ("form", s.form), ("masked", s.masked(lanes)), *epilogue.parameters,
    )  # fmt: skip
    launch = Launch.of(
        Kernel("conv_direct", parameters), direct_arguments(epilogue), arguments, {"taps": table.reshape(-1)}
    )
    chunks = s.images * row_blocks * s.groups * panel_chunks
    launch = launch.cut(chunks, head + (0 if reading.in_place else in_blocks * placed.block), s.images)
    weights = PackedWeights(
        s.groups, s.out_channels, s.in_channels, s.taps.source, s.taps.all, vectors, lanes, depth == 1, s.transposed
    )
    return ConvPlan(launch, weights)
