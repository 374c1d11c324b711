"""The maxima of windows whose places are tables, and what goes to them and comes from them."""

from __future__ import annotations

from typing import Any

from .. import Family
from ..code.vector import vectors
from ..target import Target
from .uneven_plan import UNEVEN_ARGUMENTS
from .windows import Unit


def make(target: Target, blocked: bool, what: str) -> Any:
    return _gradient(target, blocked) if what == "gradient" else _maxima(target, blocked, what == "pick")


def _maxima(target: Target, blocked: bool, pick: bool) -> Any:
    unit = Unit(target, blocked)
    load, store, beats, select = unit.load, unit.store, unit.beats, unit.select
    floats, offset, width, integers = unit.floats, unit.offset, unit.width, vectors(target).integers

    def kernel(arguments: Any, chunk: Any, scratch: Any) -> None:
        rows, per_chunk, depth, height, breadth = arguments[0], arguments[1], arguments[2], arguments[3], arguments[4]
        out_depth, out_height, out_breadth = arguments[5], arguments[6], arguments[7]
        deep, tall, wide = integers(arguments[8]), integers(arguments[9]), integers(arguments[10])
        y, size = floats(arguments[13]), depth * height * breadth * width
        for row in range(chunk * per_chunk, min(rows, (chunk + 1) * per_chunk)):
            h, rest = row % out_height, row // out_height
            d, plane = rest % out_depth, rest // out_depth
            x, values = (
                offset(floats(arguments[11]), plane * size),
                offset(floats(arguments[12 if pick else 11]), plane * size),
            )
            for w in range(out_breadth):
                start = ((deep[2 * d] * height + tall[2 * h]) * breadth + wide[2 * w]) * width
                best, found = load(x, start), load(values, start)
                for i in range(deep[2 * d + 1]):
                    for j in range(tall[2 * h + 1]):
                        line = start + (i * height + j) * breadth * width
                        for k in range(wide[2 * w + 1]):
                            value = load(x, line + k * width)
                            better = beats(value, best)
                            found = select(better, load(values, line + k * width), found)
                            best = select(better, value, best)
                store(found, y, (row * out_breadth + w) * width)

    return kernel


def _gradient(target: Target, blocked: bool) -> Any:
    unit = Unit(target, blocked)
    load, store, number, beats, select = unit.load, unit.store, unit.number, unit.beats, unit.select
    floats, offset, width, integers, equal, add = (
        unit.floats, unit.offset, unit.width, vectors(target).integers, unit.equal, unit.add,
    )  # fmt: skip

    def kernel(arguments: Any, chunk: Any, scratch: Any) -> None:
        depth, height, breadth = arguments[2], arguments[3], arguments[4]
        out_depth, out_height, out_breadth = arguments[5], arguments[6], arguments[7]
        deep, tall, wide = integers(arguments[8]), integers(arguments[9]), integers(arguments[10])
        size = depth * height * breadth
        x, dx = offset(floats(arguments[11]), chunk * size * width), offset(floats(arguments[13]), chunk * size * width)
        for i in range(size):
            store(number(0.0), dx, i * width)
        for row in range(out_depth * out_height):
            d, h = row // out_height, row % out_height
            for w in range(out_breadth):
                start = ((deep[2 * d] * height + tall[2 * h]) * breadth + wide[2 * w]) * width
                best, chosen, tap = load(x, start), number(0.0), 0
                for i in range(deep[2 * d + 1]):
                    for j in range(tall[2 * h + 1]):
                        for k in range(wide[2 * w + 1]):
                            value = load(x, start + ((i * height + j) * breadth + k) * width)
                            better = beats(value, best)
                            best, chosen = select(better, value, best), select(better, number(tap), chosen)
                            tap += 1
                above = load(floats(arguments[12]), ((chunk * out_depth * out_height + row) * out_breadth + w) * width)
                tap = 0
                for i in range(deep[2 * d + 1]):
                    for j in range(tall[2 * h + 1]):
                        for k in range(wide[2 * w + 1]):
                            at = start + ((i * height + j) * breadth + k) * width
                            before = load(dx, at)
                            store(select(equal(chosen, number(tap)), add(before, above), before), dx, at)
                            tap += 1

    return kernel


FAMILIES = (
    Family(
        "uneven_max",
        UNEVEN_ARGUMENTS,
        make,
        "Maxima of windows from tables. A chunk is some rows of the result; of a gradient it is a plane.",
    ),
)
