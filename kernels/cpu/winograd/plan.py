"""Winograd's convolution: plans of its steps, and when it is faster than the direct one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from .. import Kernel, cost
from ..conv.arguments import PLANES, SLICES, in_plane
from ..launches import Launch, divide, panels
from ..problem import BARE, Conv, Epilogue, Pair
from ..target import Target
from .scheme import SCHEMES, Scheme, WinogradWeights

SPEEDS = cost.WINOGRAD

# Neighboring tiles that are transformed at once: their rows stay in the first level cache.
SEGMENT = 14
# Buffers: x, w (packed), bias (0: none), y, then the operands after the last name. Tiles are numbered
# over the images, of one over its phases, of one row by row: outputs of a dilated convolution whose rows, and whose columns,
# leave one remainder after division by the dilation are a phase, which is a convolution without dilation. A group of tiles
# is what the register tile holds, a block of groups what a chunk works on. chunk = block of groups * parts + part, a part of the
# filters' panels; V of a block stays in a worker's scratch for the next part.
WINOGRAD_ARGUMENTS = (
    "x", "w", "bias", "y",
    "parts", "part_panels", "set_panels",  # panels of a part, and of those in M at once
    "tiles", "panel", "groups", "tall", "block_groups",  # tiles of the first `tall` groups, the others have one less; out blocks
    "tile_rows", "tile_columns", "segment",  # of an image; tiles that are transformed at once
    "channels", "out_blocks", "in_blocks", "last_channels",  # outputs that exist; of the last input block: the others are passed over
    "x_image", "x_block", "height", "width", "top", "left", "row_dilation", "column_dilation",
    "y_image", "y_block", "y_row", "y_pixel", "rows", "columns",  # y_row, y_pixel: between neighbors of a phase
    "v_block", "v_point", "m_point",  # V[point][input block][tile], M[point][panel][vector][tile]
    "zeros_at", "half_at", "strip_at", "v_at", "m_at",  # in scratch
    *SLICES, *PLANES,
)  # fmt: skip


@dataclass(frozen=True)
class WinogradPlan:
    """A step, and the form of its weights."""

    step: Launch
    weights: WinogradWeights


@dataclass(frozen=True)
class Blocking:
    """How the work is cut: groups of tiles of a block; filters' panels of a chunk, and of those in M at once."""

    block_groups: int
    part_panels: int
    set_panels: int = 1


@dataclass(frozen=True)
class Problem:
    """A convolution of stride 1 as the kernel sees it: turned round in a data gradient. ValueError for an image that is smaller than
    the kernel.
    """

    target: Target
    scheme: Scheme
    conv: Conv
    transposed: bool = False
    images: int = field(init=False)
    channels: int = field(init=False)
    height: int = field(init=False)
    width: int = field(init=False)
    filters: int = field(init=False)
    rows: int = field(init=False)
    columns: int = field(init=False)

    def __post_init__(self) -> None:
        conv = self.conv.turned if self.transposed else self.conv
        names = ("images", "channels", "height", "width", "filters", "rows", "columns")
        sizes = (conv.images, conv.channels, *conv.size, conv.filters, *conv.out)
        for name, size in (*zip(names, sizes, strict=True), ("conv", conv)):
            object.__setattr__(self, name, size)

    @property
    def dilation(self) -> Pair:
        return self.conv.dilation[0], self.conv.dilation[1]

    @property
    def in_blocks(self) -> int:
        return divide(self.channels, self.target.lanes)

    @property
    def out_blocks(self) -> int:
        return divide(self.filters, self.target.lanes)

    @property
    def depth(self) -> int:
        """Input channels that are multiplied."""
        return divide(self.channels, 2) * 2

    @property
    def panel(self) -> int:
        return min(2, self.out_blocks)

    @property
    def units(self) -> int:
        """Panels, the single blocks of the tail among them."""
        return panels(self.out_blocks, self.panel)

    @property
    def tile_rows(self) -> int:
        """Of a phase."""
        return divide(divide(self.rows, self.dilation[0]), self.scheme.tall)

    @property
    def tile_columns(self) -> int:
        return divide(divide(self.columns, self.dilation[1]), self.scheme.outputs)

    @property
    def total(self) -> int:
        return self.images * self.dilation[0] * self.dilation[1] * self.tile_rows * self.tile_columns

    @property
    def groups(self) -> int:
        """Groups of tiles; all have `tiles` of them or one less."""
        return max(1, divide(self.total, self.target.tiles.sums // self.panel))

    @property
    def tiles(self) -> int:
        return max(1, divide(self.total, self.groups))


def applies(s: Problem) -> bool:
    """Whether the scheme's rounding error is at most four times the direct algorithm's: seven points need multiply and add to
    round once.
    """
    scheme, (down, along) = s.scheme, s.dilation
    return (
        s.images > 0
        and (s.target.fma or not scheme.exacting)
        and min(s.channels, s.filters) >= scheme.fewest
        and min(divide(s.rows, down), divide(s.columns, along)) >= scheme.smallest
    )


def _estimate(s: Problem, cut: Blocking) -> float:
    """Microseconds of core time, summed over the target's `workers`."""
    lanes, points, pace = s.target.lanes, s.scheme.points, s.target.pace
    streamed, memory, near = SPEEDS.streamed * pace.shared, SPEEDS.memory * pace.memory, SPEEDS.near * pace.own
    block_tiles = min(cut.block_groups * s.tiles, s.total)
    blocks, parts = divide(s.groups, cut.block_groups), divide(s.units, cut.part_panels)
    filters, depth = cut.part_panels * s.panel * lanes, s.depth
    compute = 2 * points * block_tiles * depth * filters / SPEEDS.rate * s.target.slowness
    weights = 4 * points * depth * filters
    again = streamed * (3 if weights * parts <= SPEEDS.near_weights * pace.own else 1)
    stream = weights / blocks / memory + weights * (1 - 1 / blocks) / again
    v = 4 * points * block_tiles * s.in_blocks * lanes
    if v + 4 * points * block_tiles * cut.set_panels * s.panel * lanes > near:
        stream += v * divide(cut.part_panels, cut.set_panels) / streamed
    time = max(compute, stream) + SPEEDS.visible * min(compute, stream)
    time += SPEEDS.backward * points / 36 * block_tiles * cut.part_panels * s.panel + SPEEDS.chunk
    forward = SPEEDS.forward * points / 36 * block_tiles * s.in_blocks
    total = 0.0
    for workers in s.target.workers:
        chunks = divide(blocks * parts, workers)
        met = min(divide(chunks, parts) + (chunks % parts > 0 and chunks > parts), blocks)  # blocks of a worker
        total += workers * ((chunks + SPEEDS.uneven) * time + met * forward)
    return total


def _direct(s: Problem) -> float:
    """The direct convolution's microseconds of core time, summed over the target's `workers`: eight chunks, weights hardly hidden."""
    products = math.prod(s.scheme.kernel) * divide(s.channels, 4) * 4 * s.out_blocks * s.target.lanes
    compute = 2 * products * s.images * s.rows * s.columns / SPEEDS.direct * s.target.slowness
    time = (compute + 0.8 * 4 * products / (SPEEDS.memory * s.target.pace.memory)) / 8
    return sum((divide(8, workers) + SPEEDS.uneven) * workers * time for workers in s.target.workers)


@lru_cache(maxsize=1024)
def _blocking(s: Problem) -> tuple[float, Blocking]:
    """The cut of the least estimated time, and that time. The choice follows the problem and the target alone."""
    floats = s.scheme.points * s.target.lanes
    most = max(SPEEDS.most, 4 * floats * s.depth * s.out_blocks // SPEEDS.part)
    parts = cost.parts(s.units, 16)

    def cuts() -> Iterator[Blocking]:
        for block_groups in sorted({*cost.parts(s.groups), *(n for n in (1, 2, 3, 4) if n <= s.groups)}):
            v = 4 * floats * block_groups * s.tiles * s.in_blocks
            if v <= most or block_groups == 1:
                sets = 4 if v >= 1 << 20 and block_groups > 1 else 1
                yield from (Blocking(block_groups, part, min(sets, part)) for part in parts)

    choice = cost.least(cuts(), lambda cut: _estimate(s, cut), Blocking(1, s.units))
    return _estimate(s, choice), choice


def winograd_times(
    target: Target, conv: Conv, transposed: bool = False, repacked: bool = False
) -> dict[Scheme | None, float]:
    """The estimated time of every scheme that applies to a convolution of stride 1, or with `transposed` to the gradient of its
    input, and under None of the direct convolution: only ratios matter. Empty where no scheme applies. `repacked`: the weights
    change, and are packed each time.
    """
    times: dict[Scheme | None, float] = {}
    for scheme in SCHEMES.get(conv.kernel, ()):
        s = Problem(target, scheme, conv, transposed)
        if not applies(s):
            continue
        blocks = s.in_blocks * s.out_blocks * (target.lanes / 16) ** 2 if repacked else 0
        packing = len(target.workers) * target.slowness * blocks
        times[scheme] = _blocking(s)[0] + packing * (SPEEDS.packed + SPEEDS.packed_point * scheme.points)
        times[None] = _direct(s) + packing * SPEEDS.packed_direct * math.prod(scheme.kernel) / 9
    return times


def best(times: dict[Scheme | None, float]) -> tuple[float, Scheme | None]:
    """The direct algorithm's time over that of the fastest scheme, and that scheme."""
    schemes = [scheme for scheme in times if scheme is not None]
    if not schemes:
        return 0.0, None
    fastest = min(schemes, key=times.__getitem__)
    return times[None] / times[fastest], fastest


def _scratch(s: Problem, cut: Blocking, head: int) -> tuple[dict[str, int], int]:
    """Where what lies in scratch, behind so many floats; and the floats of it."""
    lanes, scheme = s.target.lanes, s.scheme
    block_groups, segment = min(cut.block_groups, s.groups), min(SEGMENT, s.tile_columns)
    # Odd numbers of vectors between the points: powers of two would meet in few sets of the cache.
    v_point = (s.in_blocks * block_groups * s.tiles | 1) * lanes
    m_point = (cut.set_panels * s.panel * block_groups * s.tiles | 1) * lanes
    half_at = head + lanes
    strip_at = half_at + scheme.tall * scheme.size * lanes
    v_at = strip_at + (scheme.outputs * segment + scheme.taps - 1) * scheme.high * lanes
    m_at = v_at + scheme.points * v_point
    places = {
        "v_block": block_groups * s.tiles * lanes, "v_point": v_point, "m_point": m_point,
        "zeros_at": head, "half_at": half_at, "strip_at": strip_at, "v_at": v_at, "m_at": m_at,
    }  # fmt: skip
    return places, m_at + scheme.points * m_point


def winograd_plan(
    s: Problem, epilogue: Epilogue = BARE, window: int = 1, blocking: Blocking | None = None
) -> WinogradPlan:  # fmt: skip
    """The convolution [N, C, H, W] -> [N, K, H', W'], or the gradient of its input, dy (as `x`) -> dx (as `y`), all blocked.

    With a `window` of 2 the result is what max pooling by 2 x 2 makes of it: of an even number of rows and of columns, without
    dilation and without "full" operands. ValueError for windows that do not fill a tile.
    """
    target, scheme, dilation = s.target, s.scheme, s.dilation
    if scheme.outputs % window or scheme.tall % window:
        raise ValueError(f"windows of {window} do not fill tiles of {scheme}")
    rows, columns = s.rows // window, s.columns // window
    cut = blocking or _blocking(s)[1]
    lanes, panel = target.lanes, s.panel
    block_groups = min(cut.block_groups, s.groups)
    tall = s.total - s.groups * (s.tiles - 1)
    blocks, parts = divide(s.groups, block_groups), divide(s.units, cut.part_panels)
    places, scratch = _scratch(s, cut, epilogue.vectors * panel * lanes)
    x_block, y_block = s.height * s.width * lanes, rows * columns * lanes
    arguments = {
        "parts": parts, "part_panels": cut.part_panels, "set_panels": cut.set_panels,
        "tiles": s.tiles, "panel": panel, "groups": s.groups, "tall": tall, "block_groups": block_groups,
        "tile_rows": s.tile_rows, "tile_columns": s.tile_columns, "segment": min(SEGMENT, s.tile_columns),
        "channels": s.filters, "out_blocks": s.out_blocks, "in_blocks": s.in_blocks,
        "last_channels": s.depth - (s.in_blocks - 1) * lanes,
        "x_image": s.in_blocks * x_block, "x_block": x_block, "height": s.height, "width": s.width,
        "top": s.conv.padding[0][0], "left": s.conv.padding[1][0], "row_dilation": dilation[0], "column_dilation": dilation[1],
        "y_image": s.out_blocks * y_block, "y_block": y_block,
        "y_row": dilation[0] * columns * lanes, "y_pixel": dilation[1] * lanes, "rows": rows, "columns": columns,
        **places, **in_plane(s.in_blocks),
    }  # fmt: skip
    parameters = (
        ("outputs", scheme.outputs), ("taps", scheme.taps), ("axes", scheme.axes), ("tiles", s.tiles), ("vectors", panel),
        ("uneven", tall < s.groups),
        ("tail", s.out_blocks % panel != 0), ("masked", s.filters % lanes != 0), *epilogue.parameters, ("window", window),
    )  # fmt: skip
    launch = Launch.of(Kernel("winograd", parameters), (*WINOGRAD_ARGUMENTS, *epilogue.names), arguments)
    launch = launch.cut(blocks * parts if s.total else 0, scratch)
    return WinogradPlan(launch, WinogradWeights(scheme, s.filters, s.channels, panel, lanes, s.transposed))
