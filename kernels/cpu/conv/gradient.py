"""The weight gradient of a convolution, and the packing of weights, which training repeats at every step.

dW[o, i, t] = sum over images, rows r and columns c of dy[o, r, c] * x[i, stride * (r, c) + offset(t)]: a product with
pixels as its depth. The register tile holds some input channels by some vectors of output channels; the sums of a chunk
lie in its scratch and stay in the first level cache while images and rows go by, always in the same order.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types

from .. import Family
from ..code.emit import I1, Emitter, i64
from ..code.loops import either, for_range, pointers, transpose
from ..code.partial import Places, in_parts
from ..code.pieces import panel_at
from ..code.vector import FLOATS, emitted, indices, piece
from ..code.vector import vectors as vector_operations
from ..target import Target
from .arguments import PACK_ARGUMENTS, PLAIN_WEIGHT_GRADIENT_ARGUMENTS, WEIGHT_GRADIENT_ARGUMENTS

A = indices(WEIGHT_GRADIENT_ARGUMENTS)
B = indices(PLAIN_WEIGHT_GRADIENT_ARGUMENTS)
P = indices(PACK_ARGUMENTS)


# Pixels that are added up in one accumulator, at most: a power of 2.
_ACROSS = 256


def gradient_tile(
    target: Target, channels: int, size: int, channel_step: int, narrow: int = 0, foresees: bool = False
) -> Any:
    """An intrinsic: sums[channel][vector] += the products over rows x columns pixels, both at least 1: of `channels` and `size`
    vectors where `wide`, its last argument, else of `narrow` (0: as many) channels and one vector. The sums are
    contiguous, and get the products of some 256 pixels at a time. As many channels go together as the registers hold the sums
    of. foresees: two more arguments say how far from each pixel of x and of dy there is one that will be wanted soon.
    """
    lanes = target.lanes

    def some(e: Emitter, channels: int, size: int, x: Any, dy: Any, sums: Any, *shape: Any) -> None:
        b, kept = e.b, Places(e, [(sums, lanes * i) for i in range(channels * size)])
        rows, columns, x_row, x_pixel, dy_row, dy_block, *soon = shape

        def over_columns(_: Any, carried: list[Any]) -> list[Any]:
            xp, yp, *acc = carried
            heads = pointers(e, yp, dy_block, size)
            ys = [e.load(head) for head in heads]
            if foresees:
                e.prefetch(b.gep(xp, [soon[0]]), 2)
                for head in heads:
                    e.prefetch(b.gep(head, [soon[1]]), 2)
            for k in range(channels):
                xv = e.broadcast(xp, k * channel_step)
                for v in range(size):
                    acc[k * size + v] = e.fma(xv, ys[v], acc[k * size + v])
            return [b.gep(xp, [x_pixel]), e.at(yp, lanes), *acc]

        def strip(at: Any, _: list[Any]) -> None:
            """Some neighboring columns of all rows, a few rows at a time."""
            left, across = b.sub(columns, at), i64(_ACROSS)
            width = b.select(b.icmp_signed("<", left, across), left, across)
            heads = [b.gep(x, [b.mul(at, x_pixel)]), e.at(dy, b.mul(at, i64(lanes)))]

            def over_rows(_: Any, carried: list[Any]) -> list[Any]:
                xr, yr, *acc = carried
                _, _, *acc = e.loop(width, [xr, yr, *acc], over_columns)
                return [b.gep(xr, [x_row]), b.gep(yr, [dy_row]), *acc]

            few = b.lshr(across, e.bits(b.sub(width, i64(1))))
            zeros, added = [e.const(0) for _ in kept.places], ir.Constant(I1, 0)
            kept.write(in_parts(e, rows, few, added, heads, zeros, over_rows, kept))

        for_range(e, i64(0), columns, _ACROSS, [], strip)

    def together(e: Emitter, channels: int, size: int, x: Any, dy: Any, sums: Any, *shape: Any) -> None:
        parts = -(-channels // ((target.registers - size - 2) // size))
        for part in range(parts):
            first, end = part * channels // parts, (part + 1) * channels // parts
            some(e, end - first, size, e.at(x, first * channel_step), dy, e.at(sums, first * size * lanes), *shape)

    def body(e: Emitter, *values: Any) -> None:
        *rest, wide = values
        few = narrow or channels
        either(e, wide, size > 1, lambda: together(e, channels, size, *rest), lambda: together(e, few, 1, *rest))

    n = types.int64
    return emitted(target, None, (FLOATS, FLOATS, FLOATS, *[n] * (9 if foresees else 7)), body)


def _make_weight_gradient(target: Target, vectors: int, channels: int) -> Any:
    V = vector_operations(target)
    lanes, panel = target.lanes, vectors
    tile = gradient_tile(target, channels, panel, 1)

    def kernel(arguments, chunk, scratch):
        in_blocks, out_blocks, tap_count = arguments[A.in_blocks], arguments[A.out_blocks], arguments[A.tap_count]
        full = out_blocks // panel
        units = full + out_blocks % panel
        first_tap = chunk % arguments[A.tap_chunks] * arguments[A.chunk_taps]
        in_block = chunk // arguments[A.tap_chunks] % in_blocks
        unit = chunk // arguments[A.tap_chunks] // in_blocks % units
        group = chunk // arguments[A.tap_chunks] // in_blocks // units
        (block, size), wide = panel_at(unit, panel, full), 1 if unit < full else 0
        taps = min(arguments[A.chunk_taps], tap_count - first_tap)
        in_count = min(arguments[A.in_channels] - in_block * lanes, lanes)
        parts = (in_count + channels - 1) // channels
        row_stride, column_stride = arguments[A.row_stride], arguments[A.column_stride]
        height, width = arguments[A.height], arguments[A.width]
        rows, columns = arguments[A.rows], arguments[A.columns]
        table = V.integer_offset(V.integers(arguments[A.taps]), 2 * first_tap)
        width_sums = size * lanes
        for i in range(taps * lanes * size):
            V.store(V.zero(), scratch, i * lanes)
        for image in range(arguments[A.images]):
            x = V.offset(V.floats(arguments[A.x]), (group * in_blocks + in_block) * arguments[A.x_block])
            x = V.offset(x, V.two_steps(image, arguments[A.slices], arguments[A.x_image], arguments[A.x_slice]))
            dy = V.offset(V.floats(arguments[A.dy]), (group * out_blocks + block) * arguments[A.dy_block])
            dy = V.offset(dy, V.two_steps(image, arguments[A.slices], arguments[A.dy_image], arguments[A.y_slice]))
            for begin in range(0, rows, arguments[A.block_rows]):
                end = min(begin + arguments[A.block_rows], rows)
                for tap in range(taps):
                    row_offset, column_offset = table[2 * tap], table[2 * tap + 1]
                    top = max(begin, (row_stride - 1 - row_offset) // row_stride)
                    bottom = min(end, (height - 1 - row_offset) // row_stride + 1)
                    left = max(0, (column_stride - 1 - column_offset) // column_stride)
                    right = min(columns, (width - 1 - column_offset) // column_stride + 1)
                    if top < bottom and left < right:
                        start = ((top * row_stride + row_offset) * width + left * column_stride + column_offset) * lanes
                        tile_x = V.offset(x, start)
                        tile_dy = V.offset(dy, (top * columns + left) * lanes)
                        sums = V.offset(scratch, tap * lanes * width_sums)
                        for _ in range(parts):
                            tile(
                                tile_x, tile_dy, sums, bottom - top, right - left, row_stride * width * lanes,
                                column_stride * lanes, columns * lanes, arguments[A.dy_block], wide,
                            )  # fmt: skip
                            tile_x = V.offset(tile_x, channels)
                            sums = V.offset(sums, channels * width_sums)
        out_count = min(arguments[A.out_channels] - block * lanes, width_sums)
        i_stride = arguments[A.dw_channel]
        o_stride = arguments[A.in_channels] * i_stride
        dw = V.offset(V.floats(arguments[A.dw]), (group * arguments[A.out_channels] + block * lanes) * o_stride)
        dw = V.offset(dw, in_block * lanes * i_stride + first_tap)
        for o in range(out_count):
            for i in range(in_count):
                for tap in range(taps):
                    dw[o * o_stride + i * i_stride + tap] = scratch[(tap * lanes + i) * width_sums + o]

    return kernel


def _copy_line(target: Target) -> Any:
    """An intrinsic that copies `count` floats, a vector at a time; what it writes is a whole number of vectors."""

    def body(e: Emitter, source: Any, to: Any, count: Any) -> None:
        def lanes(i: Any, _: Any) -> list[Any]:
            place = e.b.mul(i, i64(e.lanes))
            left = e.first_lanes(e.b.sub(count, place))
            e.store(e.masked_load(e.at(source, place), left), to, place)
            return []

        with e.b.if_then(e.b.icmp_signed(">", count, i64(0))):
            e.loop(e.b.sdiv(e.b.add(count, i64(e.lanes - 1)), i64(e.lanes)), [], lanes)

    return emitted(target, None, (FLOATS, FLOATS, types.int64), body)


def _make_plain_weight_gradient(target: Target, vectors: int, taps: int, dilation: int) -> Any:
    V = vector_operations(target)
    lanes, panel = target.lanes, vectors
    tile, copy = gradient_tile(target, taps, panel, dilation), _copy_line(target)

    def kernel(arguments, chunk, scratch):
        channels, out_blocks, kernel_rows = arguments[B.channels], arguments[B.out_blocks], arguments[B.kernel_rows]
        full = out_blocks // panel
        first_tap = chunk % arguments[B.tap_chunks] * arguments[B.chunk_taps]
        channel = chunk // arguments[B.tap_chunks] % channels
        unit = chunk // arguments[B.tap_chunks] // channels
        (block, size), wide = panel_at(unit, panel, full), 1 if unit < full else 0
        tap_end = min(first_tap + arguments[B.chunk_taps], kernel_rows)
        height, width, pitch = arguments[B.height], arguments[B.width], arguments[B.pitch]
        rows, columns = arguments[B.rows], arguments[B.columns]
        left = max(arguments[B.left], 0)
        skipped = max(-arguments[B.left], 0)
        width_sums = size * lanes
        for i in range((tap_end - first_tap) * taps * size):
            V.store(V.zero(), scratch, i * lanes)
        lines = V.offset(scratch, arguments[B.chunk_taps] * taps * panel * lanes)
        for image in range(arguments[B.images]):
            x = V.offset(V.floats(arguments[B.x]), channel * arguments[B.x_block])
            x = V.offset(x, V.two_steps(image, arguments[B.slices], arguments[B.x_image], arguments[B.x_slice]))
            dy = V.offset(V.floats(arguments[B.dy]), block * arguments[B.dy_block])
            dy = V.offset(dy, V.two_steps(image, arguments[B.slices], arguments[B.dy_image], arguments[B.y_slice]))
            for begin in range(0, rows, arguments[B.block_rows]):
                end = min(begin + arguments[B.block_rows], rows)
                first_row = begin * arguments[B.row_stride] - arguments[B.top] + first_tap * arguments[B.row_dilation]
                last_row = (
                    (end - 1) * arguments[B.row_stride] - arguments[B.top] + (tap_end - 1) * arguments[B.row_dilation]
                )
                for row in range(first_row, last_row + 1):
                    line = V.offset(lines, (row - first_row) * pitch)
                    for i in range(0, pitch, lanes):
                        V.store(V.zero(), line, i)
                    if row >= 0 and row < height:
                        copy(
                            V.offset(x, row * width + skipped), V.offset(line, left), min(width - skipped, pitch - left)
                        )
                for tap in range(first_tap, tap_end):
                    tile_x = V.offset(lines, (tap - first_tap) * arguments[B.row_dilation] * pitch)
                    tile_dy = V.offset(dy, begin * columns * lanes)
                    sums = V.offset(scratch, (tap - first_tap) * taps * width_sums)
                    tile(
                        tile_x, tile_dy, sums, end - begin, columns, arguments[B.row_stride] * pitch,
                        arguments[B.column_stride], columns * lanes, arguments[B.dy_block], wide,
                    )  # fmt: skip
        dw = V.offset(V.floats(arguments[B.dw]), (block * lanes * channels + channel) * arguments[B.dw_channel])
        for o in range(min(arguments[B.out_channels] - block * lanes, width_sums)):
            for tap in range(first_tap, tap_end):
                for j in range(taps):
                    place = o * channels * arguments[B.dw_channel] + tap * taps + j
                    dw[place] = scratch[((tap - first_tap) * taps + j) * width_sums + o]

    return kernel


def _turn(target: Target) -> Any:
    """An intrinsic: turn(from, to, floats between rows of the source, between those of the result) transposes a square
    of as many rows as a vector has lanes.
    """
    lanes = target.lanes

    def body(e: Emitter, source: Any, to: Any, apart: Any, across: Any) -> None:
        rows = []
        for _ in range(lanes):
            rows.append(e.load(source))
            source = e.at(source, apart)
        for row in transpose(e, rows):
            e.store(row, to)
            to = e.at(to, across)

    n = types.int64
    return emitted(target, None, (FLOATS, FLOATS, n, n), body)


@cache
def _copy_square(target: Target) -> Any:
    """A piece: copy(from, to, floats between outputs of the source, between its inputs, size) packs one tap of a block of inputs for
    `size` whole blocks of outputs, of which one or the other are neighbors.
    """
    V, lanes, turn = vector_operations(target), target.lanes, _turn(target)

    def copy(source, to, out_stride, in_stride, size):
        if in_stride < out_stride:
            for v in range(size):
                turn(V.offset(source, v * lanes * out_stride), V.offset(to, v * lanes), out_stride, size * lanes)
        else:
            for i in range(lanes):
                for v in range(size):
                    V.store(V.load(source, i * in_stride + v * lanes), to, (i * size + v) * lanes)

    n = types.int64
    return piece((FLOATS, FLOATS, n, n, n), copy)


# Lines of the source are asked for so many input blocks before they are packed: too far apart to be foreseen.
_SOON = 4


def _make_pack(target: Target, plain: bool) -> Any:
    V = vector_operations(target)
    lanes = target.lanes
    depth = 1 if plain else lanes
    copy = _copy_square(target)

    def kernel(arguments, chunk, scratch):
        units, panel, out_blocks = arguments[P.units], arguments[P.panel], arguments[P.out_blocks]
        in_blocks, taps = arguments[P.in_blocks], arguments[P.tap_count]
        group, unit = chunk // units, chunk % units
        block, size = panel_at(unit, panel, out_blocks // panel)
        across = size * lanes
        to = V.offset(V.floats(arguments[P.packed]), (group * out_blocks + block) * lanes * in_blocks * taps * depth)
        out_stride, in_stride = arguments[P.out_stride], arguments[P.in_stride]
        source = V.offset(V.floats(arguments[P.source]), group * arguments[P.group_stride] + block * lanes * out_stride)
        source = V.offset(source, arguments[P.plane_first])
        source_taps = V.integers(arguments[P.source_taps])
        out_count = min(arguments[P.out_channels] - block * lanes, across)
        # The innermost loops follow the source: its lines are read once, and the panel stays close.
        inward = in_stride < out_stride
        square = taps == 1 and out_count == across and min(in_stride, out_stride) == 1
        for in_block in range(in_blocks):
            plane, inner = in_block // arguments[P.channel_blocks], in_block % arguments[P.channel_blocks]
            in_count = min(arguments[P.in_channels] - inner * depth, depth)
            home = V.offset(to, in_block * taps * depth * across)
            first = V.offset(source, inner * depth * in_stride + plane * arguments[P.plane_step])
            if inward:
                for o in range(out_count):
                    V.prefetch(first, o * out_stride + _SOON * depth * in_stride)
            else:
                for i in range(depth):
                    V.prefetch(first, (_SOON * depth + i) * in_stride)
                    V.prefetch(first, (_SOON * depth + i) * in_stride + lanes)
            if square and in_count == lanes:
                copy(first, home, out_stride, in_stride, size)
                continue
            if out_count < across or in_count < depth:
                for i in range(taps * depth * size):
                    V.store(V.zero(), home, i * lanes)
            for a in range(out_count if inward else in_count):
                for b in range(in_count if inward else out_count):
                    o, i = (a, b) if inward else (b, a)
                    line = V.offset(first, i * in_stride + o * out_stride)
                    place = V.offset(home, i * across + o)
                    for tap in range(taps):
                        place[tap * depth * across] = line[source_taps[tap]]

    return kernel


FAMILIES = (
    Family(
        "conv_weight_gradient", WEIGHT_GRADIENT_ARGUMENTS, _make_weight_gradient, "dW in oihw from blocked x and dy."
    ),
    Family(
        "conv_weight_gradient_nchw",
        PLAIN_WEIGHT_GRADIENT_ARGUMENTS,
        _make_plain_weight_gradient,
        "dW from plain x and blocked dy.",
    ),
    Family("conv_pack_weights", PACK_ARGUMENTS, _make_pack, "oihw weights into the form that conv_direct reads."),
)
