"""Convolution of few plain channels with the max pooling by 2 x 2 behind it: the maxima are taken in registers.

The register tile holds two rows of outputs of one block of filters. Padded input rows are first copied into the worker's
scratch. `pooled_plan.py` computes the arguments and says what they mean.
"""

from __future__ import annotations

from functools import cache, reduce
from typing import Any

from numba import types

from .. import Family
from ..code.emit import F32, Emitter, i64
from ..code.loops import for_range
from ..code.vector import FLOATS, INTEGERS, Linked, external, indices
from ..code.vector import vectors as vector_operations
from ..target import Target
from .pooled_plan import POOLED_ARGUMENTS

A = indices(POOLED_ARGUMENTS)

_N = types.int64
# source, to, low, high, count
_COPY = (FLOATS, FLOATS, _N, _N, _N)
# arguments, head, channel
_GATHER = (INTEGERS, FLOATS, _N)
# x, w, y, head, valid, arguments
_TILE = (FLOATS, FLOATS, FLOATS, FLOATS, _N, INTEGERS)


def _copy(e: Emitter, source: Any, to: Any, low: Any, high: Any, count: Any) -> None:
    """to[i] = source[i] for low <= i < high, 0 for the others of `count`; up to a vector beyond is written."""
    b = e.b

    def vector(i: Any, _: Any) -> None:
        mask = b.and_(e.first_lanes(b.sub(high, i)), b.not_(e.first_lanes(b.sub(low, i))))
        e.store(e.masked_load(e.at(source, i), mask), to, i)

    for_range(e, i64(0), count, e.lanes, [], vector)


def _argument(e: Emitter, arguments: Any, index: int) -> Any:
    return e.b.load(e.b.gep(arguments, [i64(index)]), align=8)


def _gather(e: Emitter, arguments: Any, head: Any, channel: Any) -> None:
    """The block's part of the bias to `head`; zeros where there is none."""
    b, address = e.b, _argument(e, arguments, A.bias)
    valid = b.sub(_argument(e, arguments, A.filters), channel)
    mask = e.first_lanes(b.select(b.icmp_signed("==", address, i64(0)), i64(0), valid))
    e.store(e.masked_load(b.gep(b.inttoptr(address, F32.as_pointer()), [channel]), mask), head)


def _tile(pairs: int, masked: bool, tree: Any) -> Any:
    """The maxima of `pairs` windows of 2 x 2 outputs of a block of filters, of which the first `valid` exist."""
    columns = 2 * pairs

    def body(e: Emitter, x: Any, w: Any, y: Any, head: Any, valid: Any, arguments: Any) -> None:
        b, lanes, bias = e.b, e.lanes, e.load(head)

        def argument(index: int) -> Any:
            return _argument(e, arguments, index)

        # a step that LLVM does not know to be 1: else it carries the next columns in registers that there are none of
        pitch, step = argument(A.pitch), argument(A.column_step)

        def over_columns(_: Any, carried: list[Any]) -> list[Any]:
            upper, lower, weights, *acc = carried
            weight = e.load(weights)
            for r, line in enumerate((upper, lower)):
                for p in range(columns):
                    acc[r * columns + p] = e.fma(e.broadcast(line, p), weight, acc[r * columns + p])
            return [b.gep(upper, [step]), b.gep(lower, [step]), e.at(weights, lanes), *acc]

        def over_rows(_: Any, carried: list[Any]) -> list[Any]:
            line, weights, *acc = carried
            following = b.gep(line, [pitch])
            _, _, *out = e.loop(argument(A.kernel_columns), [line, following, weights, *acc], over_columns)
            return [following, *out]

        def over_channels(_: Any, carried: list[Any]) -> list[Any]:
            plane, *rest = carried
            _, *out = e.loop(argument(A.kernel_rows), [plane, *rest], over_rows)
            return [b.gep(plane, [argument(A.plane)]), *out]

        start = [x, w, *[bias] * (2 * columns)]
        _, _, *sums = for_range(e, i64(0), argument(A.channels), 1, start, over_channels)
        mask = e.first_lanes(valid) if masked else None
        for p in range(0, columns, 2):
            values = [sums[r * columns + p + c] for r in range(2) for c in range(2)]
            if tree is not None:
                values = [e.expression(tree, {"y": value}) for value in values]
            best = reduce(lambda best, value: e.maximum(value, best), values)
            e.store(e.select(mask, best, e.const(0)) if masked else best, y, p // 2 * lanes)

    return body


@cache
def _outer(target: Target) -> Any:
    """The loops around the tile: the same function for every specialization."""
    V = vector_operations(target)
    lanes = target.lanes
    copy, gather, tile = external("copy", _COPY), external("gather", _GATHER), external("tile", _TILE)

    def kernel(arguments, chunk, scratch):
        first = chunk % arguments[A.row_blocks] * arguments[A.block_rows]
        last = min(first + arguments[A.block_rows], arguments[A.rows])
        image = chunk // arguments[A.row_blocks]
        channels, height, width = arguments[A.channels], arguments[A.height], arguments[A.width]
        pitch, plane = arguments[A.pitch], arguments[A.plane]
        low = min(max(arguments[A.left], 0), pitch)
        high = max(min(width + arguments[A.left], pitch), low)
        lines, count = V.offset(scratch, lanes), 2 * (last - first) + arguments[A.kernel_rows] - 1
        x = V.offset(V.floats(arguments[A.x]), image * channels * height * width - arguments[A.left])
        for c in range(channels):
            for i in range(count):
                row = 2 * first - arguments[A.top] + i
                end = high if 0 <= row and row < height else low
                copy(V.offset(x, (c * height + row) * width), V.offset(lines, c * plane + i * pitch), low, end, pitch)
        blocks, columns, step = arguments[A.blocks], arguments[A.columns], arguments[A.pairs]
        size = channels * arguments[A.kernel_rows] * arguments[A.kernel_columns] * lanes
        for block in range(blocks):
            w = V.offset(V.floats(arguments[A.w]), block * size)
            gather(arguments, scratch, block * lanes)
            for row in range(first, last):
                y = V.offset(
                    V.floats(arguments[A.y]), ((image * blocks + block) * arguments[A.rows] + row) * columns * lanes
                )
                for tile_column in range(0, columns, step):
                    column = min(tile_column, columns - step)
                    source = V.offset(lines, 2 * (row - first) * pitch + 2 * column)
                    tile(
                        source, w, V.offset(y, column * lanes), scratch, arguments[A.filters] - block * lanes, arguments
                    )

    return kernel


def _make_pooled(target: Target, pairs: int, masked: bool, expression: Any) -> Linked:
    bodies = {
        "copy": (_COPY, _copy),
        "gather": (_GATHER, _gather),
        "tile": (_TILE, _tile(pairs, masked, expression)),
    }
    return Linked(_outer(target), bodies)


FAMILIES = (
    Family(
        "conv_pooled",
        POOLED_ARGUMENTS,
        _make_pooled,
        "Convolution of stride 1 on plain input, and the maxima of 2 x 2 outputs.",
    ),
)
