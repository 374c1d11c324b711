"""Winograd's schemes: the interpolation points, and the weights that a scheme transforms and packs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import Kernel
from ..launches import Launch, divide, panels

# Channels that a scheme of four to six points wants; rows and columns of outputs that one of seven wants.
FEWEST, SMALLEST = 16, 24


@dataclass(frozen=True)
class Scheme:
    """F(outputs x outputs, taps x taps), or of one axis F(1 x outputs, 1 x taps), interpolated at 0, infinity, `pairs` with both
    signs, and where the number of points is odd at one point without its opposite, `single`.

    The points 3/4 and 3/2 make the rounding error about twice that of a direct sum in one accumulator; the textbook's 1 and 2 are
    several times worse. With four points 1 is best, and the error is below that of such a sum. Five points make 1.5
    times its error, seven 3 to 3.7 times from 64 channels on. Along one axis it is about the root of that.
    """

    outputs: int
    taps: int
    axes: int = 2

    @property
    def size(self) -> int:
        return self.outputs + self.taps - 1

    @property
    def points(self) -> int:
        return int(self.size**self.axes)

    @property
    def kernel(self) -> tuple[int, int]:
        return self.taps ** (self.axes - 1), self.taps

    @property
    def high(self) -> int:
        """Rows of inputs that a tile reads."""
        return int(self.size ** (self.axes - 1))

    @property
    def tall(self) -> int:
        """Rows of outputs that a tile has."""
        return int(self.outputs ** (self.axes - 1))

    @property
    def fewer(self) -> float:
        """Products of the direct algorithm over this one's."""
        return float((self.outputs * self.taps) ** self.axes / self.points)

    @property
    def pairs(self) -> tuple[float, ...]:
        return {4: (1.0,), 5: (0.75,), 6: (0.75, 1.5), 7: (0.55, 1.1)}[self.size]

    @property
    def single(self) -> float | None:
        return {5: 2.0, 7: 2.5}.get(self.size)

    @property
    def fewest(self) -> int:
        """Fewer channels than this are left to other algorithms."""
        return 4 * FEWEST if self.exacting else FEWEST

    @property
    def smallest(self) -> int:
        """Fewer rows or columns of outputs than this are left to others: sums at a border are short, and direct ones exact."""
        return SMALLEST if self.exacting else 1

    @property
    def exacting(self) -> bool:
        """Whether its rounding error is near the most that is allowed."""
        return self.points == 49

    def __str__(self) -> str:
        return f"{self.tall}x{self.outputs}"


# By the kernel.
SCHEMES: dict[tuple[int, ...], tuple[Scheme, ...]] = {
    (3, 3): (Scheme(4, 3), Scheme(2, 3), Scheme(3, 3)),
    (5, 5): (Scheme(2, 5), Scheme(3, 5)),
    (1, 3): (Scheme(4, 3, 1), Scheme(2, 3, 1)),
    (1, 5): (Scheme(2, 5, 1), Scheme(3, 5, 1)),
}

# chunk = panel * in_blocks + input block
PACK_ARGUMENTS = (
    "source", "packed", "panel", "out_blocks", "in_blocks", "out_channels", "in_channels", "out_stride", "in_stride",
    "tap_first", "tap_step", "channel_blocks", "plane_step",  # input blocks of a plane; from its taps to those of the next
)  # fmt: skip


@dataclass(frozen=True)
class WinogradWeights:
    """How `winograd` wants its weights, transformed: [panel of output blocks][point][input channel][panel * lanes], tail blocks that
    fill no panel after them.

    Out and in are those of the kernel that reads them: in a data gradient the convolution's outputs are the inputs.
    """

    scheme: Scheme
    out_channels: int
    in_channels: int
    panel: int
    lanes: int
    transposed: bool  # the roles of in and out are swapped and the taps turned round
    planes: tuple[int, int, int] = (1, 0, 0)  # as in `PackedWeights`
    all_taps: int = 0  # of a kernel with three axes

    @property
    def out_blocks(self) -> int:
        return divide(self.out_channels, self.lanes)

    @property
    def channel_blocks(self) -> int:
        return divide(self.in_channels, self.lanes)

    @property
    def in_blocks(self) -> int:
        return self.planes[0] * self.channel_blocks

    @property
    def floats(self) -> int:
        return self.scheme.points * self.out_blocks * self.in_blocks * self.lanes**2


def weight_matrix(scheme: Scheme) -> Any:
    """G, size x taps in float64."""
    powers = np.arange(scheme.taps)
    points = [0.0, *(sign * p for p in scheme.pairs for sign in (1, -1))]
    points += [] if scheme.single is None else [scheme.single]
    rows = [p**powers / math.prod(p - q for q in points if q != p) for p in points]
    return np.array([*rows, np.where(powers == scheme.taps - 1, 1.0, 0)])


def pack_weights(weights: Any, form: WinogradWeights) -> Any:
    """oihw weights as `winograd` reads them, transformed in float64: the definition of `winograd_pack_weights`."""
    kernel, (planes, begin, step) = form.scheme.kernel, form.planes
    source = np.asarray(weights, np.float64)
    source = source.reshape(*source.shape[:2], -1)
    source = np.stack([source[..., begin + p * step :][..., : math.prod(kernel)] for p in range(planes)], 2)
    source = source.reshape(*source.shape[:3], *kernel)
    if form.transposed:
        source = source.swapaxes(0, 1)[..., ::-1, ::-1]
    g, points, lanes = weight_matrix(form.scheme), form.scheme.points, form.lanes
    full = np.zeros((form.out_blocks * lanes, planes, form.channel_blocks * lanes, form.scheme.high, form.scheme.size))
    transformed = np.einsum("ia,okpab,jb->opkij", g if form.scheme.axes == 2 else np.eye(1), source, g)
    full[: form.out_channels, :, : form.in_channels] = transformed
    # out block, lane, in, point -> out block, point, in, lane
    blocks = full.reshape(form.out_blocks, lanes, form.in_blocks * lanes, points).transpose(0, 3, 2, 1)
    panels = form.out_blocks // form.panel
    together = blocks[: panels * form.panel].reshape(panels, form.panel, points, -1, lanes).transpose(0, 2, 3, 1, 4)
    parts = [together.reshape(-1), blocks[panels * form.panel :].reshape(-1)]
    return np.concatenate(parts).astype(np.float32)


def winograd_pack_plan(form: WinogradWeights) -> Launch:
    """The step that transforms oihw weights (`source`) into the buffer `packed`."""
    taps = math.prod(form.scheme.kernel)
    all_taps = form.all_taps or taps
    out_stride, in_stride = all_taps * form.in_channels, all_taps
    if form.transposed:
        out_stride, in_stride = all_taps, all_taps * form.out_channels
    units = panels(form.out_blocks, form.panel)
    scratch = taps * form.lanes + form.scheme.points * (form.panel * form.lanes + 1) * form.lanes
    arguments = {
        "panel": form.panel, "out_blocks": form.out_blocks, "in_blocks": form.in_blocks, "out_channels": form.out_channels,
        "in_channels": form.in_channels, "out_stride": out_stride, "in_stride": in_stride,
        "tap_first": form.planes[1] + (taps - 1 if form.transposed else 0), "tap_step": -1 if form.transposed else 1,
        "channel_blocks": form.channel_blocks, "plane_step": form.planes[2],
    }  # fmt: skip
    scheme = (("outputs", form.scheme.outputs), ("taps", form.scheme.taps), ("axes", form.scheme.axes))
    kernel = Kernel("winograd_pack_weights", scheme)
    return Launch.of(kernel, PACK_ARGUMENTS, arguments).cut(units * form.in_blocks, scratch)
