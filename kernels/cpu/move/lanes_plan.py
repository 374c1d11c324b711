"""From channels that change their lanes to a launch. Nothing here imports Numba."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import Kernel
from ..launches import Launch, bits, divide, round_up
from ..target import Target
from .plan import LANES_ARGUMENTS, PADDING, Table, joined, per_chunk

SOURCES = 4  # vectors that a vector of the result is put together from in registers


@dataclass(frozen=True)
class Lanes:
    """A blocked result [N][CB][space...][L] of a blocked source. images, space: offsets in floats, as `Move`'s; channels: for each
    channel of the result the channel of the source, or FILL; plane: floats of a block of the source. fill: what stands where there
    is no element.
    """

    images: Table
    channels: Table
    space: tuple[Table, ...]
    plane: int
    fill: float = 0.0
    apart: bool = False  # whether images keep to themselves


def plan_lanes(target: Target, move: Lanes) -> Launch:
    """`x` to `y`. A row is a line of pixels of one block: each of them is put together from few vectors in registers, or lane
    by lane.
    """
    lanes, channels = target.lanes, move.channels
    images, blocks = len(move.images), divide(len(channels), lanes)
    outer = np.zeros(1, np.int64)
    for table in move.space[:-1]:
        outer = joined(outer, table)
    inner = move.space[-1] if move.space else np.zeros(1, np.int64)
    rows = images * blocks * len(outer)
    if rows * len(inner) == 0:
        return Launch(Kernel("move_lanes"), {}, (), 0)
    padded = np.full(round_up(len(channels), lanes), PADDING, np.int64)
    padded[: len(channels)] = channels
    bases, sources = _sources(padded.reshape(-1, lanes), lanes)
    places = np.where(padded >= 0, padded // lanes * move.plane + padded % lanes, padded)
    chunk = per_chunk(rows, len(inner) * lanes, images if move.apart else 0)
    numbers = {
        "blocks": blocks, "rows": rows, "rows_per_chunk": chunk, "outers": len(outer), "inners": len(inner),
        "fill": bits(move.fill),
    }  # fmt: skip
    tables = {
        "images": move.images, "outer": outer, "inner": inner, "places": places, "bases": bases * move.plane,
        "picks": _picks(padded, bases, sources, lanes),
    }  # fmt: skip
    complete = all(table.min() >= 0 for table in (*move.space, padded))
    kernel = Kernel("move_lanes", (("sources", sources), ("complete", complete)))
    whole = move.apart and (rows // images) % chunk == 0
    return Launch.of(kernel, LANES_ARGUMENTS, numbers, tables).cut(divide(rows, chunk), links=images if whole else 0)


def _sources(channels: Table, lanes: int) -> tuple[Table, int]:
    """The blocks of the source that each block of the result reads, as many for each; 0 where they are too many."""
    found = [np.unique(row[row >= 0] // lanes) for row in channels]
    most = max(1, *map(len, found))
    if most > SOURCES:
        return np.zeros(1, np.int64), 0
    most = 1 if most == 1 else 2 * divide(most, 2)
    bases = np.zeros((len(found), most), np.int64)
    for row, blocks in zip(bases, found, strict=True):
        row[:] = np.resize(blocks, most) if len(blocks) else 0
        row[: len(blocks)] = blocks
    return bases.ravel(), most


def _picks(channels: Table, bases: Table, sources: int, lanes: int) -> Table:
    """For each lane of the result which of its block's sources' lanes it is, or FILL or PADDING."""
    if not sources:
        return np.zeros(1, np.int64)
    result = channels.copy()
    for block, row in enumerate(bases.reshape(-1, sources)):
        for lane in range(block * lanes, (block + 1) * lanes):
            if channels[lane] >= 0:
                source = int(np.flatnonzero(row == channels[lane] // lanes)[0])
                result[lane] = source * lanes + channels[lane] % lanes
    return result
