"""Pointwise expressions over whole tensors: `map`."""

from __future__ import annotations

from functools import cache
from typing import Any

from numba import types

from .. import Family
from ..code.emit import Emitter
from ..code.expression import Expression
from ..code.loops import RowOperand, for_vectors, operand_slots, row_pointer
from ..code.vector import INTEGERS, Linked, external
from ..launches import OUTER
from ..target import Target
from .map_plan import MAP_HEAD, MAX_OPERANDS, MAX_RESULTS

RESULTS = len(MAP_HEAD)
OPERANDS = RESULTS + MAX_RESULTS * (OUTER + 1)
LENGTH, CHANNEL_ROWS, CHANNEL_COUNT, VALID = (
    MAP_HEAD.index(name) for name in ("length", "channel_rows", "channel_count", "valid")
)
UNROLL = 4
PIECE = (INTEGERS, *[types.int64] * 7)


@cache
def _outer(target: Target, masked: bool) -> Any:
    """The walk over rows and pieces of them: the same function for every expression."""
    lanes, piece_of_row = target.lanes, external("piece_of_row", PIECE)

    def kernel(arguments, chunk, scratch):
        rows, rows_per_chunk, pieces, piece, length = (
            arguments[0],
            arguments[1],
            arguments[2],
            arguments[3],
            arguments[4],
        )
        size1, size2, size3 = arguments[5], arguments[6], arguments[7]
        first = chunk // pieces * rows_per_chunk
        start = chunk % pieces * piece
        count = min(piece, length - start)
        for row in range(first, min(first + rows_per_chunk, rows)):
            valid = lanes
            if masked and row // arguments[CHANNEL_ROWS] % arguments[CHANNEL_COUNT] == arguments[CHANNEL_COUNT] - 1:
                valid = arguments[VALID]
            i3, rest = row % size3, row // size3
            i2, rest = rest % size2, rest // size2
            piece_of_row(arguments, rest // size1, rest % size1, i2, i3, start, count, valid)

    return kernel


def make(target: Target, kinds: tuple[str, ...], expressions: tuple[Expression, ...], masked: bool) -> Linked:
    """kinds: of each operand along the inner loop. masked: the last channel block's padded lanes are written as zero."""
    blocked = "lanes" in kinds or masked

    def emit(e: Emitter, arguments, i0, i1, i2, i3, start, count, valid):
        at = (i0, i1, i2, i3)
        keep = e.first_lanes(valid) if masked else None
        operands = [
            RowOperand(e, kind, row_pointer(e, arguments, operand_slots(OPERANDS, k), at), start, keep)
            for k, kind in enumerate(kinds)
        ]
        results = [
            RowOperand(e, "vector", row_pointer(e, arguments, operand_slots(RESULTS, j), at), start)
            for j in range(len(expressions))
        ]

        def step(i, mask, _):
            values = {f"a{k}": operand.load(i, mask) for k, operand in enumerate(operands)}
            # Every operand is read before any result is written: a result may be an operand's buffer.
            for result, value in zip(results, [e.expression(tree, values) for tree in expressions], strict=True):
                if masked:
                    value = e.select(keep, value, e.const(0))
                if mask is None:
                    e.store(value, result.pointer, i)
                else:
                    e.masked_store(value, e.at(result.pointer, i), mask)

        for_vectors(e, count, UNROLL if len(kinds) <= 4 else 2, [], step, tail=not blocked)

    return Linked(_outer(target, masked), {"piece_of_row": (PIECE, emit)}, unrolled=True)


def argument_names() -> tuple[str, ...]:
    groups = [f"y{j}" for j in range(MAX_RESULTS)] + [f"a{k}" for k in range(MAX_OPERANDS)]
    return (*MAP_HEAD, *(name for group in groups for name in (group, *(f"{group}_{d}" for d in range(OUTER)))))


MAP = Family(
    "map",
    argument_names(),
    make,
    "y_j = expression_j(a0, a1, ...), element by element. A chunk is some rows, or one piece of a row. Unused operands may be left off.",
)
FAMILIES = (MAP,)
