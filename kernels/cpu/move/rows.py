"""`move_rows`: rows of a dense result, each along a walk of the source, with the ends that are none."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from .. import Family
from ..code.emit import I32, Emitter, Value, i64
from ..code.loops import for_range
from ..code.vector import FLOATS, INTEGERS, emitted, indices, vectors
from ..target import Target
from .plan import ROWS_ARGUMENTS

A = indices(ROWS_ARGUMENTS)


def woven(e: Emitter, vectors: list[Value], places: list[int]) -> Value:
    """The vector whose lane l is number places[l] of the vectors one behind the other."""
    lanes = e.lanes
    value = vectors[places[0] // lanes]
    for at, vector in enumerate(vectors):
        mine = [p // lanes == at for p in places]
        before = [p // lanes < at for p in places]
        if at == 0:
            other = vectors[1] if len(vectors) > 1 else vector
            picks = [p if p < 2 * lanes else 0 for p in places]
            value = e.b.shuffle_vector(vector, other, ir.Constant(e.int_type, picks))
        elif at > 1 and any(mine):
            picks = [
                lane if b else lanes + p % lanes if m else lane
                for lane, (p, m, b) in enumerate(zip(places, mine, before, strict=True))
            ]
            value = e.b.shuffle_vector(value, vector, ir.Constant(e.int_type, picks))
    return value


def scattered(e: Emitter, pointer: Value, places: list[Value], fill: Value) -> Value:
    """The floats at the pointer plus each lane's place; the fill where that is negative."""
    b, value = e.b, ir.Constant(e.type, ir.Undefined)
    for lane, place in enumerate(places):
        there = b.icmp_signed(">=", place, i64(0))
        number = b.load(b.gep(pointer, [b.select(there, place, i64(0))]), align=4)
        value = b.insert_element(value, b.select(there, number, fill), ir.Constant(I32, lane))
    return value


def _vector(e: Emitter, step: int, pointer: Value, by: Value, count: Value | None) -> Value:
    """The `count` first elements of a walk, at most a vector of them; all where count is None. step: 0 where only `by` knows it."""
    b, lanes = e.b, e.lanes
    if step == 0:
        value = ir.Constant(e.type, ir.Undefined)
        for lane in range(lanes):
            there = i64(1) if count is None else b.icmp_signed("<", i64(lane), count)
            place = b.mul(i64(lane), by) if count is None else b.select(there, b.mul(i64(lane), by), i64(0))
            value = b.insert_element(value, b.load(b.gep(pointer, [place]), align=4), ir.Constant(I32, lane))
        return value
    backwards, few = step < 0, abs(step)
    places = list(range(lanes))[::-1] if backwards else [lane * few for lane in range(lanes)]
    begin = e.at(pointer, 1 - lanes) if backwards else pointer
    if count is None:
        return woven(e, [e.load(begin, v * lanes) for v in range(few)], places)
    if backwards:
        mask = e.first_lanes(count)
        return woven(e, [e.masked_load(begin, b.shuffle_vector(mask, mask, ir.Constant(e.int_type, places)))], places)
    floats = b.add(b.mul(b.sub(count, i64(1)), i64(few)), i64(1))
    masks = [e.first_lanes(b.sub(floats, i64(v * lanes))) for v in range(few)]
    return woven(e, [e.masked_load(e.at(begin, v * lanes), mask) for v, mask in enumerate(masks)], places)


def _walk(step: int) -> Any:
    """`count` elements of a walk, side by side."""

    def emit(e: Emitter, pointer: Value, by: Value, count: Value, to: Value) -> None:
        b, lanes = e.b, e.lanes
        # what a walk by several floats passes over behind its last element is not there
        last = b.sub(count, i64(1)) if step > 1 else count
        whole = b.mul(b.sdiv(last, i64(lanes)), i64(lanes))

        def vector(i: Value, _: Any) -> list[Value]:
            e.store(_vector(e, step, b.gep(pointer, [b.mul(i, by)]), by, None), to, i)
            return []

        def rest(i: Value, _: Any) -> list[Value]:
            left = b.sub(count, i)
            value = _vector(e, step, b.gep(pointer, [b.mul(i, by)]), by, left)
            e.masked_store(value, e.at(to, i), e.first_lanes(left))
            return []

        for_range(e, i64(0), whole, lanes, [], vector)
        for_range(e, b.select(b.icmp_signed(">", whole, i64(0)), whole, i64(0)), count, lanes, [], rest)

    return emit


def _by_table(e: Emitter, pointer: Value, table: Value, to: Value, i: Value, stop: Value, fill: Value) -> None:
    """What is no walk: vectors, and then single floats."""
    b, lanes, count = e.b, e.lanes, e.b.sub(stop, i)
    whole = b.sub(count, b.srem(count, i64(lanes)))
    whole = b.select(b.icmp_signed(">", count, i64(0)), whole, i64(0))

    def vector(at: Value, _: Any) -> list[Value]:
        at = b.add(i, at)
        places = [b.load(b.gep(table, [b.add(at, i64(lane))])) for lane in range(lanes)]
        e.store(scattered(e, pointer, places, fill), to, at)
        return []

    def single(at: Value, _: Any) -> list[Value]:
        at = b.add(i, at)
        place = b.load(b.gep(table, [at]))
        there = b.icmp_signed(">=", place, i64(0))
        number = b.load(b.gep(pointer, [b.select(there, place, i64(0))]), align=4)
        b.store(b.select(there, number, fill), b.gep(to, [at]), align=4)
        return []

    for_range(e, i64(0), whole, lanes, [], vector)
    for_range(e, whole, count, 1, [], single)


def make_rows(target: Target, step: int) -> Any:
    """step: of the walk, where that is known; 0 where it is an argument."""
    V, lanes = vectors(target), target.lanes
    walk = emitted(target, None, (FLOATS, types.int64, types.int64, FLOATS), _walk(step))
    ends = emitted(target, None, (FLOATS, INTEGERS, FLOATS, types.int64, types.int64, types.float32), _by_table)

    def kernel(arguments: Any, chunk: Any, scratch: Any) -> None:
        rows, per_chunk, pieces, length = (
            arguments[A.rows], arguments[A.rows_per_chunk], arguments[A.pieces], arguments[A.length]
        )  # fmt: skip
        low, high, shift, by = arguments[A.low], arguments[A.high], arguments[A.shift], arguments[A.step]
        fill = types.float32(V.real(arguments[A.fill]))
        size1, size2 = arguments[A.size1], arguments[A.size2]
        table0, table1 = V.integers(arguments[A.table0]), V.integers(arguments[A.table1])
        table2, table = V.integers(arguments[A.table2]), V.integers(arguments[A.ends])
        first, start = chunk // pieces * per_chunk, chunk % pieces * arguments[A.piece]
        stop = min(length, start + arguments[A.piece])
        begin, end = max(low, start), min(high, stop)
        i0, i1, i2 = first // size2 // size1, first // size2 % size1, first % size2 - 1
        for row in range(first, min(first + per_chunk, rows)):
            i2 += 1  # a division takes as long as a short row
            if i2 == size2:
                i1, i2 = i1 + 1, 0
                if i1 == size1:
                    i0, i1 = i0 + 1, 0
            a, b, c = table0[i0], table1[i1], table2[i2]
            to = V.offset(V.floats(arguments[A.y]), row * length)
            if a < 0 or b < 0 or c < 0:
                for i in range(start, stop, lanes):
                    V.store_first(V.splat(fill), to, i, stop - i)
                continue
            x = V.offset(V.floats(arguments[A.x]), a + b + c)
            if start < low:
                ends(x, table, to, start, min(low, stop), fill)
            if begin < end:
                walk(V.offset(x, shift + begin * by), by, end - begin, V.offset(to, begin))
            if stop > high:
                ends(x, V.integer_offset(table, low - high), to, max(high, start), stop, fill)

    return kernel


FAMILIES = (
    Family(
        "move_rows",
        ROWS_ARGUMENTS,
        make_rows,
        "Rows of a dense y from places of x: between low and high along a walk by `step` from `shift` on, else by the table `ends`. A "
        "chunk is some rows, or a piece of one.",
    ),
)
