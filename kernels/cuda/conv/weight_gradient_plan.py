"""The gradient of a convolution's weights: from a problem to launches. Nothing here imports Numba.

    dw[filter, channel, tap] = sum over pixels of dy[pixel, filter] * x[pixel moved by tap, channel]

The pixels are cut into parts, whose sums lie one behind the other, [part][group][tap][filters][channels] with whole blocks of both: a
map adds them up in their order, and puts them where weights lie.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...cpu.launches import Launch, divide
from ...cpu.problem import Conv
from .. import Kernel
from ..target import LANES, Chip
from .implicit_plan import forward, three

PIXELS, STAGES = 16, 3  # of a step; steps in shared memory
MOST_PARTS, LEAST_STEPS = 8, 8
AXES = "zyx"
SIZES = (
    "pixels", "area", "plane", "columns", *(f"stride_{a}" for a in AXES), *(f"size_{a}" for a in AXES), "x_image", "x_group",
    "x_block", "dy_image", "dy_group", "dy_block", "filter_blocks", "channel_blocks", "tall", "wide", "taps", "groups", "share",
)  # fmt: skip


@dataclass(frozen=True)
class Tile:
    """Filters x channels of a block, by `down` x `across` warps, whose threads have `fours` of both."""

    fours: tuple[int, int]
    down: int
    across: int

    @property
    def threads(self) -> int:
        return 32 * self.down * self.across

    @property
    def filters(self) -> int:
        return 32 * self.fours[0] * self.down

    @property
    def channels(self) -> int:
        return 16 * self.fours[1] * self.across

    @property
    def row(self) -> int:
        """Floats of a pixel in shared memory: 4 more than there are, against conflicts of banks."""
        return self.filters + 4 + self.channels + 4

    @property
    def shared(self) -> int:
        """Bytes of shared memory."""
        return 4 * STAGES * PIXELS * self.row

    @property
    def parameters(self) -> tuple[int, int, int, int]:
        return *self.fours, self.down, self.across


TILES = (Tile((2, 2), 2, 4), Tile((1, 2), 2, 2), Tile((1, 1), 1, 2))


def tile_of(parameters: tuple[int, int, int, int]) -> Tile:
    return Tile(parameters[:2], *parameters[2:])


@dataclass(frozen=True)
class Gradient:
    """A launch, into how many parts it cuts the pixels, and their sums' sizes: [parts][groups][taps][filters][channels], the last two in
    whole blocks.
    """

    launch: Launch
    parts: int
    shape: tuple[int, int, int, int]


def choose(chip: Chip, conv: Conv, steps: int) -> tuple[Tile, int]:
    """The tile, and the parts: by the time of all blocks in waves over the multiprocessors."""
    one, taps = conv.of_group, math.prod(conv.kernel)

    def time(tile: Tile, parts: int) -> tuple[float, int]:
        blocks = divide(one.filters, tile.filters) * divide(one.channels, tile.channels) * taps * conv.groups * parts
        each = tile.filters * tile.channels + 16 * (tile.filters + tile.channels)
        resident = 512 // tile.threads
        waves = divide(blocks, chip.multiprocessors * resident) * resident
        return waves * (divide(steps, parts) + 4) * each * (1 + 0.02 * (parts > 1)), parts

    most = max(1, min(MOST_PARTS, steps // LEAST_STEPS))
    return min(((tile, parts) for tile in TILES for parts in range(1, most + 1)), key=lambda option: time(*option))


def plan(chip: Chip, conv: Conv, chosen: tuple[Tile, int] | None = None) -> Gradient:
    """`dw`: the sums of `dy` and `x`, both in blocks of channels. Groups have whole blocks of both."""
    one, taps = conv.of_group, forward(conv)
    assert conv.groups == 1 or (one.channels % LANES == 0 and one.filters % LANES == 0)
    pixels, area = conv.images * math.prod(conv.out), math.prod(conv.out)
    steps = divide(pixels, PIXELS)
    tile, parts = chosen or choose(chip, conv, steps)
    share = divide(steps, min(parts, steps))
    parts = divide(steps, share)
    filter_blocks, channel_blocks = divide(one.filters, LANES), divide(one.channels, LANES)
    size, inside = three(conv.size, 1), LANES * math.prod(conv.size)
    tall, wide = divide(one.filters, tile.filters), divide(one.channels, tile.channels)
    numbers = {
        "pixels": pixels, "area": area, "plane": taps.grid[1] * taps.grid[2], "columns": taps.grid[2],
        "x_image": inside * divide(conv.channels, LANES), "x_group": inside * channel_blocks, "x_block": inside,
        "dy_image": LANES * area * divide(conv.filters, LANES), "dy_group": LANES * area * filter_blocks, "dy_block": LANES * area,
        "filter_blocks": filter_blocks, "channel_blocks": channel_blocks, "tall": tall, "wide": wide, "taps": len(taps.taps),
        "groups": conv.groups, "share": share,
    }  # fmt: skip
    numbers |= {f"stride_{a}": n for a, n in zip(AXES, taps.stride, strict=True)}
    numbers |= {f"size_{a}": n for a, n in zip(AXES, size, strict=True)}
    table = np.zeros((len(taps.taps), 4), np.int32)
    table[:, :3] = taps.moves
    deep = max(size[0], taps.grid[0]) > 1 or any(z for z, _, _ in taps.moves)
    kernel = Kernel("conv_weight_gradient", (("tile", tile.parameters), ("deep", deep)))
    launch = Launch.of(kernel, ("x", "dy", "table", "dw", *SIZES), numbers, {"table": table.reshape(-1).view(np.int64)})
    shape = (conv.groups, len(taps.taps), LANES * filter_blocks, LANES * channel_blocks)
    return Gradient(launch.cut(parts * conv.groups * len(taps.taps) * tall * wide), parts, shape)
