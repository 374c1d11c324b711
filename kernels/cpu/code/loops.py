"""Loops, and rows of operands: what the kernels share.

A row is the inner loop of a nest. Along it an operand is a `vector` (contiguous), a `scalar` (one number) or `lanes`
(one vector of a block's channels, the same for every pixel).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from ..launches import OUTER
from .emit import F32, Emitter, Value, i64


def operand_slots(first: int, index: int) -> tuple[int, range]:
    """Positions among the arguments of operand `index`'s address and strides, for a group that starts at `first`."""
    start = first + index * (OUTER + 1)
    return start, range(start + 1, start + 1 + OUTER)


def row_pointer(e: Emitter, arguments: Value, slot: tuple[int, range], at: Sequence[Value]) -> Value:
    """The address of an operand's row: its base moved by the outer indices `at`."""
    b = e.b
    address, strides = slot
    pointer = b.inttoptr(b.load(b.gep(arguments, [i64(address)])), F32.as_pointer())
    offset = i64(0)
    for index, stride in zip(at, strides, strict=True):
        offset = b.add(offset, b.mul(index, b.load(b.gep(arguments, [i64(stride)]))))
    return b.gep(pointer, [offset])


class RowOperand:
    """One operand along a row."""

    def __init__(self, e: Emitter, kind: str, pointer: Value, start: Value, valid: Value = None) -> None:
        """start: the first element of the piece of the row; valid: a mask of the lanes of a `lanes` operand that exist."""
        self.e, self.pointer, self.held = e, pointer, None
        if kind == "vector":
            self.pointer = e.at(pointer, start)
        elif kind == "scalar":
            self.held = e.broadcast(pointer)
        elif kind == "lanes":
            self.held = e.load(pointer) if valid is None else e.masked_load(pointer, valid)
        else:
            raise ValueError(kind)

    def load(self, i: Value, mask: Value = None) -> Value:
        """The operand's L elements from i on; with a mask, zero in the other lanes of a vector."""
        if self.held is not None:
            return self.held
        return self.e.load(self.pointer, i) if mask is None else self.e.masked_load(self.e.at(self.pointer, i), mask)


Body = Callable[..., Sequence[Value] | None]


def for_range(e: Emitter, start: Value, stop: Value, step: int, carried: Sequence[Value], body: Body) -> list[Value]:
    """`for i in range(start, stop, step): carried = body(i, carried)`; returns the last carried values."""
    b, before = e.b, e.b.block
    head, inner, done = (b.append_basic_block(name) for name in ("head", "body", "done"))
    b.branch(head)
    b.position_at_end(head)
    i, phis = b.phi(start.type), [b.phi(c.type) for c in carried]
    b.cbranch(b.icmp_signed("<", i, stop), inner, done)
    b.position_at_end(inner)
    out = list(body(i, list(phis)) or ())
    after, following = b.block, b.add(i, i64(step))
    b.branch(head)
    i.add_incoming(start, before)
    i.add_incoming(following, after)
    for phi, first, last in zip(phis, carried, out, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(last, after)
    b.position_at_end(done)
    return phis


def for_vectors(
    e: Emitter, count: Value, unroll: int, carried: Sequence[Value], body: Any, tail: bool = True
) -> list[Value]:
    """Walk `count` elements: body(i, mask, carried), unrolled while `unroll` vectors are left, then singly, then once
    with a mask.
    """
    b, lanes = e.b, e.lanes
    values: list[Value] = list(carried)

    def several(n: int) -> Any:
        def step(i: Value, values: list[Value]) -> list[Value]:
            for k in range(n):
                values = list(body(b.add(i, i64(k * lanes)), None, values) or ())
            return values

        return step

    at = i64(0)
    if unroll > 1:
        whole = b.sub(count, b.urem(count, i64(unroll * lanes)))
        values = for_range(e, at, whole, unroll * lanes, values, several(unroll))
        at = whole
    rest = b.urem(count, i64(lanes))
    whole = b.sub(count, rest)
    values = for_range(e, at, whole, lanes, values, several(1))
    if tail:

        def last(i: Value, values: list[Value]) -> Any:
            return body(whole, e.first_lanes(rest), values)

        once = b.zext(b.icmp_signed(">", rest, i64(0)), rest.type)
        values = for_range(e, i64(0), once, 1, values, last)
    return values


def some(e: Emitter, count: Any, carried: Sequence[Any], body: Callable[[Any, list[Any]], Sequence[Any]]) -> list[Any]:
    """`Emitter.loop` for any count, also for none."""
    return when(e, e.b.icmp_signed(">", count, i64(0)), carried, lambda: e.loop(count, carried, body))


def when(e: Emitter, condition: Any, values: Sequence[Any], change: Callable[..., Sequence[Any]]) -> list[Any]:
    """What `change` returns where the condition holds, else the values as they are."""
    b = e.b
    before, run, done = b.block, b.append_basic_block("run"), b.append_basic_block("ran")
    b.cbranch(condition, run, done)
    b.position_at_end(run)
    out = change()
    after = b.block
    b.branch(done)
    b.position_at_end(done)
    return merged(e, values, before, out, after)


def either(e: Emitter, flag: Any, both: bool, yes: Callable[[], None], no: Callable[[], None]) -> None:
    """Code of `yes` where the flag is not 0, else of `no`; of `yes` alone where there are not `both`."""
    if not both:
        yes()
        return
    with e.b.if_else(e.b.icmp_signed("!=", flag, i64(0))) as (then, otherwise):
        with then:
            yes()
        with otherwise:
            no()


def picking(
    tile: Callable[..., None], shape: tuple[int, int], uneven: bool = True, tail: bool = True
) -> Callable[..., None]:
    """A body: tile(e, (rows, vectors), *values) of that shape; or, where some tiles are `uneven`, of one row less if not `tall`, and
    where there is a `tail` of one vector if not `wide`. These are the last of its values.
    """
    rows, vectors = shape

    def body(e: Emitter, *values: Any) -> None:
        *rest, tall, wide = values

        def of(count: int) -> None:
            some, one = (count, vectors), (count, 1)
            either(e, wide, tail and vectors > 1, lambda: tile(e, some, *rest), lambda: tile(e, one, *rest))

        either(e, tall, uneven and rows > 1, lambda: of(rows), lambda: of(rows - 1))

    return body


def merged(e: Emitter, values: Sequence[Any], here: Any, others: Sequence[Any], there: Any) -> list[Any]:
    """Each value where the block was reached from `here`, the other from `there`."""
    found = []
    for value, other in zip(values, others, strict=True):
        phi = e.b.phi(value.type)
        phi.add_incoming(value, here)
        phi.add_incoming(other, there)
        found.append(phi)
    return found


def pointers(e: Emitter, first: Value, step: Value, count: int) -> list[Value]:
    """`count` of them, each `step` floats from the one before."""
    found = [first]
    for _ in range(count - 1):
        found.append(e.b.gep(found[-1], [step]))
    return found


def transpose(e: Emitter, rows: list[Value]) -> list[Value]:
    """The L x L matrix of L vectors, transposed by swapping blocks of halving size."""
    lanes, distance = e.lanes, e.lanes // 2
    rows = list(rows)
    while distance:
        low = [k if not k & distance else lanes + k - distance for k in range(lanes)]
        high = [k + distance if not k & distance else lanes + k for k in range(lanes)]
        for i in range(lanes):
            if not i & distance:
                first, second = rows[i], rows[i + distance]
                rows[i] = e.b.shuffle_vector(first, second, ir.Constant(e.int_type, low))
                rows[i + distance] = e.b.shuffle_vector(first, second, ir.Constant(e.int_type, high))
        distance //= 2
    return rows
