"""Fully connected layers whose weights do not change: these are packed, so that a register tile reads them
in one stream, and vectors lie along the outputs.

y[n, o] = sum over i of x[n, i] w[o, i]. A slice of a panel of outputs stays in the first level cache while all rows of x
meet it; meanwhile the next slice comes closer.
"""

from __future__ import annotations

from typing import Any

from numba import types

from .. import Family
from ..code.emit import Emitter, Value, i64
from ..code.expression import Expression
from ..code.loops import for_range, picking
from ..code.pieces import panel_at
from ..code.vector import FLOATS, emitted, indices
from ..code.vector import vectors as vector_module
from ..target import Target
from .plan import LINEAR_OPERANDS, PANEL_HEAD
from .rows import make_finish

INT = types.int64
P = indices(PANEL_HEAD)


def _tile(target: Target, rows: int, panel: int) -> Any:
    """An intrinsic: sums[row][vector] = (0 if first, else itself) + the products over `count` inputs, added up apart:
    sums of sums lose less than one long sum; of one row less if not `tall`, of one vector if not `wide`. Weights from `ahead`
    on are asked for, `step` floats for each input, to pass the outer caches by where they are read once.
    """
    lanes, closer = target.lanes, 0 if rows == 1 else 3

    def products(
        e: Emitter, shape: tuple[int, int], x: Value, x_row: Value, w: Value, ahead: Value, *rest: Value
    ) -> None:
        (rows, size), (step, count, sums, sums_row, first) = shape, rest
        rows_of_x = [e.at(x, e.b.mul(i64(r), x_row)) for r in range(rows)]
        again = e.b.icmp_signed("==", first, i64(0))

        def over_inputs(k: Value, carried: list[Value]) -> list[Value]:
            weights, soon, *acc = carried
            for v in range(size):
                e.prefetch(e.at(soon, v * lanes), closer)
            values = [e.load(weights, v * lanes) for v in range(size)]
            for r in range(rows):
                factor = e.broadcast(rows_of_x[r], k)
                for v in range(size):
                    acc[r * size + v] = e.fma(factor, values[v], acc[r * size + v])
            return [e.at(weights, size * lanes), e.at(soon, step), *acc]

        zeros = [e.const(0)] * (rows * size)
        _, _, *acc = for_range(e, i64(0), count, 1, [w, ahead, *zeros], over_inputs)
        for r in range(rows):
            line = e.at(sums, e.b.mul(i64(r), sums_row))
            for v in range(size):
                before = e.b.select(again, e.load(line, v * lanes), e.const(0))
                e.store(e.b.fadd(acc[r * size + v], before), line, v * lanes)

    kinds = (FLOATS, INT, FLOATS, FLOATS, INT, INT, FLOATS, *(INT,) * 4)
    return emitted(target, None, kinds, picking(products, (rows, panel)))


def make_linear_panels(
    target: Target, rows: int, vectors: int, bias: bool, epilogue: Expression | None, kinds: tuple[str, ...]
) -> Any:
    """rows x vectors sums at a time; the first `tall` tiles have all rows, the others one less."""
    lanes, panel, fewer, tile = target.lanes, vectors, max(rows - 1, 1), _tile(target, rows, vectors)
    finish_row = make_finish(target, bias, epilogue, kinds, PANEL_HEAD)
    module = vector_module(target)
    floats, offset = module.floats, module.offset

    def kernel(arguments, chunk, scratch):
        depth, out, tall = arguments[P.depth], arguments[P.out], arguments[P.tall]
        out_blocks, in_room = arguments[P.out_blocks], arguments[P.in_room]
        full = out_blocks // panel
        first_unit = chunk // arguments[P.row_chunks] * arguments[P.chunk_units]
        last_unit = min(first_unit + arguments[P.chunk_units], full + out_blocks % panel)
        first_tile = chunk % arguments[P.row_chunks] * arguments[P.chunk_tiles]
        last_tile = min(first_tile + arguments[P.chunk_tiles], arguments[P.tiles])
        r0 = first_tile * rows - max(0, first_tile - tall)
        r1 = last_tile * rows - max(0, last_tile - tall)
        x = offset(floats(arguments[P.x]), r0 * depth)
        for unit in range(first_unit, last_unit):
            block, size = panel_at(unit, panel, full)
            width = size * lanes
            w = offset(floats(arguments[P.w]), block * lanes * in_room)
            step = (width - 1) // (last_tile - first_tile) + 1
            for k in range(0, max(depth, 1), arguments[P.slice]):
                count, first = min(arguments[P.slice], depth - k), 1 if k == 0 else 0
                tile_x, sums, ahead = offset(x, k), offset(scratch, 0), offset(w, count * width)
                for t in range(first_tile, last_tile):
                    whole, wide = 1 if t < tall else 0, 1 if unit < full else 0
                    height = rows if whole else fewer
                    tile(tile_x, depth, w, ahead, step, count, sums, width, first, whole, wide)
                    tile_x, sums = offset(tile_x, height * depth), offset(sums, height * width)
                    ahead = offset(ahead, count * step)
                w = offset(w, count * width)
            for r in range(r0, r1):
                line = offset(scratch, (r - r0) * width)
                finish_row(arguments, line, r, block * lanes, out, min(width, out - block * lanes))

    return kernel


FAMILIES = (
    Family(
        "linear_panels",
        PANEL_HEAD + LINEAR_OPERANDS,
        make_linear_panels,
        "`linear` of packed weights. A chunk is a range of panels for a range of rows.",
    ),
)
