"""Long sums of products in parts: a part is added up from zero in one accumulator, and then to the parts before it.

A sum of n numbers in one accumulator is off by about sqrt(n / 2) roundings of it, one of parts of m by sqrt(m / 2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from llvmlite import ir

from .emit import F32, I1, I64, Emitter, i64
from .loops import for_range, merged

# Products of a part, at most: parts of 256 were up to 2.5 times as far off as PyTorch's sums, and no faster.
PRODUCTS = 192


def most_terms(products: int) -> int:
    """How many terms of so many products a part has, at most."""
    return max(1, PRODUCTS // products)


class Kept(Protocol):
    """Where sums lie from one part to the next."""

    def read(self) -> list[Any]: ...

    def write(self, sums: list[Any]) -> None: ...


@dataclass(frozen=True)
class Places:
    """Each sum at a pointer and so many floats behind it."""

    e: Emitter
    places: Sequence[tuple[Any, int]]

    def read(self) -> list[Any]:
        return [self.e.load(*place) for place in self.places]

    def write(self, sums: list[Any]) -> None:
        for value, place in zip(sums, self.places, strict=True):
            self.e.store(value, *place)


@dataclass(frozen=True)
class Own:
    """`sums(done, length, carried)`: those of `length` terms after the first `done` once more, without what does not belong to
    them. They stand for a part's sums where not all of these are finite whose number `every` divides.
    """

    sums: Callable[[Any, Any, list[Any]], list[Any]]
    every: int


def own_sums(e: Emitter, start: list[Any], value: Any, weights: Any, count: Any, every: int) -> list[Any]:
    """start[v] += the products of `count` values from `value` on with weights, of which value k's v-th vector is at
    (k * every + v) lanes; products with FOREIGN are left out. Few registers, for what is not hot.
    """

    def step(_: Any, carried: list[Any]) -> list[Any]:
        xp, wp, *sums = carried
        x = e.broadcast(xp)
        for v, total in enumerate(sums):
            w = e.load(wp, v * e.lanes)
            sums[v] = e.select(e.is_own(w), e.fma(x, w, total), total)
        return [e.at(xp, 1), e.at(wp, every * e.lanes), *sums]

    return for_range(e, i64(0), count, 1, [value, weights, *start], step)[2:]


def room_for(e: Emitter, vectors: int) -> Any:
    """Memory for so many vectors on the stack, as a float pointer."""
    with e.b.goto_entry_block():
        return e.b.bitcast(e.b.alloca(e.type, vectors), F32.as_pointer())


def _all_finite(e: Emitter, sums: list[Any]) -> Any:
    """Whether every lane is: else their sum is not, and 0 times that is not 0. Sums that overflow count as infinite."""
    while len(sums) > 1:  # in pairs, for an addition waits for the one before
        pairs = zip(sums[::2], sums[1::2], strict=False)
        sums = [*(e.b.fadd(x, y) for x, y in pairs), *(sums[-1:] if len(sums) % 2 else [])]
    wrong = e.b.bitcast(e.is_nan(e.b.fmul(sums[0], e.const(0))), ir.IntType(e.lanes))
    return e.b.icmp_unsigned("==", wrong, ir.Constant(ir.IntType(e.lanes), 0))


def in_parts(e: Emitter, count: Any, most: Any, fresh: Any, carried: list[Any], start: list[Any],
             body: Callable[[Any, list[Any]], list[Any]], kept: Kept, own: Own | None = None) -> list[Any]:  # fmt: skip
    """The sums over `count` terms, at most `most` to a part; parts are of about equal lengths. `body(t, [*carried, *sums])`
    adds term t. The first part begins at `start`; where not `fresh`, what was `kept` is added to it. The result is not yet kept.
    """
    b = e.b
    before, part, run, summed, add, added, more, end = b.block, *(
        b.append_basic_block(name) for name in ("part", "run", "summed", "add", "added", "again", "end")
    )  # fmt: skip
    b.branch(part)
    b.position_at_end(part)
    done, alone = b.phi(I64), b.phi(I1)
    moving, sums = [b.phi(value.type) for value in carried], [b.phi(e.type) for _ in start]
    left, most = b.sub(count, done), i64(most) if isinstance(most, int) else most
    half = b.ashr(b.add(left, i64(1)), i64(1))
    length = b.select(b.icmp_signed("<", left, b.shl(most, i64(1))), half, most)
    length = b.select(b.icmp_signed("<=", left, most), left, length)
    b.cbranch(b.icmp_signed(">", length, i64(0)), run, summed)
    b.position_at_end(run)
    out = e.loop(length, [*moving, *sums], lambda t, values: body(b.add(done, t), values))
    if own is not None:
        repeat, finite = b.append_basic_block("repeat"), b.append_basic_block("finite")
        known, out, totals = b.block, out[: len(moving)], out[len(moving) :]
        b.cbranch(_all_finite(e, totals[:: own.every]), finite, repeat).set_weights([1_000_000, 1])
        b.position_at_end(repeat)
        again = own.sums(done, length, moving)
        there = b.block
        b.branch(finite)
        b.position_at_end(finite)
        out += merged(e, totals, known, again, there)
    after = b.block
    b.branch(summed)
    b.position_at_end(summed)
    out = merged(e, [*moving, *sums], part, out, after)
    moved, totals = out[: len(moving)], out[len(moving) :]
    b.cbranch(alone, added, add)
    b.position_at_end(add)
    both = [b.fadd(total, value) for total, value in zip(totals, kept.read(), strict=True)]
    here = b.block
    b.branch(added)
    b.position_at_end(added)
    totals, following = merged(e, totals, summed, both, here), b.add(done, length)
    b.cbranch(b.icmp_signed("<", following, count), more, end)
    b.position_at_end(more)
    kept.write(totals)
    # LLVM would keep what was written in registers, of which there are too few.
    b.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], side_effect=True)
    incoming = [
        (done, i64(0), following),
        (alone, fresh, ir.Constant(I1, 0)),
        *zip(moving, carried, moved, strict=True),
    ]
    incoming += [(phi, value, e.const(0)) for phi, value in zip(sums, start, strict=True)]
    for phi, first, later in incoming:
        phi.add_incoming(first, before)
        phi.add_incoming(later, b.block)
    b.branch(part)
    b.position_at_end(end)
    return totals
