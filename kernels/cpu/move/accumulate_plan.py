"""The other way round: what one element went to is added up. Nothing here imports Numba."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import Kernel
from ..launches import Launch, divide
from ..target import Target
from .plan import LOOPS, Table, per_chunk

UNIT = 64  # floats that may lie behind an axis within a row
ACCUMULATE_ARGUMENTS = (
    "rows", "rows_per_chunk", "length", "low", "high", "shift", "unit", "others", "size1", "size2",
    "first0", "first1", "first2", "table0", "table1", "table2", "places", "sources", "x", "y",
)  # fmt: skip


@dataclass(frozen=True)
class Came:
    """An axis along which values were moved: for each place of what was made, the one that it came from (or FILL), of `size`; and the
    floats from one place of what was made to the next.
    """

    index: Table
    size: int
    stride: int

    @property
    def alike(self) -> bool:
        """Whether every place came from the same place."""
        return len(self.index) == self.size and bool((self.index == np.arange(self.size)).all())


@dataclass(frozen=True)
class _Lists:
    """For each place of the result, offsets of what is added up: those from first[i] to first[i + 1]."""

    first: Table
    offsets: Table

    def __len__(self) -> int:
        return len(self.first) - 1

    @staticmethod
    def of(axis: Came) -> _Lists:
        order = np.argsort(axis.index, kind="stable")
        order = order[axis.index[order] >= 0]
        counts = np.bincount(axis.index[order], minlength=axis.size)
        return _Lists(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), order.astype(np.int64) * axis.stride)

    def joined(self, inner: _Lists) -> _Lists:
        parts = [
            (self.offsets[self.first[i] : self.first[i + 1], None] + inner.offsets[inner.first[j] : inner.first[j + 1]]).ravel()
            for i in range(len(self))
            for j in range(len(inner))
        ]  # fmt: skip
        lengths = [0, *map(len, parts)]
        return _Lists(np.cumsum(lengths).astype(np.int64), np.concatenate(parts or [np.zeros(0, np.int64)]))


def plan_accumulate(target: Target, axes: Sequence[Came], images: int = 0) -> Launch:
    """Dense `y` of the sizes of the axes: each element the sum of those of `x` that came from it, in the order in which they lie
    there. images: as `Move`'s.
    """
    if math.prod(a.size for a in axes) == 0:
        return Launch(Kernel("move_accumulate"), {}, (), 0)
    merged = _collapsed(axes)
    unit = 1
    if len(merged) > 1 and merged[-1].alike and merged[-1].size <= UNIT and merged[-1].stride == 1:
        unit = merged.pop().size
    inner = merged.pop()
    low, high, shift, others = _row(inner, unit)
    lists = [_Lists.of(a) for a in merged]
    while len(lists) > LOOPS:
        at = min(range(len(lists) - 1), key=lambda i: len(lists[i]) * len(lists[i + 1]))
        lists[at : at + 2] = [lists[at].joined(lists[at + 1])]
    lists = [_Lists(np.array([0, 1]), np.zeros(1, np.int64))] * (LOOPS - len(lists)) + lists
    rows, length = math.prod(map(len, lists)), inner.size * unit
    chunk = per_chunk(rows, length, images)
    numbers = {
        "rows": rows, "rows_per_chunk": chunk, "length": length, "low": low, "high": high, "shift": shift, "unit": unit,
        "others": len(others), "size1": len(lists[1]), "size2": len(lists[2]),
    }  # fmt: skip
    nothing = np.zeros(1, np.int64)
    tables = {f"first{i}": lists[i].first for i in range(LOOPS)}
    tables |= {f"table{i}": lists[i].offsets if len(lists[i].offsets) else nothing for i in range(LOOPS)}
    tables |= {"places": inner.index[others] * unit, "sources": others * inner.stride} if len(others) else {}
    tables = {"places": nothing, "sources": nothing} | tables
    whole = images and rows % images == 0 and (rows // images) % chunk == 0
    launch = Launch.of(Kernel("move_accumulate"), ACCUMULATE_ARGUMENTS, numbers, tables)
    return launch.cut(divide(rows, chunk), links=images if whole else 0)


def _collapsed(axes: Sequence[Came]) -> list[Came]:
    """Neighbors along which nothing moved are one axis."""
    result: list[Came] = []
    for axis in axes:
        last = result[-1] if result else None
        if last is not None and last.alike and axis.alike and last.stride == axis.stride * axis.size:
            size = last.size * axis.size
            result[-1] = Came(np.arange(size), size, axis.stride)
        else:
            result.append(axis)
    return result


def _row(axis: Came, unit: int) -> tuple[int, int, int, Table]:
    """(low, high, shift): the longest part that came from as many neighbors, in floats of the result; and the other places."""
    index, there = axis.index, axis.index >= 0
    if axis.stride != unit or not len(index):
        return 0, 0, 0, np.flatnonzero(there)
    distance = np.where(there, index - np.arange(len(index)), np.iinfo(np.int64).max)
    begins = np.flatnonzero(np.concatenate([[True], distance[1:] != distance[:-1]]))
    ends = np.concatenate([begins[1:], [len(index)]])
    lengths = np.where(there[begins], ends - begins, 0)
    at = int(lengths.argmax())
    if lengths[at] == 0:
        return 0, 0, 0, np.flatnonzero(there)
    begin, end, by = int(begins[at]), int(ends[at]), int(distance[begins[at]])
    left = there.copy()
    left[begin:end] = False
    return (begin + by) * unit, (end + by) * unit, -by * unit, np.flatnonzero(left)
