"""The arguments of the convolution kernels, and what a plan of one is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import Kernel
from ..launches import Launch, divide, panels
from ..problem import Conv, Epilogue
from ..target import Target

# Images that are slices of a tensor with three axes of space (`volume/plan.py`): slices of an image, floats from one to the
# next in the kernel's input and its output. Of two axes there is one slice to an image.
SLICES = ("slices", "x_slice", "y_slice")
# Input blocks that come from several planes of the input, plane by plane: blocks of a plane, floats from one plane to the
# next; input blocks that the packed weights have, and the first of them that is met.
PLANES = ("channel_blocks", "x_plane", "w_blocks", "w_first")
# Buffers: x, w (packed), bias (0: none), y, taps (table), then the operands after the last name.
# chunk = ((image * row_blocks + row block) * groups + group) * panel_chunks + part of the group's panels
DIRECT_ARGUMENTS = (
    "x", "w", "bias", "y", "taps",
    "pixels", "panel", "head",  # of the tile: pixels, output blocks; floats of channel vectors before the copied rows in scratch
    "panel_chunks", "groups", "row_blocks", "chunk_panels", "block_rows",
    "channels", "out_blocks",  # outputs that exist, in all; output blocks of a group
    "in_blocks", "tap_count", "depth_blocks",  # of a group; input blocks (plain: channels) between two visits of y
    "last_channels",  # of the last input block, rounded up to 4: the others' weights are zero and are passed over
    "rows", "tiles", "tall",  # output rows; column tiles, of which the first `tall` have all pixels, the others one less
    "x_image", "x_block", "x_row", "height", "in_width",  # strides in floats; size of the input
    "row_first", "row_stride", "row_step", "pack_rows",  # copied input rows: row_first + row_stride * output row + row_step * j
    "column_first", "copy_step", "copies", "pixel_step", "pack_width",  # copied columns: column_first + copy_step * copy + pixel_step * q
    "out_row",  # floats from one output row to the next in what the tile reads
    "y_image", "y_block", "y_row", "y_pixel",  # strides in floats
    # bands: `places` has of each panel (its entries' place in `taps`, their number, the floats before its weights, the first
    # input block that it reads and the end of them, the first output channel, their number, and how many lanes are stored), and
    # `taps` of each entry (floats, channels). Of spread input, `places` has what `SpreadWeights.places` says,
    # `in_blocks` are the channels of a group, `w_blocks` the vectors of weights for one of them, `pack_rows` and `pack_width` the
    # size of the ring, `out_row` what is new in it for the next row of outputs, and `taps` has the entries for each row where it may begin.
    # of matrix.py and flat.py: tiles of all images; tiles of a chunk; the table of an image's outputs' places in y, or
    # 0. Their depth_blocks counts entries. `taps` has of each entry the floats from the input of an output to what the entry
    # meets; in matrix.py (floats, rows, columns).
    "all_tiles", "block_tiles", "places",
    *SLICES, *PLANES,
)  # fmt: skip
PACK_ARGUMENTS = (
    "source", "packed", "source_taps",
    "units", "panel", "out_blocks", "in_blocks", "tap_count", "out_channels", "in_channels",
    "group_stride", "out_stride", "in_stride",
    "channel_blocks", "plane_first", "plane_step",  # input blocks of a plane; where its taps begin in the source
)  # fmt: skip
# Buffers: x, dy, dw (oihw), taps: pairs (row offset, column offset) in pixels.
# chunk = ((group * units + unit of output blocks) * in_blocks + input block) * tap_chunks + part of the taps
WEIGHT_GRADIENT_ARGUMENTS = (
    "x", "dy", "dw", "taps",
    "images", "in_blocks", "out_blocks", "in_channels", "out_channels", "tap_count", "tap_chunks", "chunk_taps",  # of a group
    "height", "width", "rows", "columns", "block_rows", "row_stride", "column_stride",
    "x_image", "x_block", "dy_image", "dy_block",
    *SLICES, "dw_channel",  # floats from the taps of an input channel to those of the next
)  # fmt: skip
# Buffers: x, dy, dw ([parts] of oi). chunk = ((group * out_chunks + range of output blocks) * in_chunks + range of input
# blocks) * parts + part of the pixel blocks
PIXEL_WEIGHT_GRADIENT_ARGUMENTS = (
    "x", "dy", "dw",
    "parts", "in_chunks", "chunk_ins", "out_chunks", "chunk_outs",  # a chunk's input and output blocks
    "in_blocks", "out_blocks", "in_channels", "out_channels",  # of a group
    "images", "rows", "columns", "row_stride", "column_stride",
    "block_images", "block_rows", "row_blocks", "pixel_blocks",  # a block of pixels; blocks of an image; blocks in all
    "x_image", "x_block", "x_row", "dy_image", "dy_block", "dw_part",  # strides in floats
)  # fmt: skip
# Buffers: x (nchw), dy (blocked), dw. chunk = (unit of output blocks * channels + channel) * tap_chunks + part of the
# kernel's rows
PLAIN_WEIGHT_GRADIENT_ARGUMENTS = (
    "x", "dy", "dw",
    "images", "channels", "out_blocks", "out_channels", "kernel_rows", "tap_chunks", "chunk_taps",
    "height", "width", "top", "left", "rows", "columns", "block_rows", "pitch", "row_stride", "column_stride", "row_dilation",
    "x_image", "x_block", "dy_image", "dy_block",
    *SLICES, "dw_channel",
)  # fmt: skip
# Buffers: forward x, w, bias, y; data gradient dy as `x`, w, dx as `y`; weight gradient x, dw as `w`, dy as `y`; then
# operands. Sizes are those of the convolution in all three. chunk = image * filters + filter; image * channels +
# channel; filter * channels of a group + channel
PLAIN_ARGUMENTS = (
    "x", "w", "bias", "y",
    "images", "channels", "filters", "groups", "depth", "height", "width", "out_depth", "out_rows", "out_columns",
    "kernel_depth", "kernel_rows", "kernel_columns", "depth_stride", "row_stride", "column_stride", "front", "top", "left",
    "depth_dilation", "row_dilation", "column_dilation",
)  # fmt: skip


def direct_arguments(epilogue: Epilogue) -> tuple[str, ...]:
    """The arguments of `conv_direct` with the operands of an epilogue."""
    return (*DIRECT_ARGUMENTS, *epilogue.names)


def in_plane(in_blocks: int = 0) -> dict[str, int]:
    """The arguments SLICES, and PLANES of so many input blocks, of images with two axes."""
    planes = {"channel_blocks": in_blocks, "x_plane": 0, "w_blocks": in_blocks, "w_first": 0}
    return {"slices": 1, "x_slice": 0, "y_slice": 0, **(planes if in_blocks else {})}


@dataclass(frozen=True)
class PackedWeights:
    """How `conv_direct` wants its weights: [group][panel of output blocks][input block][tap][KI][panel * lanes].

    Out and in are those of the kernel that reads them: in a data gradient the convolution's outputs are the inputs.
    `source_taps` are indices into the kh * kw taps of the oihw source. Tail blocks that fill no panel follow, each a
    panel of its own. Of a kernel with three axes `planes` are (how many, the first tap of the first, taps to the next):
    the input blocks of one plane come after those of another.
    """

    groups: int
    out_channels: int  # of one group
    in_channels: int
    source_taps: tuple[int, ...]
    all_taps: int
    panel: int
    lanes: int
    plain: bool
    transposed: bool  # the roles of in and out are swapped
    planes: tuple[int, int, int] = (1, 0, 0)

    @property
    def out_blocks(self) -> int:
        return divide(self.out_channels, self.lanes)

    @property
    def channel_blocks(self) -> int:
        return self.in_channels if self.plain else divide(self.in_channels, self.lanes)

    @property
    def in_blocks(self) -> int:
        return self.planes[0] * self.channel_blocks

    @property
    def depth(self) -> int:
        """KI: input channels per block."""
        return 1 if self.plain else self.lanes

    @property
    def floats(self) -> int:
        return self.groups * self.out_blocks * self.lanes * self.in_blocks * self.depth * len(self.source_taps)


@dataclass(frozen=True)
class ConvPlan:
    """A step of `conv_direct`, with the packing of its weights: PackedWeights, BandedWeights or SpreadWeights."""

    step: Launch
    weights: Any


def register_tile(target: Target, width: int, blocks: int) -> tuple[int, int]:
    """(pixels, vectors) of the register tile for rows of `width` outputs and `blocks` output blocks in a group.

    A tile of P x V needs P * V accumulators, V weights and one broadcast; without fused multiply-add, products besides.
    Rows are cut into tiles of P and P - 1.
    """
    vectors = min(2, blocks)
    return divide(width, divide(width, target.tiles.sums // vectors)), vectors


def source_arguments(weights: Any) -> dict[str, int]:
    """Of a packing step: the taps and channels of a group, and where they lie in oihw weights, in floats."""
    size = weights.all_taps
    out_stride, in_stride = weights.in_channels * size, size
    if weights.transposed:
        out_stride, in_stride = size, weights.out_channels * size
    return {
        "tap_count": len(weights.source_taps), "out_channels": weights.out_channels, "in_channels": weights.in_channels,
        "group_stride": weights.out_channels * weights.in_channels * size, "out_stride": out_stride, "in_stride": in_stride,
    }  # fmt: skip


def source_taps(weights: Any) -> dict[str, Any]:
    """The table of a packing step."""
    return {"source_taps": np.array(weights.source_taps, np.int64)}


def pack_plan(weights: PackedWeights) -> Launch:
    """The step that packs oihw weights (`source`) into the buffer `packed`."""
    units = panels(weights.out_blocks, weights.panel)
    arguments = {
        "units": units, "panel": weights.panel, "out_blocks": weights.out_blocks, "in_blocks": weights.in_blocks,
        "channel_blocks": weights.channel_blocks, "plane_first": weights.planes[1], "plane_step": weights.planes[2],
        **source_arguments(weights),
    }  # fmt: skip
    kernel = Kernel("conv_pack_weights", (("plain", weights.plain),))
    return Launch.of(kernel, PACK_ARGUMENTS, arguments, source_taps(weights)).cut(weights.groups * units)


def form_of(target: Target, conv: Conv, plain: bool = False) -> str:
    """How a convolution with blocked output meets its input: "plain" (nchw input), "blocked", or "banded", where groups are
    not whole blocks of the target's lanes.

    ValueError where channels do not divide into the groups, or plain input has groups.
    """
    channels, filters, groups = conv.channels, conv.filters, conv.groups
    if channels % groups or filters % groups:
        raise ValueError(f"{channels} and {filters} channels do not divide into {groups} groups")
    if plain and groups == 1:
        return "plain"
    if groups > 1 and plain:
        raise ValueError(f"plain input of {groups} groups")
    if groups > 1 and (channels // groups % target.lanes or filters // groups % target.lanes):
        return "banded"
    return "blocked"
