"""Plans of grouped convolutions whose groups are not whole blocks of channels: every panel of outputs reads the band of
input channels that its groups have, and no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from .. import Kernel, cost
from ..launches import Launch, divide, round_up
from ..problem import Pair
from ..target import Target
from .arguments import ConvPlan, direct_arguments, in_plane, register_tile, source_arguments, source_taps
from .rows_plan import Placed, Reading, reading_of
from .sums import Sums

BAND_PACK_ARGUMENTS = (
    "source", "packed", "source_taps",
    "bands",  # of each panel (first output channel, outputs, blocks, first input channel, end, floats before its weights)
    "tap_count", "out_channels", "in_channels", "group_stride", "out_stride", "in_stride",  # channels of a group
)  # fmt: skip
# How much slower a tile of one vector is than one of two, and one whose outputs lie in two blocks.
_NARROW, _SHIFTED = 1.1, 1.1
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


def band_pack_plan(weights: BandedWeights) -> Launch:
    """The step that packs oihw weights (`source`) into the buffer `packed`."""
    bands = [
        (b.channel, b.count, b.size, b.low, b.high, start)
        for b, start in zip(weights.bands, weights.starts, strict=False)
    ]
    tables = {**source_taps(weights), "bands": np.array(bands, np.int64).reshape(-1)}
    return Launch.of(Kernel("conv_pack_bands"), BAND_PACK_ARGUMENTS, source_arguments(weights), tables).cut(len(bands))


def cut_of(target: Target, s: Sums, bands: Sequence[Band], reading: Reading, products: int, taps: float) -> Pair:
    """(output rows, panels) of a chunk: the least estimated time. `products`: multiply-adds of one row for an input channel and
    an output block; `taps`: those whose weights are read for it.
    """
    speeds, lanes, units = cost.BANDS, target.lanes, len(bands)
    streamed, copied = speeds.streamed * target.pace.shared, 4 * lanes * reading.copied
    flops = 2 * products * sum(b.size * (b.high - b.low) for b in bands) / units
    weights = 4 * taps * lanes * sum(b.size * (b.high - b.low) for b in bands) / units

    def time(cut: Pair) -> float:
        block, part = cut
        chunks = s.images * divide(s.rows, block) * divide(units, part)
        each = speeds.chunk + block * part * flops / speeds.compute + part * weights / streamed
        each += (block + reading.halo) * copied * reach(bands, part, lanes) / speeds.copied
        return cost.total(chunks, each, target.workers)

    return cost.least(product(cost.parts(s.rows), cost.parts(units)), time, (s.rows, units))


def reach(bands: Sequence[Band], part: int, lanes: int) -> int:
    """The most input blocks that so many successive panels read."""
    ends = [(bands[i].low, bands[min(i + part, len(bands)) - 1].high) for i in range(0, len(bands), part)]
    return max(divide(high, lanes) - low // lanes for low, high in ends)


def best_form(target: Target, s: Sums) -> tuple[BandedWeights, float]:
    """The form of the least work, and that: products of a vector, for one tap and an output of each panel."""
    lanes = target.lanes
    in_blocks, out_blocks = divide(s.groups * s.in_channels, lanes), divide(s.groups * s.out_channels, lanes)

    def form(panel: int, shifted: bool = False) -> BandedWeights:
        return BandedWeights(
            s.groups, s.out_channels, s.in_channels, s.taps.source, s.taps.all, panel, lanes, s.transposed, shifted
        )

    def products(form: BandedWeights) -> float:
        wider = _SHIFTED if form.shifted else 1
        return wider * sum(b.size * (b.high - b.low) * (_NARROW if b.size == 1 else 1) for b in form.bands)

    forms = [form(panel) for panel in range(1, min(2, out_blocks) + 1)]
    near = 4 * lanes * (in_blocks * s.height * s.width + out_blocks * s.rows * s.columns) <= target.cache * _IMAGE
    if s.out_channels < lanes and near:
        forms.append(form(1, True))
    weights = min(forms, key=products)
    return weights, products(weights)


def _tables(weights: BandedWeights, placed: Placed) -> dict[str, Any]:
    """What each entry meets, and of each panel its entries, weights, input blocks and outputs."""
    lanes = weights.lanes
    entries: list[Pair] = []
    units: list[tuple[int, ...]] = []
    for band, start in zip(weights.bands, weights.starts, strict=False):
        begin = len(entries)
        first, end = band.low // lanes, divide(band.high, lanes)
        for block in range(first, end):
            low, high = max(band.low, block * lanes), min(band.high, (block + 1) * lanes)
            entries += [(block * placed.block + at + low - block * lanes, high - low) for at in placed.offsets]
        last = band is weights.bands[-1]
        stored = round_up(band.channel + band.count, lanes) - band.channel if last else band.count
        units.append((2 * begin, len(entries) - begin, start, first, end, band.channel, band.count, stored))
    return {name: np.array(table, np.int64).reshape(-1) for name, table in (("taps", entries), ("places", units))}


def bands_plan(target: Target, s: Sums) -> ConvPlan | None:
    """None where groups are whole blocks."""
    if s.form != "banded":
        return None
    s = replace(s, taps=s.taps.in_order)
    lanes, taps = target.lanes, len(s.taps)
    in_blocks, out_blocks = divide(s.groups * s.in_channels, lanes), divide(s.groups * s.out_channels, lanes)
    weights, _ = best_form(target, s)
    vectors, flat = weights.panel, s.flat
    if flat:
        s = s.as_row
    reading = reading_of(s)
    pixels, _ = register_tile(target, s.columns, vectors)
    block_rows, chunk_panels = cut_of(target, s, weights.bands, reading, s.columns * lanes * taps, taps)
    placed = reading.placed(block_rows, lanes)
    units, tiles = len(weights.bands), divide(s.columns, pixels)
    tall = s.columns - tiles * (pixels - 1)
    row_blocks, panel_chunks = divide(s.rows, block_rows), divide(units, chunk_panels)
    head = s.epilogue.vectors * vectors * lanes
    arguments = {
        "pixels": pixels, "panel": vectors, "head": head,
        "panel_chunks": panel_chunks, "groups": 1, "row_blocks": row_blocks, "chunk_panels": chunk_panels, "block_rows": block_rows,
        "channels": s.groups * s.out_channels, "out_blocks": units if weights.shifted else out_blocks, "in_blocks": in_blocks,
        "tap_count": taps, "last_channels": lanes, "depth_blocks": in_blocks, "rows": s.rows, "tiles": tiles, "tall": tall,
        **s.x_arguments(in_blocks, lanes), **placed.arguments, **s.y_arguments, "all_tiles": 0, "block_tiles": 0,
        **in_plane(in_blocks),
    }  # fmt: skip
    parameters = (
        ("pixels", pixels), ("vectors", vectors), ("uneven", tall < tiles), ("tail", out_blocks % vectors != 0),
        ("form", ("shifted" if weights.shifted else "banded") + (" flat" if flat else "")),
        ("masked", s.masked(lanes)), *s.epilogue.parameters,
    )  # fmt: skip
    kernel, tables = Kernel("conv_direct", parameters), _tables(weights, placed)
    scratch = head + (0 if reading.in_place else reach(weights.bands, chunk_panels, lanes) * placed.block)
    launch = Launch.of(kernel, direct_arguments(s.epilogue), arguments, tables)
    return ConvPlan(launch.cut(s.images * row_blocks * panel_chunks, scratch, s.images), weights)
