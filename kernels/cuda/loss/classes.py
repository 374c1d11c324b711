"""Cross-entropy of rows of logits, its gradient, and how often the largest is the label's: a warp has a row.

Sums are those of each thread's own classes, folded over the warp by threads that lie 1, 2, 4, 8, 16 apart.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...cpu.code.emit import Emitter
from .. import Family
from ..code import gpu as G
from ..code.gpu import BOOL, FLOAT, INT, emitted, f32, i32
from ..code.program import Program
from .classes_plan import BUFFERS, ROWS, SIZES, THREADS

_NAN, _LEAST, _ZERO, _ONE = np.float32(math.nan), np.float32(-math.inf), np.float32(0), np.float32(1)
_NONE = 1 << 30  # a class that no thread has


def _earlier(e: Emitter, x: Any, i: Any, y: Any, j: Any) -> Any:
    """Whether x, of class i, comes before y: it is larger, where NaN is the largest, or as large and of an earlier class."""
    b = e.b
    x_none, y_none = b.fcmp_unordered("uno", x, x), b.fcmp_unordered("uno", y, y)
    larger = b.or_(b.fcmp_ordered(">", x, y), b.and_(x_none, b.not_(y_none)))
    equal = b.or_(b.fcmp_ordered("==", x, y), b.and_(x_none, y_none))
    return b.or_(larger, b.and_(equal, b.icmp_signed("<", i, j)))


earlier = emitted(BOOL, (FLOAT, INT, FLOAT, INT), _earlier)


def make_classes(what: str) -> Program:
    """what: `classes_plan.plan_classes`."""
    if what == "hit":
        return _hit()
    gradient = what == "gradient"
    at = {name: i for i, name in enumerate((*BUFFERS[what], *SIZES))}
    X, LABELS, SCALE, Y = at["x"], at["labels"], at.get("scale", 0), at["y"]
    COUNT, CLASSES, WORDS = at["rows"], at["classes"], at["words"]

    def kernel(arguments: Any, block: Any, _: Any) -> None:
        row, lane = i32(block * ROWS + (G.thread() >> 5)), i32(G.thread() & 31)
        if row < i32(arguments[COUNT]):
            classes = i32(arguments[CLASSES])
            start = i32(row * classes)
            label = G.load_int(arguments[LABELS], i32(row * i32(arguments[WORDS])))
            top, place = _LEAST, lane
            while place < classes:
                top = G.larger(top, G.load1(arguments[X], i32(start + place)))
                place = i32(place + 32)
            by = i32(16)
            while by > 0:
                top = G.larger(top, G.shuffle_float(top, by))
                by = i32(by >> 1)
            rest, place = _ZERO, lane
            while place < classes:
                if place != label:
                    rest = f32(rest + G.exp(f32(G.load1(arguments[X], i32(start + place)) - top)))
                place = i32(place + 32)
            by = i32(16)
            while by > 0:
                rest = f32(rest + G.shuffle_float(rest, by))
                by = i32(by >> 1)
            there = 0 <= label < classes
            own = G.load1(arguments[X], i32(start + label)) if there else _NAN
            power = G.exp(f32(own - top))
            if gradient:
                factor = f32(G.load1(arguments[SCALE], i32(0)) / f32(i32(arguments[COUNT])))
                whole, place = f32(rest + power), lane
                while place < classes:
                    part = f32(-rest)
                    if place != label:
                        part = G.exp(f32(G.load1(arguments[X], i32(start + place)) - top))
                    G.store1(f32(f32(part / whole) * factor), arguments[Y], i32(start + place))
                    place = i32(place + 32)
            elif lane == 0:
                G.store1(f32(f32(top - own) + G.log1p(f32(rest + f32(power - _ONE)))), arguments[Y], row)

    return Program(kernel, BUFFERS[what], SIZES, THREADS)


def _hit() -> Program:
    at = {name: i for i, name in enumerate((*BUFFERS["hit"], *SIZES))}
    X, LABELS, Y = at["x"], at["labels"], at["y"]
    COUNT, CLASSES, WORDS = at["rows"], at["classes"], at["words"]

    def kernel(arguments: Any, block: Any, _: Any) -> None:
        row, lane = i32(block * ROWS + (G.thread() >> 5)), i32(G.thread() & 31)
        if row < i32(arguments[COUNT]):
            classes = i32(arguments[CLASSES])
            start = i32(row * classes)
            best, where, place = _LEAST, i32(_NONE), lane
            while place < classes:
                value = G.load1(arguments[X], i32(start + place))
                chosen = earlier(value, place, best, where)
                best, where = (value if chosen else best), (place if chosen else where)
                place = i32(place + 32)
            by = i32(16)
            while by > 0:
                other, spot = G.shuffle_float(best, by), G.shuffle(where, by)
                chosen = earlier(other, spot, best, where)
                best, where = (other if chosen else best), (spot if chosen else where)
                by = i32(by >> 1)
            if lane == 0:
                label = G.load_int(arguments[LABELS], i32(row * i32(arguments[WORDS])))
                G.store1(_ONE if where == label else _ZERO, arguments[Y], row)

    return Program(kernel, BUFFERS["hit"], SIZES, THREADS)


FAMILIES = (Family("classes", make_classes, "Cross-entropy, its gradient, and hits, row by row. A block is 4 rows."),)
