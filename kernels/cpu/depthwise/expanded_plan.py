"""Plans of a 1x1 convolution and the depthwise one behind it in one step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from .. import Kernel, cost
from ..conv.arguments import DIRECT_ARGUMENTS, PackedWeights, in_plane, register_tile
from ..launches import Launch, divide, panels
from ..problem import BARE, Conv, Epilogue, Pair
from ..target import Target
from .plan import DEPTHWISE_ARGUMENTS, depthwise_plan, walks

# The arguments of both kernels, the depthwise one's after a prefix. Buffers: x, w (packed 1x1), bias (0: none), taps (table);
# the depthwise w, bias and y, and then its operands. The rows in between that a row of the result meets begin `stride` further for
# each and are `reach`; a panel's lie at `plane_at` in scratch, the depthwise channel vectors at `vectors_at`.
# chunk = (image * row_blocks + row block) * panel_chunks + part of the panels
EXPANDED_ARGUMENTS = (
    *DIRECT_ARGUMENTS, "stride", "reach", "plane_at", "vectors_at", *(f"depthwise_{name}" for name in DEPTHWISE_ARGUMENTS)
)  # fmt: skip
# Parts of a core's cache: for a panel's rows, and for its weights.
_ROWS, _WEIGHTS = 0.5, 1 / 16


@dataclass(frozen=True)
class ExpandedPlan:
    """A step, and the weights of the convolution and of the depthwise one."""

    step: Launch
    weights: PackedWeights
    depthwise: PackedWeights


@dataclass(frozen=True)
class _Band:
    """Rows of the result that are made together, and how many rows in between each block of them meets."""

    rows: int
    meets: tuple[int, ...]


def _band(conv: Conv, block: int) -> _Band:
    rows, stride, top, height = conv.out[0], conv.stride[0], conv.padding[0][0], conv.size[0]
    reach, meets = conv.dilation[0] * (conv.kernel[0] - 1) + 1, []
    for first in range(0, rows, block):
        low = first * stride - top
        high = min(max(low + (min(block, rows - first) - 1) * stride + reach, 0), height)
        meets.append(high - min(max(low, 0), high))
    return _Band(block, tuple(meets))


@dataclass(frozen=True)
class _Pair:
    """Both convolutions: blocks of the input, and of what lies in between; panels of these, of `panel` blocks."""

    target: Target
    conv: Conv
    in_channels: int

    @property
    def in_blocks(self) -> int:
        return divide(self.in_channels, self.target.lanes)

    @property
    def blocks(self) -> int:
        return divide(self.conv.channels, self.target.lanes)

    @property
    def panel(self) -> int:
        return min(2, self.blocks)

    @property
    def units(self) -> int:
        return panels(self.blocks, self.panel)

    @property
    def weights(self) -> int:
        """Bytes of a panel's."""
        return 4 * self.in_blocks * self.panel * self.target.lanes**2


def _cut(p: _Pair) -> Pair:
    """(rows, panels) of a chunk: the least estimated time."""
    target, conv, speeds, lanes = p.target, p.conv, cost.EXPANDED, p.target.lanes
    (height, width), (rows, columns), streamed = conv.size, conv.out, speeds.streamed * target.pace.shared

    def time(cut: tuple[_Band, int]) -> float:
        band, part = cut
        made = sum(band.meets) / len(band.meets)
        plane = 4 * max(band.meets) * width * p.panel * lanes
        each = made * width * p.panel * p.in_blocks * lanes + band.rows * columns * p.panel * math.prod(conv.kernel)
        time = each / speeds.compute * target.slowness + p.weights / streamed
        time += 2 * plane / streamed if plane > target.cache * _ROWS else 0
        chunks, total = conv.images * len(band.meets) * divide(p.units, part), 0.0
        for workers in target.workers:
            total += divide(chunks, workers) * workers * (speeds.chunk + part * time)
            sharers = max(1.0, workers / (conv.images * len(band.meets)))
            moved = 4 * lanes * conv.images * (p.blocks * rows * columns + workers * p.in_blocks * height * width)
            total += (1 - 1 / sharers) * moved / (speeds.copied * target.pace.shared)
        return total

    bands = [_band(conv, block) for block in cost.parts(rows, 32)]
    band, part = min(product(bands, cost.parts(p.units, 32)), key=time)
    return band.rows, part


@lru_cache(maxsize=1024)
def expanded_plan(
    target: Target, conv: Conv, in_channels: int, inner: Any = None, epilogue: Epilogue = BARE,
    cut: Pair | None = None,
) -> ExpandedPlan | None:  # fmt: skip
    """[N, I, H, W] -> [N, C, OH, OW], all blocked: a 1x1 convolution of I = in_channels, `inner` of its `y`, and the depthwise
    convolution `conv` with its epilogue. None where no tile fits, or the walk along a row. `cut`: (rows, panels) of a chunk, else
    the planner's choice. ValueError for an image that is smaller than the kernel.
    """
    later, p, lanes = depthwise_plan(target, conv, epilogue), _Pair(target, conv, in_channels), target.lanes
    size, (height, width) = later.step.arguments, conv.size
    if not walks(target, conv) or p.weights > target.cache * _WEIGHTS or not conv.images * math.prod(conv.out):
        return None
    block_rows, part = cut or _cut(p)
    band = _band(conv, block_rows)
    counts = {meets * width for meets in band.meets if meets}
    pixels, _ = register_tile(target, min(counts, default=1), p.blocks)
    capacity = max(band.meets) * width * lanes
    vectors_at = p.panel * lanes
    plane_at = vectors_at + size["head"] + width * lanes
    x_block = height * width * lanes
    mine = {
        "pixels": pixels, "panel": p.panel, "head": vectors_at, "panel_chunks": divide(p.units, part), "groups": 1,
        "chunk_panels": part, "channels": conv.channels, "out_blocks": p.blocks, "in_blocks": p.in_blocks, "tap_count": 1,
        "last_channels": min(lanes, divide(in_channels - (p.in_blocks - 1) * lanes, 4) * 4),
        "x_image": p.in_blocks * x_block, "x_block": x_block, "y_block": capacity, "y_pixel": lanes, **in_plane(p.in_blocks),
        "stride": conv.stride[0], "reach": conv.dilation[0] * (conv.kernel[0] - 1) + 1, "plane_at": plane_at,
        "vectors_at": vectors_at,
    }  # fmt: skip
    own = {name: size[name] for name in DEPTHWISE_ARGUMENTS if name not in later.step.buffers}
    own |= {"x": 0, "row_blocks": len(band.meets), "block_rows": band.rows}
    numbers = {name: 0 for name in DIRECT_ARGUMENTS if name not in ("x", "w", "bias", "taps")} | mine
    numbers |= {f"depthwise_{name}": number for name, number in own.items()}
    parameters = (
        ("pixels", pixels), ("vectors", p.panel), ("uneven", any(count % pixels for count in counts)),
        ("tail", p.blocks % p.panel != 0), ("ragged", conv.channels % lanes != 0), ("epilogue", inner),
        *later.step.kernel.parameters,
    )  # fmt: skip
    tables = {"taps": np.arange(p.in_blocks, dtype=np.int64) * x_block}
    launch = Launch.of(Kernel("conv_depthwise", parameters), (*EXPANDED_ARGUMENTS, *epilogue.names), numbers, tables)
    chunks = conv.images * len(band.meets) * divide(p.units, part)
    form = PackedWeights(1, conv.channels, in_channels, (0,), 1, p.panel, lanes, False, False)
    return ExpandedPlan(launch.cut(chunks, plane_at + p.panel * capacity, conv.images), form, later.weights)
