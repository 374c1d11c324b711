"""Launches of fully connected layers."""

from __future__ import annotations

from collections.abc import Sequence

from . import Kernel
from .expression import Expression
from .shapes import Launch, ceil_div, split
from .target import Target

LINEAR_HEAD = ("n", "in", "out", "rows_per_chunk", "outs_per_chunk", "block", "ld", "x_row", "x", "w", "y", "bias")
LINEAR_OPERANDS = tuple(f"a{k}" for k in range(8))
PRODUCT_ARGUMENTS = (
    "n", "depth", "columns", "rows_per_chunk", "columns_per_chunk", "block", "a_row", "a_step", "b_row", "c_row", "a", "b", "c",
)  # fmt: skip

# Register tiles: (rows, outs) of scalar products, (rows, vectors) of products. Sums, one row's operands and a broadcast
# fit the registers.
_DOTS = {"avx512": (4, 6), "avx2": (3, 4), "sse2": (2, 4), "neon": (5, 4)}
_PRODUCTS = {"avx512": (6, 4), "avx2": (6, 2), "sse2": (5, 2), "neon": (6, 4)}
_DEPTH = 768  # floats of a row that a tile walks at once: six rows of weights stay in the first level cache for every row of x


def plan_linear(target: Target, n: int, in_features: int, out_features: int, bias: bool, epilogue: Expression | None = None,
                kinds: Sequence[str] = (), x_row: int | None = None) -> Launch:  # fmt: skip
    """y[n, out] = epilogue(x[n, in] w[out, in]^T + bias[out]).

    epilogue: over `y` and the operands a0, a1, ... of the kinds "full" [n, out], "channel" [out] or "scalar". x_row:
    floats between rows of x, `in` when None.
    """
    rows, outs = _DOTS[target.name]
    rows = min(rows, max(n, 1))
    if out_features < 4 * outs:
        outs = max(range(1, outs + 1), key=lambda o: (out_features % o == 0, o))
    rows_per_chunk = min(max(n, 1), 96 // rows * rows)
    row_chunks = ceil_div(n, rows_per_chunk)
    pieces = split(rows_per_chunk * in_features * out_features, 131072, max(1, 96 // max(1, row_chunks)))
    outs_per_chunk = ceil_div(ceil_div(out_features, pieces), outs) * outs
    block = in_features if n <= rows else _DEPTH
    ld = ceil_div(outs_per_chunk, target.lanes) * target.lanes
    arguments = {
        "n": n, "in": in_features, "out": out_features, "rows_per_chunk": rows_per_chunk, "outs_per_chunk": outs_per_chunk,
        "block": block, "ld": ld, "x_row": in_features if x_row is None else x_row, "x": 0, "w": 0, "y": 0, "bias": 0,
    } | {f"a{k}": 0 for k in range(len(kinds))}  # fmt: skip
    parameters = (("rows", rows), ("outs", outs), ("bias", bias), ("epilogue", epilogue), ("kinds", tuple(kinds)))
    buffers = ("x", "w", "y", *(("bias",) if bias else ()), *(f"a{k}" for k in range(len(kinds))))
    chunks = row_chunks * ceil_div(out_features, outs_per_chunk)
    return Launch(Kernel("linear", parameters), arguments, buffers, chunks, rows_per_chunk * ld)


def _product(
    target: Target, n: int, depth: int, columns: int, a_row: int, a_step: int, b_row: int, rows_outer: bool
) -> Launch:
    rows, vectors = _PRODUCTS[target.name]
    rows = min(rows, max(n, 1))
    strip, block = vectors * target.lanes, 64
    pieces = split(n * depth * columns, 131072, 96)
    if rows_outer:
        columns_per_chunk = min(
            1024, ceil_div(columns, strip) * strip
        )  # this panel of b stays in the second level cache
        row_chunks = min(ceil_div(pieces, ceil_div(columns, columns_per_chunk)), ceil_div(n, rows))
    else:
        # Panels of b are read once for each chunk of rows, in runs as long as 16 chunks allow.
        columns_per_chunk = min(512, max(1, ceil_div(columns, min(16, pieces) * strip)) * strip)
        row_chunks = min(ceil_div(pieces, ceil_div(columns, columns_per_chunk)), ceil_div(n, 96))
    rows_per_chunk = ceil_div(ceil_div(n, max(1, row_chunks)), rows) * rows
    packed = not rows_outer and rows_per_chunk >= 4 * rows
    arguments = {
        "n": n, "depth": depth, "columns": columns, "rows_per_chunk": rows_per_chunk, "columns_per_chunk": columns_per_chunk,
        "block": block, "a_row": a_row, "a_step": a_step, "b_row": b_row, "c_row": columns, "a": 0, "b": 0, "c": 0,
    }  # fmt: skip
    chunks = ceil_div(n, rows_per_chunk) * ceil_div(columns, columns_per_chunk) if n else 0
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
