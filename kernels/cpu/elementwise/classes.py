"""Pieces of kernels on logits of classes, and on whatever else lies along an axis: [outer, size, inner], whose kernels begin their
arguments with outer, what of it a chunk takes, size, and inner.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from numba import types

from ..code.vector import FLOATS, INTEGERS, piece, vectors
from ..target import Target


@cache
def columns_of(target: Target) -> tuple[Any, Any]:
    """Pieces, of [outer, size, inner] whose vectors lie along the inner axis: units(arguments, chunk), the first vector and the one
    after the last, size and inner; column(arguments, unit), the float where one begins, its place in [outer, inner], and how many of
    the row there are from there on.
    """
    lanes = target.lanes

    def units(arguments: Any, chunk: Any) -> Any:
        outer, per_chunk, size, inner = arguments[0], arguments[1], arguments[2], arguments[3]
        last = min(outer * ((inner + lanes - 1) // lanes), (chunk + 1) * per_chunk)
        return chunk * per_chunk, last, size, inner

    def column(arguments: Any, unit: Any) -> Any:
        size, inner, tiles = arguments[2], arguments[3], (arguments[3] + lanes - 1) // lanes
        first, row = unit % tiles * lanes, unit // tiles
        return row * size * inner + first, row * inner + first, inner - first

    given, n = (INTEGERS, types.int64), types.int64
    return piece(given, units, types.UniTuple(n, 4)), piece(given, column, types.UniTuple(n, 3))


@cache
def largest_of(target: Target) -> Any:
    """A piece: largest(x, size), of so many numbers; NaN where there is one."""
    V, lanes, lowest = vectors(target), target.lanes, -math.inf

    def largest(x: Any, size: Any) -> Any:
        top = V.splat(lowest)
        for i in range(0, size, lanes):
            top = V.maximum(top, V.select(V.first(size - i), V.load_first(x, i, size - i), V.splat(lowest)))
        return V.largest(top)

    return piece((FLOATS, types.int64), largest, types.float32)


@cache
def others_of(target: Target) -> Any:
    """A piece: others(x, size, label), the largest of so many logits, and the sum of the powers of all but the label's, shifted by it."""
    V, lanes, largest = vectors(target), target.lanes, largest_of(target)

    def others(x: Any, size: Any, label: Any) -> Any:
        shift, sums = largest(x, size), V.zero()
        for i in range(0, size, lanes):
            counts = V.first(size - i) & ~(V.first(label - i + 1) & ~V.first(label - i))
            sums += V.select(counts, V.exp(V.load_first(x, i, size - i) - shift), V.zero())
        return shift, V.total(sums)

    return piece((FLOATS, types.int64, types.int64), others, types.UniTuple(types.float32, 2))


@cache
def smoothed_of(target: Target) -> Any:
    """A piece: smoothed(arguments), by what a target is multiplied, and what is added to that."""
    V = vectors(target)

    def smoothed(arguments: Any) -> Any:
        smoothing = V.real(arguments[4])
        return 1.0 - smoothing, smoothing / arguments[2]

    return piece((INTEGERS,), smoothed, types.UniTuple(types.float64, 2))
