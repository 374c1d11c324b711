"""Max pooling over small windows whose columns all lie within the tensor: the taps are unrolled, the rest is a loop
over the windows of a row.

Rows of a window outside the tensor are replaced by the nearest one inside, which is in the window too: a value that is
met twice changes neither the maximum nor where it was first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types

from ..code.emit import Emitter, Value, i64
from ..code.vector import FLOATS, emitted
from ..target import Target
from .plan import Window
from .unit import Unit

_N = types.int64


def _places(e: Emitter, plane: Value, rows: int, top: Value, height: Value, pitch: Value, column: Value) -> list[Value]:
    """Pointers to `column` of the window's rows."""
    b, places = e.b, []
    last = b.sub(height, i64(1))
    for row in range(rows):
        line = b.add(top, i64(row))
        line = b.select(b.icmp_signed("<", line, i64(0)), i64(0), line)
        line = b.select(b.icmp_signed(">", line, last), last, line)
        places.append(b.gep(plane, [b.add(b.mul(line, pitch), column)]))
    return places


def _loop(
    e: Emitter, count: Value, pointers: list[Value], steps: list[Value], body: Callable[[list[Value]], None]
) -> None:
    """body(pointers) `count` times, the pointers moving by their steps; none for count <= 0."""

    def once(_: Value, carried: list[Value]) -> list[Value]:
        body(carried)
        return [e.b.gep(p, [step]) for p, step in zip(carried, steps, strict=True)]

    with e.b.if_then(e.b.icmp_signed(">", count, i64(0))):
        e.loop(count, pointers, once)


def maxima(target: Target, unit: Unit, window: Window) -> Any:
    """maxima(plane, top, height, pitch, column, step, y, count): the maxima of `count` windows of a row.

    Windows begin at row `top` (which may lie outside, the window may not) and at `column`, and are `step` apart; these
    and `pitch`, from row to row, are in floats.
    """
    rows, columns = window

    def body(e: Emitter, plane: Value, top: Value, height: Value, pitch: Value, column: Value, step: Value, y: Value,
             count: Value) -> None:  # fmt: skip
        def one(pointers: list[Value]) -> None:
            *lines, out = pointers
            values = [unit.read(e, line, i64(w * unit.width)) for line in lines for w in range(columns)]
            best = values[0]
            for value in values[1:]:
                best = e.b.select(unit.greater(e, value, best), value, best)
            unit.write(e, best, out, i64(0))

        lines = _places(e, plane, rows, top, height, pitch, column)
        _loop(e, count, [*lines, y], [step] * rows + [i64(unit.width)], one)

    return emitted(target, None, (FLOATS, _N, _N, _N, _N, _N, FLOATS, _N), body)


def maxima_gradient(target: Target, unit: Unit, window: Window) -> Any:
    """maxima_gradient(plane, dplane, top, height, pitch, column, step, dy, count): adds dy to dplane where the first
    maxima of the windows were. The arguments are those of `maxima`.
    """
    rows, columns = window

    def body(e: Emitter, plane: Value, dplane: Value, *where: Value) -> None:
        b = e.b
        *first, step, dy, count = where

        def one(pointers: list[Value]) -> None:
            lines, dlines, above = pointers[:rows], pointers[rows : 2 * rows], unit.read(e, pointers[-1], i64(0))
            taps = [(h, i64(w * unit.width)) for h in range(rows) for w in range(columns)]
            best, chosen = unit.read(e, lines[0], i64(0)), unit.constant(e, 0)
            for tap, (h, w) in enumerate(taps[1:], 1):
                value = unit.read(e, lines[h], w)
                better = unit.greater(e, value, best)
                best, chosen = b.select(better, value, best), b.select(better, unit.constant(e, tap), chosen)
            for tap, (h, w) in enumerate(taps):
                before = unit.read(e, dlines[h], w)
                here = b.fcmp_ordered("==", chosen, unit.constant(e, tap))
                unit.write(e, b.select(here, b.fadd(before, above), before), dlines[h], w)

        lines, dlines = _places(e, plane, rows, *first), _places(e, dplane, rows, *first)
        _loop(e, count, [*lines, *dlines, dy], [step] * (2 * rows) + [i64(unit.width)], one)

    return emitted(target, None, (FLOATS, FLOATS, _N, _N, _N, _N, _N, FLOATS, _N), body)
