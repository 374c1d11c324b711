"""Plans of the weight gradient and of the kernels on plain tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import Kernel
from .conv_arguments import PLAIN_ARGUMENTS, KernelPlan, Padding, Pair, divide, form_of, in_plane, output_size, round_up
from .target import Target

# Bytes of x and dy that a pass over one tap may touch: what fits the first level cache beside the sums.
_ROWS_NEAR = 24 * 1024
_FEW_CHUNKS = 8
# A 1x1 convolution: bytes of a register tile's pixels in the first level cache, of a chunk's dy and sums in the second,
# and what the cost model assumes of a core: operations and bytes per microsecond, the cost of a chunk in microseconds.
_PIXELS_NEAR = 20 * 1024
_CHUNK_NEAR = 448 * 1024
_FLOPS, _STREAMED, _CHUNK = 90e3, 10e3, 2
# An image's bytes, by those of the weights, for which each image makes a summand.
_LARGE = 16


def _pixel_blocking(
    images: int, rows: int, columns: int, groups: int, in_blocks: int, out_blocks: int, lanes: int, vectors: int,
    near: int, blocks: int, gathered: int, streamed: float,
) -> tuple[int, int, int]:  # fmt: skip
    """(input blocks, output blocks) of a chunk, and parts of the pixels: the least estimated time, over 2 and 8 workers.

    `near` pixels are a block, of which there are `blocks`; `streamed` bytes come in a microsecond. Parts of the pixels need a
    copy of the sums each, which are added up later; parts of the channels read the other tensor again. The choice follows
    the problem and the target alone.
    """

    def cuts(count: int, unit: int) -> list[int]:
        return sorted({divide(divide(count, parts), unit) * unit for parts in range(1, divide(count, unit) + 1)})

    best, choice = math.inf, (vectors, 1, 1)
    pixels = images * rows * columns
    weights = groups * in_blocks * out_blocks * lanes * lanes * 4
    for ins in cuts(in_blocks, vectors):
        for outs in cuts(out_blocks, 1):
            if (
                4 * lanes * (ins * outs * lanes + outs * near + ins * near * gathered) > _CHUNK_NEAR
                and ins * outs > vectors
            ):
                continue
            for parts in range(1, min(blocks, 16) + 1):
                chunks = groups * divide(in_blocks, ins) * divide(out_blocks, outs) * parts
                share = divide(blocks, parts) / blocks * pixels * lanes
                time = _CHUNK + share * ins * outs * lanes * 2 / _FLOPS
                time += share * (outs + ins * (1 + gathered)) * 4 / streamed + ins * outs * lanes * lanes * 4 / streamed
                estimate = sum(divide(chunks, workers) * workers * time for workers in (2, 8))
                if parts > 1:
                    estimate += 2 * (parts + 1) * weights / streamed
                if estimate < best:
                    best, choice = estimate, (ins, outs, parts)
    return choice


def pixel_weight_gradient_plan(
    target: Target, images: int, groups: int, in_channels: int, out_channels: int, height: int, width: int, stride: Pair
) -> KernelPlan:
    """The gradient of 1x1 weights; channels are those of a group. The step writes `parts` (of the arguments) summands."""
    lanes = target.lanes
    in_blocks, out_blocks = divide(in_channels, lanes), divide(out_channels, lanes)
    vectors = min(2, in_blocks)
    strided = stride != (1, 1)
    x_block, x_row = height * width * lanes, width * lanes
    rows, columns = divide(height, stride[0]), divide(width, stride[1])
    if not strided:
        rows, columns, x_row = rows * columns, 1, lanes
    near = max(1, _PIXELS_NEAR // (4 * lanes * (vectors + 1)))
    block_rows = divide(rows, divide(rows * columns, near)) if rows * columns > near else rows
    block_images = max(1, min(images, near // (rows * columns)))
    row_blocks = divide(rows, block_rows)
    pixel_blocks = divide(images, block_images) * row_blocks
    block = block_images * block_rows * columns
    ins, outs, parts = _pixel_blocking(
        images,
        rows,
        columns,
        groups,
        in_blocks,
        out_blocks,
        lanes,
        vectors,
        block,
        pixel_blocks,
        int(strided),
        _STREAMED * target.pace.shared,
    )
    # All weights beside an image are little: a part an image, so that the step may follow what makes dy of the image.
    links, size = 0, in_blocks + out_blocks
    if groups == block_images == 1 < images and _LARGE * in_blocks * out_blocks * lanes <= size * rows * columns:
        links, ins, outs, parts = images, in_blocks, out_blocks, images
    arguments = {
        "parts": parts, "in_chunks": divide(in_blocks, ins), "chunk_ins": ins, "out_chunks": divide(out_blocks, outs),
        "chunk_outs": outs, "in_blocks": in_blocks, "out_blocks": out_blocks, "in_channels": in_channels,
        "out_channels": out_channels, "images": images, "rows": rows, "columns": columns, "row_stride": stride[0],
        "column_stride": stride[1], "block_images": block_images, "block_rows": block_rows, "row_blocks": row_blocks,
        "pixel_blocks": pixel_blocks, "x_image": groups * in_blocks * x_block, "x_block": x_block, "x_row": x_row,
        "dy_image": groups * out_blocks * rows * columns * lanes, "dy_block": rows * columns * lanes,
        "dw_part": groups * out_channels * in_channels,
    }  # fmt: skip
    channels = 8 if target.registers == 32 and lanes >= 8 else 4
    kernel = Kernel("conv_pixel_weight_gradient", (("vectors", vectors), ("channels", channels), ("strided", strided)))
    chunks = groups * arguments["in_chunks"] * arguments["out_chunks"] * parts
    scratch = ins * outs * lanes * lanes + (ins * block * lanes if strided else 0)
    return KernelPlan(kernel, arguments, {}, chunks, scratch, links)


def weight_gradient_plan(
    target: Target, images: int, channels: int, height: int, width: int, filters: int, kernel: Pair, stride: Pair = (1, 1),
    padding: Padding = ((0, 0), (0, 0)), dilation: Pair = (1, 1), groups: int = 1, plain: bool = False, pixels: bool = True,
) -> KernelPlan:  # fmt: skip
    """The gradient of the weights: x [N, C, H, W] (plain with `plain`, else blocked), dy [N, K, OH, OW] blocked -> dw
    [K, C / groups, kh, kw]. For 1x1 weights dw is [parts, K, C / groups], to be summed, where `parts` is an argument; not
    without `pixels`.

    ValueError for groups that `form_of` does not know, and for those that are not whole blocks.
    """
    form = form_of(target, channels, filters, groups, plain)
    if form == "banded":
        raise ValueError(f"groups of {channels // groups} and {filters // groups} channels are not whole blocks")
    lanes = target.lanes
    rows = output_size(height, kernel[0], stride[0], padding[0], dilation[0])
    columns = output_size(width, kernel[1], stride[1], padding[1], dilation[1])
    in_channels, out_channels = channels // groups, filters // groups
    if pixels and form == "blocked" and kernel == (1, 1) and not any((*padding[0], *padding[1])) and images:
        return pixel_weight_gradient_plan(target, images, groups, in_channels, out_channels, height, width, stride)
    out_blocks = divide(out_channels, lanes)
    vectors = min(2, out_blocks)
    units = out_blocks // vectors + out_blocks % vectors
    dy_block = rows * columns * lanes
    dy_image = groups * out_blocks * dy_block
    line = columns * (vectors * lanes + (stride[1] if plain else stride[0] * stride[1] * lanes)) * 4
    block_rows = max(1, min(rows, _ROWS_NEAR // line))
    if rows * line <= 2 * _ROWS_NEAR:
        block_rows = rows
    if plain:
        parts = min(kernel[0], divide(_FEW_CHUNKS, units * channels))
        chunk_taps = divide(kernel[0], parts)
        pitch = round_up((columns - 1) * stride[1] + (kernel[1] - 1) * dilation[1] + 1, lanes)
        lines = (block_rows - 1) * stride[0] + (chunk_taps - 1) * dilation[0] + 1
        arguments = {
            "images": images, "channels": channels, "out_blocks": out_blocks, "out_channels": filters, "kernel_rows": kernel[0],
            "tap_chunks": divide(kernel[0], chunk_taps), "chunk_taps": chunk_taps, "height": height, "width": width,
            "top": padding[0][0], "left": padding[1][0], "rows": rows, "columns": columns, "block_rows": block_rows, "pitch": pitch,
            "row_stride": stride[0], "column_stride": stride[1], "row_dilation": dilation[0],
            "x_image": channels * height * width, "x_block": height * width, "dy_image": dy_image, "dy_block": dy_block,
            **in_plane(), "dw_channel": kernel[0] * kernel[1],
        }  # fmt: skip
        parameters = (("vectors", vectors), ("taps", kernel[1]), ("dilation", dilation[1]))
        scratch = chunk_taps * kernel[1] * vectors * lanes + lines * pitch + lanes
        step = Kernel("conv_weight_gradient_nchw", parameters)
        return KernelPlan(step, arguments, {}, units * channels * arguments["tap_chunks"], scratch)
    taps = kernel[0] * kernel[1]
    in_blocks = divide(in_channels, lanes)
    parts = min(taps, divide(_FEW_CHUNKS, groups * units * in_blocks))
    chunk_taps = divide(taps, parts)
    offsets = [
        (i * dilation[0] - padding[0][0], j * dilation[1] - padding[1][0])
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
    x_block = height * width * lanes
    arguments = {
        "images": images, "in_blocks": in_blocks, "out_blocks": out_blocks, "in_channels": in_channels, "out_channels": out_channels,
        "tap_count": taps, "tap_chunks": divide(taps, chunk_taps), "chunk_taps": chunk_taps, "height": height, "width": width,
        "rows": rows, "columns": columns, "block_rows": block_rows, "row_stride": stride[0], "column_stride": stride[1],
        "x_image": groups * in_blocks * x_block, "x_block": x_block, "dy_image": dy_image, "dy_block": dy_block,
        **in_plane(), "dw_channel": taps,
    }  # fmt: skip
    tables = {"taps": np.array(offsets, np.int64).reshape(-1)}
    parameters = (("vectors", vectors), ("channels", 8 if target.registers == 32 and lanes >= 8 else 4))
    chunks = groups * units * in_blocks * arguments["tap_chunks"]
    return KernelPlan(
        Kernel("conv_weight_gradient", parameters), arguments, tables, chunks, chunk_taps * lanes * vectors * lanes
    )


def plain_plan(
    target: Target, what: str, images: int, channels: int, size: Sequence[int], filters: int, kernel: Sequence[int],
    stride: Sequence[int], padding: Sequence[Pair], dilation: Sequence[int], groups: int = 1, expression: Any = None,
    operands: tuple[str, ...] = (),
) -> KernelPlan:  # fmt: skip
    """A step on plain tensors of one to three spatial dimensions; `what` is "forward", "data_gradient" or
    "weight_gradient".

    The expression applies to the forward result or to the data gradient, with operands as in `direct_plan`.
    """
    missing = 3 - len(size)
    size, kernel, stride, dilation = ((1,) * missing + tuple(values) for values in (size, kernel, stride, dilation))
    padding = ((0, 0),) * missing + tuple(padding)
    out = [output_size(*geometry) for geometry in zip(size, kernel, stride, padding, dilation, strict=True)]
    if min(out) < 1:
        raise ValueError(f"kernel {kernel} exceeds the padded input {size}")
    values = (
        images,
        channels,
        filters,
        groups,
        *size,
        *out,
        *kernel,
        *stride,
        *(before for before, _ in padding),
        *dilation,
    )
    arguments = dict(zip(PLAIN_ARGUMENTS[4:], values, strict=True))
    if what == "weight_gradient":
        return KernelPlan(
            Kernel("conv_plain_weight_gradient"), arguments, {}, filters * (channels // groups), target.lanes
        )
    parameters = (("expression", expression), ("operands", tuple(operands)))
    if what == "data_gradient":
        return KernelPlan(Kernel("conv_plain_data_gradient", parameters), arguments, {}, images * channels)
    return KernelPlan(Kernel("conv_plain", parameters), arguments, {}, images * filters)
