"""From where each value comes to the launch that moves it. Nothing here imports Numba.

A `Move` says of a dense result, axis by axis, how far the source's element lies from the source's beginning: element (i, j, ...) of
the result is element axes[0][i] + axes[1][j] + ... of the source, in floats. Slices, flips, pads, gathers, shuffles and
transposes are such, in plain and in blocked layouts. An entry of FILL is no element, and gives the fill.

    rows        walks along what lies side by side in both, with what does not at a row's ends
    transpose   where the source's neighbors lie apart in the result: tiles go through registers
    lanes       channels that change their lanes in blocks
    accumulate  the other way round, for gradients: what one element went to is added up, in the order of the result
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import Kernel
from ..launches import Launch, bits, divide, divisor, split
from ..target import Target

FILL, PADDING = -1, -2  # no element: the fill; a lane behind the last channel: zero
LOOPS = 3  # around a row or a tile
SMALL = 8192  # floats of a chunk, at least
FEW = 4  # vectors that are woven in registers

Table = np.ndarray[Any, np.dtype[np.int64]]

ROWS_ARGUMENTS = (
    "rows", "rows_per_chunk", "pieces", "piece", "length", "low", "high", "shift", "step", "fill", "size1", "size2",
    "table0", "table1", "table2", "ends", "x", "y",
)  # fmt: skip
TRANSPOSE_ARGUMENTS = (
    "matrices", "matrices_per_chunk", "rows", "columns", "x_row", "y_column", "pieces", "piece", "size1", "size2",
    "from0", "from1", "from2", "to0", "to1", "to2", "x", "y",
)  # fmt: skip
LANES_ARGUMENTS = (
    "blocks", "rows", "rows_per_chunk", "outers", "inners", "fill",
    "images", "outer", "inner", "places", "bases", "picks", "x", "y",
)  # fmt: skip


@dataclass(frozen=True)
class Move:
    """axes: offsets for each axis of the result, outermost first. fill: what stands where there is no element. images: how
    many equal shares both have that keep to themselves, one after the other; 0 for none.
    """

    axes: tuple[Table, ...]
    fill: float = 0.0
    images: int = 0


def steps(size: int, step: int) -> Table:
    """Offsets of an axis along which the source goes on by as many floats each time."""
    return np.arange(size, dtype=np.int64) * step


def joined(a: Table, b: Table) -> Table:
    """Two axes as one."""
    total: Table = (a[:, None] + b[None, :]).ravel()
    return np.where(((a[:, None] < 0) | (b[None, :] < 0)).ravel(), FILL, total)


def _step(table: Table) -> int | None:
    """By how many floats the source goes on, where it is always as many, and every element is there."""
    if len(table) == 1:
        return 0 if table[0] >= 0 else None
    step = int(table[1] - table[0])
    return step if table.min() >= 0 and (np.diff(table) == step).all() else None


def _collapsed(axes: Sequence[Table]) -> list[Table]:
    """The same with as few axes as can be: those of one element and those that are one walk of the source joined."""
    result: list[Table] = []
    for table in axes:
        if result and (len(table) == 1 or len(result[-1]) == 1 or _walks_on(result[-1], table)):
            result[-1] = joined(result[-1], table)
        else:
            result.append(table)
    return result


def _walks_on(a: Table, b: Table) -> bool:
    outer, inner = _step(a), _step(b)
    return outer is not None and inner is not None and outer == inner * len(b)


def _run(table: Table) -> tuple[int, int, int]:
    """(begin, end, step) of the longest part of a table that is one walk; neighbors before others of nearly its length."""
    if len(table) == 1:
        return (0, 1, 1) if table[0] >= 0 else (0, 0, 1)
    there = (table[:-1] >= 0) & (table[1:] >= 0)
    by = np.where(there, np.diff(table), 0)
    best = (0, 0, 1)
    begins = np.flatnonzero(np.concatenate([[True], by[1:] != by[:-1]]))
    for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), len(by)], strict=True):
        step = int(by[begin])
        longer = end - begin + 1 - (best[1] - best[0])
        if step != 0 and (longer > 0 or (step == 1 and longer == 0)):
            best = (begin, end + 1, step)
    return best


def _fewer(axes: list[Table], most: int) -> list[Table]:
    """At most so many axes, the smallest neighbors joined."""
    axes = list(axes)
    while len(axes) > most:
        at = min(range(len(axes) - 1), key=lambda i: len(axes[i]) * len(axes[i + 1]))
        axes[at : at + 2] = [joined(axes[at], axes[at + 1])]
    return [np.zeros(1, np.int64)] * (most - len(axes)) + axes


def plan_move(target: Target, move: Move) -> Launch:
    """`x` to a dense `y`, with the tables that the move says."""
    if math.prod(map(len, move.axes)) == 0:
        return Launch(Kernel("move_rows"), {}, (), 0)
    axes = _collapsed(move.axes)
    return _transpose(target, axes, move) or _rows(target, axes, move)


def _rows(target: Target, axes: list[Table], move: Move) -> Launch:
    *outer, inner = axes
    while outer and len(outer[-1]) * len(inner) <= 4096:  # a row of pixels' blocks is one row, but for its ends
        wider = joined(outer[-1], inner)
        begin, end, step = _run(wider)
        if step != 1 or 4 * (end - begin) < 3 * len(wider):
            break
        outer, inner = outer[:-1], wider
    tables = _fewer(outer, LOOPS)
    low, high, step = _run(inner)
    if high - low < target.lanes // 2 and high - low < len(inner):
        low = high = 0
    ends = np.concatenate([inner[:low], inner[high:]])
    rows, length = math.prod(map(len, tables)), len(inner)
    pieces, piece = 1, length
    if length > 2 * SMALL and rows < 16:
        pieces = split(length, SMALL)
        piece = divide(divide(length, pieces), target.lanes) * target.lanes
        pieces = divide(length, piece)
    chunk = per_chunk(rows, length, move.images) if pieces == 1 else 1
    numbers = {
        "rows": rows, "rows_per_chunk": chunk, "pieces": pieces, "piece": piece, "length": length, "low": low,
        "high": high, "shift": int(inner[low]) - low * step if high > low else 0, "step": step, "fill": bits(move.fill),
        "size1": len(tables[1]), "size2": len(tables[2]),
    }  # fmt: skip
    named = {f"table{i}": table for i, table in enumerate(tables)} | {
        "ends": ends if len(ends) else np.zeros(1, np.int64)
    }
    woven = step if step in (1, -1, *range(2, FEW + 1)) else 0
    launch = Launch.of(Kernel("move_rows", (("step", woven),)), ROWS_ARGUMENTS, numbers, named)
    parts = rows // move.images if move.images and rows % move.images == 0 else 0
    whole = parts and pieces == 1 and parts % chunk == 0
    return launch.cut(divide(rows, chunk) * pieces, links=move.images if whole else 0)


def per_chunk(rows: int, length: int, images: int) -> int:
    """Rows of a chunk: whole images, or an even part of one, if chunks stay large."""
    most = max(1, max(SMALL, rows * length // 64) // length)
    if images and rows % images == 0:
        even = divisor(rows // images, most)
        return even if 2 * even >= min(most, rows // images) else min(most, rows)
    return min(most, rows)


# ------------------------------------------------------------------------------------------------ transpose


def _walks(axes: list[Table]) -> tuple[int, int] | None:
    """The large steps by which the last axis walks, and another axis of the result, which walks along neighbors."""
    apart = _step(axes[-1])
    if apart is None or apart < 0 or apart == 1 or len(axes) < 2 or len(axes[-1]) == 1:
        return None
    found = [a for a in range(len(axes) - 1) if _step(axes[a]) == 1 and len(axes[a]) > 1]
    return (apart, found[0]) if found and all(table.min() >= 0 for table in axes) else None


def _form(lanes: int, rows: int, columns: int, apart: int, y_column: int) -> str | None:
    if rows <= FEW and y_column == rows:
        return f"interleave {rows}"
    if columns <= FEW and apart == columns:
        return f"deinterleave {columns}"
    return "tiles" if min(rows, columns) >= lanes // 2 else None


def _transpose(target: Target, axes: list[Table], move: Move) -> Launch | None:
    """Tiles, where the last axis walks by large steps and another one of the result walks along neighbors."""
    walks = _walks(axes)
    if walks is None:
        return None
    apart, along = walks
    sizes = [len(a) for a in axes]
    strides = [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]
    rows, columns = sizes[-1], sizes[along]
    form = _form(target.lanes, rows, columns, apart, strides[along])
    if form is None:
        return None
    others = [i for i in range(len(axes) - 1) if i != along]
    pairs = _paired([(axes[i], steps(sizes[i], strides[i])) for i in others])
    count = math.prod(len(source) for source, _ in pairs)
    cut = rows if form.startswith("deinterleave") else columns
    piece = divide(divide(cut, split(rows * columns, 2 * SMALL)), target.lanes) * target.lanes
    pieces = divide(cut, piece)
    images = move.images if 0 not in (along, len(axes) - 1) else 0
    chunk = per_chunk(count, rows * columns, images) if pieces == 1 else 1
    numbers = {
        "matrices": count, "matrices_per_chunk": chunk, "rows": rows, "columns": columns, "x_row": apart,
        "y_column": strides[along], "pieces": pieces, "piece": piece, "size1": len(pairs[1][0]), "size2": len(pairs[2][0]),
    }  # fmt: skip
    named = {f"from{i}": source for i, (source, _) in enumerate(pairs)}
    named |= {f"to{i}": result for i, (_, result) in enumerate(pairs)}
    launch = Launch.of(Kernel("move_transpose", (("form", form),)), TRANSPOSE_ARGUMENTS, numbers, named)
    whole = images and count % images == 0 and count // images % chunk == 0
    return launch.cut(divide(count, chunk) * pieces, links=images if whole else 0)


def _paired(pairs: list[tuple[Table, Table]]) -> list[tuple[Table, Table]]:
    """Loops, each with offsets in the source and in the result, LOOPS of them."""
    while len(pairs) > LOOPS:
        at = min(range(len(pairs) - 1), key=lambda i: len(pairs[i][0]) * len(pairs[i + 1][0]))
        (a, b), (c, d) = pairs[at : at + 2]
        pairs[at : at + 2] = [(joined(a, c), joined(b, d))]
    nothing = np.zeros(1, np.int64)
    return [(nothing, nothing)] * (LOOPS - len(pairs)) + pairs
