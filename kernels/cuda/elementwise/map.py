"""Pointwise expressions over views of memory: also copies, layouts and broadcasts."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ...cpu.code.emit import F32, I32, I64, Emitter
from ...cpu.code.expression import Expression
from .. import Family
from ..code import gpu as G
from ..code.gpu import ARGUMENTS, INT, constant, emitted, i32
from ..code.program import Program
from ..target import LANES
from .map_plan import THREADS, WIDTH, map_sizes


class _Piece:
    """Code for 4 numbers along the inner axis, of which `count` are there."""

    def __init__(self, e: Emitter, arguments: Any, buffers: tuple[str, ...], sizes: tuple[str, ...]) -> None:
        self.e, self.arguments = e, arguments
        self.where = {name: i for i, name in enumerate((*buffers, *sizes))}

    def argument(self, name: str) -> Any:
        b = self.e.b
        return b.load(b.gep(self.arguments, [ir.Constant(I64, self.where[name])]))

    def size(self, name: str) -> Any:
        return self.e.b.trunc(self.argument(name), I32)

    def load(self, kind: str, name: str, place: Any, step: Any, count: Any) -> Any:
        """A vector; count: None where all 4 are there."""
        e, b, address = self.e, self.e.b, self.argument(name)
        if kind == "scalar":
            return e.splat(G.load(e, address, place))
        if kind == "vector":
            return G.load(e, address, place, G.vector) if count is None else G.load_some(e, address, place, count)
        value = e.const(0)
        for lane in range(WIDTH):
            at = b.add(place, b.mul(step, constant(lane)))
            if count is None:
                value = b.insert_element(value, G.load(e, address, at), constant(lane))
                continue
            before = b.block
            with b.if_then(b.icmp_signed("<", constant(lane), count)):
                one = G.load(e, address, at)
                inside = b.block
            number = b.phi(F32)
            number.add_incoming(ir.Constant(F32, 0.0), before)
            number.add_incoming(one, inside)
            value = b.insert_element(value, number, constant(lane))
        return value

    def store(self, value: Any, kind: str, name: str, place: Any, step: Any, count: Any, padded: bool) -> None:
        e, b, address = self.e, self.e.b, self.argument(name)
        if count is not None and padded:
            lanes = ir.Constant(ir.VectorType(I32, WIDTH), list(range(WIDTH)))
            there = b.icmp_signed("<", lanes, e.splat(count))
            value, count = e.select(there, value, e.const(0)), None
        if kind == "vector" and count is None:
            G.store(e, value, address, place)
            return
        for lane in range(WIDTH):
            at = b.add(place, b.mul(step, constant(lane)) if kind == "strided" else constant(lane))
            one = b.extract_element(value, constant(lane))
            if count is None:
                G.store(e, one, address, at)
            else:
                with b.if_then(b.icmp_signed("<", constant(lane), count)):
                    G.store(e, one, address, at)


def make_map(
    kinds: tuple[str, ...],
    expressions: tuple[Expression, ...],
    outer: int,
    channel: int,
    tail: bool,
    padded: tuple[bool, ...],
) -> Program:
    """kinds: of the results, then of the operands (`map_plan._kind`). outer: axes around the inner one. channel: which of them are blocks
    of channels whose last is not full; -1: all are. tail: rows end within a vector.
    """
    results = len(expressions)
    buffers = tuple(f"y{i}" for i in range(results)) + tuple(f"a{i}" for i in range(len(kinds) - results))
    sizes = map_sizes(outer, len(kinds))

    def piece(e: Emitter, arguments: Any, number: Any) -> None:
        b, p = e.b, _Piece(e, arguments, buffers, sizes)
        rest, column = (b.udiv(number, p.size("row")), b.urem(number, p.size("row"))) if outer else (None, number)
        column = b.mul(column, constant(WIDTH))
        index: list[Any] = [None] * outer
        for axis in reversed(range(1, outer)):
            size = p.size(f"size{axis}")
            index[axis], rest = b.urem(rest, size), b.udiv(rest, size)
        if outer:
            index[0] = rest
        places, steps = [], []
        for v in range(len(kinds)):
            steps.append(p.size(f"step{v}_{outer}"))
            place = (
                b.mul(column, steps[v]) if kinds[v] == "strided" else constant(0) if kinds[v] == "scalar" else column
            )
            for axis in range(outer):
                place = b.add(place, b.mul(index[axis], p.size(f"step{v}_{axis}")))
            places.append(place)

        def run(count: Any) -> None:
            values = {
                name: p.load(kinds[v], name, places[v], steps[v], count)
                for v, name in enumerate(buffers)
                if v >= results
            }
            # every operand is read before any result is written: a result may lie where an operand does
            found = [e.expression(tree, values) for tree in expressions]
            for v, value in enumerate(found):
                p.store(value, kinds[v], buffers[v], places[v], steps[v], count, padded[v])

        if channel < 0 and not tail:
            run(None)
            return
        left = b.sub(p.size("inner"), column)
        if channel >= 0:
            last = b.icmp_signed("==", index[channel], b.sub(p.size("channels"), constant(1)))
            left = b.select(last, b.sub(p.size("valid"), b.and_(column, constant(LANES - 1))), left)
        with b.if_else(b.icmp_signed(">=", left, constant(WIDTH))) as (whole, part):
            with whole:
                run(None)
            with part:
                run(left)

    emit = emitted(None, (ARGUMENTS, INT), piece)
    count = len(buffers)  # where `vectors` stands

    def kernel(arguments: Any, block: Any, _: Any) -> None:
        number = i32(block * THREADS + G.thread())
        if number < i32(arguments[count]):
            emit(arguments, number)

    return Program(kernel, buffers, sizes, THREADS)


FAMILIES = (
    Family(
        "map", make_map, "y_i = expression_i(a0, a1, ...) at every index of a space. A block is 1,024 numbers of rows."
    ),
)
