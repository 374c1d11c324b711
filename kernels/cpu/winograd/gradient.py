"""The gradient of the weights of a convolution of stride 1, by the adjoint of Winograd's algorithm.

With the matrices of `forward.py`, of a tile with its inputs d and the gradient dY of its outputs

    dW = G' (sum over tiles of (B' d B) * (A dY A')) G

which makes n x n matrix products, one for each point: dU[point] = V[point]' dM[point] with V of [tile][input channel] and
dM of [tile][output channel]. A chunk has some blocks of input channels, some of output channels and some of the tiles. Its
dU lies in scratch, where V and dM of one block of tiles after the other meet. Where chunks split the tiles, each
split writes a dW of its own, and another step adds them, always in the same order.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from numba import types

from .. import Family
from ..code.emit import Emitter, i64
from ..code.loops import pointers, transpose
from ..code.partial import PRODUCTS, Places, in_parts
from ..code.vector import FLOATS, Linked, external, indices
from ..code.vector import vectors as vector_operations
from ..target import Target
from .gradient_plan import GRADIENT_ARGUMENTS
from .scheme import Scheme
from .transforms import COLUMNS, ROWS, output_adjoint_line, strip_columns, strip_rows, weight_adjoint_line

A = indices(GRADIENT_ARGUMENTS)

_N = types.int64
# v, m, u, tiles, in_blocks, last_channels, units, narrow, v_block, m_block, fresh
_PRODUCT = (FLOATS, FLOATS, FLOATS, _N, _N, _N, _N, _N, _N, _N, _N)
_INVERSE = (FLOATS, FLOATS, FLOATS, _N, _N, _N)
_WRITE = (FLOATS, FLOATS, _N, _N, _N)


def _product(target: Target, channels: int, panel: int) -> Any:
    """u[unit][input block][lane][vector] (+)= the sum over `tiles` tiles of v[input block][tile][lane] times
    m[unit][vector][tile].

    The first `units` units are panels, `narrow` single vectors follow. Blocks of v are v_block floats apart, vectors
    of m m_block. Of the last input block only what has some of the first `last_channels` is computed. `fresh`: u has
    no contents yet.
    """
    lanes = target.lanes

    def tile(e: Emitter, v: Any, m: Any, u: Any, tiles: Any, m_block: Any, fresh: Any, size: int) -> None:
        b, kept = e.b, Places(e, [(u, lanes * i) for i in range(channels * size)])

        def over_tiles(_: Any, carried: list[Any]) -> list[Any]:
            vt, mt, *acc = carried
            ms = [e.load(head) for head in pointers(e, mt, m_block, size)]
            for k in range(channels):
                value = e.broadcast(vt, k)
                for s in range(size):
                    acc[k * size + s] = e.fma(value, ms[s], acc[k * size + s])
            return [e.at(vt, lanes), e.at(mt, lanes), *acc]

        zeros, alone = [e.const(0) for _ in kept.places], b.icmp_signed("!=", fresh, i64(0))
        kept.write(in_parts(e, tiles, PRODUCTS, alone, [v, m], zeros, over_tiles, kept))

    def body(e: Emitter, v: Any, m: Any, u: Any, tiles: Any, in_blocks: Any, last_channels: Any, units: Any, narrow: Any,
             v_block: Any, m_block: Any, fresh: Any) -> None:  # fmt: skip
        b = e.b
        last, few = b.sub(in_blocks, i64(1)), b.sdiv(b.add(last_channels, i64(channels - 1)), i64(channels))

        def some(m: Any, u: Any, count: Any, size: int) -> None:
            def unit(_: Any, carried: list[Any]) -> list[Any]:
                mt, ut = carried

                def block(i: Any, carried: list[Any]) -> list[Any]:
                    def part(_: Any, carried: list[Any]) -> list[Any]:
                        tile(e, carried[0], mt, carried[1], tiles, m_block, fresh, size)
                        return [e.at(carried[0], channels), e.at(carried[1], channels * size * lanes)]

                    e.loop(b.select(b.icmp_signed("<", i, last), i64(lanes // channels), few), carried, part)
                    return [b.gep(carried[0], [v_block]), e.at(carried[1], lanes * size * lanes)]

                _, out = e.loop(in_blocks, [v, ut], block)
                return [b.gep(mt, [b.mul(m_block, i64(size))]), out]

            with b.if_then(b.icmp_signed(">", count, i64(0))):
                e.loop(count, [m, u], unit)

        some(m, u, units, panel)
        if panel > 1:
            wide = b.mul(units, i64(panel))
            m = b.gep(m, [b.mul(wide, m_block)])
            some(m, b.gep(u, [b.mul(b.mul(wide, in_blocks), i64(lanes * lanes))]), narrow, 1)

    return body


def _inverse(scheme: Scheme) -> Any:
    """taps[channel][tap] = G' u G of `count` input channels' points, u_point floats apart; a channel's vectors are
    `u_step` floats from the next's.
    """
    n, taps = scheme.size, scheme.taps

    def body(e: Emitter, u: Any, half: Any, to: Any, count: Any, u_point: Any, u_step: Any) -> None:
        b, lanes = e.b, e.lanes
        row = b.mul(u_point, i64(n))

        def channel(_: Any, carried: list[Any]) -> list[Any]:
            def vertical(_: Any, carried: list[Any]) -> list[Any]:
                source, to = carried
                values, line = [], source
                for _i in range(n):
                    values.append(e.load(line))
                    line = b.gep(line, [row])
                for i, value in enumerate(weight_adjoint_line(e, scheme, values)):
                    e.store(value, to, n * lanes * i)
                return [b.gep(source, [u_point]), e.at(to, lanes)]

            def horizontal(_: Any, carried: list[Any]) -> list[Any]:
                source, to = carried
                values = weight_adjoint_line(e, scheme, [e.load(source, lanes * c) for c in range(n)])
                for i, value in enumerate(values):
                    e.store(value, to, lanes * i)
                return [e.at(source, n * lanes), e.at(to, taps * lanes)]

            source, to = carried
            e.loop(i64(n), [source, half], vertical)
            _, after = e.loop(i64(taps), [half, to], horizontal)
            return [b.gep(source, [u_step]), after]

        e.loop(count, [u, to], channel)

    return body


def _write(e: Emitter, taps: Any, dw: Any, outs: Any, count: Any, stride: Any) -> None:
    """dw[out] = lane `out` of the vectors taps[0 .. count), for the first `outs` lanes, `stride` floats apart."""
    b, lanes = e.b, e.lanes

    def square(i: Any, carried: list[Any]) -> list[Any]:
        source, to = carried
        mask = e.first_lanes(b.sub(count, b.mul(i, i64(lanes))))
        line = to
        for out, vector in enumerate(transpose(e, [e.load(source, lanes * k) for k in range(lanes)])):
            with b.if_then(b.icmp_signed("<", i64(out), outs)):
                e.masked_store(vector, line, mask)
            line = b.gep(line, [stride])
        return [e.at(source, lanes * lanes), e.at(to, lanes)]

    e.loop(b.sdiv(b.add(count, i64(lanes - 1)), i64(lanes)), [taps, dw], square)


@cache
def _outer(target: Target, scheme: Scheme) -> Any:
    """The loops around these: the same function for every specialization."""
    V = vector_operations(target)
    lanes, size_of, points, squares = target.lanes, scheme.outputs, scheme.points, scheme.taps**2
    overlap = scheme.taps - 1
    columns, rows = external("columns", COLUMNS), external("rows", ROWS)
    spread_columns, spread_rows = external("spread_columns", COLUMNS), external("spread_rows", ROWS)
    product, inverse, write = external("product", _PRODUCT), external("inverse", _INVERSE), external("write", _WRITE)

    def kernel(arguments, chunk, scratch):
        in_part = chunk % arguments[A.in_parts]
        out_part = chunk // arguments[A.in_parts] % arguments[A.out_parts]
        split = chunk // arguments[A.in_parts] // arguments[A.out_parts]
        panel, out_blocks = arguments[A.panel], arguments[A.out_blocks]
        full = out_blocks // panel
        in_first = in_part * arguments[A.part_blocks]
        in_count = min(arguments[A.part_blocks], arguments[A.in_blocks] - in_first)
        last_channels = min(arguments[A.in_channels] - (in_first + in_count - 1) * lanes, lanes)
        unit_first = out_part * arguments[A.part_units]
        unit_last = min(unit_first + arguments[A.part_units], full + out_blocks % panel)
        units = max(min(unit_last, full) - unit_first, 0)
        narrow = unit_last - unit_first - units
        out_first = min(unit_first, full) * panel + max(unit_first - full, 0)
        out_count = units * panel + narrow
        across = arguments[A.tile_columns]
        per_image = across * arguments[A.tile_rows]
        zeros, strip = V.offset(scratch, 0), V.offset(scratch, arguments[A.strip_at])
        v, m = V.offset(scratch, arguments[A.v_at]), V.offset(scratch, arguments[A.m_at])
        u, u_point = V.offset(scratch, arguments[A.u_at]), arguments[A.u_point]
        v_block, v_point = arguments[A.v_block], arguments[A.v_point]
        m_block, m_point = arguments[A.m_block], arguments[A.m_point]
        V.store(V.zero(), zeros, 0)
        split_first = split * arguments[A.split_tiles]
        split_last = min(split_first + arguments[A.split_tiles], arguments[A.total])
        for first in range(split_first, split_last, arguments[A.block_tiles]):
            last = min(first + arguments[A.block_tiles], split_last)
            tile = first
            while tile < last:
                inside = tile % per_image
                column = inside % across
                count = min(min(across - column, last - tile), arguments[A.segment])
                row, column = inside // across * size_of, column * size_of
                left = column - arguments[A.left]
                length = size_of * count + overlap
                low = min(max(-left, 0), length)
                high = max(min(arguments[A.width] - left, length), low)
                image, slices = tile // per_image, arguments[A.slices]
                x = V.offset(V.floats(arguments[A.x]), (left + low) * lanes)
                x = V.offset(x, V.two_steps(image, slices, arguments[A.x_image], arguments[A.x_slice]))
                for i in range(in_count):
                    x_block = V.offset(x, (in_first + i) * arguments[A.x_block])
                    columns(x_block, zeros, strip, row - arguments[A.top], arguments[A.height], arguments[A.width] * lanes,
                            lanes, low, high, length)  # fmt: skip
                    rows(strip, V.offset(v, i * v_block + (tile - first) * lanes), count, v_point)
                length = size_of * count
                high = min(arguments[A.columns] - column, length)
                dy = V.offset(V.floats(arguments[A.dy]), column * lanes)
                dy = V.offset(dy, V.two_steps(image, slices, arguments[A.dy_image], arguments[A.y_slice]))
                for i in range(out_count):
                    dy_block = V.offset(dy, (out_first + i) * arguments[A.dy_block])
                    spread_columns(dy_block, zeros, strip, row, arguments[A.rows], arguments[A.columns] * lanes,
                                   lanes, 0, high, length)  # fmt: skip
                    spread_rows(strip, V.offset(m, i * m_block + (tile - first) * lanes), count, m_point)
                tile += count
            fresh = 1 if first == split_first else 0
            for point in range(points):
                product(
                    V.offset(v, point * v_point), V.offset(m, point * m_point), V.offset(u, point * u_point), last - first,
                    in_count, last_channels, units, narrow, v_block, m_block, fresh,
                )  # fmt: skip
        dw_channel = arguments[A.dw_channel]
        stride = arguments[A.in_channels] * dw_channel
        half, taps = V.offset(scratch, arguments[A.strip_at]), V.offset(scratch, arguments[A.taps_at])
        for i in range(out_count):
            size = panel if i < units * panel else 1
            source = V.offset(u, (i // panel * panel * in_count * lanes + i % panel) * lanes)
            if size == 1:
                source = V.offset(u, i * in_count * lanes * lanes)
            out = (out_first + i) * lanes
            dw = V.offset(V.floats(arguments[A.dw]), split * arguments[A.dw_split] + out * stride)
            outs = min(arguments[A.out_channels] - out, lanes)
            for j in range(in_count):
                channel = (in_first + j) * lanes
                count = min(arguments[A.in_channels] - channel, lanes)
                inverse(V.offset(source, j * lanes * size * lanes), half, taps, count, u_point, size * lanes)
                if dw_channel == squares:
                    write(taps, V.offset(dw, channel * squares), outs, count * squares, stride)
                else:
                    for c in range(count):
                        to = V.offset(dw, (channel + c) * dw_channel)
                        write(V.offset(taps, c * squares * lanes), to, outs, squares, stride)

    return kernel


def _make_gradient(target: Target, outputs: int, taps: int, channels: int, vectors: int) -> Linked:
    scheme = Scheme(outputs, taps)
    bodies = {
        "columns": (COLUMNS, strip_columns(scheme)),
        "rows": (ROWS, strip_rows(scheme)),
        "spread_columns": (COLUMNS, strip_columns(scheme, output_adjoint_line, outputs)),
        "spread_rows": (ROWS, strip_rows(scheme, output_adjoint_line, outputs)),
        "product": (_PRODUCT, _product(target, channels, vectors)),
        "inverse": (_INVERSE, _inverse(scheme)),
        "write": (_WRITE, _write),
    }
    return Linked(_outer(target, scheme), bodies)


FAMILIES = (
    Family(
        "winograd_weight_gradient",
        GRADIENT_ARGUMENTS,
        _make_gradient,
        "Weight gradient of a 3x3 or 5x5 convolution of stride 1 by Winograd's algorithm.",
    ),
)
