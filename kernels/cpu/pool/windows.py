"""Pooling over windows of one to three axes, forward and backward.

Tensors are blocked (a vector of a block's channels per pixel) or plain (one channel per plane, one number per pixel).
Both run through
the same loops: `width` numbers per pixel. Axes are depth, height, width; missing ones have size 1, kernel 1, stride 1.
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import types

from .. import Family
from ..code.emit import F32, Emitter, Value, i64
from ..code.vector import FLOATS, MaskType, emitted, vectors
from ..target import Target
from .plan import AXES, POOL_GEOMETRY, Window
from .unrolled import maxima, maxima_gradient


class Unit:
    """What a pixel holds: a vector of L channels, or one float. Every operation works on either.

    `read`, `write`, `constant` and `greater` emit code, the others are called from kernels.
    """

    def __init__(self, target: Target, blocked: bool) -> None:
        module = vectors(target)
        kind = module.vector if blocked else types.float32
        truth = MaskType(target.lanes) if blocked else types.boolean
        self.width = target.lanes if blocked else 1
        self.floats, self.offset = module.floats, module.offset
        integer = types.int64

        def read(e: Emitter, p: Value, i: Value) -> Value:
            return e.load(p, i) if blocked else e.b.load(e.at(p, i), align=4)

        def write(e: Emitter, v: Value, p: Value, i: Value) -> None:
            if blocked:
                e.store(v, p, i)
            else:
                e.b.store(v, e.at(p, i), align=4)

        def constant(e: Emitter, number: float) -> Value:
            return e.const(number) if blocked else ir.Constant(F32, float(number))

        def number(e: Emitter, f: Value) -> Value:
            return e.splat(f) if blocked else f

        def greater(e: Emitter, v: Value, best: Value) -> Value:
            """Where v replaces the best: greater, or the first NaN. Of equals the first stays."""
            b = e.b
            return b.and_(b.fcmp_unordered(">", v, best), b.fcmp_ordered("ord", best, best))

        def lowest(e: Emitter, count: Value) -> Value:
            """-inf in the first count channels, 0 in padded lanes."""
            return (
                e.select(e.first_lanes(count), e.const(-math.inf), e.const(0))
                if blocked
                else ir.Constant(F32, -math.inf)
            )

        self.read, self.write, self.constant, self.greater = read, write, constant, greater
        self.lowest = emitted(target, kind, (integer,), lowest)
        self.load = emitted(target, kind, (FLOATS, integer), read)
        self.store = emitted(target, None, (kind, FLOATS, integer), write)
        self.number = emitted(target, kind, (types.float32,), number)
        self.beats = emitted(target, truth, (kind, kind), greater)
        self.select = emitted(target, kind, (truth, kind, kind), lambda e, m, x, y: e.b.select(m, x, y))
        self.equal = emitted(target, truth, (kind, kind), lambda e, x, y: e.b.fcmp_ordered("==", x, y))
        self.add = emitted(target, kind, (kind, kind), lambda e, x, y: e.b.fadd(x, y))
        self.mul = emitted(target, kind, (kind, kind), lambda e, x, y: e.b.fmul(x, y))


def _taps(target: Target, dilated: bool) -> tuple[Any, Any]:
    """first(start, dilation) and last(start, dilation, kernel, size): the taps with 0 <= start + tap * dilation < size."""

    def first(e: Emitter, start: Value, dilation: Value) -> Value:
        b = e.b
        missing = b.neg(start)
        if dilated:
            missing = b.sdiv(b.add(missing, b.sub(dilation, i64(1))), dilation)
        return b.select(b.icmp_signed("<", start, i64(0)), missing, i64(0))

    def last(e: Emitter, start: Value, dilation: Value, kernel: Value, size: Value) -> Value:
        b = e.b
        room = b.sub(size, start)
        taps = b.sdiv(b.add(room, b.sub(dilation, i64(1))), dilation) if dilated else room
        taps = b.select(b.icmp_signed(">", room, i64(0)), taps, i64(0))
        return b.select(b.icmp_signed("<", taps, kernel), taps, kernel)

    n = types.int64
    return emitted(target, n, (n, n), first), emitted(target, n, (n, n, n, n), last)


def _inside(target: Target) -> tuple[Any, Any]:
    """begin(pad, stride, out) and end(begin, size, kernel, pad, stride, out): the windows that lie within an axis."""

    def begin(e: Emitter, pad: Value, stride: Value, out: Value) -> Value:
        b = e.b
        first = b.sdiv(b.add(pad, b.sub(stride, i64(1))), stride)
        return b.select(b.icmp_signed("<", first, out), first, out)

    def end(e: Emitter, begin: Value, size: Value, kernel: Value, pad: Value, stride: Value, out: Value) -> Value:
        b = e.b
        room = b.add(b.sub(size, kernel), pad)
        last = b.select(b.icmp_signed("<", room, i64(0)), i64(0), b.add(b.sdiv(room, stride), i64(1)))
        last = b.select(b.icmp_signed("<", last, begin), begin, last)
        return b.select(b.icmp_signed("<", last, out), last, out)

    n = types.int64
    return emitted(target, n, (n,) * 3, begin), emitted(target, n, (n,) * 6, end)


def make_max(target: Target, blocked: bool, dilated: bool, window: Window | None) -> Any:
    unit, (first, last) = Unit(target, blocked), _taps(target, dilated)
    load, store, number, beats, select = unit.load, unit.store, unit.number, unit.beats, unit.select
    floats, offset, width, lowest, empty = unit.floats, unit.offset, unit.width, -math.inf, unit.lowest
    unrolled, (begin, end), windows = window is not None, _inside(target), maxima(target, unit, window or (1, 1))

    def kernel(arguments, chunk, scratch):
        rows, per_chunk = arguments[0], arguments[1]
        depth, height, breadth = arguments[2], arguments[3], arguments[4]
        out_depth, out_height, out_breadth = arguments[5], arguments[6], arguments[7]
        kernel_d, kernel_h, kernel_w = arguments[8], arguments[9], arguments[10]
        stride_d, stride_h, stride_w = arguments[11], arguments[12], arguments[13]
        pad_d, pad_h, pad_w = arguments[14], arguments[15], arguments[16]
        dilation_d, dilation_h, dilation_w = arguments[17], arguments[18], arguments[19]
        channels = arguments[23]
        blocks = (channels + width - 1) // width
        x, y = floats(arguments[24]), floats(arguments[25])
        for row in range(chunk * per_chunk, min(rows, (chunk + 1) * per_chunk)):
            d0 = row // out_height % out_depth * stride_d - pad_d
            h0 = row % out_height * stride_h - pad_h
            plane = offset(x, row // out_height // out_depth * (depth * height * breadth * width))
            d_first, d_last = first(d0, dilation_d), last(d0, dilation_d, kernel_d, depth)
            h_first, h_last = first(h0, dilation_h), last(h0, dilation_h, kernel_h, height)
            out = offset(y, row * out_breadth * width)
            left = right = 0
            if unrolled and h_first < h_last:
                left = begin(pad_w, stride_w, out_breadth)
                right = end(left, breadth, kernel_w, pad_w, stride_w, out_breadth)
                column, step, pitch = (left * stride_w - pad_w) * width, stride_w * width, breadth * width
                windows(plane, h0, height, pitch, column, step, offset(out, left * width), right - left)
            for border in range(out_breadth - right + left):
                j = border if border < left else border - left + right
                w0 = j * stride_w - pad_w
                w_first, w_last = first(w0, dilation_w), last(w0, dilation_w, kernel_w, breadth)
                best = number(lowest)
                for d in range(d_first, d_last):
                    for h in range(h_first, h_last):
                        line = offset(plane, ((d0 + d * dilation_d) * height + h0 + h * dilation_h) * breadth * width)
                        for w in range(w_first, w_last):
                            value = load(line, (w0 + w * dilation_w) * width)
                            best = select(beats(value, best), value, best)
                if d_first >= d_last or h_first >= h_last or w_first >= w_last:
                    best = empty(channels - row // out_height // out_depth % blocks * width)
                store(best, out, j * width)

    return kernel


def make_max_gradient(target: Target, blocked: bool, dilated: bool, window: Window | None) -> Any:
    unit, (first, last) = Unit(target, blocked), _taps(target, dilated)
    load, store, number, beats, select = unit.load, unit.store, unit.number, unit.beats, unit.select
    equal, add = unit.equal, unit.add
    floats, offset, width, lowest = unit.floats, unit.offset, unit.width, -math.inf
    unrolled, (begin, end) = window is not None, _inside(target)
    windows = maxima_gradient(target, unit, window or (1, 1))

    def kernel(arguments, chunk, scratch):
        depth, height, breadth = arguments[2], arguments[3], arguments[4]
        out_depth, out_height, out_breadth = arguments[5], arguments[6], arguments[7]
        kernel_d, kernel_h, kernel_w = arguments[8], arguments[9], arguments[10]
        stride_d, stride_h, stride_w = arguments[11], arguments[12], arguments[13]
        pad_d, pad_h, pad_w = arguments[14], arguments[15], arguments[16]
        dilation_d, dilation_h, dilation_w = arguments[17], arguments[18], arguments[19]
        size = depth * height * breadth
        x, dy = offset(floats(arguments[24]), chunk * size * width), floats(arguments[25])
        dx = offset(floats(arguments[26]), chunk * size * width)
        cleared = 0
        for row in range(out_depth * out_height):
            # pixels are cleared just before the first window that reaches them, while they are close
            reached = min(height, max(0, row * stride_h - pad_h + kernel_h)) * breadth if unrolled else size
            for i in range(cleared, reached):
                store(number(0.0), dx, i * width)
            cleared = max(cleared, reached)
            d0, h0 = row // out_height * stride_d - pad_d, row % out_height * stride_h - pad_h
            d_first, d_last = first(d0, dilation_d), last(d0, dilation_d, kernel_d, depth)
            h_first, h_last = first(h0, dilation_h), last(h0, dilation_h, kernel_h, height)
            left = right = 0
            if unrolled and h_first < h_last:
                left = begin(pad_w, stride_w, out_breadth)
                right = end(left, breadth, kernel_w, pad_w, stride_w, out_breadth)
            for j in range(out_breadth):
                if left <= j < right:
                    if j == left:
                        column, step, pitch = (left * stride_w - pad_w) * width, stride_w * width, breadth * width
                        above = offset(dy, ((chunk * out_height + row) * out_breadth + left) * width)
                        windows(x, dx, h0, height, pitch, column, step, above, right - left)
                    continue
                w0 = j * stride_w - pad_w
                w_first, w_last = first(w0, dilation_w), last(w0, dilation_w, kernel_w, breadth)
                best, chosen, tap = number(lowest), number(0.0), 0
                for d in range(d_first, d_last):
                    for h in range(h_first, h_last):
                        line = ((d0 + d * dilation_d) * height + h0 + h * dilation_h) * breadth * width
                        for w in range(w_first, w_last):
                            value = load(offset(x, line), (w0 + w * dilation_w) * width)
                            better = beats(value, best)
                            best, chosen = select(better, value, best), select(better, number(tap), chosen)
                            tap += 1
                above = load(dy, ((chunk * out_depth * out_height + row) * out_breadth + j) * width)
                tap = 0
                for d in range(d_first, d_last):
                    for h in range(h_first, h_last):
                        line = ((d0 + d * dilation_d) * height + h0 + h * dilation_h) * breadth * width
                        for w in range(w_first, w_last):
                            at = (w0 + w * dilation_w) * width
                            before = load(offset(dx, line), at)
                            after = select(equal(chosen, number(tap)), add(before, above), before)
                            store(after, offset(dx, line), at)
                            tap += 1
        for i in range(cleared, size):
            store(number(0.0), dx, i * width)

    return kernel


def make_average(target: Target, blocked: bool, include_padding: bool, divisor: int = 0) -> Any:
    unit, (first, last) = Unit(target, blocked), _taps(target, False)
    load, store, number, add, mul = unit.load, unit.store, unit.number, unit.add, unit.mul
    floats, offset, width = unit.floats, unit.offset, unit.width

    def kernel(arguments, chunk, scratch):
        rows, per_chunk = arguments[0], arguments[1]
        depth, height, breadth = arguments[2], arguments[3], arguments[4]
        out_depth, out_height, out_breadth = arguments[5], arguments[6], arguments[7]
        kernel_d, kernel_h, kernel_w = arguments[8], arguments[9], arguments[10]
        stride_d, stride_h, stride_w = arguments[11], arguments[12], arguments[13]
        pad_d, pad_h, pad_w = arguments[14], arguments[15], arguments[16]
        end_d, end_h, end_w = arguments[20], arguments[21], arguments[22]
        x, y = floats(arguments[24]), floats(arguments[25])
        for row in range(chunk * per_chunk, min(rows, (chunk + 1) * per_chunk)):
            d0 = row // out_height % out_depth * stride_d - pad_d
            h0 = row % out_height * stride_h - pad_h
            plane = offset(x, row // out_height // out_depth * (depth * height * breadth * width))
            d_first, d_last = first(d0, 1), last(d0, 1, kernel_d, depth)
            h_first, h_last = first(h0, 1), last(h0, 1, kernel_h, height)
            out = offset(y, row * out_breadth * width)
            for j in range(out_breadth):
                w0 = j * stride_w - pad_w
                w_first, w_last = first(w0, 1), last(w0, 1, kernel_w, breadth)
                total = number(0.0)
                for d in range(d_first, d_last):
                    for h in range(h_first, h_last):
                        line = offset(plane, ((d0 + d) * height + h0 + h) * breadth * width)
                        for w in range(w_first, w_last):
                            total = add(total, load(line, (w0 + w) * width))
                if divisor > 0:
                    inside = divisor
                elif include_padding:
                    inside = (
                        min(kernel_d, depth + end_d - d0)
                        * min(kernel_h, height + end_h - h0)
                        * min(kernel_w, breadth + end_w - w0)
                    )
                else:
                    inside = max(0, d_last - d_first) * max(0, h_last - h_first) * max(0, w_last - w_first)
                store(mul(total, number(1.0 / max(1, inside))), out, j * width)

    return kernel


def make_average_gradient(target: Target, blocked: bool, include_padding: bool, divisor: int = 0) -> Any:
    unit, (first, last) = Unit(target, blocked), _taps(target, False)
    load, store, number, add, mul = unit.load, unit.store, unit.number, unit.add, unit.mul
    floats, offset, width = unit.floats, unit.offset, unit.width

    def kernel(arguments, chunk, scratch):
        depth, height, breadth = arguments[2], arguments[3], arguments[4]
        out_depth, out_height, out_breadth = arguments[5], arguments[6], arguments[7]
        kernel_d, kernel_h, kernel_w = arguments[8], arguments[9], arguments[10]
        stride_d, stride_h, stride_w = arguments[11], arguments[12], arguments[13]
        pad_d, pad_h, pad_w = arguments[14], arguments[15], arguments[16]
        end_d, end_h, end_w = arguments[20], arguments[21], arguments[22]
        size = depth * height * breadth
        dy = floats(arguments[24])
        dx = offset(floats(arguments[25]), chunk * size * width)
        for i in range(size):
            store(number(0.0), dx, i * width)
        for row in range(out_depth * out_height):
            d0, h0 = row // out_height * stride_d - pad_d, row % out_height * stride_h - pad_h
            d_first, d_last = first(d0, 1), last(d0, 1, kernel_d, depth)
            h_first, h_last = first(h0, 1), last(h0, 1, kernel_h, height)
            for j in range(out_breadth):
                w0 = j * stride_w - pad_w
                w_first, w_last = first(w0, 1), last(w0, 1, kernel_w, breadth)
                if divisor > 0:
                    inside = divisor
                elif include_padding:
                    inside = (
                        min(kernel_d, depth + end_d - d0)
                        * min(kernel_h, height + end_h - h0)
                        * min(kernel_w, breadth + end_w - w0)
                    )
                else:
                    inside = max(0, d_last - d_first) * max(0, h_last - h_first) * max(0, w_last - w_first)
                above = load(dy, ((chunk * out_depth * out_height + row) * out_breadth + j) * width)
                share = mul(above, number(1.0 / max(1, inside)))
                for d in range(d_first, d_last):
                    for h in range(h_first, h_last):
                        line = offset(dx, ((d0 + d) * height + h0 + h) * breadth * width)
                        for w in range(w_first, w_last):
                            at = (w0 + w) * width
                            store(add(load(line, at), share), line, at)

    return kernel


def make_global_average(target: Target, plain_result: bool) -> Any:
    module, lanes = vectors(target), target.lanes
    floats, offset, load, store, store_first = (
        module.floats,
        module.offset,
        module.load,
        module.store,
        module.store_first,
    )
    zero = module.zero

    def kernel(arguments, chunk, scratch):
        channels, plane = arguments[0], arguments[1]
        blocks = (channels + lanes - 1) // lanes
        x, y = offset(floats(arguments[2]), chunk * plane * lanes), floats(arguments[3])
        total = zero()
        # Sums of 64 pixels are added up on their own: the error grows with the square root of the plane at most.
        for start in range(0, plane, 64):
            part = zero()
            for p in range(start, min(plane, start + 64)):
                part += load(x, p * lanes)
            total += part
        total = total / plane
        if plain_result:
            n, block = chunk // blocks, chunk % blocks
            store_first(total, y, n * channels + block * lanes, channels - block * lanes)
        else:
            store(total, y, chunk * lanes)

    return kernel


def _geometry(*buffers: str) -> tuple[str, ...]:
    return (*POOL_GEOMETRY, *buffers)


assert len(POOL_GEOMETRY) == 2 + 7 * len(AXES) + 1
FAMILIES = (
    Family(
        "maxpool",
        _geometry("x", "y"),
        make_max,
        "The maxima of windows, padding is -inf. A chunk is some rows of the result.",
    ),
    Family(
        "maxpool_gradient",
        _geometry("x", "dy", "dx"),
        make_max_gradient,
        "dy where the first maximum was. A chunk is a plane.",
    ),
    Family(
        "avgpool",
        _geometry("x", "y"),
        make_average,
        "The means of windows, PyTorch's divisor. A chunk is some rows of the result.",
    ),
    Family(
        "avgpool_gradient",
        _geometry("dy", "dx"),
        make_average_gradient,
        "dy / divisor, spread over its window. A chunk is a plane.",
    ),
    Family(
        "global_average",
        ("channels", "plane", "x", "y"),
        make_global_average,
        "The mean of every channel's plane of a blocked x; y is blocked [N][CB][L] or plain [N][C]. A chunk is an image's block.",
    ),
)
