"""What one step of the direct convolution adds up: what the planners of its forms are told."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..launches import divide
from ..problem import Conv, Epilogue, Pair


@dataclass(frozen=True)
class Taps:
    """An output (r, c) meets the input (stride * r + rows[t], stride * c + columns[t]) of every tap t. Of the `all` taps of the
    source of the weights, t is number source[t].
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    source: tuple[int, ...]
    all: int

    @staticmethod
    def of(taps: list[tuple[int, int, int]], all_taps: int) -> Taps:
        """From (source, row, column) of each."""
        source, rows, columns = zip(*taps, strict=True) if taps else ((), (), ())
        return Taps(rows, columns, source, all_taps)

    @staticmethod
    def forward(conv: Conv) -> Taps:
        """Those of a convolution, over its last two axes."""
        (tall, wide), (down, along) = conv.kernel[-2:], conv.dilation[-2:]
        (top, _), (left, _) = conv.padding[-2:]
        taps = [(i * wide + j, i * down - top, j * along - left) for i in range(tall) for j in range(wide)]
        return Taps.of(taps, len(taps))

    def __len__(self) -> int:
        return len(self.source)

    @property
    def in_order(self) -> Taps:
        """Row by row."""
        return Taps.of(sorted(zip(self.source, self.rows, self.columns, strict=True), key=lambda t: t[1:]), self.all)

    @property
    def centred(self) -> bool:
        """Whether there is one, and an output meets the input where it is itself."""
        return len(self) == 1 and (self.rows[0], self.columns[0]) == (0, 0)


@dataclass(frozen=True)
class Place:
    """How a tensor's outputs lie: floats from image to image, block to block, row to row and pixel to pixel."""

    image: int
    block: int
    row: int
    pixel: int


@dataclass(frozen=True)
class Sums:
    """rows x columns outputs of images of height x width pixels. Channels are those of one group; `y` says where the outputs lie.
    `form`: "blocked", "plain" or "banded"; `transposed`: whether the weights' filters are what is read.
    """

    images: int
    groups: int
    in_channels: int
    height: int
    width: int
    out_channels: int
    taps: Taps
    stride: Pair
    rows: int
    columns: int
    y: Place
    form: str
    transposed: bool
    epilogue: Epilogue

    @property
    def flat(self) -> bool:
        """Whether outputs meet the pixels where they are themselves, so that the rows may be one."""
        same = self.stride == (1, 1) and (self.rows, self.columns) == (self.height, self.width)
        return self.taps.centred and same and self.y.row == self.columns * self.y.pixel

    @property
    def as_row(self) -> Sums:
        """The pixels of all rows as one row."""
        y = replace(self.y, row=self.y.row * self.rows)
        return replace(self, height=1, width=self.height * self.width, rows=1, columns=self.rows * self.columns, y=y)

    def masked(self, lanes: int) -> bool:
        """Whether there are lanes past the last channel."""
        return self.groups * self.out_channels % lanes != 0

    @property
    def y_arguments(self) -> dict[str, int]:
        return {"y_image": self.y.image, "y_block": self.y.block, "y_row": self.y.row, "y_pixel": self.y.pixel}

    def x_arguments(self, blocks: int, lanes: int) -> dict[str, int]:
        """Of an input of so many blocks of `lanes` channels."""
        row = self.width * lanes
        return {
            "x_image": blocks * self.height * row, "x_block": self.height * row, "x_row": row,
            "height": self.height, "in_width": self.width,
        }  # fmt: skip

    def out_blocks(self, lanes: int) -> int:
        """Of a group."""
        return divide(self.out_channels, lanes)
