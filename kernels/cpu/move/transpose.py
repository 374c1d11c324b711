"""`move_transpose`: matrices whose rows become columns, a tile of registers at a time; of few rows or columns woven in registers."""

from __future__ import annotations

from typing import Any

from numba import types

from .. import Family
from ..code.emit import Emitter, Value, i64
from ..code.loops import for_range, transpose
from ..code.vector import FLOATS, emitted, indices, vectors
from ..target import Target
from .plan import TRANSPOSE_ARGUMENTS
from .rows import woven

A = indices(TRANSPOSE_ARGUMENTS)


def _tile(e: Emitter, x: Value, x_row: Value, rows: Value, columns: Value, y: Value, y_column: Value) -> None:
    """A tile at the edge: of so many rows and columns, where those are fewer than the lanes."""
    b, mask, across = e.b, e.first_lanes(columns), e.first_lanes(rows)
    vectors = []
    for r in range(e.lanes):
        inside = b.icmp_signed("<", i64(r), rows)
        vectors.append(e.masked_load(e.at(x, b.mul(b.select(inside, i64(r), i64(0)), x_row)), mask))
    for k, vector in enumerate(transpose(e, vectors)):
        with b.if_then(b.icmp_signed("<", i64(k), columns)):
            e.masked_store(vector, e.at(y, b.mul(i64(k), y_column)), across)


def _whole_tile(e: Emitter, x: Value, x_row: Value, y: Value, y_column: Value) -> None:
    vectors = [e.load(e.at(x, e.b.mul(i64(r), x_row))) for r in range(e.lanes)]
    for k, vector in enumerate(transpose(e, vectors)):
        e.store(vector, e.at(y, e.b.mul(i64(k), y_column)))


def _interleave(few: int) -> Any:
    """`count` floats of each of few rows, one row's beside the other's."""

    def emit(e: Emitter, x: Value, x_row: Value, count: Value, y: Value) -> None:
        mask = e.first_lanes(count)
        rows = [e.masked_load(e.at(x, e.b.mul(i64(r), x_row)), mask) for r in range(few)]
        total = e.b.mul(count, i64(few))
        for v in range(few):
            places = [(v * e.lanes + lane) % few * e.lanes + (v * e.lanes + lane) // few for lane in range(e.lanes)]
            e.masked_store(
                woven(e, rows, places), e.at(y, v * e.lanes), e.first_lanes(e.b.sub(total, i64(v * e.lanes)))
            )

    return emit


def _deinterleave(few: int) -> Any:
    """`count` groups of few neighbors, apart."""

    def emit(e: Emitter, x: Value, y_column: Value, count: Value, y: Value) -> None:
        mask, total = e.first_lanes(count), e.b.mul(count, i64(few))
        vectors = [
            e.masked_load(e.at(x, v * e.lanes), e.first_lanes(e.b.sub(total, i64(v * e.lanes)))) for v in range(few)
        ]
        for k in range(few):
            value = woven(e, vectors, [lane * few + k for lane in range(e.lanes)])
            e.masked_store(value, e.at(y, e.b.mul(i64(k), y_column)), mask)

    return emit


def _tiles(
    e: Emitter, x: Value, y: Value, x_row: Value, y_column: Value, rows: Value, start: Value, stop: Value
) -> None:
    b, lanes = e.b, e.lanes

    def columns(k: Value, _: Any) -> list[Value]:
        left = b.sub(stop, k)

        def tile(r: Value, _: Any) -> list[Value]:
            source, result = e.at(x, b.add(b.mul(r, x_row), k)), e.at(y, b.add(b.mul(k, y_column), r))
            below = b.sub(rows, r)
            whole = b.and_(b.icmp_signed(">=", below, i64(lanes)), b.icmp_signed(">=", left, i64(lanes)))
            with b.if_else(whole) as (inside, edge):
                with inside:
                    _whole_tile(e, source, x_row, result, y_column)
                with edge:
                    _tile(e, source, x_row, below, left, result, y_column)
            return []

        for_range(e, i64(0), rows, lanes, [], tile)
        return []

    for_range(e, start, stop, lanes, [], columns)


def _weaves(weave: Any, few: int, interleaved: bool) -> Any:
    def emit(
        e: Emitter, x: Value, y: Value, x_row: Value, y_column: Value, rows: Value, start: Value, stop: Value
    ) -> None:
        b = e.b

        def vector(k: Value, _: Any) -> list[Value]:
            many = b.mul(k, i64(few))
            if interleaved:
                weave(e, e.at(x, k), x_row, b.sub(stop, k), e.at(y, many))
            else:
                weave(e, e.at(x, many), y_column, b.sub(stop, k), e.at(y, k))
            return []

        for_range(e, start, stop, e.lanes, [], vector)

    return emit


def make_transpose(target: Target, form: str) -> Any:
    """form: "tiles", or "interleave 3" and "deinterleave 3" of dense matrices of so few rows or columns."""
    V = vectors(target)
    name, _, few = form.partition(" ")
    body: Any = _tiles
    if name != "tiles":
        weave = _interleave if name == "interleave" else _deinterleave
        body = _weaves(weave(int(few)), int(few), name == "interleave")
    matrix = emitted(target, None, (FLOATS, FLOATS, *[types.int64] * 5), body)
    along = A.rows if name == "deinterleave" else A.columns

    def kernel(arguments: Any, chunk: Any, scratch: Any) -> None:
        size1, size2, pieces = arguments[A.size1], arguments[A.size2], arguments[A.pieces]
        from0, from1, from2 = (
            V.integers(arguments[A.from0]), V.integers(arguments[A.from1]), V.integers(arguments[A.from2])
        )  # fmt: skip
        to0, to1, to2 = V.integers(arguments[A.to0]), V.integers(arguments[A.to1]), V.integers(arguments[A.to2])
        first, start = chunk // pieces * arguments[A.matrices_per_chunk], chunk % pieces * arguments[A.piece]
        stop = min(arguments[along], start + arguments[A.piece])
        for at in range(first, min(first + arguments[A.matrices_per_chunk], arguments[A.matrices])):
            a, b, c = at // size2 // size1, at // size2 % size1, at % size2
            x = V.offset(V.floats(arguments[A.x]), from0[a] + from1[b] + from2[c])
            y = V.offset(V.floats(arguments[A.y]), to0[a] + to1[b] + to2[c])
            matrix(x, y, arguments[A.x_row], arguments[A.y_column], arguments[A.rows], start, stop)

    return kernel


FAMILIES = (
    Family(
        "move_transpose",
        TRANSPOSE_ARGUMENTS,
        make_transpose,
        "Matrices of x, whose rows are x_row floats apart, to y, where its columns are y_column floats apart and rows are neighbors. A "
        "chunk is some matrices, or a piece of one.",
    ),
)
