"""Pooling over windows of one to three axes, forward and backward.

Tensors are blocked (a vector of a block's channels per pixel) or plain (one channel per plane, one number per pixel).
Both run through
the same loops: `width` numbers per pixel. Axes are depth, height, width; missing ones have size 1, kernel 1, stride 1.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from numba import types

from .. import Family
from ..code.emit import Emitter, Value, i64
from ..code.vector import INTEGERS, emitted, indices, piece, vectors
from ..target import Target
from .plan import POOL_GEOMETRY, Window
from .unit import Unit
from .unrolled import maxima, maxima_gradient

G, X = indices(POOL_GEOMETRY), len(POOL_GEOMETRY)  # the buffers follow
INT = types.int64


@cache
def _window(target: Target, dilated: bool, padded: bool = False) -> Any:
    """A piece: window(arguments, axis, output), of an output along an axis: where its window begins, the first tap that meets the
    tensor and the one after the last, and how many do; where `padded`, how many meet the padded tensor.
    """

    def first_tap(e: Emitter, start: Value, dilation: Value) -> Value:
        b = e.b
        missing = b.neg(start)
        if dilated:
            missing = b.sdiv(b.add(missing, b.sub(dilation, i64(1))), dilation)
        return b.select(b.icmp_signed("<", start, i64(0)), missing, i64(0))

    def last_tap(e: Emitter, start: Value, dilation: Value, kernel: Value, size: Value) -> Value:
        b = e.b
        room = b.sub(size, start)
        taps = b.sdiv(b.add(room, b.sub(dilation, i64(1))), dilation) if dilated else room
        taps = b.select(b.icmp_signed(">", room, i64(0)), taps, i64(0))
        return b.select(b.icmp_signed("<", taps, kernel), taps, kernel)

    first_of, last_of = emitted(target, INT, (INT, INT), first_tap), emitted(target, INT, (INT,) * 4, last_tap)

    def window(arguments, axis, output):
        start = output * arguments[G.stride_depth + axis] - arguments[G.pad_depth + axis]
        kernel, size = arguments[G.kernel_depth + axis], arguments[G.depth + axis]
        dilation = arguments[G.dilation_depth + axis]
        first, last = first_of(start, dilation), last_of(start, dilation, kernel, size)
        count = max(0, last - first)
        if padded:
            count = min(kernel, size + arguments[G.pad_end_depth + axis] - start)
        return start, first, last, count

    return piece((INTEGERS, INT, INT), window, types.UniTuple(INT, 4))


def _pixels_to(arguments, d0, d, h0, h):
    """From a plane's first pixel to the line under row h of slice d of a window, which begins at row h0 of slice d0."""
    z, y = d0 + d * arguments[G.dilation_depth], h0 + h * arguments[G.dilation_height]
    return (z * arguments[G.height] + y) * arguments[G.width]


pixels_to = piece((INTEGERS, *(INT,) * 4), _pixels_to, INT)


@cache
def _inside(target: Target) -> Any:
    """A piece: inside(arguments), the windows of a row whose columns lie within it: the first, the one after the last, and the column
    where the first begins.
    """

    def begin_of(e: Emitter, pad: Value, stride: Value, out: Value) -> Value:
        b = e.b
        first = b.sdiv(b.add(pad, b.sub(stride, i64(1))), stride)
        return b.select(b.icmp_signed("<", first, out), first, out)

    def end_of(e: Emitter, begin: Value, size: Value, kernel: Value, pad: Value, stride: Value, out: Value) -> Value:
        b = e.b
        room = b.add(b.sub(size, kernel), pad)
        last = b.select(b.icmp_signed("<", room, i64(0)), i64(0), b.add(b.sdiv(room, stride), i64(1)))
        last = b.select(b.icmp_signed("<", last, begin), begin, last)
        return b.select(b.icmp_signed("<", last, out), last, out)

    begin, end = emitted(target, INT, (INT,) * 3, begin_of), emitted(target, INT, (INT,) * 6, end_of)

    def inside(arguments):
        pad, stride, out = arguments[G.pad_width], arguments[G.stride_width], arguments[G.out_width]
        left = begin(pad, stride, out)
        return left, end(left, arguments[G.width], arguments[G.kernel_width], pad, stride, out), left * stride - pad

    return piece((INTEGERS,), inside, types.UniTuple(INT, 3))


def make_max(target: Target, blocked: bool, dilated: bool, window: Window | None) -> Any:
    U, met, inside, lowest = Unit(target, blocked), _window(target, dilated), _inside(target), -math.inf
    unrolled, windows, pixel = window is not None, maxima(target, U, window or (1, 1)), U.width

    def kernel(arguments, chunk, scratch):
        height, width, dilation = arguments[G.height], arguments[G.width], arguments[G.dilation_width]
        out_depth, out_height, out_width = arguments[G.out_depth], arguments[G.out_height], arguments[G.out_width]
        size, blocks = arguments[G.depth] * height * width, (arguments[G.channels] + pixel - 1) // pixel
        x, y = U.floats(arguments[X]), U.floats(arguments[X + 1])
        first_row, per_chunk = chunk * arguments[G.per_chunk], arguments[G.per_chunk]
        for row in range(first_row, min(arguments[G.rows], first_row + per_chunk)):
            d0, d_first, d_last, _ = met(arguments, 0, row // out_height % out_depth)
            h0, h_first, h_last, _ = met(arguments, 1, row % out_height)
            plane = U.offset(x, row // out_height // out_depth * (size * pixel))
            out = U.offset(y, row * out_width * pixel)
            left = right = 0
            if unrolled and h_first < h_last:
                left, right, column = inside(arguments)
                step, pitch = arguments[G.stride_width] * pixel, width * pixel
                windows(plane, h0, height, pitch, column * pixel, step, U.offset(out, left * pixel), right - left)
            for border in range(out_width - right + left):
                j = border if border < left else border - left + right
                w0, w_first, w_last, _ = met(arguments, 2, j)
                best = U.number(lowest)
                for d in range(d_first, d_last):
                    for h in range(h_first, h_last):
                        line = U.offset(plane, pixels_to(arguments, d0, d, h0, h) * pixel)
                        for w in range(w_first, w_last):
                            value = U.load(line, (w0 + w * dilation) * pixel)
                            best = U.select(U.beats(value, best), value, best)
                if d_first >= d_last or h_first >= h_last or w_first >= w_last:
                    best = U.lowest(arguments[G.channels] - row // out_height // out_depth % blocks * pixel)
                U.store(best, out, j * pixel)

    return kernel


def make_max_gradient(target: Target, blocked: bool, dilated: bool, window: Window | None) -> Any:
    U, met, inside, lowest = Unit(target, blocked), _window(target, dilated), _inside(target), -math.inf
    unrolled, windows, pixel = window is not None, maxima_gradient(target, U, window or (1, 1)), U.width

    def kernel(arguments, chunk, scratch):
        height, width, dilation = arguments[G.height], arguments[G.width], arguments[G.dilation_width]
        out_depth, out_height, out_width = arguments[G.out_depth], arguments[G.out_height], arguments[G.out_width]
        size = arguments[G.depth] * height * width
        x, dy = U.offset(U.floats(arguments[X]), chunk * size * pixel), U.floats(arguments[X + 1])
        dx = U.offset(U.floats(arguments[X + 2]), chunk * size * pixel)
        cleared = 0
        for row in range(out_depth * out_height):
            d0, d_first, d_last, _ = met(arguments, 0, row // out_height)
            h0, h_first, h_last, _ = met(arguments, 1, row % out_height)
            # pixels are cleared just before the first window that reaches them, while they are close
            reached = size
            if unrolled:
                reached = min(height, max(0, h0 + arguments[G.kernel_height])) * width
            for i in range(cleared, reached):
                U.store(U.number(0.0), dx, i * pixel)
            cleared = max(cleared, reached)
            left = right = column = 0
            if unrolled and h_first < h_last:
                left, right, column = inside(arguments)
            for j in range(out_width):
                if left <= j < right:
                    if j == left:
                        step, pitch = arguments[G.stride_width] * pixel, width * pixel
                        above = U.offset(dy, ((chunk * out_height + row) * out_width + left) * pixel)
                        windows(x, dx, h0, height, pitch, column * pixel, step, above, right - left)
                    continue
                w0, w_first, w_last, _ = met(arguments, 2, j)
                best, chosen, tap = U.number(lowest), U.number(0.0), 0
                for d in range(d_first, d_last):
                    for h in range(h_first, h_last):
                        line = pixels_to(arguments, d0, d, h0, h) * pixel
                        for w in range(w_first, w_last):
                            value = U.load(U.offset(x, line), (w0 + w * dilation) * pixel)
                            better = U.beats(value, best)
                            best, chosen = U.select(better, value, best), U.select(better, U.number(tap), chosen)
                            tap += 1
                above = U.load(dy, ((chunk * out_depth * out_height + row) * out_width + j) * pixel)
                tap = 0
                for d in range(d_first, d_last):
                    for h in range(h_first, h_last):
                        line = pixels_to(arguments, d0, d, h0, h) * pixel
                        for w in range(w_first, w_last):
                            at = (w0 + w * dilation) * pixel
                            before = U.load(U.offset(dx, line), at)
                            after = U.select(U.equal(chosen, U.number(tap)), U.add(before, above), before)
                            U.store(after, U.offset(dx, line), at)
                            tap += 1
        for i in range(cleared, size):
            U.store(U.number(0.0), dx, i * pixel)

    return kernel


def make_average(target: Target, blocked: bool, include_padding: bool, divisor: int = 0) -> Any:
    U, met = Unit(target, blocked), _window(target, False, include_padding)
    pixel = U.width

    def kernel(arguments, chunk, scratch):
        depth, height, width = arguments[G.depth], arguments[G.height], arguments[G.width]
        out_depth, out_height, out_width = arguments[G.out_depth], arguments[G.out_height], arguments[G.out_width]
        x, y = U.floats(arguments[X]), U.floats(arguments[X + 1])
        first_row, per_chunk = chunk * arguments[G.per_chunk], arguments[G.per_chunk]
        for row in range(first_row, min(arguments[G.rows], first_row + per_chunk)):
            d0, d_first, d_last, d_count = met(arguments, 0, row // out_height % out_depth)
            h0, h_first, h_last, h_count = met(arguments, 1, row % out_height)
            plane = U.offset(x, row // out_height // out_depth * (depth * height * width * pixel))
            out = U.offset(y, row * out_width * pixel)
            for j in range(out_width):
                w0, w_first, w_last, w_count = met(arguments, 2, j)
                total = U.number(0.0)
                for d in range(d_first, d_last):
                    for h in range(h_first, h_last):
                        line = U.offset(plane, ((d0 + d) * height + h0 + h) * width * pixel)
                        for w in range(w_first, w_last):
                            total = U.add(total, U.load(line, (w0 + w) * pixel))
                count = divisor if divisor > 0 else d_count * h_count * w_count
                U.store(U.mul(total, U.number(1.0 / max(1, count))), out, j * pixel)

    return kernel


def make_average_gradient(target: Target, blocked: bool, include_padding: bool, divisor: int = 0) -> Any:
    U, met = Unit(target, blocked), _window(target, False, include_padding)
    pixel = U.width

    def kernel(arguments, chunk, scratch):
        height, width = arguments[G.height], arguments[G.width]
        size = arguments[G.depth] * height * width
        out_depth, out_height, out_width = arguments[G.out_depth], arguments[G.out_height], arguments[G.out_width]
        dy, dx = U.floats(arguments[X]), U.offset(U.floats(arguments[X + 1]), chunk * size * pixel)
        for i in range(size):
            U.store(U.number(0.0), dx, i * pixel)
        for row in range(out_depth * out_height):
            d0, d_first, d_last, d_count = met(arguments, 0, row // out_height)
            h0, h_first, h_last, h_count = met(arguments, 1, row % out_height)
            for j in range(out_width):
                w0, w_first, w_last, w_count = met(arguments, 2, j)
                above = U.load(dy, ((chunk * out_depth * out_height + row) * out_width + j) * pixel)
                count = divisor if divisor > 0 else d_count * h_count * w_count
                share = U.mul(above, U.number(1.0 / max(1, count)))
                for d in range(d_first, d_last):
                    for h in range(h_first, h_last):
                        line = U.offset(dx, ((d0 + d) * height + h0 + h) * width * pixel)
                        for w in range(w_first, w_last):
                            at = (w0 + w) * pixel
                            U.store(U.add(U.load(line, at), share), line, at)

    return kernel


def make_global_average(target: Target, plain_result: bool) -> Any:
    V, lanes = vectors(target), target.lanes

    def kernel(arguments, chunk, scratch):
        channels, plane = arguments[0], arguments[1]
        blocks = (channels + lanes - 1) // lanes
        x, y = V.offset(V.floats(arguments[2]), chunk * plane * lanes), V.floats(arguments[3])
        total = V.zero()
        # Sums of 64 pixels are added up on their own: the error grows with the square root of the plane at most.
        for start in range(0, plane, 64):
            part = V.zero()
            for p in range(start, min(plane, start + 64)):
                part += V.load(x, p * lanes)
            total += part
        total = total / plane
        if plain_result:
            n, block = chunk // blocks, chunk % blocks
            V.store_first(total, y, n * channels + block * lanes, channels - block * lanes)
        else:
            V.store(total, y, chunk * lanes)

    return kernel


FAMILIES = (
    Family(
        "maxpool",
        (*POOL_GEOMETRY, "x", "y"),
        make_max,
        "The maxima of windows, padding is -inf. A chunk is some rows of the result.",
    ),
    Family(
        "maxpool_gradient",
        (*POOL_GEOMETRY, "x", "dy", "dx"),
        make_max_gradient,
        "dy where the first maximum was. A chunk is a plane.",
    ),
    Family(
        "avgpool",
        (*POOL_GEOMETRY, "x", "y"),
        make_average,
        "The means of windows, PyTorch's divisor. A chunk is some rows of the result.",
    ),
    Family(
        "avgpool_gradient",
        (*POOL_GEOMETRY, "dy", "dx"),
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
