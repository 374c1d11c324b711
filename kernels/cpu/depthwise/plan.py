"""From the shape of a depthwise convolution (a group a channel, one filter each) to its steps.

Along a row the kernels walk over the input: a *step* reads some neighboring columns, adds them to all outputs that they
meet, which wait in registers (*slots*), and hands on the outputs that are complete. At the borders the same steps ask
column by column what exists; `inside` and `outside` bound those that need not ask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from .. import Kernel
from ..code.expression import keeps_zero
from ..conv.arguments import SLICES, PackedWeights, in_plane
from ..launches import Launch, divide, divisor
from ..problem import BARE, Conv, Epilogue, Pair
from ..target import Target

# Buffers: x, w (packed: [block][tap][lanes]), bias (0: none), y, then the operands after the last name. x is what the
# kernel reads and y what it writes, also where they are dy and dx.
# chunk = (image * row_blocks + row block) * block_parts + part of the channel blocks
DEPTHWISE_ARGUMENTS = (
    "x", "w", "bias", "y",
    "head",  # floats of channel vectors before the line of zeros in scratch
    "taps", "channels", "blocks", "chunk_blocks", "block_parts", "row_blocks", "block_rows",
    "height", "width", "rows", "columns", "top", "left",  # of x; of y; the convolution's padding
    "begin", "inside", "outside", "end",  # steps of a row
    "x_image", "x_block", "y_image", "y_block", *SLICES,
)  # fmt: skip
# Buffers: x, dy, sums: [part][block][tap][lanes]. chunk = part of the lines (image, row) of dy * blocks + block
DEPTHWISE_WEIGHT_GRADIENT_ARGUMENTS = (
    "x", "dy", "sums", "blocks", "lines", "part_lines",
    "height", "width", "rows", "columns", "top", "left", "begin", "inside", "outside", "end",
    "x_image", "x_block", "dy_image", "dy_block", *SLICES,
)  # fmt: skip
# Buffers: sums, dw: [channel][tap]. chunk = block
DEPTHWISE_SUM_ARGUMENTS = ("sums", "dw", "parts", "blocks", "channels", "taps", "dw_channel")

# Vectors of y in a chunk, about 1.5 ns each: at least, at most, and the chunks that a step is cut into between them.
_LEAST, _MOST, _CHUNKS, _PLANE = 768, 8192, 32, 128


@dataclass(frozen=True)
class Walk:
    """The steps along a row. `meets[q]`: the pairs (slot, column of the kernel) that column q of a step is added to.

    A step reads `reads` columns and completes the first `done` of `slots` outputs.
    """

    reads: int
    slots: int
    done: int
    meets: tuple[tuple[Pair, ...], ...]


def walk_of(kernel: int, stride: int, dilation: int, transposed: bool) -> Walk:
    """The walk of a convolution's rows, or of its data gradient's (`transposed`)."""
    if transposed:
        span = (kernel - 1) * dilation + 1
        return Walk(1, max(span, stride), stride, (tuple((j * dilation, j) for j in range(kernel)),))
    slots = (kernel - 1) * dilation // stride + 1
    places = [(j, *divmod(j * dilation, stride)) for j in range(kernel)]
    meets = [tuple((slots - 1 - back, j) for j, back, q in places if q == column) for column in range(stride)]
    return Walk(stride, slots, 1, tuple(meets))


def _steps(begin: int, inside: int, outside: int, end: int) -> dict[str, int]:
    """The bounds in order: begin <= inside <= outside <= end."""
    inside = min(max(inside, begin), end)
    return {"begin": begin, "inside": inside, "outside": min(max(outside, inside), end), "end": end}


def _walked(walk: Walk, conv: Conv, columns: int, transposed: bool) -> dict[str, int]:
    """Which steps there are: step g reads the columns reads * g - left + q, and completes output g - slots + 1;
    transposed it reads column g and completes the outputs done * g - left + k.
    """
    width, left = conv.size[1], conv.padding[1][0]
    if transposed:
        stride, span = walk.done, (conv.kernel[1] - 1) * conv.dilation[1] + 1
        begin = min(left // stride, max(0, divide(left - span + 1, stride)))
        outside = min(width, (columns + left - stride) // stride + 1)
        return _steps(begin, max(0, divide(left, stride)), outside, (columns - 1 + left) // stride + 1)
    stride, last = walk.reads, walk.slots - 1
    begin = min(max(left // stride, 0), last)
    return _steps(begin, max(last, divide(left, stride)), (width - stride + left) // stride + 1, columns + last)


def fit_registers(target: Target, taps: int, slots: int) -> bool:
    """Whether taps and slots fit the registers, with inputs and what else LLVM holds, which is more where there is much."""
    return 9 * (taps + slots) // 8 + 3 <= target.registers


def in_pairs(target: Target, kernel: Pair, stride: Pair, dilation: Pair, transposed: bool) -> bool:
    """Whether two rows of outputs are walked at once, so that each tap is loaded for both: where the taps do not stay in
    registers, but the slots of both rows do.
    """
    taps, slots = kernel[0] * kernel[1], walk_of(kernel[1], stride[1], dilation[1], transposed).slots
    rows = kernel[0] + 1 if dilation[0] == 1 else 2 * kernel[0]
    few = fit_registers(target, rows, 2 * slots)
    return not transposed and stride == (1, 1) and few and not fit_registers(target, taps, slots)


def walks(target: Target, conv: Conv) -> bool:
    """Whether the walk suits the kernel: its slots fit the registers, and its code is not too long."""
    slots = max(conv.stride[1], (conv.kernel[1] - 1) * conv.dilation[1] + 1)
    return math.prod(conv.kernel) <= 64 and fit_registers(target, 1, slots)


@dataclass(frozen=True)
class DepthwisePlan:
    """A step of `depthwise`, with the packing of its weights."""

    step: Launch
    weights: PackedWeights


def chunk_sizes(images: int, blocks: int, rows: int, columns: int) -> Pair:
    """(rows, channel blocks) of a chunk. The choice follows the problem alone. One image is cut in two, as the convolutions
    around are for two workers, so that a worker reads what it wrote, where it is larger than what weights make them cut otherwise.
    """
    wanted = min(max(images * blocks * rows * columns // _CHUNKS, _LEAST), _MOST)
    if rows * columns >= wanted:
        return divide(rows, divide(rows * columns, wanted)), 1
    if images == 1 and rows * columns >= _PLANE:
        rows = divide(rows, 2)
    return rows, divide(blocks, divide(blocks, max(1, wanted // max(rows * columns, 1))))


def _plan(
    target: Target, conv: Conv, out: tuple[int, ...], way: str, epilogue: Epilogue, chunk: Pair | None
) -> DepthwisePlan:
    """The step from the convolution's `size` to `out`. way: "forward"; "flipped", reading the taps from the last to the first; or
    "transposed".
    """
    lanes, blocks, taps = target.lanes, divide(conv.channels, target.lanes), math.prod(conv.kernel)
    (height, width), (rows, columns), transposed = conv.size, out, way == "transposed"
    block_rows, chunk_blocks = chunk or chunk_sizes(conv.images, blocks, rows, columns)
    row_blocks, block_parts = divide(rows, block_rows), divide(blocks, chunk_blocks)
    walk = walk_of(conv.kernel[1], conv.stride[1], conv.dilation[1], transposed)
    head = epilogue.vectors * lanes
    arguments = {
        "head": head, "taps": taps, "channels": conv.channels, "blocks": blocks, "chunk_blocks": chunk_blocks,
        "block_parts": block_parts, "row_blocks": row_blocks, "block_rows": block_rows, "height": height, "width": width,
        "rows": rows, "columns": columns, "top": conv.padding[0][0], "left": conv.padding[1][0],
        **_walked(walk, conv, columns, transposed), "x_image": blocks * height * width * lanes, "x_block": height * width * lanes,
        "y_image": blocks * rows * columns * lanes, "y_block": rows * columns * lanes, **in_plane(),
    }  # fmt: skip
    behind = epilogue.expression is not None and not keeps_zero(epilogue.expression)
    parameters = (
        ("kernel", conv.kernel), ("stride", conv.stride), ("dilation", conv.dilation), ("transposed", transposed),
        ("masked", conv.channels % lanes != 0 and behind), *epilogue.parameters,
    )  # fmt: skip
    kernel = Kernel("depthwise" if walks(target, conv) else "depthwise_any", parameters)
    launch = Launch.of(kernel, (*DEPTHWISE_ARGUMENTS, *epilogue.names), arguments)
    launch = launch.cut(conv.images * row_blocks * block_parts, head + max(1, width) * lanes, conv.images)
    order = tuple(reversed(range(taps))) if way == "flipped" else tuple(range(taps))
    return DepthwisePlan(launch, PackedWeights(1, conv.channels, 1, order, taps, 1, lanes, True, False))


def depthwise_plan(
    target: Target, conv: Conv, epilogue: Epilogue = BARE, chunk: Pair | None = None
) -> DepthwisePlan:  # fmt: skip
    """The forward convolution [N, C, H, W] -> [N, C, OH, OW], both blocked, with w [C, 1, kh, kw].

    `chunk`: (rows, channel blocks) of a chunk, else the planner's choice; with all channel blocks the chunks are (image, block of
    rows).
    """
    return _plan(target, conv, conv.out, "forward", epilogue, chunk)


def depthwise_data_gradient_plan(
    target: Target, conv: Conv, epilogue: Epilogue = BARE, chunk: Pair | None = None
) -> DepthwisePlan:  # fmt: skip
    """The gradient of the input: dy (as `x`) [N, C, OH, OW] -> dx (as `y`) [N, C, H, W], both blocked.

    With stride 1 it is a convolution with the taps in the opposite order; else a walk that completes as many outputs a
    step as the stride says, with the kernel's rows that meet the row of dx.
    """
    back, way = replace(conv, size=conv.out), "transposed"
    if conv.stride == (1, 1):
        spans = [
            d * (k - 1) - before for d, k, (before, _) in zip(conv.dilation, conv.kernel, conv.padding, strict=True)
        ]
        back, way = replace(back, padding=tuple((span, 0) for span in spans)), "flipped"
    return _plan(target, back, conv.size, way, epilogue, chunk)


@dataclass(frozen=True)
class DepthwiseWeightGradientPlan:
    """The step that makes `sums` (`floats` of them), one part of the lines a chunk, and the step that adds the parts."""

    parts: Launch
    total: Launch
    floats: int


def _part_lines(conv: Conv, blocks: int) -> int:
    """Lines of dy of a part."""
    rows, columns = conv.out
    lines = conv.images * rows
    wanted = min(max(blocks * lines * columns // _CHUNKS, _LEAST), 4 * _MOST)
    part_lines = divide(lines, divide(lines * columns, wanted)) if lines else 1
    if part_lines >= rows and rows * columns >= _LEAST:  # an image a part, so that they may follow what makes its dy
        return rows
    even = divisor(rows, part_lines)
    return even if 2 * even >= part_lines else part_lines


def depthwise_weight_gradient_plan(target: Target, conv: Conv) -> DepthwiseWeightGradientPlan:
    """The gradient of the weights: x [N, C, H, W] and dy [N, C, OH, OW], both blocked -> dw [C, 1, kh, kw]."""
    lanes, blocks, taps = target.lanes, divide(conv.channels, target.lanes), math.prod(conv.kernel)
    (height, width), (rows, columns), left, stride = conv.size, conv.out, conv.padding[1][0], conv.stride[1]
    lines, part_lines = conv.images * rows, _part_lines(conv, blocks)
    parts = divide(lines, part_lines)
    walk = walk_of(conv.kernel[1], stride, conv.dilation[1], False)
    # Step g reads dy's column g, and the columns of x that a convolution's step g reads.
    outside = min(columns, (width - stride + left) // stride + 1)
    end = max(0, min(columns + walk.slots - 1, (width - 1 + left) // stride + 1))
    arguments = {
        "blocks": blocks, "lines": lines, "part_lines": part_lines, "height": height, "width": width, "rows": rows, "columns": columns,
        "top": conv.padding[0][0], "left": left, **_steps(0, divide(left, stride), outside, end),
        "x_image": blocks * height * width * lanes, "x_block": height * width * lanes,
        "dy_image": blocks * rows * columns * lanes, "dy_block": rows * columns * lanes, **in_plane(),
    }  # fmt: skip
    name = "depthwise_weight_gradient" if walks(target, conv) else "depthwise_weight_gradient_any"
    kernel = Kernel(name, (("kernel", conv.kernel), ("stride", conv.stride), ("dilation", conv.dilation)))
    launch = Launch.of(kernel, DEPTHWISE_WEIGHT_GRADIENT_ARGUMENTS, arguments)
    total = {"parts": parts, "blocks": blocks, "channels": conv.channels, "taps": taps, "dw_channel": taps}
    return DepthwiseWeightGradientPlan(
        launch.cut(parts * blocks, (taps + width) * lanes, 0 if rows % part_lines else conv.images),
        Launch.of(Kernel("depthwise_sum"), DEPTHWISE_SUM_ARGUMENTS, total).cut(blocks, lanes),
        parts * blocks * taps * lanes,
    )
