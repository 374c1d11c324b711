"""Convolution of plain tensors in up to three spatial dimensions, for whatever the register tiles do not cover: over
three axes, groups that are neither whole blocks of channels nor depthwise. The inner loops run over contiguous rows.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types

from .. import Family
from ..code.emit import F32, Emitter, i64
from ..code.vector import FLOATS, INTEGERS, emitted, indices, piece
from ..code.vector import vectors as vector_operations
from ..target import Target
from .arguments import PLAIN_ARGUMENTS

A = indices(PLAIN_ARGUMENTS)
OPERANDS = len(PLAIN_ARGUMENTS)


def _rows(e: Emitter, count: Any, whole: Any, part: Any) -> None:
    """Run whole(index) for each full vector of a row of `count` floats, then part(index, mask) for what is left."""
    b = e.b
    full = b.sdiv(count, i64(e.lanes))
    with b.if_then(b.icmp_signed(">", full, i64(0))):
        e.loop(full, [], lambda i, _: whole(b.mul(i, i64(e.lanes))) or [])
    done = b.mul(full, i64(e.lanes))
    with b.if_then(b.icmp_signed("<", done, count)):
        part(done, e.first_lanes(b.sub(count, done)))


@cache
def _fill(target: Target) -> Any:
    """A piece: fill(arguments, to, place, channel, count) sets `count` floats to the channel's bias, or to 0 where there is none."""
    V, n = vector_operations(target), types.int64

    def body(e: Emitter, to: Any, value: Any, count: Any) -> None:
        v = e.splat(value)
        _rows(e, count, lambda i: e.store(v, to, i), lambda i, mask: e.masked_store(v, e.at(to, i), mask))

    fill_row = emitted(target, None, (FLOATS, types.float32, n), body)

    def fill(arguments, to, place, channel, count):
        value = types.float32(0.0)
        if arguments[A.bias] != 0:
            value = V.floats(arguments[A.bias])[channel]
        fill_row(V.offset(to, place), value, count)

    return piece((INTEGERS, FLOATS, n, n, n), fill)


def _row_met(arguments, line, i):
    """Of a plane and row of outputs, counted as one `line`, the input's plane and row under those of the kernel, counted likewise;
    there may be no such row.
    """
    rows = arguments[A.out_rows]
    z = line // rows * arguments[A.depth_stride] - arguments[A.front]
    z += i // arguments[A.kernel_rows] * arguments[A.depth_dilation]
    r = line % rows * arguments[A.row_stride] - arguments[A.top]
    return z, r + i % arguments[A.kernel_rows] * arguments[A.row_dilation]


def _columns_met(arguments, tap):
    """How far the input's column under a tap lies from that of an output without padding and dilation; the first output whose
    column there is, and how many such outputs.
    """
    stride = arguments[A.column_stride]
    offset = tap % arguments[A.kernel_columns] * arguments[A.column_dilation] - arguments[A.left]
    low = max(0, (stride - 1 - offset) // stride)
    return offset, low, min(arguments[A.out_columns], (arguments[A.width] - 1 - offset) // stride + 1) - low


row_met = piece((INTEGERS, types.int64, types.int64), _row_met, types.UniTuple(types.int64, 2))
columns_met = piece((INTEGERS, types.int64), _columns_met, types.UniTuple(types.int64, 3))


def _axpy(target: Target) -> Any:
    """An intrinsic: to[i * to_step] += factor * source[i * step] for i < count."""

    def body(e: Emitter, to: Any, to_step: Any, source: Any, step: Any, factor: Any, count: Any) -> None:
        b = e.b
        v = e.splat(factor)

        def whole(i: Any) -> None:
            e.store(e.fma(v, e.load(source, i), e.load(to, i)), to, i)

        def part(i: Any, mask: Any) -> None:
            sums = e.fma(v, e.masked_load(e.at(source, i), mask), e.masked_load(e.at(to, i), mask))
            e.masked_store(sums, e.at(to, i), mask)

        def single(i: Any, _: Any) -> list[Any]:
            place = e.at(to, b.mul(i, to_step))
            product = b.fmul(factor, b.load(e.at(source, b.mul(i, step)), align=4))
            b.store(b.fadd(b.load(place, align=4), product), place, align=4)
            return []

        contiguous = b.icmp_signed("==", b.mul(step, to_step), i64(1))
        with b.if_else(contiguous) as (then, otherwise):
            with then:
                _rows(e, count, whole, part)
            with otherwise, b.if_then(b.icmp_signed(">", count, i64(0))):
                e.loop(count, [], single)

    n = types.int64
    return emitted(target, None, (FLOATS, n, FLOATS, n, types.float32, n), body)


def _dot(target: Target) -> Any:
    """An intrinsic: sums[lane] += the products y[i] * x[i * step] for i < count."""

    def body(e: Emitter, sums: Any, y: Any, x: Any, step: Any, count: Any) -> None:
        b = e.b

        def add(v: Any) -> None:
            e.store(b.fadd(e.load(sums), v), sums)

        def whole(i: Any) -> None:
            e.store(e.fma(e.load(y, i), e.load(x, i), e.load(sums)), sums)

        def part(i: Any, mask: Any) -> None:
            add(b.fmul(e.masked_load(e.at(y, i), mask), e.masked_load(e.at(x, i), mask)))

        def single(i: Any, carried: list[Any]) -> list[Any]:
            product = b.fmul(b.load(e.at(y, i), align=4), b.load(e.at(x, b.mul(i, step)), align=4))
            return [b.fadd(carried[0], product)]

        with b.if_else(b.icmp_signed("==", step, i64(1))) as (then, otherwise):
            with then:
                _rows(e, count, whole, part)
            with otherwise, b.if_then(b.icmp_signed(">", count, i64(0))):
                total = e.loop(count, [ir.Constant(F32, 0.0)], single)[0]
                b.store(b.fadd(b.load(sums, align=4), total), sums, align=4)

    n = types.int64
    return emitted(target, None, (FLOATS, FLOATS, FLOATS, n, n), body)


def _finish(target: Target, tree: Any, operands: tuple[str, ...]) -> Any:
    """An intrinsic: the expression applied in place to `count` floats of the result at `place`, of channel `channel`."""

    def body(e: Emitter, arguments: Any, y: Any, place: Any, channel: Any, count: Any) -> None:
        if tree is None:
            return
        b = e.b
        pointers = []
        for i, kind in enumerate(operands):
            address = b.load(b.gep(arguments, [i64(OPERANDS + i)]), align=8)
            at = {"full": place, "channel": channel, "scalar": i64(0)}[kind]
            pointers.append(b.gep(b.inttoptr(address, F32.as_pointer()), [at]))
        to = b.gep(y, [place])

        def whole(i: Any) -> None:
            values = {"y": e.load(to, i)}
            for k, kind in enumerate(operands):
                values[f"a{k}"] = e.load(pointers[k], i) if kind == "full" else e.broadcast(pointers[k])
            e.store(e.expression(tree, values), to, i)

        def part(i: Any, mask: Any) -> None:
            values = {"y": e.masked_load(e.at(to, i), mask)}
            for k, kind in enumerate(operands):
                values[f"a{k}"] = (
                    e.masked_load(e.at(pointers[k], i), mask) if kind == "full" else e.broadcast(pointers[k])
                )
            e.masked_store(e.expression(tree, values), e.at(to, i), mask)

        _rows(e, count, whole, part)

    n = types.int64
    return emitted(target, None, (INTEGERS, FLOATS, n, n, n), body)


def _make_forward(target: Target, expression: Any = None, operands: tuple[str, ...] = ()) -> Any:
    V = vector_operations(target)
    fill, axpy, finish = _fill(target), _axpy(target), _finish(target, expression, operands)

    def kernel(arguments, chunk, scratch):
        filters = arguments[A.filters]
        k = chunk % filters
        channels = arguments[A.channels] // arguments[A.groups]
        first = k // (filters // arguments[A.groups]) * channels
        depth, height, width = arguments[A.depth], arguments[A.height], arguments[A.width]
        out_depth, out_rows, out_columns = arguments[A.out_depth], arguments[A.out_rows], arguments[A.out_columns]
        x = V.offset(
            V.floats(arguments[A.x]), (chunk // filters * arguments[A.channels] + first) * depth * height * width
        )
        taps = arguments[A.kernel_depth] * arguments[A.kernel_rows] * arguments[A.kernel_columns]
        w = V.offset(V.floats(arguments[A.w]), k * channels * taps)
        y, stride = V.floats(arguments[A.y]), arguments[A.column_stride]
        for line in range(out_depth * out_rows):
            place = (chunk * out_depth * out_rows + line) * out_columns
            fill(arguments, y, place, k, out_columns)
            for tap in range(taps):
                z, r = row_met(arguments, line, tap // arguments[A.kernel_columns])
                if z >= 0 and z < depth and r >= 0 and r < height:
                    offset, low, count = columns_met(arguments, tap)
                    source = V.offset(x, (z * height + r) * width + low * stride + offset)
                    to = V.offset(y, place + low)
                    for c in range(channels):
                        line_x = V.offset(source, c * depth * height * width)
                        axpy(to, 1, line_x, stride, w[c * taps + tap], count)
            finish(arguments, y, place, k, out_columns)

    return kernel


def _make_data_gradient(target: Target, expression: Any = None, operands: tuple[str, ...] = ()) -> Any:
    V = vector_operations(target)
    fill, axpy, finish = _fill(target), _axpy(target), _finish(target, expression, operands)

    def kernel(arguments, chunk, scratch):
        channels, filters = arguments[A.channels] // arguments[A.groups], arguments[A.filters] // arguments[A.groups]
        c = chunk % arguments[A.channels]
        group = c // channels
        depth, height, width = arguments[A.depth], arguments[A.height], arguments[A.width]
        out_depth, out_rows, out_columns = arguments[A.out_depth], arguments[A.out_rows], arguments[A.out_columns]
        stride = arguments[A.column_stride]
        plane = out_depth * out_rows * out_columns
        dy = V.offset(
            V.floats(arguments[A.x]), (chunk // arguments[A.channels] * arguments[A.filters] + group * filters) * plane
        )
        taps = arguments[A.kernel_depth] * arguments[A.kernel_rows] * arguments[A.kernel_columns]
        w = V.offset(V.floats(arguments[A.w]), (group * filters * channels + c % channels) * taps)
        dx = V.floats(arguments[A.y])
        for line in range(depth * height):
            place = (chunk * depth * height + line) * width
            fill(arguments, dx, place, c, width)
            for tap in range(taps):
                i = tap // arguments[A.kernel_columns]
                z = line // height + arguments[A.front] - i // arguments[A.kernel_rows] * arguments[A.depth_dilation]
                r = line % height + arguments[A.top] - i % arguments[A.kernel_rows] * arguments[A.row_dilation]
                whole = z % arguments[A.depth_stride] == 0 and r % arguments[A.row_stride] == 0
                z = z // arguments[A.depth_stride]
                r = r // arguments[A.row_stride]
                if whole and z >= 0 and z < out_depth and r >= 0 and r < out_rows:
                    offset, low, count = columns_met(arguments, tap)
                    source = V.offset(dy, (z * out_rows + r) * out_columns + low)
                    to = V.offset(dx, place + low * stride + offset)
                    for k in range(filters):
                        axpy(to, stride, V.offset(source, k * plane), 1, w[k * channels * taps + tap], count)
            finish(arguments, dx, place, c, width)

    return kernel


def _make_weight_gradient(target: Target) -> Any:
    V = vector_operations(target)
    dot = _dot(target)

    def kernel(arguments, chunk, scratch):
        channels = arguments[A.channels] // arguments[A.groups]
        k, c = chunk // channels, chunk % channels
        c += k // (arguments[A.filters] // arguments[A.groups]) * channels
        depth, height, width = arguments[A.depth], arguments[A.height], arguments[A.width]
        out_depth, out_rows, out_columns = arguments[A.out_depth], arguments[A.out_rows], arguments[A.out_columns]
        stride = arguments[A.column_stride]
        lines = out_depth * out_rows
        taps = arguments[A.kernel_depth] * arguments[A.kernel_rows] * arguments[A.kernel_columns]
        dw = V.offset(V.floats(arguments[A.w]), chunk * taps)
        for tap in range(taps):
            i = tap // arguments[A.kernel_columns]
            offset, low, count = columns_met(arguments, tap)
            V.store(V.zero(), scratch, 0)
            for image in range(arguments[A.images]):
                x = V.offset(V.floats(arguments[A.x]), (image * arguments[A.channels] + c) * depth * height * width)
                dy = V.offset(V.floats(arguments[A.y]), (image * arguments[A.filters] + k) * lines * out_columns)
                for line in range(lines):
                    z, r = row_met(arguments, line, i)
                    if z >= 0 and z < depth and r >= 0 and r < height:
                        source = V.offset(x, (z * height + r) * width + low * stride + offset)
                        dot(scratch, V.offset(dy, line * out_columns + low), source, stride, count)
            dw[tap] = V.total(V.load(scratch, 0))

    return kernel


FAMILIES = (
    Family("conv_plain", PLAIN_ARGUMENTS, _make_forward, "Convolution of plain tensors, any groups."),
    Family("conv_plain_data_gradient", PLAIN_ARGUMENTS, _make_data_gradient, "dx (y) from plain dy (x)."),
    Family("conv_plain_weight_gradient", PLAIN_ARGUMENTS, _make_weight_gradient, "dw (w) from plain x and dy (y)."),
)
