"""Launches of fully connected layers."""

from __future__ import annotations

from dataclasses import dataclass

from .. import Kernel
from ..conv.arguments import PackedWeights
from ..launches import Launch, divide, panels, split
from ..problem import BARE, Epilogue
from ..target import Target

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
MATMUL_ARGUMENTS = (
    "tiles", "tall", "depth", "columns", "tiles_per_chunk", "row_chunks", "columns_per_chunk", "block", "a_row", "a_step", "b_row",
    "batch1", "a_batch0", "a_batch1", "b_batch0", "b_batch1", "c_batch", "a", "b", "c",
)  # fmt: skip

_DEPTH = 768  # floats of a row that a tile walks at once: six rows of weights stay in the first level cache for every row of x


@dataclass(frozen=True)
class Linear:
    """y[n, out] = epilogue(x[n, in] w[out, in]^T + bias[out]), with or without the bias."""

    n: int
    in_features: int
    out_features: int
    bias: bool


def _behind(bias: bool, epilogue: Epilogue) -> tuple[tuple[str, ...], tuple[tuple[str, object], ...]]:
    """The buffers and the parameters of a kernel."""
    buffers = ("x", "w", "y", *(("bias",) if bias else ()), *epilogue.names)
    return buffers, (("bias", bias), ("epilogue", epilogue.expression), ("kinds", tuple(epilogue.operands)))


def plan_linear(
    target: Target, layer: Linear, epilogue: Epilogue = BARE, x_row: int | None = None
) -> Launch:  # fmt: skip
    """x_row: floats between rows of x, `in` when None."""
    n, in_features, out_features = layer.n, layer.in_features, layer.out_features
    most, outs = target.tiles.dots
    rows, tiles, tall = even_tiles(n, most)
    if out_features < 4 * outs:
        outs = max(range(1, outs + 1), key=lambda o: (out_features % o == 0, o))
    tiles_per_chunk = min(tiles, 96 // rows)
    row_chunks = divide(tiles, tiles_per_chunk)
    pieces = split(tiles_per_chunk * rows * in_features * out_features, 131072, max(1, 96 // row_chunks))
    pieces = even_pieces(target, pieces, row_chunks)
    outs_per_chunk = divide(divide(out_features, pieces), outs) * outs
    block = in_features if tiles == 1 else _DEPTH
    ld = divide(outs_per_chunk, target.lanes) * target.lanes
    arguments = {
        "tiles": tiles, "tall": tall, "in": in_features, "out": out_features, "tiles_per_chunk": tiles_per_chunk,
        "outs_per_chunk": outs_per_chunk, "block": block, "ld": ld, "x_row": in_features if x_row is None else x_row,
        "x": 0, "w": 0, "y": 0, "bias": 0, **dict.fromkeys(epilogue.names, 0),
    }  # fmt: skip
    buffers, behind = _behind(layer.bias, epilogue)
    parameters = (("rows", rows), ("outs", outs), *behind)
    chunks = row_chunks * divide(out_features, outs_per_chunk) if n else 0
    return Launch(Kernel("linear", parameters), arguments, buffers, chunks, tiles_per_chunk * rows * ld)


def batched(target: Target, n: int) -> bool:
    """Whether `plan_linear_batch` is faster than `plan_linear`, by how full vectors along the batch are: at 12 rows of
    16 both were equal.
    """
    return n >= target.lanes and 4 * n >= 3 * target.lanes * divide(n, target.lanes)


def plan_linear_batch(target: Target, layer: Linear, epilogue: Epilogue = BARE) -> Launch:
    """`plan_linear` of many rows; x is given blocked, [ceil(n / L), in, L]: what `plan_block` makes of [1, n, in]."""
    n, in_features, out_features = layer.n, layer.in_features, layer.out_features
    blocks = divide(n, target.lanes)
    vectors = min(blocks, target.tiles.products[1])
    rows, tiles, tall = even_tiles(out_features, target.tiles.batch[vectors - 1])
    row_chunks = divide(blocks, max(vectors, 128 // target.lanes))
    chunk_blocks = divide(divide(blocks, row_chunks), vectors) * vectors
    row_chunks = divide(blocks, chunk_blocks)
    pieces = split(n * in_features * out_features, 131072, max(1, 32 // row_chunks))
    tiles_per_chunk = divide(tiles, pieces)
    ld = tiles_per_chunk * rows
    arguments = {
        "n": n, "in": in_features, "out": out_features, "tiles": tiles, "tall": tall, "tiles_per_chunk": tiles_per_chunk,
        "row_chunks": row_chunks, "chunk_blocks": chunk_blocks, "block": 4096 // (vectors * target.lanes), "ld": ld,
        "x": 0, "w": 0, "y": 0, "bias": 0, **dict.fromkeys(epilogue.names, 0),
    }  # fmt: skip
    buffers, behind = _behind(layer.bias, epilogue)
    parameters = (("rows", rows), ("vectors", vectors), *behind)
    chunks = row_chunks * divide(tiles, tiles_per_chunk) if n else 0
    scratch = ld * chunk_blocks * target.lanes + divide(ld, target.lanes) * target.lanes
    return Launch(Kernel("linear_batch", parameters), arguments, buffers, chunks, scratch)


def panel_weights(target: Target, in_features: int, out_features: int) -> PackedWeights:
    """How `linear_panels` wants its weights: as a 1x1 convolution does, in panels that are few and leave few blocks over."""
    blocks = divide(out_features, target.lanes)
    panel = min(range(1, min(blocks, target.tiles.products[1]) + 1), key=lambda p: 2 * (blocks // p) + 3 * (blocks % p))
    return PackedWeights(1, out_features, in_features, (0,), 1, panel, target.lanes, False, False)


def plan_linear_panels(
    target: Target, n: int, weights: PackedWeights, bias: bool, epilogue: Epilogue = BARE
) -> Launch:  # fmt: skip
    """`plan_linear` of packed weights."""
    in_features, out_features, panel = weights.in_channels, weights.out_channels, weights.panel
    most, vectors = target.tiles.products
    rows, tiles, tall = even_tiles(n, most * vectors // panel)
    chunk_tiles = min(tiles, max(1, 96 // rows))
    row_chunks = divide(tiles, chunk_tiles)
    units = panels(weights.out_blocks, panel)
    pieces = even_pieces(target, split(n * in_features * out_features, 131072, max(1, 32 // row_chunks)), row_chunks)
    chunk_units = divide(units, pieces)
    arguments = {
        "depth": in_features, "out": out_features, "out_blocks": weights.out_blocks, "in_room": weights.in_blocks * target.lanes,
        "tiles": tiles, "tall": tall, "chunk_tiles": chunk_tiles, "row_chunks": row_chunks, "chunk_units": chunk_units,
        "slice": max(1, target.near // 2 // (4 * panel * target.lanes)), "x": 0, "w": 0, "y": 0, "bias": 0,
        **dict.fromkeys(epilogue.names, 0),
    }  # fmt: skip
    buffers, behind = _behind(bias, epilogue)
    parameters = (("rows", rows), ("vectors", panel), *behind)
    chunks = row_chunks * divide(units, chunk_units) if n else 0
    return Launch(
        Kernel("linear_panels", parameters), arguments, buffers, chunks, chunk_tiles * rows * panel * target.lanes
    )


def even_pieces(target: Target, pieces: int, others: int) -> int:
    """An equal number of pieces of the outputs for each worker, where there are several and nothing else is cut."""
    return divide(pieces, target.workers[0]) * target.workers[0] if others == 1 and pieces > 1 else pieces


def even_tiles(count: int, most: int) -> tuple[int, int, int]:
    """(size, tiles, tall): `count` rows in the fewest tiles of at most `most`, of which `tall` have `size` rows and the
    others one less.
    """
    tiles = max(1, divide(count, most))
    size = max(1, divide(count, tiles))
    return size, tiles, count - tiles * (size - 1)


@dataclass(frozen=True)
class _Product:
    """c[rows, columns] = the sum over `depth` of a times b; floats from row to row and step to step of a, and row to row of b."""

    rows: int
    depth: int
    columns: int
    a_row: int
    a_step: int
    b_row: int


def _product(target: Target, p: _Product, rows_outer: bool) -> Launch:
    n, depth, columns = p.rows, p.depth, p.columns
    most, vectors = target.tiles.products
    rows, tiles, tall = even_tiles(n, most)
    strip = vectors * target.lanes
    pieces = split(n * depth * columns, 131072, 96)
    if rows_outer:
        # This panel of b stays in the second level cache; few chunks copy it often enough to pay.
        columns_per_chunk = min(1024, divide(columns, strip) * strip)
        packed = depth >= 8 and tiles >= 16
        row_chunks = min(divide(min(pieces, 16) if packed else pieces, divide(columns, columns_per_chunk)), tiles)
        block = 64
    else:
        # Panels of b are read once for each chunk of rows, in runs as long as 16 chunks allow.
        columns_per_chunk = min(512, max(1, divide(columns, min(16, pieces) * strip)) * strip)
        row_chunks = min(divide(pieces, divide(columns, columns_per_chunk)), divide(n, 96))
        packed = n > 3
        block = 128 if packed else 64
    tiles_per_chunk = divide(tiles, max(1, row_chunks))
    arguments = {
        "tiles": tiles, "tall": tall, "depth": depth, "columns": columns, "tiles_per_chunk": tiles_per_chunk,
        "columns_per_chunk": columns_per_chunk, "block": block, "a_row": p.a_row, "a_step": p.a_step, "b_row": p.b_row, "c_row": columns,
        "a": 0, "b": 0, "c": 0,
    }  # fmt: skip
    chunks = divide(tiles, tiles_per_chunk) * divide(columns, columns_per_chunk) if n else 0
    kernel = Kernel(
        "linear_product", (("rows", rows), ("vectors", vectors), ("packed", packed), ("rows_outer", rows_outer))
    )
    return Launch(kernel, arguments, ("a", "b", "c"), chunks, block * columns_per_chunk if packed else 0)


def plan_linear_data_gradient(target: Target, n: int, in_features: int, out_features: int) -> Launch:
    """dx[n, in] (`c`) = dy[n, out] (`a`) w[out, in] (`b`)."""
    return _product(target, _Product(n, out_features, in_features, out_features, 1, in_features), False)


def plan_linear_weight_gradient(
    target: Target, n: int, in_features: int, out_features: int, x_row: int | None = None
) -> Launch:
    """dw[out, in] (`c`) = the sum over n of dy[n, out] (`a`) x[n, in] (`b`). The bias' gradient: `plan_reduce_axes` of
    dy over 0.
    """
    b_row = in_features if x_row is None else x_row
    return _product(target, _Product(out_features, n, in_features, 1, out_features, b_row), True)


@dataclass(frozen=True)
class Matmul:
    """c[batch..., rows, columns] = a[..., rows, depth] b[..., depth, columns], with the last two axes of a and b the other way
    round where they are transposed. batch: two axes; a and b have each of them, or 1.
    """

    batch: tuple[int, int]
    a_batch: tuple[int, int]
    b_batch: tuple[int, int]
    rows: int
    depth: int
    columns: int
    transpose_a: bool = False
    transpose_b: bool = False


def plan_matmul(target: Target, m: Matmul, images: int = 0) -> Launch:
    """images: how many there are, where the first of the batch's axes of more than one is theirs."""
    most, vectors = target.tiles.products
    rows, tiles, tall = even_tiles(m.rows, most)
    strip, products = vectors * target.lanes, m.batch[0] * m.batch[1]
    columns_per_chunk = min(512, divide(m.columns, strip) * strip)
    pieces = split(products * m.rows * m.depth * m.columns, 131072, 32)
    row_chunks = max(1, min(pieces // max(1, products), divide(m.rows, 96)))  # each copies its panels of b anew
    tiles_per_chunk = divide(tiles, row_chunks)
    row_chunks = divide(tiles, tiles_per_chunk)
    block = min(256, max(1, m.depth))

    def steps(own: tuple[int, int], size: int) -> tuple[int, int]:
        return own[1] * size if own[0] > 1 else 0, size if own[1] > 1 else 0

    (a0, a1), (b0, b1) = steps(m.a_batch, m.rows * m.depth), steps(m.b_batch, m.depth * m.columns)
    a_row, a_step = (1, m.rows) if m.transpose_a else (m.depth, 1)
    numbers = {
        "tiles": tiles, "tall": tall, "depth": m.depth, "columns": m.columns, "tiles_per_chunk": tiles_per_chunk,
        "row_chunks": row_chunks, "columns_per_chunk": columns_per_chunk, "block": block, "a_row": a_row, "a_step": a_step,
        "b_row": m.depth if m.transpose_b else m.columns, "batch1": m.batch[1], "a_batch0": a0, "a_batch1": a1, "b_batch0": b0,
        "b_batch1": b1, "c_batch": m.rows * m.columns,
    }  # fmt: skip
    kernel = Kernel("matmul", (("rows", rows), ("panel", vectors), ("transposed", m.transpose_b)))
    chunks = products * row_chunks * divide(m.columns, columns_per_chunk) if m.rows * m.columns else 0
    return Launch.of(kernel, MATMUL_ARGUMENTS, numbers).cut(chunks, block * columns_per_chunk, images)
