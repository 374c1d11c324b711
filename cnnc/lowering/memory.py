"""Lifetimes to offsets: all buffers of a Plan in one arena.

A buffer lives from the step that first writes it to the last step that reads it. Buffers are placed from the largest to
the smallest, each at the lowest offset that is free for its whole life (greedy by size; Pisarchyk and Lee, 2020).
`check` is the independent walk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from cnnc.lowering.plan import Plan, Step

ALIGNMENT = 64


@dataclass(frozen=True)
class Life:
    """A buffer needed from step `first` to step `last`, both included."""

    name: str
    bytes: int
    first: int
    last: int


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def place(lives: Sequence[Life]) -> tuple[dict[str, int], int]:
    """Offsets by name, and the size of the arena."""
    order = sorted(lives, key=lambda life: (-life.bytes, life.first, life.name))
    # Of the buffers that have a place, by its beginning: first and last step, beginning and end.
    placed = np.zeros((4, len(order)), np.int64)
    offsets: dict[str, int] = {}
    size = 0
    for count, life in enumerate(order):
        first, last, begin, end = placed[:, :count]
        together = np.nonzero((first <= life.last) & (last >= life.first))[0]
        need = aligned(life.bytes)
        # free[i]: the lowest offset behind the i lowest neighbors; the last of them is behind all
        free = np.maximum.accumulate(np.concatenate([[0], end[together]]))
        fits = free[:-1] + need <= begin[together]
        offset = int(free[int(np.argmax(fits)) if fits.any() else -1])
        at = int(np.searchsorted(begin, offset, "right"))
        placed[:, at + 1 : count + 1] = placed[:, at:count]
        placed[:, at] = life.first, life.last, offset, offset + need
        offsets[life.name] = offset
        size = max(size, offset + need)
    return offsets, size


def check(lives: Sequence[Life], offsets: Mapping[str, int], size: int) -> None:
    """Walk the steps and see that no two live buffers overlap. Raises AssertionError: a bug of ours."""
    steps = sorted({life.first for life in lives} | {life.last for life in lives})
    for step in steps:
        live = sorted((offsets[b.name], offsets[b.name] + b.bytes, b.name) for b in lives if b.first <= step <= b.last)
        for (_, end, name), (start, _, other) in pairwise(live):
            assert end <= start, f"%{name} and %{other} overlap at step {step}"
        assert not live or live[-1][1] <= size, f"%{live[-1][2]} ends beyond the arena"


# ------------------------------------------------------------------------------------------------ what a call takes


@dataclass(frozen=True)
class Memory:
    """Bytes that a batch size needs: the arena with results and the workers' own memory, values (params and states) that a
    call reads as they are, packed weights, and scratch of all workers.
    """

    arena: int
    values: int
    packed: int
    scratch: int

    @property
    def total(self) -> int:
        return self.arena + self.values + self.packed + self.scratch


def working(steps: Sequence[Step], workers: int) -> int:
    """Workers that find something to do, of as many as there are."""
    return max(1, min(workers, max((s.links or s.chunks for s in steps), default=1)))


def memory_of(plan: Plan, threads: int) -> Memory:
    """The memory that running a Plan takes."""
    arena = plan.arena + plan.bytes_in("result") + working(plan.steps, threads) * plan.own
    return Memory(arena, plan.bytes_in("value"), plan.bytes_in("packed"), 4 * plan.scratch * threads)
