"""Winograd's convolution of stride 1 on blocked activations: F(4x4, 3x3), F(2x2, 3x3) and F(2x2, 5x5).

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015). With m x m outputs of a tile, r x r taps and
n = m + r - 1:

    Y = A' [(G g G') * (B' d B)] A        d: n x n inputs, g: r x r weights, Y: m x m outputs, *: element by element

summed over the input channels before A', which makes n x n matrix products, one for each point: M[point] = V[point]
U[point], V of [tile][input channel], U of [input channel][filter]. `winograd_shapes.py` has the interpolation points, and
computes the arguments and says what they mean.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from . import Family
from .emit import F32, Emitter, i64
from .target import Target
from .vector import FLOATS, INTEGERS, Linked, emitted, external, indices
from .vector import vectors as vector_operations
from .winograd_shapes import PACK_ARGUMENTS, WINOGRAD_ARGUMENTS, Scheme, weight_matrix

A = indices(WINOGRAD_ARGUMENTS)
P = indices(PACK_ARGUMENTS)
OPERANDS = len(WINOGRAD_ARGUMENTS)

_N = types.int64
# x, zeros, strip, row, height, x_row, low, high, count
_COLUMNS = (FLOATS, FLOATS, FLOATS, _N, _N, _N, _N, _N, _N)
_ROWS = (FLOATS, FLOATS, _N, _N)
_GATHER = (INTEGERS, FLOATS, _N, _N)
_PRODUCT = (FLOATS, FLOATS, FLOATS, FLOATS, _N, _N, _N, _N, _N)
_INVERSE = (FLOATS, INTEGERS, FLOATS, FLOATS, _N, _N, _N, _N)


# ---- the three transforms of one line


def _without(squares: tuple[float, ...], e: Emitter, d: list[Any]) -> Any:
    """The sum of d[2 i] c[i] where c are the coefficients of the product of (x^2 - s), the highest 1."""
    coefficients = np.polynomial.polynomial.polyfromroots(squares)
    value = d[2 * len(squares)]
    for i in reversed(range(len(squares))):
        value = e.fma(e.const(coefficients[i]), d[2 * i], value)
    return value


def _input_line(e: Emitter, scheme: Scheme, d: list[Any]) -> list[Any]:
    """B' d of n vectors; the points +p and -p share their even and odd parts."""
    squares = tuple(p**2 for p in scheme.pairs)
    out = [_without(squares, e, d)]
    for p in scheme.pairs:
        others = tuple(s for s in squares if s != p**2)
        even, odd = _without(others, e, d[2:]), _without(others, e, d[1:])
        out += [e.fma(e.const(p), odd, even), e.fma(e.const(-p), odd, even)]
    return [*out, _without(squares, e, d[1:])]


def _output_line(e: Emitter, scheme: Scheme, m: list[Any]) -> list[Any]:
    """A' m of n vectors."""
    b, pairs = e.b, scheme.pairs
    even = [b.fadd(m[1 + 2 * k], m[2 + 2 * k]) for k in range(len(pairs))]
    odd = [b.fsub(m[1 + 2 * k], m[2 + 2 * k]) for k in range(len(pairs))]
    out = []
    for i in range(scheme.outputs):
        parts = odd if i % 2 else even
        value = parts[-1] if pairs[-1] ** i == 1 else b.fmul(e.const(pairs[-1] ** i), parts[-1])
        for p, part in zip(pairs[:-1], parts[:-1], strict=True):
            value = e.fma(e.const(p**i), part, value) if p**i != 1 else b.fadd(part, value)
        if i == 0:
            value = b.fadd(m[0], value)
        if i == scheme.outputs - 1:
            value = b.fadd(m[-1], value)
        out.append(value)
    return out


def _weight_line(e: Emitter, scheme: Scheme, g: list[Any]) -> list[Any]:
    """G g of r vectors of float64."""
    b, rows = e.b, weight_matrix(scheme)

    def total(row: Any, indices: range) -> Any:
        value = None
        for i in indices:
            term = b.fmul(ir.Constant(g[i].type, [float(row[i])] * e.lanes), g[i])
            value = term if value is None else b.fadd(value, term)
        return value

    out = [total(rows[0], range(1))]
    for k in range(len(scheme.pairs)):
        even, odd = total(rows[1 + 2 * k], range(0, len(g), 2)), total(rows[1 + 2 * k], range(1, len(g), 2))
        out += [b.fadd(even, odd), b.fsub(even, odd)]
    return [*out, g[-1]]


# ---- bodies of the pieces that the outer loops call


def _columns(scheme: Scheme) -> Any:
    """strip[column][n] = B' of n rows of one block of channels, for `count` columns of which [low, high) exist.

    `x` is at column `low` of the image's first row. Rows outside the image read one vector of `zeros`.
    """
    n = scheme.size

    def body(e: Emitter, x: Any, zeros: Any, strip: Any, row: Any, height: Any, x_row: Any, low: Any, high: Any,
             count: Any) -> None:  # fmt: skip
        b, lanes = e.b, e.lanes

        def each(count: Any, carried: list[Any], body: Any) -> None:
            with b.if_then(b.icmp_signed(">", count, i64(0))):
                e.loop(count, carried, body)

        def clear(at: Any, count: Any) -> None:
            def column(_: Any, carried: list[Any]) -> list[Any]:
                for i in range(n):
                    e.store(e.const(0), carried[0], i * lanes)
                return [e.at(carried[0], n * lanes)]

            each(count, [at], column)

        clear(strip, low)
        sources, steps = [], []
        for i in range(n):
            r = b.add(row, i64(i))
            inside = b.and_(b.icmp_signed(">=", r, i64(0)), b.icmp_signed("<", r, height))
            sources.append(b.select(inside, b.gep(x, [b.mul(r, x_row)]), zeros))
            steps.append(b.select(inside, i64(lanes), i64(0)))

        def column(_: Any, carried: list[Any]) -> list[Any]:
            to, *rows = carried
            for i, value in enumerate(_input_line(e, scheme, [e.load(row) for row in rows])):
                e.store(value, to, i * lanes)
            return [e.at(to, n * lanes), *(e.at(row, step) for row, step in zip(rows, steps, strict=True))]

        each(b.sub(high, low), [e.at(strip, b.mul(low, i64(n * lanes))), *sources], column)
        clear(e.at(strip, b.mul(high, i64(n * lanes))), b.sub(count, high))

    return body


def _rows(scheme: Scheme) -> Any:
    """V of `count` neighboring tiles from their strip: [point], v_point floats apart, and a vector a tile."""
    n = scheme.size

    def body(e: Emitter, strip: Any, v: Any, count: Any, v_point: Any) -> None:
        b, lanes = e.b, e.lanes

        def line(_: Any, carried: list[Any]) -> list[Any]:
            source, to = carried
            places = [to]
            for _i in range(n):
                places.append(b.gep(places[-1], [v_point]))

            def tile(_: Any, carried: list[Any]) -> list[Any]:
                source, *places = carried
                values = _input_line(e, scheme, [e.load(source, n * lanes * j) for j in range(n)])
                for value, place in zip(values, places, strict=True):
                    e.store(value, place)
                return [e.at(source, scheme.outputs * n * lanes), *(e.at(place, lanes) for place in places)]

            e.loop(count, [source, *places[:n]], tile)
            return [e.at(source, lanes), places[n]]

        e.loop(i64(n), [strip, v], line)

    return body


def _product(target: Target, tiles: int, size: int) -> Any:
    """m[size][tiles] = the sum over `blocks` blocks of input channels of v[block][tile][lane] times u[block][lane][size].

    Vectors of m and blocks of v are `v_block` floats apart. Meanwhile weights that will be wanted soon, from `ahead`,
    come closer: `step` floats for every vector that is read.
    """
    lanes = target.lanes
    # Two steps in one body make LLVM hold both steps' weights: only where there are registers for them.
    unroll = 2 if tiles * size + 4 * size + 8 < target.registers else 1

    def body(e: Emitter, v: Any, u: Any, m: Any, ahead: Any, step: Any, blocks: Any, v_block: Any) -> None:
        b = e.b

        def over_channels(_: Any, carried: list[Any]) -> list[Any]:
            vt, ut, soon, *acc = carried
            for s in range(size * unroll):
                e.prefetch(e.at(soon, s * lanes), 2)
            for k in range(unroll):
                us = [e.load(ut, lanes * (k * size + s)) for s in range(size)]
                for t in range(tiles):
                    value = e.broadcast(vt, t * lanes + k)
                    for s in range(size):
                        acc[t * size + s] = e.fma(value, us[s], acc[t * size + s])
            return [e.at(vt, unroll), e.at(ut, unroll * size * lanes), e.at(soon, step), *acc]

        def over_blocks(_: Any, carried: list[Any]) -> list[Any]:
            vb, ub, soon, *acc = carried
            _, *out = e.loop(i64(lanes // unroll), [vb, ub, soon, *acc], over_channels)
            return [b.gep(vb, [v_block]), *out]

        step = b.mul(step, i64(unroll * size))
        _, _, _, *acc = e.loop(blocks, [v, u, ahead, *[e.const(0)] * (tiles * size)], over_blocks)
        for s in range(size):
            for t in range(tiles):
                e.store(acc[t * size + s], m, t * lanes)
            m = b.gep(m, [v_block])

    return body


def _products(target: Target, tiles: int, panel: int, uneven: bool, tail: bool) -> Any:
    """The product for `tiles` tiles or one less (`tall`), and for a panel or one block of filters (`wide`)."""

    def body(e: Emitter, *values: Any) -> None:
        *rest, tall, wide = values
        b = e.b

        def blocks(count: int) -> None:
            if not tail:
                _product(target, count, panel)(e, *rest)
                return
            with b.if_else(b.icmp_signed("!=", wide, i64(0))) as (then, otherwise):
                with then:
                    _product(target, count, panel)(e, *rest)
                with otherwise:
                    _product(target, count, 1)(e, *rest)

        if not uneven:
            blocks(tiles)
            return
        with b.if_else(b.icmp_signed("!=", tall, i64(0))) as (then, otherwise):
            with then:
                blocks(tiles)
            with otherwise:
                blocks(tiles - 1)

    return body


def _gather(panel: int, operands: tuple[str, ...]) -> Any:
    """Copies the panel's part of the bias and of each per-channel operand into `head`: zeros past `count` channels."""

    def body(e: Emitter, arguments: Any, head: Any, channel: Any, count: Any) -> None:
        b = e.b
        for position, index in enumerate((A.bias, *(OPERANDS + i for i in range(len(operands))))):
            if position and operands[position - 1] != "channel":
                continue
            address = b.load(b.gep(arguments, [i64(index)]), align=8)
            present = b.select(b.icmp_signed("==", address, i64(0)), i64(0), count)
            source = b.gep(b.inttoptr(address, F32.as_pointer()), [channel])
            for v in range(panel):
                mask = e.first_lanes(b.sub(present, i64(e.lanes * v)))
                e.store(e.masked_load(e.at(source, e.lanes * v), mask), head, e.lanes * (panel * position + v))

    return body


def _inverse(scheme: Scheme, panel: int, masked: bool, tree: Any, operands: tuple[str, ...]) -> Any:
    """The first rows x columns outputs of a tile and a block of filters: A' m A, the bias, the expression."""
    n = scheme.size

    def body(e: Emitter, m: Any, arguments: Any, head: Any, half: Any, place: Any, rows: Any, columns: Any,
             valid: Any) -> None:  # fmt: skip
        b, lanes = e.b, e.lanes

        def argument(index: int) -> Any:
            return b.load(b.gep(arguments, [i64(index)]), align=8)

        def tensor(index: int) -> Any:
            return b.gep(b.inttoptr(argument(index), F32.as_pointer()), [place])

        m_point, y_row = argument(A.m_point), argument(A.y_row)

        def vertical(_: Any, carried: list[Any]) -> list[Any]:
            source, to = carried
            values, line = [], source
            for _i in range(n):
                values.append(e.load(line))
                line = b.gep(line, [b.mul(m_point, i64(n))])
            for r, value in enumerate(_output_line(e, scheme, values)):
                e.store(value, to, n * lanes * r)
            return [b.gep(source, [m_point]), e.at(to, lanes)]

        e.loop(i64(n), [m, half], vertical)
        bias = e.load(head)
        mask = e.first_lanes(valid) if masked else None
        channel = {f"a{i}": e.load(head, lanes * panel * (i + 1)) for i, kind in enumerate(operands) if kind != "full"}
        full = [i for i, kind in enumerate(operands) if kind == "full"]

        def horizontal(_: Any, carried: list[Any]) -> list[Any]:
            source, *places = carried
            for j, value in enumerate(_output_line(e, scheme, [e.load(source, lanes * c) for c in range(n)])):
                with b.if_then(b.icmp_signed("<", i64(j), columns)):
                    variables = {"y": b.fadd(value, bias), **channel}
                    for i, pointer in zip(full, places[1:], strict=True):
                        variables[f"a{i}"] = e.load(pointer, lanes * j)
                    result = variables["y"] if tree is None else e.expression(tree, variables)
                    e.store(e.select(mask, result, e.const(0)) if masked else result, places[0], lanes * j)
            return [e.at(source, n * lanes), *(b.gep(p, [y_row]) for p in places)]

        e.loop(rows, [half, tensor(A.y), *(tensor(OPERANDS + i) for i in full)], horizontal)

    return body


# ---- the outer loops


@cache
def _outer(target: Target, scheme: Scheme) -> Any:
    """The loops around the pieces: the same function for every specialization."""
    V = vector_operations(target)
    lanes, size_of, points, overlap = target.lanes, scheme.outputs, scheme.points, scheme.taps - 1
    columns, rows = external("columns", _COLUMNS), external("rows", _ROWS)
    product, gather, inverse = external("product", _PRODUCT), external("gather", _GATHER), external("inverse", _INVERSE)

    def kernel(arguments, chunk, scratch):
        part, block = chunk % arguments[A.parts], chunk // arguments[A.parts]
        stage, tiles, tall = arguments[A.stage], arguments[A.tiles], arguments[A.tall]
        in_blocks, v_block, v_point = arguments[A.in_blocks], arguments[A.v_block], arguments[A.v_point]
        begin = block * arguments[A.block_groups]
        end = min(begin + arguments[A.block_groups], arguments[A.groups])
        first = begin * (tiles - 1) + min(begin, tall)
        last = end * (tiles - 1) + min(end, tall)
        across = arguments[A.tile_columns]
        per_image = across * arguments[A.tile_rows]
        v = V.offset(scratch, arguments[A.v_at])
        if stage > 0:
            v = V.offset(V.floats(arguments[A.v]), block * arguments[A.v_size])
        if stage < 2:
            zeros, strip = V.offset(scratch, arguments[A.zeros_at]), V.offset(scratch, arguments[A.strip_at])
            V.store(V.zero(), zeros, 0)
            in_first, in_last = 0, in_blocks
            if stage == 1:
                in_first = part * arguments[A.part_blocks]
                in_last = min(in_first + arguments[A.part_blocks], in_blocks)
            tile = first
            while tile < last:
                inside = tile % per_image
                column = inside % across
                count = min(min(across - column, last - tile), arguments[A.segment])
                top = inside // across * size_of - arguments[A.top]
                left = column * size_of - arguments[A.left]
                length = size_of * count + overlap
                low = min(max(-left, 0), length)
                high = max(min(arguments[A.width] - left, length), low)
                x = V.offset(V.floats(arguments[A.x]), tile // per_image * arguments[A.x_image] + (left + low) * lanes)
                for i in range(in_first, in_last):
                    x_block = V.offset(x, i * arguments[A.x_block])
                    columns(
                        x_block, zeros, strip, top, arguments[A.height], arguments[A.width] * lanes, low, high, length
                    )
                    rows(strip, V.offset(v, i * v_block + (tile - first) * lanes), count, v_point)
                tile += count
        if stage != 1:
            panel, out_blocks = arguments[A.panel], arguments[A.out_blocks]
            m, m_point = V.offset(scratch, arguments[A.m_at]), arguments[A.m_point]
            half = V.offset(scratch, arguments[A.half_at])
            full = out_blocks // panel
            units = full + out_blocks % panel
            depth = in_blocks * lanes * lanes
            step = (lanes + end - begin - 1) // (end - begin)
            unit_last = min((part + 1) * arguments[A.part_panels], units)
            for unit in range(part * arguments[A.part_panels], unit_last, arguments[A.set_panels]):
                set_last = min(unit + arguments[A.set_panels], unit_last)
                start = min(unit, full) * panel + max(unit - full, 0)
                for point in range(points):
                    to = V.offset(m, point * m_point)
                    for one in range(unit, set_last):
                        wide = 1 if one < full else 0
                        size = panel if one < full else 1
                        out_block = min(one, full) * panel + max(one - full, 0)
                        u = V.offset(V.floats(arguments[A.w]), (out_block * points + point * size) * depth)
                        ahead = V.offset(u, size * depth)
                        source = V.offset(v, point * v_point)
                        result = V.offset(to, (out_block - start) * v_block)
                        for group in range(begin, end):
                            is_tall = 1 if group < tall else 0
                            product(source, u, result, ahead, step, in_blocks, v_block, is_tall, wide)
                            ahead = V.offset(ahead, size * in_blocks * lanes * step)
                            source = V.offset(source, (tiles - 1 + is_tall) * lanes)
                            result = V.offset(result, (tiles - 1 + is_tall) * lanes)
                for one in range(unit, set_last):
                    size = panel if one < full else 1
                    out_block = min(one, full) * panel + max(one - full, 0)
                    valid = arguments[A.channels] - out_block * lanes
                    gather(arguments, scratch, out_block * lanes, min(valid, size * lanes))
                    for i in range(size):
                        source = V.offset(m, (out_block + i - start) * v_block)
                        head = V.offset(scratch, i * lanes)
                        for tile in range(first, last):
                            inside = tile % per_image
                            row, column = inside // across * size_of, inside % across * size_of
                            place = tile // per_image * arguments[A.y_image] + (out_block + i) * arguments[A.y_block]
                            place += row * arguments[A.y_row] + column * lanes
                            inverse(source, arguments, head, half, place, min(arguments[A.rows] - row, size_of),
                                    min(arguments[A.columns] - column, size_of), valid - i * lanes)  # fmt: skip
                            source = V.offset(source, lanes)

    return kernel


def _make_winograd(
    target: Target,
    outputs: int,
    taps: int,
    tiles: int,
    vectors: int,
    uneven: bool,
    tail: bool,
    masked: bool,
    expression: Any,
    operands: tuple[str, ...],
) -> Linked:
    scheme = Scheme(outputs, taps)
    bodies = {
        "columns": (_COLUMNS, _columns(scheme)),
        "rows": (_ROWS, _rows(scheme)),
        "product": (_PRODUCT, _products(target, tiles, vectors, uneven, tail)),
        "gather": (_GATHER, _gather(vectors, operands)),
        "inverse": (_INVERSE, _inverse(scheme, vectors, masked, expression, operands)),
    }
    return Linked(_outer(target, scheme), bodies)


# ---- weights


def _make_pack(target: Target, outputs: int, taps: int) -> Any:
    V = vector_operations(target)
    scheme = Scheme(outputs, taps)
    lanes, side, squares, points = target.lanes, scheme.taps, scheme.taps**2, scheme.points

    def transform(e: Emitter, g: Any, to: Any, point: Any) -> None:
        """to[points], `point` floats apart, = G g G' of r * r vectors, in float64."""
        wide = ir.VectorType(ir.DoubleType(), lanes)
        taps = [[e.b.fpext(e.load(g, (side * i + j) * lanes), wide) for j in range(side)] for i in range(side)]
        half = [_weight_line(e, scheme, [taps[i][j] for i in range(side)]) for j in range(side)]
        for i in range(scheme.size):
            for value in _weight_line(e, scheme, [half[j][i] for j in range(side)]):
                e.store(e.b.fptrunc(value, e.type), to)
                to = e.b.gep(to, [point])

    transform_tile = emitted(target, None, (FLOATS, FLOATS, _N), transform)

    def kernel(arguments, chunk, scratch):
        in_blocks, panel = arguments[P.in_blocks], arguments[P.panel]
        unit, in_block = chunk // in_blocks, chunk % in_blocks
        full = arguments[P.out_blocks] // panel
        size = panel if unit < full else 1
        block = min(unit, full) * panel + max(unit - full, 0)
        depth = in_blocks * lanes
        packed = V.offset(V.floats(arguments[P.packed]), (points * block * depth + in_block * lanes * size) * lanes)
        source, step = V.floats(arguments[P.source]), arguments[P.tap_step]
        out_stride, in_stride = arguments[P.out_stride], arguments[P.in_stride]
        # All points of the block meet in scratch first, an odd number of vectors apart: as they lie in `packed` they
        # would share few sets of the cache.
        taps, together = V.offset(scratch, 0), V.offset(scratch, squares * lanes)
        across = lanes * size
        apart = (across + 1) * lanes
        for v in range(size):
            first = (block + v) * lanes
            for tap in range(squares):
                V.store(V.zero(), taps, tap * lanes)
            count = min(arguments[P.out_channels] - first, lanes)
            for i in range(lanes):
                channel = in_block * lanes + i
                if channel < arguments[P.in_channels]:
                    line = V.offset(source, channel * in_stride + first * out_stride + arguments[P.tap_first])
                    for k in range(count):
                        for tap in range(squares):
                            taps[tap * lanes + k] = line[tap * step]
                        line = V.offset(line, out_stride)
                else:
                    for tap in range(squares):
                        V.store(V.zero(), taps, tap * lanes)
                transform_tile(taps, V.offset(together, (i * size + v) * lanes), apart)
        for point in range(points):
            to = V.offset(packed, point * depth * across)
            for i in range(lanes * size):
                V.store(V.load(together, point * apart + i * lanes), to, i * lanes)

    return kernel


FAMILIES = (
    Family(
        "winograd", WINOGRAD_ARGUMENTS, _make_winograd, "3x3 or 5x5 convolution of stride 1 by Winograd's algorithm."
    ),
    Family("winograd_pack_weights", PACK_ARGUMENTS, _make_pack, "oihw weights, transformed, for `winograd`."),
)
