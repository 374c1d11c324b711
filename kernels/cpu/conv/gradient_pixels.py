"""The weight gradient of a 1x1 convolution: a product of two matrices whose depth are the pixels of all images.

dW[o, i] = sum over pixels p of dy[o, p] * x[i, p]. A chunk holds the sums of some output by some input channels in
scratch. Pixels go by in blocks that stay close: the vectors of x in the first level cache while all output channels meet
them, those of dy in the second while all input channels do. Pixels of a strided convolution are gathered once a block.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from numba import types

from .. import Family
from ..code.vector import FLOATS, INTEGERS, indices, piece
from ..code.vector import vectors as vector_operations
from ..target import Target
from .arguments import PIXEL_WEIGHT_GRADIENT_ARGUMENTS
from .gradient import gradient_tile

A = indices(PIXEL_WEIGHT_GRADIENT_ARGUMENTS)


@cache
def _gather(target: Target) -> Any:
    """A piece: gather(arguments, x, to, blocks, images, rows) copies the pixels of x that a strided convolution meets."""
    V, lanes = vector_operations(target), target.lanes

    def gather(arguments, x, to, blocks, images, rows):
        column_stride, row_stride = arguments[A.column_stride] * lanes, arguments[A.row_stride] * arguments[A.x_row]
        for i in range(blocks):
            for n in range(images):
                for r in range(rows):
                    line = V.offset(x, i * arguments[A.x_block] + n * arguments[A.x_image] + r * row_stride)
                    for _ in range(arguments[A.columns]):
                        V.prefetch(line, row_stride)
                        V.store(V.load(line, 0), to, 0)
                        line = V.offset(line, column_stride)
                        to = V.offset(to, lanes)

    return piece((INTEGERS, FLOATS, FLOATS, *(types.int64,) * 3), gather)


def _make_pixel_weight_gradient(target: Target, vectors: int, channels: int, strided: bool) -> Any:
    """The register tile: `channels` output channels by `vectors` blocks of input channels. strided: x is gathered."""
    V = vector_operations(target)
    lanes, panel = target.lanes, vectors
    square = lanes * lanes
    few = min(lanes, channels * panel)  # output channels of the tile for a single block of input channels
    tile, gather = gradient_tile(target, channels, panel, 1, few, True), _gather(target)

    def kernel(arguments, chunk, scratch):
        parts, in_chunks, out_chunks = arguments[A.parts], arguments[A.in_chunks], arguments[A.out_chunks]
        part = chunk % parts
        first_in = chunk // parts % in_chunks * arguments[A.chunk_ins]
        first_out = chunk // parts // in_chunks % out_chunks * arguments[A.chunk_outs]
        group = chunk // parts // in_chunks // out_chunks
        in_blocks, out_blocks = arguments[A.in_blocks], arguments[A.out_blocks]
        ins = min(arguments[A.chunk_ins], in_blocks - first_in)
        outs = min(arguments[A.chunk_outs], out_blocks - first_out)
        in_channels, out_channels = arguments[A.in_channels], arguments[A.out_channels]
        rows, columns, row_blocks = arguments[A.rows], arguments[A.columns], arguments[A.row_blocks]
        x_image, x_block = arguments[A.x_image], arguments[A.x_block]
        dy_image, dy_block = arguments[A.dy_image], arguments[A.dy_block]
        for i in range(ins * outs * lanes):
            V.store(V.zero(), scratch, i * lanes)
        gathered = V.offset(scratch, arguments[A.chunk_ins] * arguments[A.chunk_outs] * square)
        blocks = arguments[A.pixel_blocks]
        for block in range(part * blocks // parts, (part + 1) * blocks // parts):
            image = block // row_blocks * arguments[A.block_images]
            images = min(arguments[A.block_images], arguments[A.images] - image)
            row = block % row_blocks * arguments[A.block_rows]
            height = min(arguments[A.block_rows], rows - row)
            pixels = height * columns
            x = V.offset(V.floats(arguments[A.x]), image * x_image + (group * in_blocks + first_in) * x_block)
            x = V.offset(x, row * arguments[A.row_stride] * arguments[A.x_row])
            if strided:
                gather(arguments, x, gathered, ins, images, height)
                x, x_image, x_block = gathered, pixels * lanes, images * pixels * lanes
            dy = V.offset(V.floats(arguments[A.dy]), image * dy_image + (group * out_blocks + first_out) * dy_block)
            dy = V.offset(dy, row * columns * lanes)
            # where the next block's pixels lie, which are asked for while this block's are met for the first time
            x_next, dy_next = 0 if strided else pixels * lanes, pixels * lanes
            if row_blocks == 1:
                x_next, dy_next = 0 if strided else images * x_image, images * dy_image
            i = 0
            while i < ins:
                wide = 1 if ins - i >= panel else 0
                size, each = panel if wide else 1, channels if wide else few
                tile_x = V.offset(x, i * x_block)
                dy_soon = dy_next if i == 0 else 0
                for o in range(outs):
                    x_soon = x_next if o == 0 else 0
                    tile_dy = V.offset(dy, o * dy_block)
                    sums = V.offset(scratch, (i * outs + o * size) * square)
                    valid = min(out_channels - (first_out + o) * lanes, lanes)
                    for _ in range((valid + each - 1) // each):
                        tile(
                            tile_dy, tile_x, sums, images, pixels, dy_image, lanes, x_image, x_block, dy_soon, x_soon, wide
                        )  # fmt: skip
                        tile_dy = V.offset(tile_dy, each)
                        sums = V.offset(sums, each * size * lanes)
                i += size
            if strided:
                x_image, x_block = arguments[A.x_image], arguments[A.x_block]
        dw = V.offset(V.floats(arguments[A.dw]), part * arguments[A.dw_part])
        dw = V.offset(dw, (group * out_channels + first_out * lanes) * in_channels + first_in * lanes)
        i = 0
        while i < ins:
            size = panel if ins - i >= panel else 1
            for o in range(min(outs * lanes, out_channels - first_out * lanes)):
                sums = V.offset(scratch, i * outs * square + o * size * lanes)
                for v in range(size):
                    count = in_channels - (first_in + i + v) * lanes
                    V.store_first(V.load(sums, v * lanes), dw, o * in_channels + (i + v) * lanes, count)
            i += size

    return kernel


FAMILIES = (
    Family(
        "conv_pixel_weight_gradient",
        PIXEL_WEIGHT_GRADIENT_ARGUMENTS,
        _make_pixel_weight_gradient,
        "dW of a 1x1 convolution from blocked x and dy: [parts] of oi.",
    ),
)
