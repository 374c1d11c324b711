"""Plans of grouped convolutions whose groups are not whole blocks of channels: every panel of outputs reads the band of
input channels that its groups have, and no other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from . import Kernel
from .conv_arguments import ConvPlan, KernelPlan, Pair, divide, in_plane, register_tile, source_arguments
from .conv_shapes_rows import reading_of
from .target import Target

BAND_PACK_ARGUMENTS = (
    "source", "packed", "source_taps",
    "bands",  # of each panel (first output channel, outputs, blocks, first input channel, end, floats before its weights)
    "tap_count", "out_channels", "in_channels", "group_stride", "out_stride", "in_stride",  # channels of a group
)  # fmt: skip
# What the cost model assumes of a core; only ratios matter. Bytes and operations per microsecond, and the cost of one
# chunk in microseconds; how much slower a tile of one vector is than one of two.
_FLOPS, _COPIED, STREAMED, _CHUNK = 180e3, 10e3, 30e3, 0.5
_NARROW = 1.1
_SHIFTED = 1.1  # and one whose outputs lie in two blocks
# Part of the second level cache that an image and its outputs may take where lines of outputs are written in parts: a part of
# a line that is far costs more than the products with zero.
_IMAGE = 0.5
_EVEN = 2  # input channels go by so many in a register tile with registers to spare


@dataclass(frozen=True)
class Band:
    """A panel of `count` outputs from `channel` on in `size` vectors, and the input channels from `low` up to `high` that it
    reads.
    """

    channel: int
    count: int
    size: int
    low: int
    high: int


@dataclass(frozen=True)
class BandedWeights:
    """Weights of groups that are not whole blocks: [panel][input block][tap][channel of the panel's band][panel * lanes].

    Channels are those of one group; the rest is as in `PackedWeights`. A band begins and ends at even channels. Panels are
    output blocks; or as many whole groups as a vector holds (`shifted`), so that none reads channels for a part of a group.
    """

    groups: int
    out_channels: int
    in_channels: int
    source_taps: tuple[int, ...]
    all_taps: int
    panel: int
    lanes: int
    transposed: bool
    shifted: bool = False

    @property
    def outputs(self) -> int:
        return self.groups * self.out_channels

    @property
    @lru_cache(maxsize=256)  # noqa: B019
    def bands(self) -> tuple[Band, ...]:
        together = self.lanes // self.out_channels * self.out_channels if self.shifted else self.panel * self.lanes
        bands, channel = [], 0
        while channel < self.outputs:
            size = self.panel
            if channel + (size - 1) * self.lanes >= self.outputs:  # blocks that fill no panel are panels of their own
                size, together = 1, min(together, self.lanes)
            count = min(together, self.outputs - channel)
            first, last = channel // self.out_channels, (channel + count - 1) // self.out_channels
            low, high = first * self.in_channels, (last + 1) * self.in_channels
            bands.append(Band(channel, count, size, low // _EVEN * _EVEN, divide(high, _EVEN) * _EVEN))
            channel += count
        if bands[-1].channel + bands[-1].size * self.lanes < divide(self.outputs, self.lanes) * self.lanes:
            # nothing but padded lanes, which the last panel does not reach
            bands.append(Band(self.outputs, 0, 1, bands[-1].high, bands[-1].high))
        return tuple(bands)

    @property
    def starts(self) -> tuple[int, ...]:
        """Floats before each band's weights, and of all."""
        starts = [0]
        for band in self.bands:
            starts.append(starts[-1] + (band.high - band.low) * len(self.source_taps) * band.size * self.lanes)
        return tuple(starts)

    @property
    def floats(self) -> int:
        return self.starts[-1]


def band_pack_plan(weights: BandedWeights) -> KernelPlan:
    """The step that packs oihw weights (`source`) into the buffer `packed`."""
    bands = [
        (b.channel, b.count, b.size, b.low, b.high, start)
        for b, start in zip(weights.bands, weights.starts, strict=False)
    ]
    tables = {
        "source_taps": np.array(weights.source_taps, np.int64),
        "bands": np.array(bands, np.int64).reshape(-1),
    }
    return KernelPlan(Kernel("conv_pack_bands"), source_arguments(weights), tables, len(bands))


def blocking(
    images: int,
    rows: int,
    bands: Sequence[Band],
    lanes: int,
    products: float,
    copied: float,
    halo: float,
    taps: float,
    streamed: float,
    shared: Sequence[int],
) -> Pair:
    """(output rows, panels) of a chunk: the least estimated time, summed over `shared`, numbers of workers. `products`: multiply-adds of
    one row for an input channel and an output block; `copied`: bytes copied for one row of an input block;
    `streamed`: bytes of weights that come in a microsecond.
    """
    best, choice, units = math.inf, (rows, len(bands)), len(bands)
    flops = 2 * products * sum(b.size * (b.high - b.low) for b in bands) / units
    weights = 4 * taps * lanes * sum(b.size * (b.high - b.low) for b in bands) / units
    for block in sorted({divide(rows, parts) for parts in range(1, min(rows, 64) + 1)}, reverse=True):
        for part in sorted({divide(units, parts) for parts in range(1, min(units, 64) + 1)}, reverse=True):
            chunks = images * divide(rows, block) * divide(units, part)
            reach = _reach(bands, part, lanes)
            time = _CHUNK + block * part * flops / _FLOPS + part * weights / streamed
            time += (block + halo) * copied * reach / _COPIED
            estimate = sum(divide(chunks, workers) * workers * time for workers in shared)
            if estimate < best:
                best, choice = estimate, (block, part)
    return choice


def _reach(bands: Sequence[Band], part: int, lanes: int) -> int:
    """The most input blocks that so many successive panels read."""
    ends = [(bands[i].low, bands[min(i + part, len(bands)) - 1].high) for i in range(0, len(bands), part)]
    return max(divide(high, lanes) - low // lanes for low, high in ends)


def best_form(
    target: Target, groups: int, in_channels: int, height: int, width: int, out_channels: int, rows: int, columns: int,
    source_taps: Sequence[int], all_taps: int, transposed: bool,
) -> tuple[BandedWeights, float]:  # fmt: skip
    """The form of the least work, and that: products of a vector, for one tap and an output of each panel."""
    lanes = target.lanes
    in_blocks, out_blocks = divide(groups * in_channels, lanes), divide(groups * out_channels, lanes)

    def form(panel: int, shifted: bool = False) -> BandedWeights:
        return BandedWeights(
            groups, out_channels, in_channels, tuple(source_taps), all_taps, panel, lanes, transposed, shifted
        )

    def products(form: BandedWeights) -> float:
        wider = _SHIFTED if form.shifted else 1
        return wider * sum(b.size * (b.high - b.low) * (_NARROW if b.size == 1 else 1) for b in form.bands)

    forms = [form(panel) for panel in range(1, min(2, out_blocks) + 1)]
    near = 4 * lanes * (in_blocks * height * width + out_blocks * rows * columns) <= target.cache * _IMAGE
    if out_channels < lanes and near:
        forms.append(form(1, True))
    weights = min(forms, key=products)
    return weights, products(weights)


def bands_plan(
    target: Target, images: int, groups: int, in_channels: int, height: int, width: int, out_channels: int,
    row_offsets: Sequence[int], column_offsets: Sequence[int], source_taps: Sequence[int], all_taps: int, stride: Pair,
    rows: int, columns: int, y_strides: tuple[int, int, int, int], transposed: bool, expression: Any, operands: tuple[str, ...],
) -> ConvPlan:  # fmt: skip
    """The arguments are those of `conv_shapes._direct`."""
    lanes, taps = target.lanes, len(row_offsets)
    in_blocks, out_blocks = divide(groups * in_channels, lanes), divide(groups * out_channels, lanes)
    y_image, y_block, y_row, y_pixel = y_strides
    weights, _ = best_form(
        target, groups, in_channels, height, width, out_channels, rows, columns, source_taps, all_taps, transposed
    )
    vectors = weights.panel
    x_row = width * lanes
    x_block = height * x_row
    flat = taps == 1 and (row_offsets[0], column_offsets[0]) == (0, 0) and stride == (1, 1)
    flat = flat and (rows, columns) == (height, width) and y_row == columns * y_pixel
    if flat:
        height, width, rows, columns, y_row, x_row = 1, height * width, 1, rows * columns, y_row * rows, x_block
    reading = reading_of(row_offsets, column_offsets, stride, height, width, rows, columns)
    pixels, _ = register_tile(target, columns, vectors)
    block_rows, chunk_panels = blocking(
        images,
        rows,
        weights.bands,
        lanes,
        columns * lanes * taps,
        4 * lanes * reading.copied,
        reading.halo,
        taps,
        STREAMED * target.pace.shared,
        target.workers,
    )
    placed = reading.placed(block_rows, x_row, x_block, lanes)
    entries, units = [], []
    for band, start in zip(weights.bands, weights.starts, strict=False):
        begin = len(entries)
        first, end = band.low // lanes, divide(band.high, lanes)
        for block in range(first, end):
            low, high = max(band.low, block * lanes), min(band.high, (block + 1) * lanes)
            entries += [(block * placed.block + at + low - block * lanes, high - low) for at in placed.offsets]
        stored = (
            divide(band.channel + band.count, lanes) * lanes - band.channel if band is weights.bands[-1] else band.count
        )
        units.append((2 * begin, len(entries) - begin, start, first, end, band.channel, band.count, stored))
    tiles = divide(columns, pixels)
    tall = columns - tiles * (pixels - 1)
    row_blocks, panel_chunks = divide(rows, block_rows), divide(len(units), chunk_panels)
    head = (1 + len(operands)) * vectors * lanes
    panels = len(units) if weights.shifted else out_blocks
    arguments = {
        "pixels": pixels, "panel": vectors, "head": head,
        "panel_chunks": panel_chunks, "groups": 1, "row_blocks": row_blocks, "chunk_panels": chunk_panels, "block_rows": block_rows,
        "channels": groups * out_channels, "out_blocks": panels, "in_blocks": in_blocks, "tap_count": taps,
        "last_channels": lanes, "depth_blocks": in_blocks, "rows": rows, "tiles": tiles, "tall": tall,
        "x_image": in_blocks * x_block, "x_block": x_block, "x_row": x_row, "height": height, "in_width": width,
        **placed.arguments,
        "y_image": y_image, "y_block": y_block, "y_row": y_row, "y_pixel": y_pixel, "all_tiles": 0, "block_tiles": 0,
        **in_plane(in_blocks),
    }  # fmt: skip
    parameters = (
        ("pixels", pixels), ("vectors", vectors), ("uneven", tall < tiles), ("tail", out_blocks % vectors != 0),
        ("form", ("shifted" if weights.shifted else "banded") + (" flat" if flat else "")),
        ("masked", groups * out_channels % lanes != 0), ("expression", expression), ("operands", tuple(operands)),
    )  # fmt: skip
    tables = {name: np.array(table, np.int64).reshape(-1) for name, table in (("taps", entries), ("places", units))}
    scratch = head + (0 if reading.in_place else _reach(weights.bands, chunk_panels, lanes) * placed.block)
    step = KernelPlan(
        Kernel("conv_direct", parameters), arguments, tables, images * row_blocks * panel_chunks, scratch, images
    )
    return ConvPlan(step, weights)
