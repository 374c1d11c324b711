"""Winograd's transforms of one line, and what transforms strips of tiles."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ..code.emit import Emitter, i64
from ..code.loops import pointers
from ..code.vector import FLOATS
from .scheme import Scheme, weight_matrix

Line = Callable[[Emitter, Scheme, list[Any]], list[Any]]

_N = types.int64
# x, zeros, strip, row, height, x_row, x_pixel, low, high, count
COLUMNS = (FLOATS, FLOATS, FLOATS, _N, _N, _N, _N, _N, _N, _N)
# strip, v, count, v_point
ROWS = (FLOATS, FLOATS, _N, _N)


# ---- one line


def _without(squares: tuple[float, ...], e: Emitter, d: list[Any]) -> Any:
    """The sum of d[2 i] c[i] where c are the coefficients of the product of (x^2 - s), the highest 1."""
    coefficients = np.polynomial.polynomial.polyfromroots(squares)
    value = d[2 * len(squares)]
    for i in reversed(range(len(squares))):
        value = e.fma(e.const(coefficients[i]), d[2 * i], value)
    return value


def itself(e: Emitter, scheme: Scheme, d: list[Any]) -> list[Any]:
    return d


def input_line(e: Emitter, scheme: Scheme, d: list[Any]) -> list[Any]:
    """B' d of n vectors; the points +p and -p share their even and odd parts, all but the single one the factor of that."""
    squares = tuple(p**2 for p in scheme.pairs)
    single = []
    if scheme.single is not None:
        single = [_without(squares, e, d[1:])]
        d = [e.fma(e.const(-scheme.single), low, high) for low, high in itertools.pairwise(d)]
    out = [_without(squares, e, d)]
    for p in scheme.pairs:
        others = tuple(s for s in squares if s != p**2)
        even, odd = _without(others, e, d[2:]), _without(others, e, d[1:])
        out += [e.fma(e.const(p), odd, even), e.fma(e.const(-p), odd, even)]
    return [*out, *single, _without(squares, e, d[1:])]


def output_line(e: Emitter, scheme: Scheme, m: list[Any]) -> list[Any]:
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
        if scheme.single is not None:
            value = e.fma(e.const(scheme.single**i), m[-2], value) if i else b.fadd(m[-2], value)
        if i == 0:
            value = b.fadd(m[0], value)
        if i == scheme.outputs - 1:
            value = b.fadd(m[-1], value)
        out.append(value)
    return out


def output_adjoint_line(e: Emitter, scheme: Scheme, y: list[Any]) -> list[Any]:
    """A y of m vectors; the points +p and -p share their even and odd parts."""

    def powers(values: list[Any], square: float) -> Any:
        total = values[-1]
        for value in reversed(values[:-1]):
            total = e.b.fadd(total, value) if square == 1 else e.fma(e.const(square), total, value)
        return total

    out = [y[0]]
    for p in scheme.pairs:
        even, odd = powers(y[::2], p**2), powers(y[1::2], p**2)
        if p == 1:
            out += [e.b.fadd(even, odd), e.b.fsub(even, odd)]
        else:
            out += [e.fma(e.const(p), odd, even), e.fma(e.const(-p), odd, even)]
    if scheme.single is not None:
        value = y[-1]
        for each in reversed(y[:-1]):
            value = e.fma(e.const(scheme.single), value, each)
        out.append(value)
    return [*out, y[-1]]


def weight_line(e: Emitter, scheme: Scheme, g: list[Any]) -> list[Any]:
    """G g of r vectors of float64."""
    b, rows = e.b, weight_matrix(scheme)

    def wide(number: Any) -> Any:
        return ir.Constant(g[0].type, [float(number)] * e.lanes)

    def total(row: Any, indices: range) -> Any:
        value = None
        for i in indices:
            term = b.fmul(wide(row[i]), g[i])
            value = term if value is None else b.fadd(value, term)
        return value

    out = [total(rows[0], range(1))]
    for k in range(len(scheme.pairs)):
        even, odd = total(rows[1 + 2 * k], range(0, len(g), 2)), total(rows[1 + 2 * k], range(1, len(g), 2))
        out += [b.fadd(even, odd), b.fsub(even, odd)]
        if scheme.single is not None:
            out[-1] = b.fmul(wide(rows[2 + 2 * k][0] / rows[1 + 2 * k][0]), out[-1])
    if scheme.single is not None:
        out.append(total(rows[-2], range(len(g))))
    return [*out, g[-1]]


def weight_adjoint_line(e: Emitter, scheme: Scheme, u: list[Any]) -> list[Any]:
    """G' u of n vectors."""
    b, matrix = e.b, weight_matrix(scheme)
    pairs = [(u[1 + 2 * k], u[2 + 2 * k]) for k in range(len(scheme.pairs))]
    if scheme.single is not None:
        ratios = [e.const(matrix[2 + 2 * k][0] / matrix[1 + 2 * k][0]) for k in range(len(pairs))]
        pairs = [(plus, b.fmul(ratio, minus)) for (plus, minus), ratio in zip(pairs, ratios, strict=True)]
    even = [b.fadd(plus, minus) for plus, minus in pairs]
    odd = [b.fsub(plus, minus) for plus, minus in pairs]
    out = []
    for tap in range(scheme.taps):
        value = b.fmul(e.const(matrix[0][0]), u[0]) if tap == 0 else u[-1] if tap == scheme.taps - 1 else None
        for k, part in enumerate(odd if tap % 2 else even):
            scale = e.const(matrix[1 + 2 * k][tap])
            value = b.fmul(scale, part) if value is None else e.fma(scale, part, value)
        if scheme.single is not None:
            value = e.fma(e.const(matrix[-2][tap]), u[-2], value)
        out.append(value)
    return out


# ---- strips of tiles


def strip_columns(scheme: Scheme, line: Line = input_line, taken: int = 0) -> Any:
    """strip[column][n] = `line` of `taken` rows (0: n) of one block of channels, for `count` columns of which [low, high)
    exist; of a scheme of one axis the row itself.

    `x` is at column `low` of the image's first row; its rows and pixels lie x_row and x_pixel floats apart. Rows outside the
    image read one vector of `zeros`.
    """
    n = scheme.high
    line = line if scheme.axes == 2 else itself

    def body(e: Emitter, x: Any, zeros: Any, strip: Any, *numbers: Any) -> None:
        b, lanes = e.b, e.lanes
        row, height, x_row, x_pixel, low, high, count = numbers

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
        for i in range(taken or n):
            r = b.add(row, i64(i))
            inside = b.and_(b.icmp_signed(">=", r, i64(0)), b.icmp_signed("<", r, height))
            sources.append(b.select(inside, b.gep(x, [b.mul(r, x_row)]), zeros))
            steps.append(b.select(inside, x_pixel, i64(0)))

        def column(_: Any, carried: list[Any]) -> list[Any]:
            to, *rows = carried
            for i, value in enumerate(line(e, scheme, [e.load(row) for row in rows])):
                e.store(value, to, i * lanes)
            return [e.at(to, n * lanes), *(e.at(row, step) for row, step in zip(rows, steps, strict=True))]

        each(b.sub(high, low), [e.at(strip, b.mul(low, i64(n * lanes))), *sources], column)
        clear(e.at(strip, b.mul(high, i64(n * lanes))), b.sub(count, high))

    return body


def strip_rows(scheme: Scheme, transform: Line = input_line, taken: int = 0) -> Any:
    """V of `count` neighboring tiles from their strip: [point], v_point floats apart, and a vector a tile; `transform`
    takes `taken` columns (0: n) of a tile.
    """
    n, size = scheme.high, scheme.size

    def body(e: Emitter, strip: Any, v: Any, count: Any, v_point: Any) -> None:
        lanes = e.lanes

        def line(_: Any, carried: list[Any]) -> list[Any]:
            source, to = carried
            places = pointers(e, to, v_point, size + 1)

            def tile(_: Any, carried: list[Any]) -> list[Any]:
                source, *places = carried
                values = transform(e, scheme, [e.load(source, n * lanes * j) for j in range(taken or size)])
                for value, place in zip(values, places, strict=True):
                    e.store(value, place)
                return [e.at(source, scheme.outputs * n * lanes), *(e.at(place, lanes) for place in places)]

            e.loop(count, [source, *places[:size]], tile)
            return [e.at(source, lanes), places[size]]

        e.loop(i64(n), [strip, v], line)

    return body
