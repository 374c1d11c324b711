"""Sums over a tensor: per channel (`reduce_channels`, `moments`) and over any axes of a plain tensor (`reduce_axes`).

Float32 is added up over at most 64 numbers in one accumulator; beyond that in float64, always in the same order.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types

from .. import Family
from ..code.emit import F32, I64, Emitter, Value, i64
from ..code.expression import Expression
from ..code.loops import RowOperand, for_range, for_vectors, operand_slots, row_pointer
from ..code.vector import FLOATS, INTEGERS, Linked, emitted, external, indices, piece, vectors
from ..launches import OUTER
from ..target import Target
from .map_plan import MAX_OPERANDS, MAX_RESULTS
from .reduce_plan import CHANNELS_HEAD, MOMENTS_HEAD

F64 = ir.DoubleType()
SEGMENT = 256  # vectors: four accumulators of 64 additions, 16 KiB at 16 lanes


class Wide:
    """Float64 arithmetic on L lanes, or on one number that stands for a whole vector's sum."""

    def __init__(self, e: Emitter, per_lane: bool) -> None:
        self.e, self.b, self.per_lane = e, e.b, per_lane
        self.type = ir.VectorType(F64, e.lanes) if per_lane else F64

    def const(self, number: float) -> Value:
        return ir.Constant(self.type, [number] * self.e.lanes if self.per_lane else number)

    def sum(self, vector: Value) -> Value:
        """The float32 vector per lane, or added up."""
        wide = self.b.fpext(vector, ir.VectorType(F64, self.e.lanes))
        return wide if self.per_lane else self.e._fold(wide, self.b.fadd)

    def narrow(self, value: Value) -> Value:
        """As a float32 vector (of equal lanes where this is one number)."""
        if self.per_lane:
            return self.b.fptrunc(value, self.e.type)
        return self.e.splat(self.b.fptrunc(value, F32))

    def number(self, scalar: Value) -> Value:
        """An i64 or a float64 in every lane."""
        scalar = self.b.sitofp(scalar, F64) if scalar.type == I64 else scalar
        return self.e.splat(scalar) if self.per_lane else scalar

    def _slot(self, scratch: Value, index: int) -> Value:
        width = 2 * self.e.lanes
        return self.b.bitcast(self.e.at(scratch, index * width), self.type.as_pointer())

    def load(self, scratch: Value, index: int) -> Value:
        return self.b.load(self._slot(scratch, index), align=8)

    def store(self, value: Value, scratch: Value, index: int) -> None:
        self.b.store(value, self._slot(scratch, index), align=8)

    def write(self, value: Value, pointer: Value, valid: Value) -> None:
        """The result: the valid lanes, or the one number, as float32."""
        if self.per_lane:
            self.e.masked_store(self.narrow(value), pointer, self.e.first_lanes(valid))
        else:
            self.b.store(self.b.fptrunc(value, F32), pointer, align=4)


def _row_of(arguments, channel, r):
    """The loops' indices of a channel's r-th row."""
    channels, rows = arguments[C.channels], arguments[C.channel_rows]
    size1, size2, size3 = arguments[C.size1], arguments[C.size2], arguments[C.size3]
    row = (r // rows * channels + channel) * rows + r % rows
    i3, rest = row % size3, row // size3
    i2, rest = rest % size2, rest // size2
    return rest // size1, rest % size1, i2, i3


C, M = indices(CHANNELS_HEAD), indices(MOMENTS_HEAD)  # which begin alike
row_of = piece((INTEGERS, types.int64, types.int64), _row_of, types.UniTuple(types.int64, 4))

# ---- sums of expressions

C_RESULTS = len(CHANNELS_HEAD)
C_OPERANDS = C_RESULTS + MAX_RESULTS
CLEAR, ADD = (FLOATS,), (INTEGERS, FLOATS, *[types.int64] * 7)
WRITE = (FLOATS, types.int64, types.float64, FLOATS, types.int64)


@cache
def _sums(target: Target, count_of_sums: int, blocked: bool) -> Any:
    """The walk over the rows of a channel: the same function for all expressions."""
    clear_sums, add_segment, write_sum = external("clear", CLEAR), external("add", ADD), external("write", WRITE)
    V, lanes = vectors(target), target.lanes
    unit = lanes if blocked else 1
    # Accumulators that take turns share a segment; with two sums of two turns each holds 64 additions as well.
    segment = (SEGMENT if count_of_sums <= 2 else SEGMENT // 2) * lanes

    def kernel(arguments, chunk, scratch):
        channels, length, rows = arguments[C.channels], arguments[C.length], arguments[C.rows_per_part]
        part, channel = chunk // channels, chunk % channels
        valid = arguments[C.valid] if channel == channels - 1 else lanes
        clear_sums(scratch)
        for r in range(part * rows, min(arguments[C.rows], (part + 1) * rows)):
            i0, i1, i2, i3 = row_of(arguments, channel, r)
            for start in range(0, length, segment):
                add_segment(arguments, scratch, start, min(segment, length - start), valid, i0, i1, i2, i3)
        at, scale = part * arguments[C.total] + channel * unit, V.real(arguments[C.scale])
        for j in range(count_of_sums):
            write_sum(scratch, j, scale, V.offset(V.floats(arguments[C_RESULTS + j]), at), valid)

    return kernel


def make_reduce_channels(
    target: Target, kinds: tuple[str, ...], expressions: tuple[Expression, ...], blocked: bool
) -> Linked:
    """kinds: of each operand along a row."""
    lanes, count_of_sums = target.lanes, len(expressions)

    def clear(e: Emitter, scratch: Value) -> None:
        wide = Wide(e, blocked)
        for j in range(count_of_sums):
            wide.store(wide.const(0.0), scratch, j)

    def add(
        e: Emitter, arguments: Value, scratch: Value, start: Value, count: Value, valid: Value, *row: Value
    ) -> None:
        keep = e.first_lanes(valid) if "lanes" in kinds else None
        operands = [
            RowOperand(e, kind, row_pointer(e, arguments, operand_slots(C_OPERANDS, k), row), start, keep)
            for k, kind in enumerate(kinds)
        ]

        def step(i: Value, mask: Value, sums: list[Value]) -> list[Value]:
            values = {f"a{k}": operand.load(i, mask) for k, operand in enumerate(operands)}
            terms = [e.expression(tree, values) for tree in expressions]
            if mask is not None:
                terms = [e.select(mask, term, e.const(0)) for term in terms]
            # The accumulators take turns, so that successive additions do not wait for each other.
            return [*sums[count_of_sums:], *(e.b.fadd(s, t) for s, t in zip(sums, terms, strict=False))]

        turns = 4 if count_of_sums <= 2 else 2
        sums = for_vectors(e, count, turns, [e.const(0)] * (turns * count_of_sums), step, tail=not blocked)
        wide = Wide(e, blocked)
        for j in range(count_of_sums):
            total = wide.load(scratch, j)
            for part in sums[j::count_of_sums]:
                total = e.b.fadd(total, wide.sum(part))
            wide.store(total, scratch, j)

    def write(e: Emitter, scratch: Value, j: Value, scale: Value, pointer: Value, valid: Value) -> None:
        wide = Wide(e, blocked)
        moved = e.at(scratch, e.b.mul(j, i64(2 * lanes)))
        wide.write(e.b.fmul(wide.load(moved, 0), wide.number(scale)), pointer, valid)

    bodies: dict[str, Any] = {"clear": (CLEAR, clear), "add": (ADD, add), "write": (WRITE, write)}
    return Linked(_sums(target, len(expressions), blocked), bodies, unrolled=True)


# ---- mean and variance

X = len(MOMENTS_HEAD)


def make_moments(target: Target, blocked: bool) -> Any:
    lanes = target.lanes

    def add(
        e: Emitter, arguments: Value, scratch: Value, start: Value, count: Value, before: Value, *row: Value
    ) -> None:
        """Add a segment to (mean, M2) of the `before` numbers seen: Chan, Golub and LeVeque's update.

        Within the segment both sums are taken around a number near its mean: its own mean in the first segment, the
        running mean later, or zero where that is within a deviation: numbers larger than the mean, less the mean, are all
        rounded the same way. No segment is longer than what came before it, so that what cancels in the segment is never
        more than what its distance adds.
        """
        b, wide = e.b, Wide(e, blocked)
        operand = RowOperand(e, "vector", row_pointer(e, arguments, operand_slots(X, 0), row), start)
        n = wide.number(b.sdiv(count, i64(lanes)) if blocked else count)
        old = wide.number(before)

        def own_sum(i: Value, mask: Value, sums: list[Value]) -> list[Value]:
            return [*sums[1:], b.fadd(sums[0], operand.load(i, mask))]

        with b.if_then(b.icmp_signed("==", before, i64(0))):
            sums = for_vectors(e, count, 4, [e.const(0)] * 4, own_sum, tail=not blocked)
            total = wide.const(0.0)
            for part in sums:
                total = b.fadd(total, wide.sum(part))
            wide.store(b.fdiv(total, n), scratch, 0)
            wide.store(wide.const(0.0), scratch, 1)
        mean, squares = wide.load(scratch, 0), wide.load(scratch, 1)
        far = b.fcmp_ordered(">", b.fmul(b.fmul(mean, mean), b.fadd(old, n)), squares)
        near = wide.narrow(b.select(far, mean, wide.const(0.0)))

        def step(i: Value, mask: Value, sums: list[Value]) -> list[Value]:
            d = b.fsub(operand.load(i, mask), near)
            if mask is not None:
                d = e.select(mask, d, e.const(0))
            return [*sums[2:], b.fadd(sums[0], d), e.fma(d, d, sums[1])]

        sums = for_vectors(e, count, 4, [e.const(0)] * 8, step, tail=not blocked)
        first, second = wide.const(0.0), wide.const(0.0)
        for j in range(4):
            first, second = b.fadd(first, wide.sum(sums[2 * j])), b.fadd(second, wide.sum(sums[2 * j + 1]))
        own_mean = b.fdiv(first, n)
        second = b.fsub(second, b.fmul(first, own_mean))
        one = near if blocked else b.extract_element(near, ir.Constant(ir.IntType(32), 0))
        center = b.fpext(one, wide.type)
        delta = b.fsub(b.fadd(center, own_mean), mean)
        share = b.fdiv(n, b.fadd(n, old))
        wide.store(b.fadd(mean, b.fmul(delta, share)), scratch, 0)
        wide.store(b.fadd(b.fadd(squares, second), b.fmul(b.fmul(delta, delta), b.fmul(old, share))), scratch, 1)

    def write(e: Emitter, scratch: Value, seen: Value, mean: Value, variance: Value, valid: Value) -> None:
        wide = Wide(e, blocked)
        wide.write(wide.load(scratch, 0), mean, valid)
        value = e.b.fdiv(wide.load(scratch, 1), wide.number(seen))
        # Rounding may leave a sum of squares just below zero; NaN stays.
        negative = e.b.fcmp_ordered("<", value, wide.const(0.0))
        wide.write(e.b.select(negative, wide.const(0.0), value), variance, valid)

    add_segment = emitted(target, None, (INTEGERS, FLOATS, *[types.int64] * 7), add)
    write_moments = emitted(target, None, (FLOATS, types.int64, FLOATS, FLOATS, types.int64), write)
    V, unit, segment = vectors(target), lanes if blocked else 1, SEGMENT * lanes

    def kernel(arguments, chunk, scratch):
        channels, length, rows = arguments[M.channels], arguments[M.length], arguments[M.rows_per_part]
        part, channel, seen = chunk // channels, chunk % channels, 0
        for r in range(part * rows, min(arguments[M.rows], (part + 1) * rows)):
            i0, i1, i2, i3 = row_of(arguments, channel, r)
            for start in range(0, length, segment):
                count = min(segment, length - start)
                add_segment(arguments, scratch, start, count, seen, i0, i1, i2, i3)
                seen += count // unit
        at, valid = part * arguments[M.total] + channel * unit, lanes
        if channel == channels - 1:
            valid = arguments[M.valid]
        mean, variance = V.floats(arguments[M.mean]), V.floats(arguments[M.variance])
        write_moments(scratch, seen, V.offset(mean, at), V.offset(variance, at), valid)

    return kernel


def make_combine_moments(target: Target) -> Any:
    """Moments of equally large parts: the mean of the means, and the mean of the variances plus the variance of the
    means.
    """
    lanes = target.lanes

    def emit(e: Emitter, means: Value, variances: Value, channels: Value, parts: Value, count: Value, mean: Value,
             variance: Value) -> None:  # fmt: skip
        b, wide, mask = e.b, Wide(e, True), e.first_lanes(count)
        n = wide.number(parts)

        def read(pointer: Value, part: Value) -> Value:
            return wide.sum(e.masked_load(e.at(pointer, b.mul(part, channels)), mask))

        zero = wide.const(0.0)
        center = for_range(e, i64(0), parts, 1, [zero], lambda p, total: [b.fadd(total[0], read(means, p))])[0]
        center = b.fdiv(center, n)

        def step(p: Value, total: list[Value]) -> list[Value]:
            apart = b.fsub(read(means, p), center)
            return [b.fadd(total[0], b.fadd(read(variances, p), b.fmul(apart, apart)))]

        squares = for_range(e, i64(0), parts, 1, [zero], step)[0]
        wide.write(center, mean, count)
        wide.write(b.fdiv(squares, n), variance, count)

    block = emitted(target, None, (FLOATS, FLOATS, types.int64, types.int64, types.int64, FLOATS, FLOATS), emit)
    V = vectors(target)

    def kernel(arguments, chunk, scratch):
        channels, parts, c = arguments[0], arguments[1], chunk * lanes
        means, variances = V.offset(V.floats(arguments[2]), c), V.offset(V.floats(arguments[3]), c)
        mean, variance = V.offset(V.floats(arguments[4]), c), V.offset(V.floats(arguments[5]), c)
        block(means, variances, channels, parts, min(lanes, channels - c), mean, variance)

    return kernel


# ---- any axes of a plain tensor


def make_reduce_axes(target: Target, inner: str) -> Any:
    """inner: whether the contiguous axis is "kept" or "reduced"."""
    lanes = target.lanes

    def column(e: Emitter, x: Value, count0: Value, stride0: Value, count1: Value, stride1: Value, width: Value, scale: Value,
               y: Value) -> None:  # fmt: skip
        """The sums down two axes for `width` <= L neighbouring columns."""
        wide, mask = Wide(e, True), e.first_lanes(width)

        def outer(i: Value, total: list[Value]) -> list[Value]:
            row = e.at(x, e.b.mul(i, stride0))

            def step(j: Value, total: list[Value]) -> list[Value]:
                return [e.b.fadd(total[0], wide.sum(e.masked_load(e.at(row, e.b.mul(j, stride1)), mask)))]

            return for_range(e, i64(0), count1, 1, total, step)

        total = for_range(e, i64(0), count0, 1, [wide.const(0.0)], outer)
        wide.write(e.b.fmul(total[0], wide.number(scale)), y, width)

    def row_sum(e: Emitter, x: Value, count: Value) -> Value:
        def step(i: Value, mask: Value, sums: list[Value]) -> list[Value]:
            value = e.load(x, i) if mask is None else e.masked_load(e.at(x, i), mask)
            return [*sums[1:], e.b.fadd(sums[0], value)]

        wide = Wide(e, False)
        parts = [wide.sum(part) for part in for_vectors(e, count, 4, [e.const(0)] * 4, step)]
        return e.b.fadd(e.b.fadd(parts[0], parts[1]), e.b.fadd(parts[2], parts[3]))

    add_column = emitted(target, None, (FLOATS, *[types.int64] * 5, types.float64, FLOATS), column)
    add_row = emitted(target, types.float64, (FLOATS, types.int64), row_sum)
    V = vectors(target)
    real, floats, offset = V.real, V.floats, V.offset
    segment, kept = SEGMENT * lanes, inner == "kept"

    def kernel(arguments, chunk, scratch):
        outputs, per_chunk, size1, length = arguments[0], arguments[1], arguments[2], arguments[3]
        count0, count1, scale = arguments[4], arguments[5], real(arguments[6])
        kept0, kept1, reduced0, reduced1 = arguments[7], arguments[8], arguments[9], arguments[10]
        x, y = floats(arguments[11]), floats(arguments[12])
        tiles = (length + lanes - 1) // lanes if kept else 1
        for unit in range(chunk * per_chunk, min((chunk + 1) * per_chunk, outputs)):
            index, tile = unit // tiles, unit % tiles
            base = offset(x, index // size1 * kept0 + index % size1 * kept1)
            if kept:
                width = min(lanes, length - tile * lanes)
                add_column(offset(base, tile * lanes), count0, reduced0, count1, reduced1, width, scale,
                           offset(y, index * length + tile * lanes))  # fmt: skip
            else:
                total = 0.0
                for i in range(count0):
                    for j in range(count1):
                        row = offset(base, i * reduced0 + j * reduced1)
                        for start in range(0, length, segment):
                            total += add_row(offset(row, start), min(segment, length - start))
                y[index] = total * scale

    return kernel


_AXES = (
    "outputs", "per_chunk", "size1", "length", "count0", "count1", "scale", "kept0", "kept1", "reduced0", "reduced1", "x", "y",
)  # fmt: skip


def _operands(count: int) -> tuple[str, ...]:
    return tuple(name for k in range(count) for name in (f"a{k}", *(f"a{k}_{d}" for d in range(OUTER))))


FAMILIES = (
    Family(
        "reduce_channels",
        (*CHANNELS_HEAD, *(f"y{j}" for j in range(MAX_RESULTS)), *_operands(MAX_OPERANDS)),
        make_reduce_channels,
        "y_j[part, c] = scale * sum over n, h, w of expression_j(a0, a1, ...). A chunk is a part of a channel (block).",
    ),
    Family(
        "moments",
        (*MOMENTS_HEAD, *_operands(1)),
        make_moments,
        "Mean and biased variance of each channel of a0 over n, h, w. A chunk is a part of a channel (block).",
    ),
    Family(
        "combine_moments",
        ("channels", "parts", "means", "variances", "mean", "variance"),
        make_combine_moments,
        "The moments of the whole from those of equal parts. A chunk is L channels.",
    ),
    Family(
        "reduce_axes",
        _AXES,
        make_reduce_axes,
        "y = scale * sum of a plain x over some axes: two kept and two reduced outer axes around a contiguous kept or reduced one.",
    ),
)
