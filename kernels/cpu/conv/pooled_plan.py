"""Plans of a convolution of few plain channels with the max pooling by 2 x 2 behind it."""

from __future__ import annotations

from .. import Kernel, cost
from ..launches import Launch, divide
from ..problem import BARE, Conv, Epilogue
from ..target import Target
from .arguments import ConvPlan, PackedWeights

# Buffers: x (nchw), w (packed), bias (0: none), y (blocked). chunk = image * row_blocks + block of rows of the result
POOLED_ARGUMENTS = (
    "x", "w", "bias", "y",
    "channels", "filters", "blocks", "kernel_rows", "kernel_columns",
    "height", "width", "top", "left",  # of the input; padding
    "rows", "columns", "block_rows", "row_blocks", "pairs",  # of the result; columns of a tile, of which the last may overlap
    "pitch", "plane", "column_step",  # of the copied rows in scratch: floats from row to row, channel to channel, column to column
)  # fmt: skip
# Microseconds of a copied row; multiply-adds of vectors per microsecond. Only ratios matter.
_COPIED, _PRODUCTS = 0.02, 6e3


def pooled_plan(target: Target, conv: Conv, epilogue: Epilogue = BARE) -> ConvPlan:
    """[N, C, H, W] plain -> [N, K, H' / 2, W' / 2] blocked: the maxima of 2 x 2 outputs of a convolution of stride 1, whose
    numbers of rows and columns are even and at least 2. The epilogue, which has no operands, comes before.
    """
    lanes, (kernel_rows, kernel_columns) = target.lanes, conv.kernel
    rows, columns = (size // 2 for size in conv.out)
    if rows < 1 or columns < 1:
        raise ValueError(f"kernel {conv.kernel} exceeds the padded input {conv.size}")
    blocks, taps = divide(conv.filters, lanes), kernel_rows * kernel_columns
    pairs = divide(columns, divide(columns, target.tiles.sums // 4))
    pitch = 2 * columns + kernel_columns - 1
    copied, products = conv.channels * _COPIED, blocks * 4 * columns * conv.channels * taps / _PRODUCTS

    def time(block: int) -> float:
        each = cost.ROWS.chunk + (2 * block + kernel_rows - 1) * copied + block * products
        return cost.total(conv.images * divide(rows, block), each, target.workers)

    block_rows = cost.least(cost.parts(rows), time, rows)
    plane = (2 * block_rows + kernel_rows - 1) * pitch
    row_blocks = divide(rows, block_rows)
    arguments = {
        "channels": conv.channels, "filters": conv.filters, "blocks": blocks,
        "kernel_rows": kernel_rows, "kernel_columns": kernel_columns,
        "height": conv.size[0], "width": conv.size[1], "top": conv.padding[0][0], "left": conv.padding[1][0],
        "rows": rows, "columns": columns, "block_rows": block_rows, "row_blocks": row_blocks, "pairs": pairs,
        "pitch": pitch, "plane": plane, "column_step": 1,
    }  # fmt: skip
    parameters = (("pairs", pairs), ("masked", conv.filters % lanes != 0), ("expression", epilogue.expression))
    launch = Launch.of(Kernel("conv_pooled", parameters), POOLED_ARGUMENTS, arguments)
    launch = launch.cut(conv.images * row_blocks, conv.channels * plane + 2 * lanes, conv.images)
    return ConvPlan(
        launch, PackedWeights(1, conv.filters, conv.channels, tuple(range(taps)), taps, 1, lanes, True, False)
    )
