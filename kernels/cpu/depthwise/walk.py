"""Depthwise convolution, forward and data gradient: as fast as the input can be read.

A row of outputs is walked through as `plan.py` describes it. Every input is loaded once a row of the kernel
and added to all outputs that it meets; for 3x3 the nine taps stay in registers. Rows outside the image are read from a
line of zeros in scratch, columns outside are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

from numba import types

from .. import Family
from ..code.channels import gather_body
from ..code.emit import F32, Emitter, i64
from ..code.loops import some, when
from ..code.vector import FLOATS, INTEGERS, Linked, external, indices
from ..code.vector import vectors as vector_operations
from ..problem import Pair
from ..target import Target
from .plan import DEPTHWISE_ARGUMENTS, Walk, fit_registers, in_pairs, walk_of

A = indices(DEPTHWISE_ARGUMENTS)
OPERANDS = len(DEPTHWISE_ARGUMENTS)

Body = Callable[..., None]
_N = types.int64
GATHER = (INTEGERS, FLOATS, _N, _N)
PARAMETERS = ("kernel", "stride", "dilation", "transposed", "masked", "expression")
# x, zeros, w, place, row, arguments, scratch, valid
ROW = (FLOATS, FLOATS, FLOATS, _N, _N, INTEGERS, FLOATS, _N)


def between(e: Emitter, number: Any, count: Any) -> Any:
    """Whether 0 <= number < count."""
    return e.b.icmp_unsigned("<", number, count)


def input_row(e: Emitter, x: Any, zeros: Any, row: Any, height: Any, width: Any) -> Any:
    """The first pixel of a row of the plane, or the line of zeros where there is no such row."""
    b = e.b
    exists = between(e, row, height)
    start = b.gep(x, [b.mul(b.select(exists, row, i64(0)), b.mul(width, i64(e.lanes)))])
    return b.select(exists, start, zeros)


def argument_of(e: Emitter, arguments: Any, index: int) -> Any:
    return e.b.load(e.b.gep(arguments, [i64(index)]), align=8)


def _writer(e: Emitter, place: Any, arguments: Any, scratch: Any, valid: Any, masked: bool, tree: Any,
            operands: tuple[str, ...]) -> Callable[[Any, Any], None]:  # fmt: skip
    """write(value, at): the expression of a finished sum, `at` floats from the row's first output.

    `place` is the row's offset in y and in every operand of its shape; `scratch` begins with the block's channel
    vectors: the bias, then those of the operands. Where `masked`, only the first `valid` channels keep a value.
    """

    def tensor(index: int) -> Any:
        return e.b.gep(e.b.inttoptr(argument_of(e, arguments, index), F32.as_pointer()), [place])

    y = tensor(A.y)
    full = {i: tensor(OPERANDS + i) for i, kind in enumerate(operands) if kind == "full"}
    mask = e.first_lanes(valid) if masked else None

    def write(value: Any, at: Any) -> None:
        variables = {"y": value}
        for i in range(len(operands)):
            variables[f"a{i}"] = e.load(full[i], at) if i in full else e.load(scratch, e.lanes * (i + 1))
        value = value if tree is None else e.expression(tree, variables)
        e.store(e.select(mask, value, e.const(0)) if masked else value, y, at)

    return write


def _walking(target: Target, walk: Walk, columns: int, rows: Sequence[int], row_of: Callable[[Emitter, Any, Any, int], Any],
             transposed: bool, epilogue: tuple[Any, ...], ahead: Callable[[int, int], int], together: int = 1) -> Body:  # fmt: skip
    """A body: one row of outputs from some rows of the kernel, which is `columns` wide, or two neighboring ones `together`.
    `ahead(kernel row, k)` is the distance to the input row that the k-th meets, which is `row_of(emitter, row, top, distance)`.
    """
    lanes, wide = target.lanes, walk.slots
    resident = fit_registers(target, len(rows) * columns, together * wide)
    meeting = {(i, k): ahead(i, k) for i in rows for k in range(together)}

    def body(
        e: Emitter, x: Any, zeros: Any, w: Any, place: Any, row: Any, arguments: Any, scratch: Any, valid: Any
    ) -> None:
        b = e.b
        top, left, height, in_width, out_width, begin, inside, outside, end = (
            argument_of(e, arguments, i)
            for i in (A.top, A.left, A.height, A.width, A.columns, A.begin, A.inside, A.outside, A.end)
        )
        lines = {
            distance: input_row(e, x, zeros, row_of(e, row, top, distance), height, in_width)
            for distance in sorted(set(meeting.values()))
        }
        write = [_writer(e, place, arguments, scratch, valid, *epilogue)]
        if together > 1:
            below = b.add(place, b.mul(out_width, i64(lanes)))
            write.append(_writer(e, below, arguments, scratch, valid, *epilogue))
        held = {(i, j): e.load(w, (i * columns + j) * lanes) for i in rows for j in range(columns) if resident}

        def add(slots: list[Any], q: int, at: Any) -> list[Any]:
            """The slots with column q of a step, which lies `at` floats from the row's first."""
            slots = list(slots)
            values: dict[int, Any] = {}
            for i in rows:
                for distance in sorted({meeting[i, k] for k in range(together)} - values.keys()):
                    values[distance] = e.load(lines[distance], at)
                for slot, j in walk.meets[q]:
                    tap = held[i, j] if resident else e.load(w, (i * columns + j) * lanes)
                    for k in range(together):
                        slots[k * wide + slot] = e.fma(values[meeting[i, k]], tap, slots[k * wide + slot])
            return slots

        def step(careful: bool) -> Callable[[Any, list[Any]], list[Any]]:
            def run(_: Any, carried: list[Any]) -> list[Any]:
                column_in, column_out, *slots = carried
                for q in range(walk.reads):
                    column = b.add(column_in, i64(q))
                    at = b.mul(column, i64(lanes))
                    if careful:
                        slots = when(e, between(e, column, in_width), slots, partial(add, slots, q, at))
                    else:
                        slots = add(slots, q, at)
                for done in range(walk.done):
                    column = b.add(column_out, i64(done))
                    at = b.mul(column, i64(lanes))
                    for k in range(together):
                        if careful:
                            with b.if_then(between(e, column, out_width)):
                                write[k](slots[k * wide + done], at)
                        else:
                            write[k](slots[k * wide + done], at)
                moved = []
                for k in range(together):
                    moved += slots[k * wide + walk.done : (k + 1) * wide] + [e.load(scratch) for _ in range(walk.done)]
                return [b.add(column_in, i64(walk.reads)), b.add(column_out, i64(walk.done)), *moved]

            return run

        first_in, first_out = (i64(0), b.neg(left)) if transposed else (b.neg(left), i64(1 - wide))
        state = [
            b.add(first_in, b.mul(begin, i64(walk.reads))),
            b.add(first_out, b.mul(begin, i64(walk.done))),
            *(e.load(scratch) for _ in range(together * wide)),
        ]
        state = some(e, b.sub(inside, begin), state, step(True))
        state = some(e, b.sub(outside, inside), state, step(False))
        some(e, b.sub(end, outside), state, step(True))

    return body


def row_body(
    target: Target, kernel: Pair, stride: Pair, dilation: Pair, transposed: bool, *epilogue: Any, together: int = 1
) -> Body:
    """A body: one row of outputs, or two `together`. In a data gradient, the kernel's rows that a row meets depend on its
    residue modulo the stride.
    """
    walk = walk_of(kernel[1], stride[1], dilation[1], transposed)

    def forward_row(e: Emitter, row: Any, top: Any, distance: int) -> Any:
        return e.b.sub(e.b.add(e.b.mul(row, i64(stride[0])), i64(distance)), top)

    def gradient_row(e: Emitter, row: Any, top: Any, distance: int) -> Any:
        return e.b.sdiv(e.b.sub(e.b.add(row, top), i64(distance)), i64(stride[0]))

    def walking(rows: Sequence[int]) -> Body:
        row_of = gradient_row if transposed else forward_row
        return _walking(
            target, walk, kernel[1], rows, row_of, transposed, epilogue, lambda i, k: i * dilation[0] + k * stride[0], together
        )  # fmt: skip

    def body(e: Emitter, *values: Any) -> None:
        if not transposed:
            walking(range(kernel[0]))(e, *values)
            return
        b, every = e.b, i64(stride[0])
        moved = b.add(values[4], argument_of(e, values[5], A.top))
        residue = b.srem(b.add(b.srem(moved, every), every), every)
        for rest in range(stride[0]):
            with b.if_then(b.icmp_signed("==", residue, i64(rest))):
                walking([i for i in range(kernel[0]) if i * dilation[0] % stride[0] == rest])(e, *values)

    return body


def _any_row(target: Target, kernel: Pair, stride: Pair, dilation: Pair, transposed: bool, *epilogue: Any) -> Body:
    """A body: one row of outputs, output by output and tap by tap; the sums of each row of the kernel begin at zero."""
    lanes = target.lanes

    def source(e: Emitter, output: Any, padding: Any, tap: Any, axis: int, size: Any) -> tuple[Any, Any]:
        """(the input's row or column, whether it exists)."""
        b, every, moved = e.b, i64(stride[axis]), e.b.mul(tap, i64(dilation[axis]))
        if not transposed:
            place = b.sub(b.add(b.mul(output, every), moved), padding)
            return place, between(e, place, size)
        distance = b.sub(b.add(output, padding), moved)
        place = b.sdiv(distance, every)
        return place, b.and_(between(e, place, size), b.icmp_signed("==", b.mul(place, every), distance))

    def body(
        e: Emitter, x: Any, zeros: Any, w: Any, place: Any, row: Any, arguments: Any, scratch: Any, valid: Any
    ) -> None:
        b = e.b
        top, left, height, in_width, out_width = (
            argument_of(e, arguments, i) for i in (A.top, A.left, A.height, A.width, A.columns)
        )
        write = _writer(e, place, arguments, scratch, valid, *epilogue)

        def over_columns(column: Any, _: list[Any]) -> list[Any]:
            def over_rows(i: Any, carried: list[Any]) -> list[Any]:
                r, above = source(e, row, top, i, 0, height)
                first, line = b.mul(r, in_width), b.mul(i, i64(kernel[1]))

                def over_taps(j: Any, part: list[Any]) -> list[Any]:
                    c, within = source(e, column, left, j, 1, in_width)

                    def add() -> list[Any]:
                        value = e.load(x, b.mul(b.add(first, c), i64(lanes)))
                        return [e.fma(value, e.load(w, b.mul(b.add(line, j), i64(lanes))), part[0])]

                    return when(e, within, part, add)

                def add_row() -> list[Any]:
                    return [b.fadd(carried[0], e.loop(i64(kernel[1]), [e.const(0)], over_taps)[0])]

                return when(e, above, carried, add_row)

            (total,) = e.loop(i64(kernel[0]), [e.load(scratch)], over_rows)
            write(total, b.mul(column, i64(lanes)))
            return []

        e.loop(out_width, [], over_columns)

    return body


@cache
def _outer(target: Target, pairs: bool) -> Any:
    """The loops around a row, or two: the same function for every specialization."""
    V = vector_operations(target)
    lanes = target.lanes
    gather, line = external("gather", GATHER), external("row", ROW)
    pair = external("pair" if pairs else "row", ROW)

    def kernel(arguments, chunk, scratch):
        blocks, block_parts, row_blocks = arguments[A.blocks], arguments[A.block_parts], arguments[A.row_blocks]
        part = chunk % block_parts
        first_row = chunk // block_parts % row_blocks * arguments[A.block_rows]
        image = chunk // block_parts // row_blocks
        rows, width = arguments[A.rows], arguments[A.columns] * lanes
        all_x = V.floats(arguments[A.x])
        all_x = V.offset(all_x, V.two_steps(image, arguments[A.slices], arguments[A.x_image], arguments[A.x_slice]))
        home = V.two_steps(image, arguments[A.slices], arguments[A.y_image], arguments[A.y_slice])
        zeros = V.offset(scratch, arguments[A.head])
        for i in range(arguments[A.width]):
            V.store(V.zero(), zeros, i * lanes)
        for block in range(part * arguments[A.chunk_blocks], min((part + 1) * arguments[A.chunk_blocks], blocks)):
            valid = min(arguments[A.channels] - block * lanes, lanes)
            gather(arguments, scratch, block * lanes, valid)
            x = V.offset(all_x, block * arguments[A.x_block])
            w = V.offset(V.floats(arguments[A.w]), block * arguments[A.taps] * lanes)
            row, end = first_row, min(first_row + arguments[A.block_rows], rows)
            while row < end:
                place = home + block * arguments[A.y_block] + row * width
                if pairs and row + 1 < end:
                    pair(x, zeros, w, place, row, arguments, scratch, valid)
                    row += 2
                else:
                    line(x, zeros, w, place, row, arguments, scratch, valid)
                    row += 1

    return kernel


def _make(row: Callable[..., Body], walking: bool) -> Callable[..., Linked]:
    def make(target: Target, operands: tuple[str, ...], **parameters: Any) -> Linked:
        values = [parameters[name] for name in PARAMETERS]
        bodies = {
            "gather": (GATHER, gather_body(operands, A.bias, OPERANDS)),
            "row": (ROW, row(target, *values, operands)),
        }
        pairs = walking and in_pairs(target, *values[:4])
        if pairs:
            bodies["pair"] = (ROW, row(target, *values, operands, together=2))
        return Linked(_outer(target, pairs), bodies)

    return make


FAMILIES = (
    Family("depthwise", DEPTHWISE_ARGUMENTS, _make(row_body, True), "Depthwise convolution or its data gradient."),
    Family("depthwise_any", DEPTHWISE_ARGUMENTS, _make(_any_row, False), "The same for large kernels."),
)
