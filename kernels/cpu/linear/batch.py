"""Fully connected layers of a whole batch: vectors along the batch, so that weights are read as they lie.

y[n, o] = sum over i of x[n, i] w[o, i]. x is blocked by rows, [ceil(N / L), in, L]; a register tile holds some outputs by
some vectors of rows. A chunk's sums lie in scratch while slices of `in` go by, whose x stays in the first level cache.
"""

from __future__ import annotations

from typing import Any

from numba import types

from .. import Family
from ..code.emit import Emitter, Value, i64
from ..code.expression import Expression
from ..code.loops import for_range, picking
from ..code.vector import FLOATS, emitted, indices
from ..code.vector import vectors as vector_module
from ..target import Target
from .plan import BATCH_HEAD, LINEAR_OPERANDS
from .rows import make_finish

INT = types.int64
B = indices(BATCH_HEAD)


def _tile(target: Target, rows: int, panel: int) -> Any:
    """An intrinsic: sums[row][vector] = (0 if first, else itself) + the products over `count` inputs, added up apart:
    sums of sums lose less than one long sum; of one row less if not `tall`, of one vector if not `wide`.
    """
    lanes = target.lanes

    def products(
        e: Emitter, shape: tuple[int, int], w: Value, w_row: Value, x: Value, x_block: Value, *rest: Value
    ) -> None:
        (rows, size), (count, sums, first) = shape, rest
        rows_of_w = [e.at(w, e.b.mul(i64(r), w_row)) for r in range(rows)]
        blocks_of_x = [e.at(x, e.b.mul(i64(v), x_block)) for v in range(size)]
        again = e.b.icmp_signed("==", first, i64(0))

        def step(k: Value, acc: list[Value]) -> list[Value]:
            at, acc = e.b.mul(k, i64(lanes)), list(acc)
            values = [e.load(pointer, at) for pointer in blocks_of_x]
            for r in range(rows):
                weight = e.broadcast(rows_of_w[r], k)
                for v in range(size):
                    acc[r * size + v] = e.fma(weight, values[v], acc[r * size + v])
            return acc

        for i, value in enumerate(for_range(e, i64(0), count, 1, [e.const(0)] * (rows * size), step)):
            before = e.b.select(again, e.load(sums, i * lanes), e.const(0))
            e.store(e.b.fadd(value, before), sums, i * lanes)

    kinds = (FLOATS, INT, FLOATS, INT, INT, FLOATS, *(INT,) * 3)
    return emitted(target, None, kinds, picking(products, (rows, panel)))


def make_linear_batch(
    target: Target, rows: int, vectors: int, bias: bool, epilogue: Expression | None, kinds: tuple[str, ...]
) -> Any:
    """rows x vectors sums at a time; the first `tall` tiles have all rows, the others one less."""
    lanes, panel, fewer = target.lanes, vectors, max(rows - 1, 1)
    tile, finish_row = _tile(target, rows, panel), make_finish(target, bias, epilogue, kinds, BATCH_HEAD)
    module = vector_module(target)
    floats, offset = module.floats, module.offset

    def kernel(arguments, chunk, scratch):
        n, depth, out, tall = arguments[B.n], arguments[1], arguments[B.out], arguments[B.tall]
        first_tile = chunk // arguments[B.row_chunks] * arguments[B.tiles_per_chunk]
        last_tile = min(first_tile + arguments[B.tiles_per_chunk], arguments[B.tiles])
        first_block = chunk % arguments[B.row_chunks] * arguments[B.chunk_blocks]
        last_block = min(first_block + arguments[B.chunk_blocks], (n + lanes - 1) // lanes)
        o0 = first_tile * rows - max(0, first_tile - tall)
        outs = last_tile * rows - max(0, last_tile - tall) - o0
        x = offset(floats(arguments[B.x]), first_block * depth * lanes)
        w = offset(floats(arguments[B.w]), o0 * depth)
        blocks = last_block - first_block
        for k in range(0, max(depth, 1), arguments[B.block]):
            count, first = min(arguments[B.block], depth - k), 1 if k == 0 else 0
            block = 0
            while block < blocks:
                wide = 1 if blocks - block >= panel else 0
                size = panel if wide else 1
                tile_x = offset(x, (block * depth + k) * lanes)
                tile_w = offset(w, k)
                sums = offset(scratch, block * outs * lanes)
                for t in range(first_tile, last_tile):
                    whole = 1 if t < tall else 0
                    height = rows if whole else fewer
                    tile(tile_w, depth, tile_x, depth * lanes, count, sums, first, whole, wide)
                    tile_w = offset(tile_w, height * depth)
                    sums = offset(sums, height * size * lanes)
                block += size
        line = offset(scratch, blocks * outs * lanes)
        for r in range(min(n - first_block * lanes, blocks * lanes)):
            block = r // lanes
            size, start = 1, block
            if block // panel < blocks // panel:
                size, start = panel, block // panel * panel
            column = offset(scratch, start * outs * lanes + (block - start) * lanes + r % lanes)
            for o in range(outs):
                line[o] = column[o * size * lanes]
            finish_row(arguments, line, first_block * lanes + r, o0, out, outs)

    return kernel


FAMILIES = (
    Family(
        "linear_batch",
        BATCH_HEAD + LINEAR_OPERANDS,
        make_linear_batch,
        "`linear` for x blocked by rows. A chunk is a range of outputs for a range of rows.",
    ),
)
