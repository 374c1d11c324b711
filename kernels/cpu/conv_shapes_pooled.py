"""Plans of a convolution of few plain channels with the max pooling by 2 x 2 behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import Kernel
from .conv_arguments import ConvPlan, KernelPlan, PackedWeights, Padding, Pair, divide, output_size
from .target import Target

# Buffers: x (nchw), w (packed), bias (0: none), y (blocked). chunk = image * row_blocks + block of rows of the result
POOLED_ARGUMENTS = (
    "x", "w", "bias", "y",
    "channels", "filters", "blocks", "kernel_rows", "kernel_columns",
    "height", "width", "top", "left",  # of the input; padding
    "rows", "columns", "block_rows", "row_blocks", "pairs",  # of the result; columns of a tile, of which the last may overlap
    "pitch", "plane", "column_step",  # of the copied rows in scratch: floats from row to row, channel to channel, column to column
)  # fmt: skip
# Outputs of a tile, each a vector.
_SUMS = {"avx512": 28, "avx2": 12, "sse2": 8, "neon": 24}
# Microseconds of a chunk and of a copied row; multiply-adds of vectors per microsecond. Only ratios matter.
_CHUNK, _COPIED, _PRODUCTS = 0.5, 0.02, 6e3


def _block_rows(images: int, rows: int, copied: float, products: float, overlap: int, shared: Sequence[int]) -> int:
    """Rows of the result of a chunk: the least estimated time, summed over `shared`, numbers of workers."""

    def estimate(block: int) -> float:
        time = _CHUNK + (2 * block + overlap) * copied + block * products
        chunks = images * divide(rows, block)
        return sum(divide(chunks, workers) * workers * time for workers in shared)

    return min(sorted({divide(rows, parts) for parts in range(1, min(rows, 64) + 1)}, reverse=True), key=estimate)


def pooled_plan(
    target: Target, images: int, channels: int, height: int, width: int, filters: int, kernel: Pair, padding: Padding,
    expression: Any = None,
) -> ConvPlan:  # fmt: skip
    """[N, C, H, W] plain -> [N, K, H' / 2, W' / 2] blocked: the maxima of 2 x 2 outputs of a convolution of stride 1, whose
    numbers of rows and columns are even and at least 2. `expression` is applied to `y` before.
    """
    lanes, (kernel_rows, kernel_columns) = target.lanes, kernel
    rows = output_size(height, kernel_rows, 1, padding[0], 1) // 2
    columns = output_size(width, kernel_columns, 1, padding[1], 1) // 2
    if rows < 1 or columns < 1:
        raise ValueError(f"kernel {kernel} exceeds the padded input {height}x{width}")
    blocks, taps = divide(filters, lanes), kernel_rows * kernel_columns
    pairs = divide(columns, divide(columns, _SUMS[target.name] // 4))
    pitch = 2 * columns + kernel_columns - 1
    block_rows = _block_rows(
        images, rows, channels * _COPIED, blocks * 4 * columns * channels * taps / _PRODUCTS, kernel_rows - 1,
        target.workers,
    )
    plane = (2 * block_rows + kernel_rows - 1) * pitch
    row_blocks = divide(rows, block_rows)
    arguments = {
        "channels": channels, "filters": filters, "blocks": blocks, "kernel_rows": kernel_rows, "kernel_columns": kernel_columns,
        "height": height, "width": width, "top": padding[0][0], "left": padding[1][0],
        "rows": rows, "columns": columns, "block_rows": block_rows, "row_blocks": row_blocks, "pairs": pairs,
        "pitch": pitch, "plane": plane, "column_step": 1,
    }  # fmt: skip
    parameters = (("pairs", pairs), ("masked", filters % lanes != 0), ("expression", expression))
    step = KernelPlan(
        Kernel("conv_pooled", parameters), arguments, {}, images * row_blocks, channels * plane + 2 * lanes, images
    )
    return ConvPlan(step, PackedWeights(1, filters, channels, tuple(range(taps)), taps, 1, lanes, True, False))
