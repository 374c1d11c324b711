"""`move_lanes`: channels that change their lanes in blocks."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from .. import Family
from ..code.emit import I64, Emitter, Value, declare, i64
from ..code.loops import for_range
from ..code.vector import FLOATS, INTEGERS, emitted, indices, vectors
from ..target import Target
from .plan import LANES_ARGUMENTS
from .rows import scattered

A = indices(LANES_ARGUMENTS)
PICKING = {"avx512": 2, "avx2": 1}  # vectors that an instruction picks lanes of


def _picked(e: Emitter, vectors: list[Value], pick: Value) -> Value:
    """Lane l is number pick[l] of the vectors one behind the other."""
    b, together = e.b, PICKING[e.target.name]
    value = None
    for first in range(0, len(vectors), together):
        if together == 2:
            pair = vectors[first : first + 2]
            operands = [pair[0], pick, pair[-1]]
            name = "llvm.x86.avx512.vpermi2var.ps.512"
        else:
            operands, name = [vectors[first], pick], "llvm.x86.avx2.permps"
        part = b.call(declare(b.module, name, e.type, [o.type for o in operands]), operands)
        beyond = b.icmp_signed(">=", pick, e.ints(first * e.lanes))
        value = part if value is None else b.select(beyond, part, value)
    return value


def make_lanes(target: Target, sources: int, complete: bool) -> Any:
    """sources: vectors that each of the result is made of, 0 for many. complete: nothing is filled, not even padded lanes."""
    V, lanes = vectors(target), target.lanes
    sources = sources if target.name in PICKING else 0

    def line(e: Emitter, x: Value, inner: Value, count: Value, places: Value, bases: Value, picks: Value, fill: Value,
             y: Value) -> None:  # fmt: skip
        b = e.b
        wide = b.load(b.bitcast(picks if sources else places, ir.VectorType(I64, lanes).as_pointer()), align=8)
        filled = e.splat(fill)
        there = b.icmp_signed(">=", wide, ir.Constant(wide.type, [0] * lanes))
        padding = b.icmp_signed("==", wide, ir.Constant(wide.type, [-2] * lanes))
        nothing = filled if complete else b.select(padding, e.const(0), filled)
        pick = b.trunc(wide, e.int_type)
        starts = [b.load(b.gep(bases, [i64(s)])) for s in range(sources)]
        ones = [] if sources else [b.load(b.gep(places, [i64(lane)])) for lane in range(lanes)]

        def pixel(i: Value, _: Any) -> list[Value]:
            at = b.load(b.gep(inner, [i]))
            to = e.at(y, b.mul(i, i64(lanes)))
            inside = b.icmp_signed(">=", at, i64(0))
            pointer = b.gep(x, [b.select(inside, at, i64(0))])
            if sources:
                value = _picked(e, [e.load(b.gep(pointer, [s])) for s in starts], pick)
            else:
                value = scattered(e, pointer, ones, fill)
            if not complete:
                value = b.select(b.and_(there, e.splat(inside)), value, nothing)
            e.store(value, to)
            return []

        for_range(e, i64(0), count, 1, [], pixel)

    walk = emitted(
        target, None, (FLOATS, INTEGERS, types.int64, INTEGERS, INTEGERS, INTEGERS, types.float32, FLOATS), line
    )

    def filler(e: Emitter, places: Value, fill: Value, y: Value) -> None:
        wide = e.b.load(e.b.bitcast(places, ir.VectorType(I64, lanes).as_pointer()), align=8)
        padding = e.b.icmp_signed("==", wide, ir.Constant(wide.type, [-2] * lanes))
        e.store(e.b.select(padding, e.const(0), e.splat(fill)), y)

    empty = emitted(target, None, (INTEGERS, types.float32, FLOATS), filler)

    def kernel(arguments: Any, chunk: Any, scratch: Any) -> None:
        rows, per_chunk, blocks = arguments[A.rows], arguments[A.rows_per_chunk], arguments[A.blocks]
        outers, inners = arguments[A.outers], arguments[A.inners]
        fill = types.float32(V.real(arguments[A.fill]))
        images, outer, inner = (
            V.integers(arguments[A.images]), V.integers(arguments[A.outer]), V.integers(arguments[A.inner])
        )  # fmt: skip
        first = chunk * per_chunk
        for row in range(first, min(first + per_chunk, rows)):
            o, block, n = row % outers, row // outers % blocks, row // outers // blocks
            y = V.offset(V.floats(arguments[A.y]), row * inners * lanes)
            places = V.integer_offset(V.integers(arguments[A.places]), block * lanes)
            if outer[o] < 0:
                for i in range(inners):
                    empty(places, fill, V.offset(y, i * lanes))
                continue
            bases = V.integer_offset(V.integers(arguments[A.bases]), block * sources)
            picks = V.integer_offset(V.integers(arguments[A.picks]), block * lanes if sources > 0 else 0)
            x = V.offset(V.floats(arguments[A.x]), images[n] + outer[o])
            walk(x, inner, inners, places, bases, picks, fill, y)

    return kernel


FAMILIES = (
    Family(
        "move_lanes",
        LANES_ARGUMENTS,
        make_lanes,
        "Blocks of y, each lane of which is a channel of a blocked x; the same for all pixels. A chunk is some lines of pixels.",
    ),
)
