"""Sums, and other folds, of expressions over axes, in an order that depends on sizes alone."""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import types

from ...cpu.code.emit import I32, I64, Emitter
from ...cpu.code.expression import Expression
from ...cpu.code.vector import VectorType
from ...cpu.code.vector import emitted as emitted_for
from .. import Family
from ..code import gpu as G
from ..code.gpu import ARGUMENTS, INT, constant, i32
from ..code.program import Program
from .reduce_plan import THREADS, reduce_sizes

START = {"add": 0.0, "mul": 1.0, "max": -math.inf, "min": math.inf}


class _Terms:
    """Code for the terms of an output, and for folding them."""

    def __init__(
        self,
        expressions: tuple[Expression, ...],
        fold: str,
        axes: tuple[int, int],
        kinds: tuple[str, ...],
        blocked: bool,
    ) -> None:
        self.expressions, self.fold, self.kinds, self.blocked = expressions, fold, kinds, blocked
        self.kept, self.folded = axes
        self.width = 4 if blocked else 1
        self.buffers = tuple(f"y{i}" for i in range(len(expressions))) + tuple(f"a{i}" for i in range(len(kinds)))
        self.sizes = reduce_sizes(self.kept, self.folded, len(kinds))
        self.where = {name: i for i, name in enumerate((*self.buffers, *self.sizes))}
        self.type = types.UniTuple(VectorType(self.width), len(expressions))

    def argument(self, e: Emitter, arguments: Any, name: str) -> Any:
        return e.b.load(e.b.gep(arguments, [ir.Constant(I64, self.where[name])]))

    def size(self, e: Emitter, arguments: Any, name: str) -> Any:
        return e.b.trunc(self.argument(e, arguments, name), I32)

    def together(self, e: Emitter, x: Any, y: Any) -> Any:
        made = {"add": e.b.fadd, "mul": e.b.fmul, "max": e.maximum, "min": e.minimum}[self.fold](x, y)
        return made

    def begin(self, e: Emitter) -> Any:
        return G.pack(e, [e.const(START[self.fold])] * len(self.expressions))

    def _index(self, e: Emitter, arguments: Any, number: Any, kind: str, count: int) -> list[Any]:
        index: list[Any] = [None] * count
        for axis in reversed(range(1, count)):
            size = self.size(e, arguments, f"{kind}{axis}")
            index[axis], number = e.b.urem(number, size), e.b.udiv(number, size)
        index[0] = number
        return index

    def add(self, e: Emitter, held: Any, arguments: Any, output: Any, term: Any, half: Any) -> Any:
        """The fold with one term more."""
        b = e.b
        kept = self._index(e, arguments, output, "kept", self.kept)
        folded = self._index(e, arguments, term, "folded", self.folded)
        values = {}
        for v, kind in enumerate(self.kinds):
            lane = self.size(e, arguments, f"lane{v}")
            place = b.mul(b.shl(half, constant(2)), lane) if self.blocked else constant(0)
            for letter, index in (("k", kept), ("f", folded)):
                for axis, i in enumerate(index):
                    place = b.add(place, b.mul(i, self.size(e, arguments, f"step{v}_{letter}{axis}")))
            address = self.argument(e, arguments, f"a{v}")
            values[f"a{v}"] = self._load(e, kind, address, place, lane, self._left(e, arguments, output, half))
        found = [e.expression(tree, values) for tree in self.expressions]
        sums = G.unpack(e, held, len(found))
        return G.pack(e, [self.together(e, x, y) for x, y in zip(sums, found, strict=True)])

    def _left(self, e: Emitter, arguments: Any, output: Any, half: Any) -> Any:
        """Channels from a thread's first on, where they are in blocks."""
        block = e.b.urem(output, self.size(e, arguments, "blocks"))
        first = e.b.add(e.b.shl(block, constant(3)), e.b.shl(half, constant(2)))
        return e.b.sub(self.size(e, arguments, "channels"), first)

    def _load(self, e: Emitter, kind: str, address: Any, place: Any, lane: Any, left: Any) -> Any:
        b = e.b
        if kind == "scalar":
            return e.splat(G.load(e, address, place))
        if kind == "vector":
            return G.load(e, address, place, G.vector)
        value = e.const(0)
        for i in range(4):
            before = b.block
            with b.if_then(b.icmp_signed("<", constant(i), left)):
                one = G.load(e, address, b.add(place, b.mul(lane, constant(i))))
                inside = b.block
            number = b.phi(one.type)
            number.add_incoming(ir.Constant(one.type, 0.0), before)
            number.add_incoming(one, inside)
            value = b.insert_element(value, number, constant(i))
        return value


def make_reduce(
    expressions: tuple[Expression, ...], fold: str, kept: int, folded: int, kinds: tuple[str, ...], threads: int, blocked: bool,
    padded: bool,
) -> Program:  # fmt: skip
    """threads: how many share an output, a power of 2. padded: results are in blocks, whose last channels are zero."""
    terms = _Terms(expressions, fold, (kept, folded), kinds, blocked)
    target, count, width = (G.TARGET if blocked else G.SCALAR), len(expressions), terms.width
    halves = 2 if blocked else 1

    def finish(e: Emitter, held: Any, arguments: Any, thread: Any, output: Any, part: Any) -> None:
        b = e.b
        member = b.and_(thread, constant(threads - 1))
        half = b.and_(member, constant(halves - 1))
        kind = ir.VectorType(held.type.element.element, width)
        scale = e.splat(b.bitcast(terms.size(e, arguments, "scale"), held.type.element.element))
        for number, value in enumerate(G.unpack(e, held, count)):
            place = b.mul(thread, constant(width))
            if threads > halves:
                if number:
                    G.barrier(e)
                G.shared_store(e, value, place)
                G.barrier(e)
                step = threads // 2
                while step >= halves:
                    with b.if_then(b.icmp_unsigned("<", member, constant(step))):
                        other = G.shared_load(e, b.add(place, constant(step * width)), kind)
                        both = terms.together(e, G.shared_load(e, place, kind), other)
                        G.shared_store(e, both, place)
                    G.barrier(e)
                    step //= 2
            there = b.icmp_unsigned("<", output, terms.size(e, arguments, "outputs"))
            with b.if_then(b.and_(there, b.icmp_unsigned("<", member, constant(halves)))):
                value = G.shared_load(e, place, kind) if threads > halves else value
                _store(e, b.fmul(value, scale), arguments, f"y{number}", output, half, part)

    def _store(e: Emitter, value: Any, arguments: Any, name: str, output: Any, half: Any, part: Any) -> None:
        b, address = e.b, terms.argument(e, arguments, name)
        row, blocks = terms.size(e, arguments, "row"), terms.size(e, arguments, "blocks")
        place = b.mul(part, terms.size(e, arguments, "part"))
        if not blocked:
            G.store(e, b.extract_element(value, constant(0)), address, b.add(place, output))
            return
        inside = b.add(b.shl(b.urem(output, blocks), constant(3)), b.shl(half, constant(2)))
        place = b.add(place, b.add(b.mul(b.udiv(output, blocks), row), inside))
        left = b.sub(terms.size(e, arguments, "channels"), inside)
        lanes = ir.Constant(ir.VectorType(I32, 4), list(range(4)))
        if padded:
            there = b.icmp_signed("<", lanes, e.splat(left))
            G.store(e, e.select(there, value, e.const(0)), address, place)
            return
        for i in range(4):
            with b.if_then(b.icmp_signed("<", constant(i), left)):
                G.store(e, b.extract_element(value, constant(i)), address, b.add(place, constant(i)))

    begin = emitted_for(target, terms.type, (), terms.begin)
    add = emitted_for(target, terms.type, (terms.type, ARGUMENTS, INT, INT, INT), terms.add)
    end = emitted_for(target, None, (terms.type, ARGUMENTS, INT, INT, INT), finish)
    OUTPUTS, TERMS, SHARE = (terms.where[name] for name in ("outputs", "terms", "share"))
    GROUP = THREADS // threads

    def kernel(arguments: Any, block: Any, _: Any) -> None:
        thread, outputs = G.thread(), i32(arguments[OUTPUTS])
        groups = G.divide(i32(outputs + GROUP - 1), i32(GROUP))
        part = G.divide(i32(block), groups)
        output = i32((i32(block) - part * groups) * GROUP + G.divide(thread, i32(threads)))
        member = i32(thread & (threads - 1))
        half, term = i32(member & (halves - 1)), i32(G.divide(member, i32(halves)) + part * i32(arguments[SHARE]))
        last = min(i32(arguments[TERMS]), i32((part + 1) * i32(arguments[SHARE])))
        held = begin()
        if output < outputs:
            while term < last:
                held = add(held, arguments, output, term, half)
                term = i32(term + threads // halves)
        end(held, arguments, thread, output, part)

    return Program(kernel, terms.buffers, terms.sizes, THREADS, 4 * THREADS * width)


FAMILIES = (
    Family(
        "reduce",
        make_reduce,
        "y_i = the fold of expression_i(a0, a1, ...) over axes. A block is some outputs of a part.",
    ),
)
