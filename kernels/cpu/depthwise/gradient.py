"""The weight gradient of a depthwise convolution: one pass over x and dy.

dw[c, i, j] = sum over images, rows r and columns q of dy[c, r, q] * x[c, stride * (r, q) + dilation * (i, j) - padding].
All sums of a channel block stay in registers while a row of x goes by with the few columns of dy that its column meets. The
sums of a row begin at zero and are added to those of some rows in scratch, and these to the sums of a part of the lines
(image, row); sums of sums lose less than one long sum. The parts' sums are added up in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

from numba import types

from .. import Family
from ..code.emit import Emitter, i64
from ..code.loops import some, when
from ..code.vector import FLOATS, INTEGERS, Linked, external, indices
from ..code.vector import vectors as vector_operations
from ..problem import Pair
from ..target import Target
from .plan import DEPTHWISE_SUM_ARGUMENTS, DEPTHWISE_WEIGHT_GRADIENT_ARGUMENTS, Walk, walk_of
from .walk import argument_of, between, input_row

A = indices(DEPTHWISE_WEIGHT_GRADIENT_ARGUMENTS)
S = indices(DEPTHWISE_SUM_ARGUMENTS)

# Whose sums are added up before they join those of the part.
LINES = 16
Body = Callable[..., None]
# x, zeros, dy (its row), sums, row, arguments
_ROW = (FLOATS, FLOATS, FLOATS, FLOATS, types.int64, INTEGERS)


def _walking(walk: Walk, kernel: Pair, rows: Sequence[int], stride: int, dilation: int) -> Body:
    """A body: the sums of some rows of the kernel += the products of one row of dy."""
    taps = [(i, j) for i in rows for j in range(kernel[1])]

    def body(e: Emitter, x: Any, zeros: Any, dy: Any, sums: Any, row: Any, arguments: Any) -> None:
        b, lanes = e.b, e.lanes
        top, left, height, width, columns, begin, inside, outside, end = (
            argument_of(e, arguments, i)
            for i in (A.top, A.left, A.height, A.width, A.columns, A.begin, A.inside, A.outside, A.end)
        )
        first = b.sub(b.mul(row, i64(stride)), top)
        lines = [input_row(e, x, zeros, b.add(first, i64(i * dilation)), height, width) for i in rows]

        def add(total: list[Any], slots: list[Any], q: int, at: Any) -> list[Any]:
            """The sums with column q of a step, which lies `at` floats from the row's first."""
            total = list(total)
            for k, line in enumerate(lines):
                value = e.load(line, at)
                for slot, j in walk.meets[q]:
                    total[k * kernel[1] + j] = e.fma(value, slots[slot], total[k * kernel[1] + j])
            return total

        def step(careful: bool) -> Callable[[Any, list[Any]], list[Any]]:
            def run(_: Any, carried: list[Any]) -> list[Any]:
                column_in, column_out, *rest = carried
                total, slots = rest[: len(taps)], rest[len(taps) :]
                at = b.mul(column_out, i64(lanes))
                if careful:
                    none = [e.const(0)]
                    newest = when(e, between(e, column_out, columns), none, lambda: [e.load(dy, at)])
                else:
                    newest = [e.load(dy, at)]
                slots = slots + newest
                for q in range(walk.reads):
                    column = b.add(column_in, i64(q))
                    at_in = b.mul(column, i64(lanes))
                    if careful:
                        total = when(e, between(e, column, width), total, partial(add, total, slots, q, at_in))
                    else:
                        total = add(total, slots, q, at_in)
                return [b.add(column_in, i64(walk.reads)), b.add(column_out, i64(1)), *total, *slots[1:]]

            return run

        state = [b.sub(b.mul(begin, i64(walk.reads)), left), begin]
        state += [e.const(0) for _ in taps]
        state += [e.const(0) for _ in range(walk.slots - 1)]
        state = some(e, b.sub(inside, begin), state, step(True))
        state = some(e, b.sub(outside, inside), state, step(False))
        state = some(e, b.sub(end, outside), state, step(True))
        for (i, j), value in zip(taps, state[2:], strict=False):
            place = (i * kernel[1] + j) * lanes
            e.store(b.fadd(value, e.load(sums, place)), sums, place)

    return body


def _row(target: Target, kernel: Pair, stride: Pair, dilation: Pair) -> Body:
    """A body: the sums += the products of one row of dy, as many rows of the kernel at once as registers hold sums of."""
    walk = walk_of(kernel[1], stride[1], dilation[1], False)
    at_once = max(1, (target.registers - walk.slots - 2) // kernel[1])

    def body(e: Emitter, *values: Any) -> None:
        for i in range(0, kernel[0], at_once):
            _walking(walk, kernel, range(i, min(i + at_once, kernel[0])), stride[0], dilation[0])(e, *values)

    return body


def _any_row(target: Target, kernel: Pair, stride: Pair, dilation: Pair) -> Body:
    """The same for any kernel: tap by tap."""
    lanes = target.lanes

    def body(e: Emitter, x: Any, zeros: Any, dy: Any, sums: Any, row: Any, arguments: Any) -> None:
        b = e.b
        top, left, height, width, columns = (
            argument_of(e, arguments, i) for i in (A.top, A.left, A.height, A.width, A.columns)
        )

        def over_taps(tap: Any, _: list[Any]) -> list[Any]:
            i, j = b.sdiv(tap, i64(kernel[1])), b.srem(tap, i64(kernel[1]))
            source = b.sub(b.add(b.mul(row, i64(stride[0])), b.mul(i, i64(dilation[0]))), top)
            line = input_row(e, x, zeros, source, height, width)
            first = b.sub(b.mul(j, i64(dilation[1])), left)
            place = e.at(sums, b.mul(tap, i64(lanes)))

            def over_columns(q: Any, carried: list[Any]) -> list[Any]:
                column = b.add(b.mul(q, i64(stride[1])), first)

                def add() -> list[Any]:
                    return [
                        e.fma(e.load(line, b.mul(column, i64(lanes))), e.load(dy, b.mul(q, i64(lanes))), carried[0])
                    ]

                return when(e, between(e, column, width), carried, add)

            (total,) = e.loop(columns, [e.const(0)], over_columns)
            e.store(b.fadd(total, e.load(place)), place)
            return []

        e.loop(i64(kernel[0] * kernel[1]), [], over_taps)

    return body


@cache
def _outer(target: Target, taps: int) -> Any:
    """The loops around a row of dy."""
    V = vector_operations(target)
    lanes = target.lanes
    add = external("row", _ROW)

    def kernel(arguments, chunk, scratch):
        blocks, rows = arguments[A.blocks], arguments[A.rows]
        block = chunk % blocks
        begin = chunk // blocks * arguments[A.part_lines]
        dy_row = arguments[A.columns] * lanes
        sums = V.offset(V.floats(arguments[A.sums]), chunk * taps * lanes)
        some, zeros = scratch, V.offset(scratch, taps * lanes)
        for i in range(taps):
            V.store(V.zero(), sums, i * lanes)
            V.store(V.zero(), some, i * lanes)
        for i in range(arguments[A.width]):
            V.store(V.zero(), zeros, i * lanes)
        end = min(begin + arguments[A.part_lines], arguments[A.lines])
        for line in range(begin, end):
            image, row = line // rows, line % rows
            x = V.offset(V.floats(arguments[A.x]), block * arguments[A.x_block])
            x = V.offset(x, V.two_steps(image, arguments[A.slices], arguments[A.x_image], arguments[A.x_slice]))
            dy = V.offset(V.floats(arguments[A.dy]), block * arguments[A.dy_block] + row * dy_row)
            dy = V.offset(dy, V.two_steps(image, arguments[A.slices], arguments[A.dy_image], arguments[A.y_slice]))
            add(x, zeros, dy, some, row, arguments)
            if (line - begin) % LINES == LINES - 1 or line == end - 1:
                for i in range(taps):
                    V.store(V.load(sums, i * lanes) + V.load(some, i * lanes), sums, i * lanes)
                    V.store(V.zero(), some, i * lanes)

    return kernel


def _make(row: Callable[..., Body]) -> Callable[..., Linked]:
    def make(target: Target, kernel: Pair, stride: Pair, dilation: Pair) -> Linked:
        return Linked(_outer(target, kernel[0] * kernel[1]), {"row": (_ROW, row(target, kernel, stride, dilation))})

    return make


def _make_sum(target: Target) -> Any:
    V = vector_operations(target)
    lanes = target.lanes

    def kernel(arguments, chunk, scratch):
        parts, blocks, taps = arguments[S.parts], arguments[S.blocks], arguments[S.taps]
        sums = V.offset(V.floats(arguments[S.sums]), chunk * taps * lanes)
        dw = V.offset(V.floats(arguments[S.dw]), chunk * lanes * arguments[S.dw_channel])
        for tap in range(taps):
            total = V.zero()
            for part in range(parts):
                total += V.load(sums, (part * blocks * taps + tap) * lanes)
            V.store(total, scratch, 0)
            for c in range(min(arguments[S.channels] - chunk * lanes, lanes)):
                dw[c * arguments[S.dw_channel] + tap] = scratch[c]

    return kernel


_ARGUMENTS = DEPTHWISE_WEIGHT_GRADIENT_ARGUMENTS
FAMILIES = (
    Family(
        "depthwise_weight_gradient", _ARGUMENTS, _make(_row), "Sums of dy * x for every tap, one part of the lines."
    ),
    Family("depthwise_weight_gradient_any", _ARGUMENTS, _make(_any_row), "The same for large kernels."),
    Family("depthwise_sum", DEPTHWISE_SUM_ARGUMENTS, _make_sum, "dw: the sums of the parts, added in their order."),
)
