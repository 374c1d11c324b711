"""One walk over a row: expressions over x, its statistics and other operands; what they give is stored or added up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numba import types

from ..code.emit import F32, Emitter, Value, i64
from ..code.expression import Expression, variables
from ..code.loops import RowOperand, for_vectors
from ..code.vector import FLOATS, INTEGERS, emitted
from ..target import Target
from .trees import A0, Trees, X

STATISTICS = ("mean", "rest", "scale", "first", "second")
PLACES = ("position", "along", "channel")
INT = types.int64


@dataclass(frozen=True)
class Layout:
    """Where a kernel finds what its expressions read.

    head: the names of its arguments. operands: by name, the place from which a row of it begins, one of `PLACES`, or None,
    and its kind along a row. statistics: their kind, and the floats from one of them to the next. masked: whether the lanes
    of a block's missing channels give zero.
    """

    head: tuple[str, ...]
    operands: Mapping[str, tuple[str | None, str]]
    statistics: str
    apart: int
    masked: bool


def make_walk(target: Target, layout: Layout, results: Sequence[tuple[Expression, str]]) -> Any:
    """walk(arguments, statistics, position, along, channel, count, valid, out0, out1, out2) over `count` numbers of a row.

    results: expressions, and what becomes of each at its out: "store"; "add", to what is there, number by number; or
    "total", to the vector that is there, in any lane. position, along, channel: the places of the row, in floats.
    """
    names = variables(*(tree for tree, _ in results))
    totals = [j for j, (_, how) in enumerate(results) if how == "total"]
    turns = 4 if len(totals) <= 2 else 2

    def emit(e: Emitter, arguments: Value, statistics: Value, position: Value, along: Value, channel: Value, count: Value,
             valid: Value, *outs: Value) -> None:  # fmt: skip
        places = dict(zip(PLACES, (position, along, channel), strict=True))
        keep = e.first_lanes(valid) if layout.masked else None

        def row(name: str) -> RowOperand:
            if name in STATISTICS:
                at = e.at(statistics, STATISTICS.index(name) * layout.apart)
                return RowOperand(e, layout.statistics, at, i64(0))
            place, kind = layout.operands[name]
            address = e.b.load(e.b.gep(arguments, [i64(layout.head.index(name))]))
            start = e.b.inttoptr(address, F32.as_pointer())
            return RowOperand(e, kind, start if place is None else e.at(start, places[place]), i64(0), keep)

        rows = {name: row(name) for name in names}

        def step(i: Value, mask: Value, carried: list[Value]) -> list[Value]:
            values = {name: operand.load(i, mask) for name, operand in rows.items()}
            found = [e.expression(tree, values) for tree, _ in results]
            if keep is not None:
                found = [e.select(keep, value, e.const(0)) for value in found]
            added = []
            for j, (value, (_, how)) in enumerate(zip(found, results, strict=True)):
                if how == "total":
                    added.append(value if mask is None else e.select(mask, value, e.const(0)))
                    continue
                if how == "add":
                    here = e.load(outs[j], i) if mask is None else e.masked_load(e.at(outs[j], i), mask)
                    value = e.b.fadd(here, value)
                if mask is None:
                    e.store(value, outs[j], i)
                else:
                    e.masked_store(value, e.at(outs[j], i), mask)
            # The accumulators take turns, so that successive additions do not wait for each other.
            before = carried[: len(totals)]
            return [*carried[len(totals) :], *(e.b.fadd(a, b) for a, b in zip(before, added, strict=True))]

        unroll = turns if len(names) <= 5 else 2
        zeros = [e.const(0)] * (turns * len(totals))
        sums = for_vectors(e, count, unroll, zeros, step, tail=not layout.masked)
        for k, j in enumerate(totals):
            total = e.load(outs[j])
            for part in sums[k :: len(totals)]:
                total = e.b.fadd(total, part)
            e.store(total, outs[j])

    return emitted(target, None, (INTEGERS, FLOATS, *[INT] * 5, *[FLOATS] * 3), emit)


@dataclass(frozen=True)
class Walks:
    """total: of x. spread: of deviations from the mean so far, and of their squares. sums: the two of the gradient. write: the
    result, and the gradients of weights along a row.
    """

    total: Any
    spread: Any
    sums: Any
    write: Any

    @classmethod
    def of(cls, target: Target, layout: Layout, trees: Trees, result: Expression, how: tuple[str, str | None],
           backward: bool) -> Walks:  # fmt: skip
        """how: what sums become of the numbers of a row, and what the gradients of weights; None where there are none."""
        added, parts = how
        results = [(result, "store")]
        if parts is not None:
            results += [(("mul", A0, trees.normalized), parts), (A0, parts)]
        walks = (
            [(X, added)],
            [(trees.deviation, added), (trees.square, added)],
            [(trees.through, added), (trees.product, added)] if backward else [(X, added)],
            results[: 3 if trees.centered else 2],
        )
        return cls(*(make_walk(target, layout, walk) for walk in walks))
