"""Plans of a 1x1 convolution and the depthwise one behind it in one step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from . import Kernel
from .conv_arguments import DIRECT_ARGUMENTS, KernelPlan, PackedWeights, Padding, Pair, divide, in_plane, register_tile
from .depthwise_shapes import DEPTHWISE_ARGUMENTS, depthwise_plan, walks
from .target import Target

# The arguments of both kernels, the depthwise one's after a prefix. Buffers: x, w (packed 1x1), bias (0: none), taps (table);
# the depthwise w, bias and y, and then its operands. The rows in between that a row of the result meets begin `stride` further for
# each and are `reach`; a panel's lie at `plane_at` in scratch, the depthwise channel vectors at `vectors_at`.
# chunk = (image * row_blocks + row block) * panel_chunks + part of the panels
EXPANDED_ARGUMENTS = (
    *DIRECT_ARGUMENTS, "stride", "reach", "plane_at", "vectors_at", *(f"depthwise_{name}" for name in DEPTHWISE_ARGUMENTS)
)  # fmt: skip
# What the cost model assumes of a core; only ratios matter. Multiply-adds of a lane in a microsecond; bytes of weights and of
# what does not stay near; bytes that another core wrote; the cost of a chunk in microseconds.
_PRODUCTS, _STREAMED, _REMOTE, _CHUNK = 6e3, 30e3, 25e3, 0.5
# Parts of a core's cache: for a panel's rows, and for its weights.
_ROWS, _WEIGHTS = 0.5, 1 / 16


@dataclass(frozen=True)
class ExpandedPlan:
    """A step, and the weights of the convolution and of the depthwise one."""

    step: KernelPlan
    weights: PackedWeights
    depthwise: PackedWeights


@dataclass(frozen=True)
class _Band:
    """Rows of the result that are made together, and how many rows in between each block of them meets."""

    rows: int
    meets: tuple[int, ...]


def _band(rows: int, height: int, block: int, kernel: int, stride: int, top: int, dilation: int) -> _Band:
    reach, meets = dilation * (kernel - 1) + 1, []
    for first in range(0, rows, block):
        low = first * stride - top
        high = min(max(low + (min(block, rows - first) - 1) * stride + reach, 0), height)
        meets.append(high - min(max(low, 0), high))
    return _Band(block, tuple(meets))


@lru_cache(maxsize=1024)
def expanded_plan(
    target: Target, images: int, in_channels: int, channels: int, height: int, width: int, kernel: Pair, stride: Pair,
    padding: Padding, dilation: Pair, inner: Any = None, expression: Any = None, operands: tuple[str, ...] = (),
    cut: Pair | None = None,
) -> ExpandedPlan | None:  # fmt: skip
    """[N, I, H, W] -> [N, C, OH, OW], all blocked: a 1x1 convolution, `inner` of its `y`, a depthwise convolution, `expression`
    of its `y` and of operands as those of `depthwise_plan`. None where no tile fits, or the walk along a row. `cut`:
    (rows, panels) of a chunk, else the planner's choice. ValueError for an image that is smaller than the kernel.
    """
    lanes = target.lanes
    in_blocks, blocks = divide(in_channels, lanes), divide(channels, lanes)
    later = depthwise_plan(target, images, channels, height, width, kernel, stride, padding, dilation, expression, operands)
    size = later.step.arguments
    rows, columns = size["rows"], size["columns"]
    panel = min(2, blocks)
    units = blocks // panel + blocks % panel
    weights = 4 * in_blocks * lanes * panel * lanes
    if not walks(target, kernel, stride, dilation) or weights > target.cache * _WEIGHTS or not images * rows * columns:
        return None

    def band_of(block: int) -> _Band:
        return _band(rows, height, block, kernel[0], stride[0], padding[0][0], dilation[0])

    def estimate(band: _Band, part: int) -> float:
        made, streamed = sum(band.meets) / len(band.meets), _STREAMED * target.pace.shared
        plane = 4 * max(band.meets) * width * panel * lanes
        each = made * width * panel * in_blocks * lanes + band.rows * columns * panel * math.prod(kernel)
        time = each / _PRODUCTS * target.slowness + weights / streamed
        time += 2 * plane / streamed if plane > target.cache * _ROWS else 0
        chunks, total = images * len(band.meets) * divide(units, part), 0.0
        for workers in target.workers:
            total += divide(chunks, workers) * workers * (_CHUNK + part * time)
            sharers = max(1.0, workers / (images * len(band.meets)))
            moved = 4 * lanes * images * (blocks * rows * columns + workers * in_blocks * height * width)
            total += (1 - 1 / sharers) * moved / (_REMOTE * target.pace.shared)
        return total

    if cut is None:
        row_cuts = sorted({divide(rows, n) for n in range(1, min(rows, 32) + 1)}, reverse=True)
        parts = sorted({divide(units, n) for n in range(1, min(units, 32) + 1)}, reverse=True)
        cuts = [(band, part) for band in map(band_of, row_cuts) for part in parts]
        best, part = min(cuts, key=lambda c: estimate(*c))
        cut = (best.rows, part)
    band, part = band_of(cut[0]), cut[1]
    counts = {meets * width for meets in band.meets if meets}
    pixels, _ = register_tile(target, min(counts, default=1), blocks)
    capacity = max(band.meets) * width * lanes
    vectors_at = panel * lanes
    plane_at = vectors_at + size["head"] + width * lanes
    x_block = height * width * lanes
    mine = {
        "pixels": pixels, "panel": panel, "head": vectors_at, "panel_chunks": divide(units, part), "groups": 1,
        "chunk_panels": part, "channels": channels, "out_blocks": blocks, "in_blocks": in_blocks, "tap_count": 1,
        "last_channels": min(lanes, divide(in_channels - (in_blocks - 1) * lanes, 4) * 4),
        "x_image": in_blocks * x_block, "x_block": x_block, "y_block": capacity, "y_pixel": lanes, **in_plane(in_blocks),
        "stride": stride[0], "reach": dilation[0] * (kernel[0] - 1) + 1, "plane_at": plane_at, "vectors_at": vectors_at,
    }  # fmt: skip
    known = {"x": 0, **size, "row_blocks": len(band.meets), "block_rows": band.rows}
    arguments = {name: 0 for name in DIRECT_ARGUMENTS if name not in ("x", "w", "bias", "taps")} | mine
    arguments |= {f"depthwise_{name}": value for name, value in known.items()}
    parameters = (
        ("pixels", pixels), ("vectors", panel), ("uneven", any(count % pixels for count in counts)),
        ("tail", blocks % panel != 0), ("ragged", channels % lanes != 0), ("epilogue", inner), *later.step.kernel.parameters,
    )  # fmt: skip
    step = KernelPlan(
        Kernel("conv_depthwise", parameters),
        arguments,
        {"taps": np.arange(in_blocks, dtype=np.int64) * x_block},
        images * len(band.meets) * divide(units, part),
        plane_at + panel * capacity,
        images,
    )
    form = PackedWeights(1, channels, in_channels, (0,), 1, panel, lanes, False, False)
    return ExpandedPlan(step, form, later.weights)
