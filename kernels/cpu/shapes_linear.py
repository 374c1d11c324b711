"""Launches of fully connected layers."""

from __future__ import annotations

from collections.abc import Sequence

from . import Kernel
from .conv_arguments import PackedWeights
from .expression import Expression
from .shapes import Launch, ceil_div, split
from .target import Target

LINEAR_HEAD = (
    "tiles", "tall", "in", "out", "tiles_per_chunk", "outs_per_chunk", "block", "ld", "x_row", "x", "w", "y", "bias",
)  # fmt: skip
BATCH_HEAD = (
    "n", "in", "out", "tiles", "tall", "tiles_per_chunk", "row_chunks", "chunk_blocks", "block", "ld", "x", "w", "y", "bias",
)  # fmt: skip
PANEL_HEAD = (
    "depth", "out", "out_blocks", "in_room", "tiles", "tall", "chunk_tiles", "row_chunks", "chunk_units", "slice", "x", "w", "y", "bias",
)  # fmt: skip
LINEAR_OPERANDS = tuple(f"a{k}" for k in range(8))
PRODUCT_ARGUMENTS = (
    "tiles", "tall", "depth", "columns", "tiles_per_chunk", "columns_per_chunk", "block", "a_row", "a_step", "b_row", "c_row",
    "a", "b", "c",
)  # fmt: skip

# Register tiles: (rows, outs) of scalar products, (rows, vectors) of products. Sums, one row's operands and a broadcast
# fit the registers.
_DOTS = {"avx512": (4, 6), "avx2": (3, 4), "sse2": (2, 4), "neon": (5, 4)}
_PRODUCTS = {"avx512": (6, 4), "avx2": (6, 2), "sse2": (5, 2), "neon": (6, 4)}
# Rows of weights by 1, 2, ... vectors of the batch.
_BATCH_ROWS = {"avx512": (10, 9, 8, 6), "avx2": (8, 6), "sse2": (6, 5), "neon": (12, 10, 8, 6)}
_DEPTH = 768  # floats of a row that a tile walks at once: six rows of weights stay in the first level cache for every row of x


def plan_linear(target: Target, n: int, in_features: int, out_features: int, bias: bool, epilogue: Expression | None = None,
                kinds: Sequence[str] = (), x_row: int | None = None) -> Launch:  # fmt: skip
    """y[n, out] = epilogue(x[n, in] w[out, in]^T + bias[out]).

    epilogue: over `y` and the operands a0, a1, ... of the kinds "full" [n, out], "channel" [out] or "scalar". x_row:
    floats between rows of x, `in` when None.
    """
    most, outs = _DOTS[target.name]
    rows, tiles, tall = even_tiles(n, most)
    if out_features < 4 * outs:
        outs = max(range(1, outs + 1), key=lambda o: (out_features % o == 0, o))
    tiles_per_chunk = min(tiles, 96 // rows)
    row_chunks = ceil_div(tiles, tiles_per_chunk)
    pieces = split(tiles_per_chunk * rows * in_features * out_features, 131072, max(1, 96 // row_chunks))
    pieces = even_pieces(target, pieces, row_chunks)
    outs_per_chunk = ceil_div(ceil_div(out_features, pieces), outs) * outs
    block = in_features if tiles == 1 else _DEPTH
    ld = ceil_div(outs_per_chunk, target.lanes) * target.lanes
    arguments = {
        "tiles": tiles, "tall": tall, "in": in_features, "out": out_features, "tiles_per_chunk": tiles_per_chunk,
        "outs_per_chunk": outs_per_chunk, "block": block, "ld": ld, "x_row": in_features if x_row is None else x_row,
        "x": 0, "w": 0, "y": 0, "bias": 0,
    } | {f"a{k}": 0 for k in range(len(kinds))}  # fmt: skip
    parameters = (("rows", rows), ("outs", outs), ("bias", bias), ("epilogue", epilogue), ("kinds", tuple(kinds)))
    buffers = ("x", "w", "y", *(("bias",) if bias else ()), *(f"a{k}" for k in range(len(kinds))))
    chunks = row_chunks * ceil_div(out_features, outs_per_chunk) if n else 0
    return Launch(Kernel("linear", parameters), arguments, buffers, chunks, tiles_per_chunk * rows * ld)


def batched(target: Target, n: int) -> bool:
    """Whether `plan_linear_batch` is faster than `plan_linear`, by how full vectors along the batch are: at 12 rows of
    16 both were equal.
    """
    return n >= target.lanes and 4 * n >= 3 * target.lanes * ceil_div(n, target.lanes)


def plan_linear_batch(target: Target, n: int, in_features: int, out_features: int, bias: bool, epilogue: Expression | None = None,
                      kinds: Sequence[str] = ()) -> Launch:  # fmt: skip
    """`plan_linear` of many rows; x is given blocked, [ceil(n / L), in, L]: what `plan_block` makes of [1, n, in]."""
    blocks = ceil_div(n, target.lanes)
    vectors = min(blocks, _PRODUCTS[target.name][1])
    rows, tiles, tall = even_tiles(out_features, _BATCH_ROWS[target.name][vectors - 1])
    row_chunks = ceil_div(blocks, max(vectors, 128 // target.lanes))
    chunk_blocks = ceil_div(ceil_div(blocks, row_chunks), vectors) * vectors
    row_chunks = ceil_div(blocks, chunk_blocks)
    pieces = split(n * in_features * out_features, 131072, max(1, 32 // row_chunks))
    tiles_per_chunk = ceil_div(tiles, pieces)
    ld = tiles_per_chunk * rows
    arguments = {
        "n": n, "in": in_features, "out": out_features, "tiles": tiles, "tall": tall, "tiles_per_chunk": tiles_per_chunk,
        "row_chunks": row_chunks, "chunk_blocks": chunk_blocks, "block": 4096 // (vectors * target.lanes), "ld": ld,
        "x": 0, "w": 0, "y": 0, "bias": 0,
    } | {f"a{k}": 0 for k in range(len(kinds))}  # fmt: skip
    parameters = (("rows", rows), ("vectors", vectors), ("bias", bias), ("epilogue", epilogue), ("kinds", tuple(kinds)))
    buffers = ("x", "w", "y", *(("bias",) if bias else ()), *(f"a{k}" for k in range(len(kinds))))
    chunks = row_chunks * ceil_div(tiles, tiles_per_chunk) if n else 0
    scratch = ld * chunk_blocks * target.lanes + ceil_div(ld, target.lanes) * target.lanes
    return Launch(Kernel("linear_batch", parameters), arguments, buffers, chunks, scratch)


def panel_weights(target: Target, in_features: int, out_features: int) -> PackedWeights:
    """How `linear_panels` wants its weights: as a 1x1 convolution does, in panels that are few and leave few blocks over."""
    blocks = ceil_div(out_features, target.lanes)
    panel = min(
        range(1, min(blocks, _PRODUCTS[target.name][1]) + 1), key=lambda p: 2 * (blocks // p) + 3 * (blocks % p)
    )
    return PackedWeights(1, out_features, in_features, (0,), 1, panel, target.lanes, False, False)


def plan_linear_panels(target: Target, n: int, weights: PackedWeights, bias: bool, epilogue: Expression | None = None,
                       kinds: Sequence[str] = ()) -> Launch:  # fmt: skip
    """`plan_linear` of packed weights."""
    in_features, out_features, panel = weights.in_channels, weights.out_channels, weights.panel
    most, vectors = _PRODUCTS[target.name]
    rows, tiles, tall = even_tiles(n, most * vectors // panel)
    chunk_tiles = min(tiles, max(1, 96 // rows))
    row_chunks = ceil_div(tiles, chunk_tiles)
    units = weights.out_blocks // panel + weights.out_blocks % panel
    pieces = even_pieces(target, split(n * in_features * out_features, 131072, max(1, 32 // row_chunks)), row_chunks)
    chunk_units = ceil_div(units, pieces)
    arguments = {
        "depth": in_features, "out": out_features, "out_blocks": weights.out_blocks, "in_room": weights.in_blocks * target.lanes,
        "tiles": tiles, "tall": tall, "chunk_tiles": chunk_tiles, "row_chunks": row_chunks, "chunk_units": chunk_units,
        "slice": max(1, target.near // 2 // (4 * panel * target.lanes)), "x": 0, "w": 0, "y": 0, "bias": 0,
    } | {f"a{k}": 0 for k in range(len(kinds))}  # fmt: skip
    parameters = (("rows", rows), ("vectors", panel), ("bias", bias), ("epilogue", epilogue), ("kinds", tuple(kinds)))
    buffers = ("x", "w", "y", *(("bias",) if bias else ()), *(f"a{k}" for k in range(len(kinds))))
    chunks = row_chunks * ceil_div(units, chunk_units) if n else 0
    return Launch(
        Kernel("linear_panels", parameters), arguments, buffers, chunks, chunk_tiles * rows * panel * target.lanes
    )


def even_pieces(target: Target, pieces: int, others: int) -> int:
    """An equal number of pieces of the outputs for each worker, where there are several and nothing else is cut."""
    return ceil_div(pieces, target.workers[0]) * target.workers[0] if others == 1 and pieces > 1 else pieces


def even_tiles(count: int, most: int) -> tuple[int, int, int]:
    """(size, tiles, tall): `count` rows in the fewest tiles of at most `most`, of which `tall` have `size` rows and the
    others one less.
    """
    tiles = max(1, ceil_div(count, most))
    size = max(1, ceil_div(count, tiles))
    return size, tiles, count - tiles * (size - 1)


def _product(
    target: Target, n: int, depth: int, columns: int, a_row: int, a_step: int, b_row: int, rows_outer: bool
) -> Launch:
    most, vectors = _PRODUCTS[target.name]
    rows, tiles, tall = even_tiles(n, most)
    strip = vectors * target.lanes
    pieces = split(n * depth * columns, 131072, 96)
    if rows_outer:
        # This panel of b stays in the second level cache; few chunks copy it often enough to pay.
        columns_per_chunk = min(1024, ceil_div(columns, strip) * strip)
        packed = depth >= 8 and tiles >= 16
        row_chunks = min(ceil_div(min(pieces, 16) if packed else pieces, ceil_div(columns, columns_per_chunk)), tiles)
        block = 64
    else:
        # Panels of b are read once for each chunk of rows, in runs as long as 16 chunks allow.
        columns_per_chunk = min(512, max(1, ceil_div(columns, min(16, pieces) * strip)) * strip)
        row_chunks = min(ceil_div(pieces, ceil_div(columns, columns_per_chunk)), ceil_div(n, 96))
        packed = n > 3
        block = 128 if packed else 64
    tiles_per_chunk = ceil_div(tiles, max(1, row_chunks))
    arguments = {
        "tiles": tiles, "tall": tall, "depth": depth, "columns": columns, "tiles_per_chunk": tiles_per_chunk,
        "columns_per_chunk": columns_per_chunk, "block": block, "a_row": a_row, "a_step": a_step, "b_row": b_row, "c_row": columns,
        "a": 0, "b": 0, "c": 0,
    }  # fmt: skip
    chunks = ceil_div(tiles, tiles_per_chunk) * ceil_div(columns, columns_per_chunk) if n else 0
    kernel = Kernel(
        "linear_product", (("rows", rows), ("vectors", vectors), ("packed", packed), ("rows_outer", rows_outer))
    )
    return Launch(kernel, arguments, ("a", "b", "c"), chunks, block * columns_per_chunk if packed else 0)


def plan_linear_data_gradient(target: Target, n: int, in_features: int, out_features: int) -> Launch:
    """dx[n, in] (`c`) = dy[n, out] (`a`) w[out, in] (`b`)."""
    return _product(target, n, out_features, in_features, out_features, 1, in_features, False)


def plan_linear_weight_gradient(
    target: Target, n: int, in_features: int, out_features: int, x_row: int | None = None
) -> Launch:
    """dw[out, in] (`c`) = the sum over n of dy[n, out] (`a`) x[n, in] (`b`). The bias' gradient: `plan_reduce_axes` of
    dy over 0.
    """
    return _product(
        target, out_features, n, in_features, 1, out_features, in_features if x_row is None else x_row, True
    )
