"""Winograd's schemes: the interpolation points, and the weights that a scheme transforms and packs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import Kernel
from .conv_arguments import KernelPlan, divide

# Channels that a scheme of four to six points wants; rows and columns of outputs that one of seven wants.
FEWEST, SMALLEST = 16, 24


@dataclass(frozen=True)
class Scheme:
    """F(outputs x outputs, taps x taps), interpolated at 0, infinity, `pairs` with both signs, and where the number of points
    is odd at one point without its opposite, `single`.

    The points 3/4 and 3/2 make the rounding error about twice that of direct convolution; the textbook's 1 and 2 are
    several times worse. With four points 1 is best, and the error is below direct convolution's. Five points make 1.5
    times its error, seven 3 to 3.7 times from 64 channels on.
    """

    outputs: int
    taps: int

    @property
    def size(self) -> int:
        return self.outputs + self.taps - 1

    @property
    def points(self) -> int:
        return self.size**2

    @property
    def pairs(self) -> tuple[float, ...]:
        return {4: (1.0,), 5: (0.75,), 6: (0.75, 1.5), 7: (0.55, 1.1)}[self.size]

    @property
    def single(self) -> float | None:
        return {5: 2.0, 7: 2.5}.get(self.size)

    @property
    def fewest(self) -> int:
        """Fewer channels than this are left to other algorithms."""
        return FEWEST if self.size < 7 else 4 * FEWEST

    @property
    def smallest(self) -> int:
        """Fewer rows or columns of outputs than this are left to others: sums at a border are short, and direct ones exact."""
        return 1 if self.size < 7 else SMALLEST

    def __str__(self) -> str:
        return f"{self.outputs}x{self.outputs}"


# By the size of the kernel.
SCHEMES = {3: (Scheme(4, 3), Scheme(2, 3), Scheme(3, 3)), 5: (Scheme(2, 5), Scheme(3, 5))}

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
    side, (planes, begin, step) = form.scheme.taps, form.planes
    source = np.asarray(weights, np.float64)
    source = source.reshape(*source.shape[:2], -1)
    source = np.stack([source[..., begin + p * step :][..., : side**2] for p in range(planes)], 2)
    source = source.reshape(*source.shape[:3], side, side)
    if form.transposed:
        source = source.swapaxes(0, 1)[..., ::-1, ::-1]
    g, size, lanes = weight_matrix(form.scheme), form.scheme.size, form.lanes
    full = np.zeros((form.out_blocks * lanes, planes, form.channel_blocks * lanes, size, size))
    transformed = np.einsum("ia,okpab,jb->opkij", g, source, g)
    full[: form.out_channels, :, : form.in_channels] = transformed
    # out block, lane, in, point -> out block, point, in, lane
    blocks = full.reshape(form.out_blocks, lanes, form.in_blocks * lanes, size**2).transpose(0, 3, 2, 1)
    panels = form.out_blocks // form.panel
    together = blocks[: panels * form.panel].reshape(panels, form.panel, size**2, -1, lanes).transpose(0, 2, 3, 1, 4)
    parts = [together.reshape(-1), blocks[panels * form.panel :].reshape(-1)]
    return np.concatenate(parts).astype(np.float32)


def winograd_pack_plan(form: WinogradWeights) -> KernelPlan:
    """The step that transforms oihw weights (`source`) into the buffer `packed`."""
    squares = form.scheme.taps**2
    all_taps = form.all_taps or squares
    out_stride, in_stride = all_taps * form.in_channels, all_taps
    if form.transposed:
        out_stride, in_stride = all_taps, all_taps * form.out_channels
    units = form.out_blocks // form.panel + form.out_blocks % form.panel
    scratch = squares * form.lanes + form.scheme.points * (form.panel * form.lanes + 1) * form.lanes
    arguments = {
        "panel": form.panel, "out_blocks": form.out_blocks, "in_blocks": form.in_blocks, "out_channels": form.out_channels,
        "in_channels": form.in_channels, "out_stride": out_stride, "in_stride": in_stride,
        "tap_first": form.planes[1] + (squares - 1 if form.transposed else 0), "tap_step": -1 if form.transposed else 1,
        "channel_blocks": form.channel_blocks, "plane_step": form.planes[2],
    }  # fmt: skip
    kernel = Kernel("winograd_pack_weights", (("outputs", form.scheme.outputs), ("taps", form.scheme.taps)))
    return KernelPlan(kernel, arguments, {}, units * form.in_blocks, scratch)
