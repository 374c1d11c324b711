"""Fully connected layers on natural layouts: x[N, in], w[out, in], y[N, out].

`linear` takes scalar products along `in`, contiguous in both operands. `linear_product` is what both gradients are:
rows of the result are sums of scaled rows of a matrix.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from .. import Family
from ..code.emit import F32, Emitter, Value, i64
from ..code.expression import Expression
from ..code.loops import RowOperand, for_range, for_vectors, picking
from ..code.vector import FLOATS, INTEGERS, emitted
from ..code.vector import vectors as vector_module
from ..target import Target
from .plan import LINEAR_HEAD, LINEAR_OPERANDS, PRODUCT_ARGUMENTS

INT = types.int64


def lane_sums(e: Emitter, accumulators: list[Value | None]) -> Value:
    """The vector whose lane k is the sum of the lanes of accumulators[k], for L accumulators; None: whatever.

    Like a transposition that adds: each step halves the number of vectors.
    """
    lanes, distance = e.lanes, e.lanes // 2
    rows = list(accumulators)
    undefined = ir.Constant(e.type, ir.Undefined)
    while distance:
        low = ir.Constant(e.int_type, [k if not k & distance else lanes + k - distance for k in range(lanes)])
        high = ir.Constant(e.int_type, [k + distance if not k & distance else lanes + k for k in range(lanes)])
        merged: list[Value | None] = []
        for first, second in zip(rows[:distance], rows[distance:], strict=True):
            if first is None and second is None:
                merged.append(None)
                continue
            a, b = first or undefined, second or undefined
            merged.append(e.b.fadd(e.b.shuffle_vector(a, b, low), e.b.shuffle_vector(a, b, high)))
        rows, distance = merged, distance // 2
    assert rows[0] is not None
    return rows[0]


def make_finish(
    target: Target, bias: bool, epilogue: Expression | None, kinds: tuple[str, ...], head: tuple[str, ...] = LINEAR_HEAD
) -> Any:
    """An intrinsic: `count` outputs from `start` on of row `row` of y, of `out` outputs, from their sums. head: the
    arguments before the operands.
    """

    def finish(e: Emitter, arguments: Value, sums: Value, row: Value, start: Value, out: Value, count: Value) -> None:
        def argument(name: str) -> Value:
            return e.b.inttoptr(e.b.load(e.b.gep(arguments, [i64(head.index(name))])), F32.as_pointer())

        full = e.b.add(e.b.mul(row, out), start)
        result = e.at(argument("y"), full)
        shift = RowOperand(e, "vector", argument("bias"), start) if bias else None
        operands = []
        for k, kind in enumerate(kinds):
            address = e.b.load(e.b.gep(arguments, [i64(len(head) + k)]))
            pointer = e.b.inttoptr(address, F32.as_pointer())
            operands.append(
                RowOperand(e, "scalar" if kind == "scalar" else "vector", pointer, full if kind == "full" else start)
            )

        def step(i: Value, mask: Value, _: list[Value]) -> None:
            value = e.load(sums, i) if mask is None else e.masked_load(e.at(sums, i), mask)
            if shift is not None:
                value = e.b.fadd(value, shift.load(i, mask))
            if epilogue is not None:
                value = e.expression(
                    epilogue, {"y": value} | {f"a{k}": operand.load(i, mask) for k, operand in enumerate(operands)}
                )
            if mask is None:
                e.store(value, result, i)
            else:
                e.masked_store(value, e.at(result, i), mask)

        for_vectors(e, count, 1, [], step)

    return emitted(target, None, (INTEGERS, FLOATS, INT, INT, INT, INT), finish)


def make_linear(
    target: Target,
    rows: int,
    outs: int,
    bias: bool,
    epilogue: Expression | None,
    kinds: tuple[str, ...],
) -> Any:
    """rows x outs scalar products at a time; the first `tall` tiles have all rows, the others one less. epilogue: over
    y and a0, a1, ..., which are "full" [N, out], "channel" [out] or "scalar".
    """
    lanes = target.lanes
    slot = 1 << (outs - 1).bit_length()
    assert slot <= lanes

    def products(
        e: Emitter, shape: tuple[int, int], x: Value, x_row: Value, w: Value, w_row: Value, *rest: Value
    ) -> None:
        (height, width), (count, sums, sums_row, first) = shape, rest
        xs = [e.at(x, e.b.mul(i64(r), x_row)) for r in range(height)]
        ws = [e.at(w, e.b.mul(i64(o), w_row)) for o in range(width)]

        def step(k: Value, mask: Value, acc: list[Value]) -> list[Value]:
            def load(pointer: Value) -> Value:
                return e.load(pointer, k) if mask is None else e.masked_load(e.at(pointer, k), mask)

            # The sums, the rows' values and one weight are all that registers have to hold.
            values, acc = [load(pointer) for pointer in xs], list(acc)
            for o in range(width):
                weight = load(ws[o])
                for r in range(height):
                    acc[r * width + o] = e.fma(values[r], weight, acc[r * width + o])
            return acc

        acc = for_vectors(e, count, 2 if height == 1 else 1, [e.const(0)] * (height * width), step)
        together = max(1, lanes // slot)
        mask = e.first_lanes(i64(width))
        for start in range(0, height, together):
            group: list[Value | None] = [None] * lanes
            for r in range(start, min(height, start + together)):
                for o in range(width):
                    group[(r - start) * slot + o] = acc[r * width + o]
            total = lane_sums(e, group)
            for r in range(start, min(height, start + together)):
                moved = [min((r - start) * slot + k, lanes - 1) for k in range(lanes)]
                part = e.b.shuffle_vector(total, total, ir.Constant(e.int_type, moved))
                pointer = e.at(sums, e.b.mul(i64(r), sums_row))
                before = e.masked_load(pointer, mask)
                before = e.b.select(e.b.icmp_signed("!=", first, i64(0)), e.const(0), before)
                e.masked_store(e.b.fadd(before, part), pointer, mask)

    tile = emitted(target, None, (FLOATS, INT, FLOATS, INT, INT, FLOATS, *(INT,) * 4), picking(products, (rows, outs)))
    finish_row = make_finish(target, bias, epilogue, kinds)
    module = vector_module(target)
    floats, offset = module.floats, module.offset

    def kernel(arguments, chunk, scratch):
        tiles, tall, depth, out = arguments[0], arguments[1], arguments[2], arguments[3]
        tiles_per_chunk, outs_per_chunk, block = arguments[4], arguments[5], arguments[6]
        ld, x_row = arguments[7], arguments[8]
        row_chunks = (tiles + tiles_per_chunk - 1) // tiles_per_chunk
        t0, o0 = chunk % row_chunks * tiles_per_chunk, chunk // row_chunks * outs_per_chunk
        t1, width = min(t0 + tiles_per_chunk, tiles), min(outs_per_chunk, out - o0)
        r0, r1 = t0 * rows - max(0, t0 - tall), t1 * rows - max(0, t1 - tall)
        x, w = floats(arguments[9]), offset(floats(arguments[10]), o0 * depth)
        for k in range(0, depth, block):
            count, first = min(block, depth - k), 1 if k == 0 else 0
            o = 0
            while o < width:
                wo = offset(w, o * depth + k)
                for t in range(t0, t1):
                    r = t * rows - max(0, t - tall)
                    xr, sums = offset(x, r * x_row + k), offset(scratch, (r - r0) * ld + o)
                    whole, wide = 1 if t < tall else 0, 1 if width - o >= outs else 0
                    tile(xr, x_row, wo, depth, count, sums, ld, first, whole, wide)
                o += outs if width - o >= outs else 1
        for r in range(r0, r1):
            finish_row(arguments, offset(scratch, (r - r0) * ld), r, o0, out, width)

    return kernel


def product_tile(target: Target, rows: int, vectors: int, packed: bool) -> Any:
    """An intrinsic: c[rows][vectors * L] = (0 if first, else itself) + the products over `depth` of a and b, of one row less if not
    `tall`, and of one vector if not `wide`.

    packed: whether b has all lanes of its vectors.
    """
    lanes = target.lanes

    def products(
        e: Emitter, shape: tuple[int, int], a: Value, a_row: Value, a_step: Value, b: Value, *rest: Value
    ) -> None:
        """columns: how many of the last vector's lanes exist; the others are neither read nor written."""
        (height, width), (b_row, depth, c, c_row, first, columns) = shape, rest
        rows_of_a = [e.at(a, e.b.mul(i64(r), a_row)) for r in range(height)]
        rows_of_c = [e.at(c, e.b.mul(i64(r), c_row)) for r in range(height)]
        mask = e.first_lanes(columns) if width == 1 else None
        again = e.b.icmp_signed("==", first, i64(0))

        def total(value: Value, pointer: Value, v: int) -> Value:
            """With what earlier depths gave: sums of sums lose less than one long sum."""
            before = e.load(pointer, v * lanes) if mask is None else e.masked_load(pointer, mask)
            return e.b.fadd(value, e.b.select(again, before, e.const(0)))

        def step(k: Value, acc: list[Value]) -> list[Value]:
            acc, at, row = list(acc), e.b.mul(k, a_step), e.at(b, e.b.mul(k, b_row))
            values = [
                e.load(row, v * lanes) if mask is None or packed else e.masked_load(row, mask) for v in range(width)
            ]
            for r in range(height):
                factor = e.broadcast(rows_of_a[r], at)
                for v in range(width):
                    acc[r * width + v] = e.fma(factor, values[v], acc[r * width + v])
            return acc

        acc = for_range(e, i64(0), depth, 1, [e.const(0)] * (height * width), step)
        for r, pointer in enumerate(rows_of_c):
            for v in range(width):
                value = total(acc[r * width + v], pointer, v)
                if mask is None:
                    e.store(value, pointer, v * lanes)
                else:
                    e.masked_store(value, pointer, mask)

    kinds = (FLOATS, INT, INT, FLOATS, INT, INT, FLOATS, *(INT,) * 5)
    return emitted(target, None, kinds, picking(products, (rows, vectors)))


def make_product(target: Target, rows: int, vectors: int, packed: bool, rows_outer: bool) -> Any:
    """rows x (vectors * L) results at a time; the first `tall` tiles have all rows, the others one less.

    packed: strips of b are copied to scratch, where its rows cannot evict each other. rows_outer: rows of c are
    finished one group after the other, which writes memory in long runs.
    """
    lanes = target.lanes
    strip, tile = vectors * lanes, product_tile(target, rows, vectors, packed)
    module = vector_module(target)
    floats, offset = module.floats, module.offset
    load, store, load_first = module.load, module.store, module.load_first

    def kernel(arguments, chunk, scratch):
        tiles, tall, depth, columns = arguments[0], arguments[1], arguments[2], arguments[3]
        tiles_per_chunk, columns_per_chunk, block = arguments[4], arguments[5], arguments[6]
        a_row, a_step, b_row, c_row = arguments[7], arguments[8], arguments[9], arguments[10]
        row_chunks = (tiles + tiles_per_chunk - 1) // tiles_per_chunk
        t0, j0 = chunk % row_chunks * tiles_per_chunk, chunk // row_chunks * columns_per_chunk
        t1, width = min(t0 + tiles_per_chunk, tiles), min(columns_per_chunk, columns - j0)
        a = floats(arguments[11])
        b, c = offset(floats(arguments[12]), j0), offset(floats(arguments[13]), j0)
        for k in range(0, max(depth, 1), block):
            count, first = min(block, depth - k), 1 if k == 0 else 0
            if packed:
                for i in range(count):
                    row, j = offset(b, (k + i) * b_row), 0
                    while width - j >= strip:
                        for v in range(vectors):
                            store(load(row, j + v * lanes), scratch, j * block + i * strip + v * lanes)
                        j += strip
                    to = offset(scratch, j * block)
                    while j < width:
                        store(load_first(row, j, width - j), to, i * lanes)
                        to = offset(to, block * lanes)
                        j += lanes
            # The outer loop is over the rows of c where those are long and few, and over strips of columns otherwise.
            for outer in range(t0, t1 if rows_outer else t0 + 1):
                j = 0
                while j < width:
                    wide = 1 if width - j >= strip else 0
                    part = strip if wide else min(lanes, width - j)
                    source, source_row = offset(b, k * b_row + j), b_row
                    if packed:
                        source, source_row = offset(scratch, j * block), strip if wide else lanes
                    for t in range(outer, outer + 1 if rows_outer else t1):
                        r = t * rows - max(0, t - tall)
                        ar, cr = offset(a, r * a_row + k * a_step), offset(c, r * c_row + j)
                        whole = 1 if t < tall else 0
                        tile(ar, a_row, a_step, source, source_row, count, cr, c_row, first, part, whole, wide)
                    j += part

    return kernel


FAMILIES = (
    Family(
        "linear",
        LINEAR_HEAD + LINEAR_OPERANDS,
        make_linear,
        "y[n, o] = epilogue(sum over i of x[n, i] w[o, i], plus bias[o]). A chunk is a range of outputs for a range of rows.",
    ),
    Family(
        "linear_product",
        PRODUCT_ARGUMENTS,
        make_product,
        "c[r, j] = sum over k of a(r, k) b[k, j], a at any two strides: both gradients of linear. A chunk is a block of c.",
    ),
)
