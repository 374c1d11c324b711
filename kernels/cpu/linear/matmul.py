"""Products of two matrices of which neither is a parameter, for a batch of them.

Panels of b, as wide as a register tile, are copied to scratch, transposed on the way where b is; there all rows of a chunk
meet them.
"""

from __future__ import annotations

from typing import Any

from numba import types

from .. import Family
from ..code.emit import Emitter, Value, i64
from ..code.loops import for_range, transpose
from ..code.vector import FLOATS, emitted, indices, vectors
from ..target import Target
from .plan import MATMUL_ARGUMENTS
from .rows import product_tile

INT = types.int64
M = indices(MATMUL_ARGUMENTS)


def _turned(target: Target) -> Any:
    """An intrinsic: to[k][0 ... L - 1] = from[0 ... L - 1][k] for `count` steps k; of the lanes, `columns` exist, and others
    become 0.
    """
    lanes = target.lanes

    def emit(e: Emitter, source: Value, row: Value, count: Value, columns: Value, to: Value, apart: Value) -> None:
        lines = []
        for j in range(lanes):  # a line that is not there is the first, of which no lane is read
            there = e.b.icmp_signed("<", i64(j), columns)
            lines.append((e.at(source, e.b.select(there, e.b.mul(i64(j), row), i64(0))), there))

        def step(k: Value, _: list[Value]) -> None:
            left = e.b.sub(count, k)
            rows = []
            for line, there in lines:
                here = e.b.select(there, left, i64(0))
                rows.append(e.masked_load(e.at(line, k), e.first_lanes(here)))
            for i, column in enumerate(transpose(e, rows)):
                e.masked_store(column, e.at(to, e.b.mul(e.b.add(k, i64(i)), apart)),
                               e.first_lanes(e.b.select(e.b.icmp_signed("<", i64(i), left), i64(lanes), i64(0))))  # fmt: skip

        for_range(e, i64(0), count, lanes, [], step)

    return emitted(target, None, (FLOATS, INT, INT, INT, FLOATS, INT), emit)


def make_matmul(target: Target, rows: int, panel: int, transposed: bool) -> Any:
    lanes, strip, tile = target.lanes, panel * target.lanes, product_tile(target, rows, panel, True)
    turn, V = _turned(target), vectors(target)

    def kernel(arguments: Any, chunk: Any, scratch: Any) -> None:
        tiles, tall, depth, columns = arguments[M.tiles], arguments[M.tall], arguments[M.depth], arguments[M.columns]
        per_chunk, row_chunks, block = arguments[M.tiles_per_chunk], arguments[M.row_chunks], arguments[M.block]
        a_row, a_step, b_row = arguments[M.a_row], arguments[M.a_step], arguments[M.b_row]
        most = arguments[M.columns_per_chunk]
        column_chunks = (columns + most - 1) // most
        pair, piece = chunk // (row_chunks * column_chunks), chunk % (row_chunks * column_chunks)
        first, second = pair // arguments[M.batch1], pair % arguments[M.batch1]
        t0, j0 = piece % row_chunks * per_chunk, piece // row_chunks * most
        t1, width = min(t0 + per_chunk, tiles), min(most, columns - j0)
        a = V.offset(V.floats(arguments[M.a]), first * arguments[M.a_batch0] + second * arguments[M.a_batch1])
        b = V.offset(V.floats(arguments[M.b]), first * arguments[M.b_batch0] + second * arguments[M.b_batch1])
        c = V.offset(V.floats(arguments[M.c]), pair * arguments[M.c_batch] + j0)
        for k in range(0, max(depth, 1), block):
            count, new = min(block, depth - k), 1 if k == 0 else 0
            for j in range(0, width, lanes):
                # the panel of a strip is [k][strip]; what is left over is in panels of one vector
                inside, apart = width - j // strip * strip >= strip, lanes
                at = j * block
                if inside:
                    apart, at = strip, j // strip * strip * block + j % strip
                to = V.offset(scratch, at)
                if transposed:
                    turn(V.offset(b, (j0 + j) * b_row + k), b_row, count, width - j, to, apart)
                else:
                    for i in range(count):
                        V.store(V.load_first(b, (k + i) * b_row + j0 + j, width - j), to, i * apart)
            j = 0
            while j < width:
                wide = 1 if width - j >= strip else 0
                part, panel = strip if wide else min(lanes, width - j), V.offset(scratch, j * block)
                for t in range(t0, t1):
                    r = t * rows - max(0, t - tall)
                    ar, cr = V.offset(a, r * a_row + k * a_step), V.offset(c, r * columns + j)
                    whole, across = 1 if t < tall else 0, strip if wide else lanes
                    tile(ar, a_row, a_step, panel, across, count, cr, columns, new, part, whole, wide)
                j += part

    return kernel


FAMILIES = (
    Family(
        "matmul",
        MATMUL_ARGUMENTS,
        make_matmul,
        "c = a b for each pair of matrices of a batch, either of which may be transposed. A chunk is a block of one c.",
    ),
)
