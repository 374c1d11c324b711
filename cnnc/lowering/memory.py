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
    first, last, begin, end = (np.zeros(len(order), np.int64) for _ in range(4))
    offsets: dict[str, int] = {}
    size = 0
    for count, life in enumerate(order):
        together = np.nonzero((first[:count] <= life.last) & (last[:count] >= life.first))[0]
        offset, need = 0, aligned(life.bytes)
        for i in together[np.argsort(begin[together], kind="stable")]:
            if offset + need <= begin[i]:
                break
            offset = max(offset, int(end[i]))
        first[count], last[count], begin[count], end[count] = life.first, life.last, offset, offset + need
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
