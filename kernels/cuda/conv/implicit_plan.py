"""Convolutions as products of matrices: from a problem to launches. Nothing here imports Numba.

    y[pixel, filter] = sum over entries e, channels c of 8 of x[pixel moved by e, c] * w[e, c, filter]

Everything is one kernel over tables of entries: the forward pass; the gradient of the input, with the channels' and the filters' parts
changed, of a stride as one launch for each remainder of the outputs' places by the stride; groups, where they have whole blocks of
channels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...cpu.launches import Launch, divide
from ...cpu.problem import BARE, Conv, Epilogue
from .. import Kernel
from ..target import LANES, Chip
from .tile import ENTRIES, TILES, Tile

NEVER = 1 << 24  # a move that no pixel survives
MOST_PARTS, LEAST_STEPS = 8, 4
Three = tuple[int, int, int]


def three(values: Sequence[int], fill: int) -> Three:
    """Of one to three axes, three."""
    a, b, c = (fill,) * (3 - len(values)) + tuple(values)
    return a, b, c


@dataclass(frozen=True)
class Taps:
    """What a launch adds up, over one grid of outputs in each image.

    grid: outputs along the axes. step, first: an output's place on an axis is first + step * index. stride, moves: index i meets the input
    at stride * i + move, of each tap. taps: their numbers among the weights'.
    """

    grid: Three
    step: Three
    first: Three
    stride: Three
    moves: tuple[Three, ...]
    taps: tuple[int, ...]


def forward(conv: Conv) -> Taps:
    out, stride, dilation = three(conv.out, 1), three(conv.stride, 1), three(conv.dilation, 1)
    before = three([p[0] for p in conv.padding], 0)
    places = list(itertools.product(*(range(k) for k in three(conv.kernel, 1))))
    moves = tuple(three([k * d - b for k, d, b in zip(place, dilation, before, strict=True)], 0) for place in places)
    return Taps(out, (1, 1, 1), (0, 0, 0), stride, moves, tuple(range(len(places))))


def backward(conv: Conv) -> list[Taps]:
    """Of the gradient of x, from that of y: x[i] meets y[(i + before - dilation k) / stride] where that is whole."""
    size, stride, dilation = three(conv.size, 1), three(conv.stride, 1), three(conv.dilation, 1)
    before, kernel = three([p[0] for p in conv.padding], 0), three(conv.kernel, 1)
    places = list(itertools.product(*(range(k) for k in kernel)))
    found = []
    for first in itertools.product(*(range(min(s, n)) for s, n in zip(stride, size, strict=True))):
        grid = three([divide(n - f, s) for n, f, s in zip(size, first, stride, strict=True)], 1)
        moves, taps = [], []
        for number, place in enumerate(places):
            at = [f + b - d * k for f, b, d, k in zip(first, before, dilation, place, strict=True)]
            if all(a % s == 0 for a, s in zip(at, stride, strict=True)):
                moves.append(three([a // s for a, s in zip(at, stride, strict=True)], 0))
                taps.append(number)
        found.append(Taps(grid, stride, three(first, 0), (1, 1, 1), tuple(moves), tuple(taps)))
    return found


@dataclass(frozen=True)
class Packed:
    """Weights in the kernel's order, [group][panel][entry][8 channels][filters of a tile], zeros where there are none.

    steps: in floats of the source, from group to group, filter to filter, channel to channel. taps: where each begins in it.
    """

    groups: int
    filters: int
    channels: int
    steps: Three
    taps: tuple[int, ...]
    width: int

    @property
    def entries(self) -> int:
        """Whole steps of the main loop, one at least."""
        return max(1, divide(len(self.taps) * self.blocks, ENTRIES)) * ENTRIES

    @property
    def blocks(self) -> int:
        return divide(self.channels, LANES)

    @property
    def panels(self) -> int:
        return divide(self.filters, self.width)

    @property
    def floats(self) -> int:
        return self.groups * self.panels * self.entries * LANES * self.width


PACK_SIZES = (
    "total",
    "width",
    "entries",
    "panels",
    "blocks",
    "filters",
    "channels",
    "taps",
    "group",
    "filter",
    "channel",
)
PACK_THREADS = 256


def plan_pack(packed: Packed) -> Launch:
    """`packed`: from the weights `source` of a network."""
    group, filter_, channel = packed.steps
    numbers = dict(
        zip(PACK_SIZES, (
            packed.floats, packed.width, packed.entries, packed.panels, packed.blocks, packed.filters, packed.channels,
            len(packed.taps), group, filter_, channel,
        ), strict=True)
    )  # fmt: skip
    table = np.array(packed.taps or (0,), np.int64)
    launch = Launch.of(Kernel("conv_pack"), ("source", "table", "packed", *PACK_SIZES), numbers, {"table": table})
    return launch.cut(divide(packed.floats, PACK_THREADS))


SIZES = (
    "pixels", "area", "plane", "columns", "stride_z", "stride_y", "stride_x", "depth", "height", "width", "x_image", "x_group",
    "steps", "share", "panels", "groups", "filters", "y_image", "y_block", "y_z", "y_y", "y_x", "y_first", "part",
)  # fmt: skip


@dataclass(frozen=True)
class Product:
    """A launch of the kernel, the weights that it wants, and how many parts of its sums it leaves beside each other (1: all is done)."""

    launch: Launch
    weights: Packed
    parts: int


@dataclass(frozen=True)
class Problem:
    """Which numbers `Taps` are applied to: x [images][groups * channels][size], y [images][groups * filters][out], both in blocks.
    steps: of the weights, as `Packed` has them; a tap lies behind the one before it.
    """

    images: int
    groups: int
    channels: int
    filters: int
    size: Three
    out: Three
    steps: Three

    @property
    def fits(self) -> bool:
        """Whether groups have whole blocks of channels, on both sides."""
        return self.groups == 1 or (self.channels % LANES == 0 and self.filters % LANES == 0)


def of_forward(conv: Conv) -> Problem:
    one, taps = conv.of_group, math.prod(conv.kernel)
    steps = (one.filters * one.channels * taps, one.channels * taps, taps)
    return Problem(conv.images, conv.groups, one.channels, one.filters, three(conv.size, 1), three(conv.out, 1), steps)


def of_backward(conv: Conv) -> Problem:
    """Of the gradient of x: what comes in is that of y."""
    one, taps = conv.of_group, math.prod(conv.kernel)
    steps = (one.filters * one.channels * taps, taps, one.channels * taps)
    return Problem(conv.images, conv.groups, one.filters, one.channels, three(conv.out, 1), three(conv.size, 1), steps)


def choose(chip: Chip, pixels: int, filters: int, groups: int, entries: int) -> tuple[Tile, int]:
    """The tile, and into how many parts the sums are cut, by the time that all blocks take in waves over the multiprocessors: as many steps
    as a part has, each with its products and, at a rate that is a sixteenth of it, its copies.
    """

    def time(tile: Tile, parts: int) -> tuple[float, int]:
        blocks = divide(pixels, tile.pixels) * divide(filters, tile.filters) * groups * parts
        steps = divide(divide(entries, ENTRIES), parts)
        each = tile.pixels * tile.filters + 16 * (tile.pixels + tile.filters)
        waves = divide(blocks, chip.multiprocessors * tile.resident) * tile.resident
        return waves * (steps + 4) * each * (1 + 0.02 * (parts > 1)), parts

    most = max(1, min(MOST_PARTS, divide(entries, ENTRIES * LEAST_STEPS)))
    options = [(tile, parts) for tile in TILES for parts in range(1, most + 1)]
    return min(options, key=lambda option: time(*option))


def choice(chip: Chip, problem: Problem, taps: Taps) -> tuple[Tile, int]:
    """The tile and the parts of one launch."""
    entries = len(taps.taps) * divide(problem.channels, LANES)
    return choose(chip, problem.images * math.prod(taps.grid), problem.filters, problem.groups, entries)


def plan(
    chip: Chip,
    problem: Problem,
    taps: Taps,
    epilogue: Epilogue = BARE,
    chosen: tuple[Tile, int] | None = None,
) -> Product:
    """y at the outputs of `taps`: the epilogue's expression of the sums and of a0, a1, ...; of more parts than one the bare sums, one part
    behind the other, which a map adds up (`MOST_PARTS` at most, in their order).
    """
    assert problem.fits
    pixels = problem.images * math.prod(taps.grid)
    blocks = divide(problem.channels, LANES)
    tile, parts = chosen or choice(chip, problem, taps)
    packed = Packed(
        problem.groups,
        problem.filters,
        problem.channels,
        problem.steps,
        taps.taps,
        tile.filters,
    )
    steps = packed.entries // ENTRIES
    parts = min(parts, steps)
    depth, height, width = problem.size
    plane = LANES * math.prod(problem.size)
    y_steps = [LANES * n for n in (problem.out[1] * problem.out[2], problem.out[2], 1)]
    y_block = LANES * math.prod(problem.out)
    y_image = y_block * divide(problem.groups * problem.filters, LANES)
    numbers = {
        "pixels": pixels, "area": math.prod(taps.grid), "plane": taps.grid[1] * taps.grid[2], "columns": taps.grid[2],
        "stride_z": taps.stride[0], "stride_y": taps.stride[1], "stride_x": taps.stride[2],
        "depth": depth, "height": height, "width": width,
        "x_image": plane * divide(problem.groups * problem.channels, LANES), "x_group": plane * blocks,
        "steps": steps, "share": divide(steps, parts), "panels": packed.panels, "groups": problem.groups, "filters": problem.filters,
        "y_image": y_image, "y_block": y_block,
        "y_z": y_steps[0] * taps.step[0], "y_y": y_steps[1] * taps.step[1], "y_x": y_steps[2] * taps.step[2],
        "y_first": sum(f * s for f, s in zip(taps.first, y_steps, strict=True)), "part": y_image * problem.images,
    }  # fmt: skip
    parts = divide(steps, numbers["share"])
    table = _table(problem, taps, packed.entries, blocks)
    after = BARE if parts > 1 else epilogue
    parameters = {
        "tile": tile.parameters, "expression": after.expression, "operands": after.operands, "parts": parts > 1,
        "deep": max(depth, taps.grid[0]) > 1 or any(z for z, _, _ in taps.moves),
    }  # fmt: skip
    names = ("x", "weights", "table", "y", *after.names, *SIZES)
    launch = Launch.of(Kernel("conv_implicit", tuple(parameters.items())), names, numbers, {"table": table})
    chunks = divide(pixels, tile.pixels) * packed.panels * problem.groups * parts
    return Product(launch.cut(chunks), packed, parts)


def tile_of(launch: Launch) -> Tile:
    """The tile of a product's launch."""
    numbers: Any = dict(launch.kernel.parameters)["tile"]
    return Tile(*numbers)


def _table(problem: Problem, taps: Taps, entries: int, blocks: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """For each entry four int32: how far its numbers lie behind the pixel's, in floats, and its moves along the axes."""
    depth, height, width = problem.size
    table = np.zeros((entries, 4), np.int32)
    table[:, 1:] = NEVER
    rows = [
        (LANES * (block * depth * height * width + (z * height + y) * width + x), z, y, x)
        for z, y, x in taps.moves
        for block in range(blocks)
    ]
    table[: len(rows)] = np.array(rows, np.int32).reshape(-1, 4)
    return table.reshape(-1).view(np.int64)
