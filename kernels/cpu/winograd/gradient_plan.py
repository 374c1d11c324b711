"""Plans of the weight gradient by Winograd's algorithm, and when it is faster than the direct one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from .. import Kernel, cost
from ..conv.arguments import SLICES, in_plane
from ..launches import Launch, divide
from ..problem import Conv
from ..target import Target
from .plan import SEGMENT, Problem, applies
from .scheme import SCHEMES, Scheme

# Buffers: x, dy (both blocked), dw (oihw, one for each split of the tiles). Tiles are numbered over the images, row by row.
# chunk = (split of the tiles * out_parts + part of the output units) * in_parts + part of the input blocks. A unit is a
# panel of output blocks, or one of the blocks behind the panels.
GRADIENT_ARGUMENTS = (
    "x", "dy", "dw",
    "in_parts", "out_parts", "part_blocks", "part_units", "split_tiles", "block_tiles",
    "panel", "total", "tile_rows", "tile_columns", "segment",  # tiles in all, of an image; tiles that are transformed at once
    "in_channels", "out_channels", "in_blocks", "out_blocks",
    "x_image", "x_block", "height", "width", "top", "left",
    "dy_image", "dy_block", "rows", "columns",
    "v_block", "v_point", "m_block", "m_point", "u_point", "dw_split",  # V[point][block][tile], dM likewise, dU[point]
    "strip_at", "taps_at", "v_at", "m_at", "u_at",  # in scratch
    *SLICES, "dw_channel",  # floats from the taps of an input channel to those of the next
)  # fmt: skip


@dataclass(frozen=True)
class Cut:
    """How the work is cut: input blocks, and units of output blocks, of a chunk; into how many splits the tiles; tiles
    of which V and dM are in scratch at once.
    """

    part_blocks: int
    part_units: int
    splits: int
    block_tiles: int


@dataclass(frozen=True)
class GradientPlan:
    """The step, and how many parts of the tiles it makes a dw of each: the gradient is their sum."""

    step: Launch
    parts: int
    cut: Cut


class GradientProblem(Problem):
    """The convolution's sizes, with the register tile of the gradient."""

    @property
    def register_tile(self) -> tuple[int, int]:
        """Input channels and vectors of output channels."""
        channels, vectors = self.target.tiles.gradient
        return channels, min(vectors, self.out_blocks)

    @property
    def filled(self) -> float:
        """The part of the input blocks that is multiplied: the last ends with the last tile that has a channel."""
        channels = self.register_tile[0]
        return divide(self.channels, channels) * channels / (self.in_blocks * self.target.lanes)

    @property
    def panel(self) -> int:
        return self.register_tile[1]


# The time is summed over these numbers of workers. At a step's end each waits for the others, for this part of a chunk.
_WORKERS, _UNEVEN = (2, 2, 8), 0.25
# Output pixels of all images that a scheme needs: the sums of a few products leave the direct gradient almost exact. At
# these numbers the error is up to three times the direct gradient's, and below it from some thousand pixels on.
FEWEST_PIXELS = {Scheme(4, 3): 150, Scheme(2, 3): 0, Scheme(3, 3): 150, Scheme(2, 5): 700, Scheme(3, 5): 5000}
_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # of the tiles
# Floats of scratch at most.
_SCRATCH = 1 << 19


def _sizes(s: GradientProblem, cut: Cut) -> tuple[int, int, int]:
    """Floats of V, dM and dU in scratch."""
    lanes, panel, points = s.target.lanes, s.panel, s.scheme.points
    blocks = min(cut.part_units * panel, s.out_blocks)
    v = points * (cut.part_blocks * cut.block_tiles | 1) * lanes
    m = points * (blocks * cut.block_tiles | 1) * lanes
    return v, m, points * (cut.part_blocks * blocks * lanes | 1) * lanes


def _scratch(s: GradientProblem, cut: Cut) -> int:
    lanes, scheme = s.target.lanes, s.scheme
    strip = (scheme.outputs * min(SEGMENT, s.tile_columns) + scheme.taps - 1) * scheme.size
    return (1 + strip + scheme.taps**2 * lanes) * lanes + sum(_sizes(s, cut))


def _estimate(s: GradientProblem, cut: Cut) -> float:
    """Microseconds of core time, summed over `_WORKERS`."""
    core, lanes, points, pace = cost.WINOGRAD_GRADIENT[s.target.name], s.target.lanes, s.scheme.points, s.target.pace
    tiles = divide(s.total, cut.splits)
    outs = min(cut.part_units * s.panel, s.out_blocks)
    v, m, u = _sizes(s, cut)
    passes = divide(tiles, cut.block_tiles)
    compute = 2 * points * tiles * cut.part_blocks * s.filled * outs * lanes**2 / core.rate
    moved = 4 * (2 * u * passes + 2 * (v + m) * tiles / cut.block_tiles)
    moving = moved / (core.near_rate if 4 * (v + m + u) <= core.near * pace.own else core.far_rate * pace.shared)
    transforms = tiles * (cut.part_blocks * core.forward + outs * core.spread)
    transforms += cut.part_blocks * outs * lanes * core.inverse
    time = max(compute, moving) + 0.35 * min(compute, moving) + points / 36 * transforms + cost.CHUNK
    chunks = cut.splits * divide(s.in_blocks, cut.part_blocks) * divide(s.units, cut.part_units)
    total = sum((divide(chunks, workers) + _UNEVEN) * workers * time for workers in _WORKERS)
    moves = cut.splits + 1 if cut.splits > 1 else 0
    return total + len(_WORKERS) * (_bytes(s) * (1 + moves) / cost.SHARED + (4 * cost.CHUNK if moves else 0))


def _bytes(s: GradientProblem) -> int:
    """Of dw."""
    return 4 * s.channels * s.filters * s.scheme.taps**2


def _direct(s: GradientProblem) -> float:
    """The direct gradient's microseconds of core time, summed over `_WORKERS`: by taps and blocks, hardly uneven."""
    products = s.scheme.taps**2 * s.in_blocks * s.filled * s.out_blocks * s.target.lanes**2
    compute = 2 * products * s.images * s.rows * s.columns / cost.WINOGRAD_GRADIENT[s.target.name].direct
    return len(_WORKERS) * (compute + _bytes(s) / cost.SCATTERED)


@lru_cache(maxsize=1024)
def _cut(s: GradientProblem) -> tuple[float, Cut]:
    """The cut of the least estimated time, and that time. The choice follows the problem alone."""
    parts, units = cost.parts(s.in_blocks, 32)[::-1], cost.parts(s.units, 32)[::-1]

    def cuts() -> Iterator[Cut]:
        for splits in (n for n in _SPLITS if n <= s.total):
            share = divide(s.total, splits)
            for blocks in {divide(share, n) for n in range(1, 65)}:
                if 8 <= blocks <= 256 or blocks == share:
                    tried = (Cut(part, unit, splits, blocks) for part in parts for unit in units)
                    yield from (cut for cut in tried if _scratch(s, cut) <= _SCRATCH)

    choice = cost.least(cuts(), lambda cut: _estimate(s, cut), Cut(1, 1, 1, min(s.total, 16)))
    return _estimate(s, choice), choice


def gradient_times(target: Target, conv: Conv) -> dict[Scheme | None, float]:
    """The estimated time of every scheme that applies, and under None of the direct gradient: only ratios matter. Empty
    where no scheme applies.
    """
    times: dict[Scheme | None, float] = {}
    for scheme in SCHEMES.get(conv.kernel, ()) if conv.kernel[0] > 1 else ():
        s = GradientProblem(target, scheme, conv)
        if s.images * s.rows * s.columns >= FEWEST_PIXELS[scheme] and applies(s):
            times |= {scheme: _cut(s)[0], None: _direct(s)}
    return times


def gradient_plan(s: GradientProblem, cut: Cut | None = None) -> GradientPlan:
    """The gradient of the weights: x [N, C, H, W], dy [N, K, H', W'], both blocked -> dw [K, C, r, r]. With several parts `dw` is
    [parts, K, C, r, r].
    """
    cut, scheme = cut or _cut(s)[1], s.scheme
    lanes, (in_channels, panel) = s.target.lanes, s.register_tile
    split_tiles = divide(s.total, cut.splits)
    splits = divide(s.total, max(split_tiles, 1)) if s.total else 1
    in_parts, out_parts = divide(s.in_blocks, cut.part_blocks), divide(s.units, cut.part_units)
    segment = min(SEGMENT, s.tile_columns)
    v, m, u = _sizes(s, cut)
    strip = (scheme.outputs * segment + scheme.taps - 1) * scheme.size * lanes
    taps_at = lanes + strip
    v_at = taps_at + scheme.taps**2 * lanes**2
    x_block, dy_block, size = (
        s.height * s.width * lanes,
        s.rows * s.columns * lanes,
        s.filters * s.channels * scheme.taps**2,
    )
    arguments = {
        "in_parts": in_parts, "out_parts": out_parts, "part_blocks": cut.part_blocks, "part_units": cut.part_units,
        "split_tiles": split_tiles, "block_tiles": cut.block_tiles, "panel": panel, "total": s.total,
        "tile_rows": s.tile_rows, "tile_columns": s.tile_columns, "segment": segment,
        "in_channels": s.channels, "out_channels": s.filters, "in_blocks": s.in_blocks, "out_blocks": s.out_blocks,
        "x_image": s.in_blocks * x_block, "x_block": x_block, "height": s.height, "width": s.width,
        "top": s.conv.padding[0][0], "left": s.conv.padding[1][0],
        "dy_image": s.out_blocks * dy_block, "dy_block": dy_block, "rows": s.rows, "columns": s.columns,
        "v_block": cut.block_tiles * lanes, "v_point": v // scheme.points, "m_block": cut.block_tiles * lanes,
        "m_point": m // scheme.points, "u_point": u // scheme.points, "dw_split": size,
        "strip_at": lanes, "taps_at": taps_at, "v_at": v_at, "m_at": v_at + v, "u_at": v_at + v + m,
        **in_plane(), "dw_channel": scheme.taps**2,
    }  # fmt: skip
    parameters = (("outputs", scheme.outputs), ("taps", scheme.taps), ("channels", in_channels), ("vectors", panel))
    launch = Launch.of(Kernel("winograd_weight_gradient", parameters), GRADIENT_ARGUMENTS, arguments)
    launch = launch.cut(splits * in_parts * out_parts if s.total else 0, _scratch(s, cut))
    return GradientPlan(launch, splits, cut)
