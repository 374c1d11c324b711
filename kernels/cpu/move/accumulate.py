"""`move_accumulate`: what one element went to, added up."""

from __future__ import annotations

from typing import Any

from numba import types

from .. import Family
from ..code.emit import Emitter, Value
from ..code.loops import for_vectors
from ..code.vector import FLOATS, emitted, indices, vectors
from ..target import Target
from .accumulate_plan import ACCUMULATE_ARGUMENTS

A = indices(ACCUMULATE_ARGUMENTS)


def make_accumulate(target: Target) -> Any:
    V, lanes = vectors(target), target.lanes

    def emit(e: Emitter, y: Value, x: Value, count: Value) -> None:
        def vector(i: Value, mask: Value, _: Any) -> list[Value]:
            if mask is None:
                e.store(e.b.fadd(e.load(y, i), e.load(x, i)), y, i)
            else:
                total = e.b.fadd(e.masked_load(e.at(y, i), mask), e.masked_load(e.at(x, i), mask))
                e.masked_store(total, e.at(y, i), mask)
            return []

        for_vectors(e, count, 1, [], vector)

    add = emitted(target, None, (FLOATS, FLOATS, types.int64), emit)

    def kernel(arguments: Any, chunk: Any, scratch: Any) -> None:
        rows, per_chunk, length = arguments[A.rows], arguments[A.rows_per_chunk], arguments[A.length]
        size1, size2 = arguments[A.size1], arguments[A.size2]
        first0, first1 = V.integers(arguments[A.first0]), V.integers(arguments[A.first1])
        first2, table0 = V.integers(arguments[A.first2]), V.integers(arguments[A.table0])
        table1, table2 = V.integers(arguments[A.table1]), V.integers(arguments[A.table2])
        places, sources = V.integers(arguments[A.places]), V.integers(arguments[A.sources])
        low, unit = arguments[A.low], arguments[A.unit]
        begin = chunk * per_chunk
        i, j, k = begin // size2 // size1, begin // size2 % size1, begin % size2 - 1
        for row in range(begin, min(begin + per_chunk, rows)):
            k += 1  # a division takes as long as a short row
            if k == size2:
                j, k = j + 1, 0
                if j == size1:
                    i, j = i + 1, 0
            y = V.offset(V.floats(arguments[A.y]), row * length)
            for at in range(0, length, lanes):
                V.store_first(V.zero(), y, at, length - at)
            for a in range(first0[i], first0[i + 1]):
                for b in range(first1[j], first1[j + 1]):
                    for c in range(first2[k], first2[k + 1]):
                        x = V.offset(V.floats(arguments[A.x]), table0[a] + table1[b] + table2[c])
                        add(V.offset(y, low), V.offset(x, low + arguments[A.shift]), arguments[A.high] - low)
                        for other in range(arguments[A.others]):
                            if unit == 1:
                                y[places[other]] += x[sources[other]]
                            else:
                                add(V.offset(y, places[other]), V.offset(x, sources[other]), unit)

    return kernel


FAMILIES = (
    Family(
        "move_accumulate",
        ACCUMULATE_ARGUMENTS,
        make_accumulate,
        "Elements of a dense y, each the sum of those of x that lists name; what a row's neighbors came from, as vectors. A chunk is "
        "some rows.",
    ),
)
