"""Plans of the weight gradient and of the kernels on plain tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np

from .. import Kernel, cost
from ..launches import Launch, divide, panels, round_up
from ..problem import BARE, Conv, Epilogue
from ..target import Target
from .arguments import (
    PIXEL_WEIGHT_GRADIENT_ARGUMENTS,
    PLAIN_ARGUMENTS,
    PLAIN_WEIGHT_GRADIENT_ARGUMENTS,
    WEIGHT_GRADIENT_ARGUMENTS,
    form_of,
    in_plane,
)
from .sums import Taps

# Bytes of x and dy that a pass over one tap may touch: what fits the first level cache beside the sums.
_ROWS_NEAR = 24 * 1024
_FEW_CHUNKS = 8
# A 1x1 convolution: bytes of a register tile's pixels in the first level cache, of a chunk's dy and sums in the second.
_PIXELS_NEAR = 20 * 1024
_CHUNK_NEAR = 448 * 1024
_WORKERS = (2, 8)  # numbers of them over which the time of a cut is summed
# An image's bytes, by those of the weights, for which each image makes a summand.
_LARGE = 16


@dataclass(frozen=True)
class _Pixels:
    """The pixels that a 1x1 weight gradient sums over: of an image `rows` x `columns`, floats of a row of x; blocks of `images` x
    `block_rows` rows, of which an image has `row_blocks`; whether x is gathered.
    """

    rows: int
    columns: int
    x_row: int
    images: int
    block_rows: int
    row_blocks: int
    blocks: int
    strided: bool

    @property
    def block(self) -> int:
        return self.images * self.block_rows * self.columns


def _pixels(target: Target, conv: Conv, vectors: int) -> _Pixels:
    lanes, strided = target.lanes, conv.stride != (1, 1)
    (rows, columns), x_row = conv.out, conv.size[1] * target.lanes
    if not strided:
        rows, columns, x_row = rows * columns, 1, lanes
    near = max(1, _PIXELS_NEAR // (4 * lanes * (vectors + 1)))
    block_rows = divide(rows, divide(rows * columns, near)) if rows * columns > near else rows
    images = max(1, min(conv.images, near // (rows * columns)))
    row_blocks = divide(rows, block_rows)
    return _Pixels(
        rows, columns, x_row, images, block_rows, row_blocks, divide(conv.images, images) * row_blocks, strided
    )


def _pixel_cut(target: Target, conv: Conv, p: _Pixels, vectors: int) -> tuple[int, int, int]:
    """(input blocks, output blocks) of a chunk, and parts of the pixels: the least estimated time.

    Parts of the pixels need a copy of the sums each, which are added up later; parts of the channels read the other tensor again.
    The choice follows the problem and the target alone.
    """
    speeds, lanes, own, gathered = cost.PIXEL_GRADIENT, target.lanes, conv.of_group, int(p.strided)
    streamed = speeds.streamed * target.pace.shared
    in_blocks, out_blocks = divide(own.channels, lanes), divide(own.filters, lanes)
    pixels, weights = conv.images * p.rows * p.columns, conv.groups * in_blocks * out_blocks * lanes * lanes * 4

    def cuts(count: int, unit: int) -> list[int]:
        return sorted({divide(divide(count, parts), unit) * unit for parts in range(1, divide(count, unit) + 1)})

    def near(ins: int, outs: int) -> bool:
        size = 4 * lanes * (ins * outs * lanes + outs * p.block + ins * p.block * gathered)
        return size <= _CHUNK_NEAR or ins * outs <= vectors

    def time(cut: tuple[int, int, int]) -> float:
        ins, outs, parts = cut
        chunks = conv.groups * divide(in_blocks, ins) * divide(out_blocks, outs) * parts
        share = divide(p.blocks, parts) / p.blocks * pixels * lanes
        each = speeds.chunk + share * ins * outs * lanes * 2 / speeds.compute
        each += share * (outs + ins * (1 + gathered)) * 4 / streamed + ins * outs * lanes * lanes * 4 / streamed
        added = 2 * (parts + 1) * weights / streamed if parts > 1 else 0.0
        return cost.total(chunks, each, _WORKERS) + added

    channels = [cut for cut in product(cuts(in_blocks, vectors), cuts(out_blocks, 1)) if near(*cut)]
    tried = ((*cut, parts) for cut in channels for parts in range(1, min(p.blocks, 16) + 1))
    return cost.least(tried, time, (vectors, 1, 1))


def pixel_weight_gradient_plan(target: Target, conv: Conv) -> Launch:
    """The gradient of 1x1 weights of blocked tensors. The step writes `parts` (of the arguments) summands."""
    lanes, own, (height, width) = target.lanes, conv.of_group, conv.size
    in_blocks, out_blocks = divide(own.channels, lanes), divide(own.filters, lanes)
    vectors = min(2, in_blocks)
    p = _pixels(target, conv, vectors)
    ins, outs, parts = _pixel_cut(target, conv, p, vectors)
    # All weights beside an image are little: a part an image, so that the step may follow what makes dy of the image.
    links, size = 0, in_blocks + out_blocks
    if (
        conv.groups == p.images == 1 < conv.images
        and _LARGE * in_blocks * out_blocks * lanes <= size * p.rows * p.columns
    ):
        links, ins, outs, parts = conv.images, in_blocks, out_blocks, conv.images
    x_block, dy_block = height * width * lanes, p.rows * p.columns * lanes
    arguments = {
        "parts": parts, "in_chunks": divide(in_blocks, ins), "chunk_ins": ins, "out_chunks": divide(out_blocks, outs),
        "chunk_outs": outs, "in_blocks": in_blocks, "out_blocks": out_blocks, "in_channels": own.channels,
        "out_channels": own.filters, "images": conv.images, "rows": p.rows, "columns": p.columns, "row_stride": conv.stride[0],
        "column_stride": conv.stride[1], "block_images": p.images, "block_rows": p.block_rows, "row_blocks": p.row_blocks,
        "pixel_blocks": p.blocks, "x_image": conv.groups * in_blocks * x_block, "x_block": x_block, "x_row": p.x_row,
        "dy_image": conv.groups * out_blocks * dy_block, "dy_block": dy_block,
        "dw_part": conv.groups * own.filters * own.channels,
    }  # fmt: skip
    channels = 8 if target.registers == 32 and lanes >= 8 else 4
    kernel = Kernel(
        "conv_pixel_weight_gradient", (("vectors", vectors), ("channels", channels), ("strided", p.strided))
    )
    chunks = conv.groups * arguments["in_chunks"] * arguments["out_chunks"] * parts
    scratch = ins * outs * lanes * lanes + (ins * p.block * lanes if p.strided else 0)
    return Launch.of(kernel, PIXEL_WEIGHT_GRADIENT_ARGUMENTS, arguments).cut(chunks, scratch, links)


def weight_gradient_plan(target: Target, conv: Conv, plain: bool = False, pixels: bool = True) -> Launch:
    """The gradient of the weights: x [N, C, H, W] (plain with `plain`, else blocked), dy [N, K, OH, OW] blocked -> dw
    [K, C / groups, kh, kw]. For 1x1 weights dw is [parts, K, C / groups], to be summed, where `parts` is an argument; not
    without `pixels`.

    ValueError for groups that `form_of` does not know, and for those that are not whole blocks.
    """
    form, own = form_of(target, conv, plain), conv.of_group
    if form == "banded":
        raise ValueError(f"groups of {own.channels} and {own.filters} channels are not whole blocks")
    if pixels and form == "blocked" and conv.kernel == (1, 1) and not any(sum(conv.padding, ())) and conv.images:
        return pixel_weight_gradient_plan(target, conv)
    return (_plain_rows if plain else _taps)(target, conv)


def _block_rows(target: Target, conv: Conv, pixel: int) -> int:
    """Rows of outputs that a pass takes, with so many floats of input for a pixel of one."""
    vectors, (rows, columns) = _vectors(target, conv), conv.out
    line = columns * (vectors * target.lanes + pixel) * 4
    return rows if rows * line <= 2 * _ROWS_NEAR else max(1, min(rows, _ROWS_NEAR // line))


def _vectors(target: Target, conv: Conv) -> int:
    return min(2, divide(conv.of_group.filters, target.lanes))


def _units(target: Target, conv: Conv) -> int:
    """Panels of output blocks of a group, single ones behind them."""
    return panels(divide(conv.of_group.filters, target.lanes), _vectors(target, conv))


def _plain_rows(target: Target, conv: Conv) -> Launch:
    """Of plain input, by rows of the kernel."""
    c, lanes, vectors, (rows, columns) = conv, target.lanes, _vectors(target, conv), conv.out
    units, out_blocks = _units(target, conv), divide(conv.filters, lanes)
    block_rows = _block_rows(target, conv, c.stride[1])
    chunk_taps = divide(c.kernel[0], min(c.kernel[0], divide(_FEW_CHUNKS, units * c.channels)))
    pitch = round_up((columns - 1) * c.stride[1] + (c.kernel[1] - 1) * c.dilation[1] + 1, lanes)
    lines = (block_rows - 1) * c.stride[0] + (chunk_taps - 1) * c.dilation[0] + 1
    dy_block = rows * columns * lanes
    arguments = {
        "images": c.images, "channels": c.channels, "out_blocks": out_blocks, "out_channels": c.filters,
        "kernel_rows": c.kernel[0], "tap_chunks": divide(c.kernel[0], chunk_taps), "chunk_taps": chunk_taps,
        "height": c.size[0], "width": c.size[1], "top": c.padding[0][0], "left": c.padding[1][0], "rows": rows,
        "columns": columns, "block_rows": block_rows, "pitch": pitch,
        "row_stride": c.stride[0], "column_stride": c.stride[1], "row_dilation": c.dilation[0],
        "x_image": c.channels * c.size[0] * c.size[1], "x_block": c.size[0] * c.size[1],
        "dy_image": out_blocks * dy_block, "dy_block": dy_block, **in_plane(), "dw_channel": c.kernel[0] * c.kernel[1],
    }  # fmt: skip
    parameters = (("vectors", vectors), ("taps", c.kernel[1]), ("dilation", c.dilation[1]))
    kernel = Kernel("conv_weight_gradient_nchw", parameters)
    scratch = chunk_taps * c.kernel[1] * vectors * lanes + lines * pitch + lanes
    launch = Launch.of(kernel, PLAIN_WEIGHT_GRADIENT_ARGUMENTS, arguments)
    return launch.cut(units * c.channels * arguments["tap_chunks"], scratch)


def _taps(target: Target, conv: Conv) -> Launch:
    """Of blocked input, by taps."""
    c, lanes, vectors, (rows, columns), own = conv, target.lanes, _vectors(target, conv), conv.out, conv.of_group
    taps, units = math.prod(c.kernel), _units(target, conv)
    in_blocks, out_blocks = divide(own.channels, lanes), divide(own.filters, lanes)
    chunk_taps = divide(taps, min(taps, divide(_FEW_CHUNKS, c.groups * units * in_blocks)))
    met = Taps.forward(c)
    x_block, dy_block = c.size[0] * c.size[1] * lanes, rows * columns * lanes
    arguments = {
        "images": c.images, "in_blocks": in_blocks, "out_blocks": out_blocks, "in_channels": own.channels,
        "out_channels": own.filters, "tap_count": taps, "tap_chunks": divide(taps, chunk_taps), "chunk_taps": chunk_taps,
        "height": c.size[0], "width": c.size[1], "rows": rows, "columns": columns,
        "block_rows": _block_rows(target, conv, c.stride[0] * c.stride[1] * lanes),
        "row_stride": c.stride[0], "column_stride": c.stride[1],
        "x_image": c.groups * in_blocks * x_block, "x_block": x_block,
        "dy_image": c.groups * out_blocks * dy_block, "dy_block": dy_block, **in_plane(), "dw_channel": taps,
    }  # fmt: skip
    parameters = (("vectors", vectors), ("channels", 8 if target.registers == 32 and lanes >= 8 else 4))
    tables = {"taps": np.array([met.rows, met.columns], np.int64).T.reshape(-1)}
    launch = Launch.of(Kernel("conv_weight_gradient", parameters), WEIGHT_GRADIENT_ARGUMENTS, arguments, tables)
    return launch.cut(c.groups * units * in_blocks * arguments["tap_chunks"], chunk_taps * lanes * vectors * lanes)


PLAIN_KERNELS = {
    "conv": "conv_plain",
    "conv_data_gradient": "conv_plain_data_gradient",
    "conv_weight_gradient": "conv_plain_weight_gradient",
}


def plain_plan(target: Target, op: str, conv: Conv, epilogue: Epilogue = BARE) -> Launch:
    """A step on plain tensors of one to three axes of space. The epilogue is that of the forward result or of the data gradient.
    ValueError for a kernel that exceeds the padded input.
    """
    missing = 3 - len(conv.size)

    def three(values: tuple[int, ...]) -> tuple[int, ...]:
        return (1,) * missing + values

    before = (0,) * missing + tuple(first for first, _ in conv.padding)
    values = (
        conv.images, conv.channels, conv.filters, conv.groups, *three(conv.size), *three(conv.out), *three(conv.kernel),
        *three(conv.stride), *before, *three(conv.dilation),
    )  # fmt: skip
    numbers = dict(zip(PLAIN_ARGUMENTS[4:], values, strict=True))
    if op == "conv_weight_gradient":
        launch = Launch.of(Kernel(PLAIN_KERNELS[op]), PLAIN_ARGUMENTS, numbers)
        return launch.cut(conv.filters * (conv.channels // conv.groups), target.lanes)
    launch = Launch.of(Kernel(PLAIN_KERNELS[op], epilogue.parameters), (*PLAIN_ARGUMENTS, *epilogue.names), numbers)
    return launch.cut(conv.images * (conv.filters if op == "conv" else conv.channels))
