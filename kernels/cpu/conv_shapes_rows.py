"""How rows of outputs meet rows of input: where these lie, or in copies that have what no tap meets left out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .conv_arguments import Pair


@dataclass(frozen=True)
class Placed:
    """For chunks of some rows: floats between input blocks, of each tap from the input of an output to what it meets, and
    the kernel's arguments.
    """

    block: int
    offsets: tuple[int, ...]
    arguments: dict[str, int]


@dataclass(frozen=True)
class Reading:
    """Rows are copied with every `copy_step`-th column in `copies` copies, unless `in_place`."""

    row_offsets: tuple[int, ...]
    column_offsets: tuple[int, ...]
    stride: Pair
    in_place: bool
    row_first: int
    row_step: int
    row_span: int
    column_first: int
    copy_step: int
    copies: int
    pack_width: int

    @property
    def advance(self) -> int:
        """Copied rows from one row of outputs to the next."""
        return self.stride[0] // self.row_step

    @property
    def copied(self) -> int:
        """Copied pixels of a block for one row more."""
        return 0 if self.in_place else self.copies * self.pack_width * self.advance

    @property
    def halo(self) -> float:
        """Rows that are copied besides, in rows of outputs."""
        return max(self.row_span - self.advance, 0) / self.advance

    def placed(self, block_rows: int, x_row: int, x_block: int, step: int) -> Placed:
        """Where it all lies for chunks of `block_rows` rows; `step`: floats of a pixel."""
        taps = list(zip(self.row_offsets, self.column_offsets, strict=True))
        if self.in_place:
            pack_rows, block, out_row = 0, x_block, self.stride[0] * x_row
            offsets = [r * x_row + c * step for r, c in taps]
        else:
            pack_rows = (block_rows - 1) * self.advance + self.row_span
            across = self.pack_width * step
            out_row, copy = self.advance * across, pack_rows * across
            block = self.copies * copy
            offsets = []
            for r, c in taps:
                column = (c - self.column_first) // self.copy_step
                place = (r - self.row_first) // self.row_step * across + column % self.copies * copy
                offsets.append(place + column // self.copies * step)
        arguments = {
            "row_first": self.row_first, "row_stride": self.stride[0], "row_step": self.row_step, "pack_rows": pack_rows,
            "column_first": self.column_first, "copy_step": self.copy_step, "copies": self.copies, "pixel_step": self.stride[1],
            "pack_width": self.pack_width, "out_row": out_row,
        }  # fmt: skip
        return Placed(block, tuple(offsets), arguments)


def reading_of(
    row_offsets: Sequence[int],
    column_offsets: Sequence[int],
    stride: Pair,
    height: int,
    width: int,
    rows: int,
    columns: int,
) -> Reading:
    """Output (r, c) of rows x columns meets the input (stride * r + row_offsets[t], stride * c + column_offsets[t]) of
    height x width.
    """
    row_first, row_last = min(row_offsets, default=0), max(row_offsets, default=0)
    column_first, column_last = min(column_offsets, default=0), max(column_offsets, default=0)
    inside = row_first >= 0 and (rows - 1) * stride[0] + row_last < height
    inside = inside and column_first >= 0 and (columns - 1) * stride[1] + column_last < width
    in_place = not row_offsets or (stride[1] == 1 and inside)
    copy_step = math.gcd(stride[1], *(c - column_first for c in column_offsets))
    row_step = math.gcd(stride[0], *(r - row_first for r in row_offsets))
    copies = stride[1] // copy_step
    return Reading(
        tuple(row_offsets), tuple(column_offsets), stride, in_place, row_first, row_step, (row_last - row_first) // row_step + 1,
        column_first, copy_step, copies, columns + (column_last - column_first) // copy_step // copies,
    )  # fmt: skip
