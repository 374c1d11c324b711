"""From a normalization to its launch. Nothing here imports Numba.

y = f((x - mean) / sqrt(variance + eps), ...) with the statistics over some axes of each image. Three kernels share the
work: `rows`, where what is normalized together is contiguous; `columns`, where it is not, in tiles of neighboring columns;
and `planes`, of blocks of channels over all of space.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .. import Kernel
from ..launches import Launch, Shape, bits, blocks, divide, divisor, split
from ..problem import Epilogue
from ..target import Target

HEAD = (
    "units", "per_chunk", "length", "inner", "channels", "plane", "group", "segment", "wrap", "start", "eps",
)  # fmt: skip
OPERANDS = tuple(f"a{k}" for k in range(8))
ARGUMENTS = (*HEAD, "x", "y", *OPERANDS)
GRADIENT_ARGUMENTS = (*HEAD, "x", "y", "a0", "a1", "dweight", "dbias")
PIECE = 64  # numbers that one accumulator adds up at most
TILE = 4  # vectors of neighboring columns
_SMALL = 8192  # floats of a chunk at least


@dataclass(frozen=True)
class Normalization:
    """Statistics over neighboring `axes` of x, none of them the batch's; with `groups` over that many groups of channels,
    and all of space. Without `centered` the mean counts as 0.

    weight: None, "channel" where there is one number a channel, or "image", one for each place along the axes.
    """

    shape: Shape
    blocked: bool
    axes: tuple[int, ...]
    groups: int = 1
    eps: float = 1e-5
    centered: bool = True
    weight: str | None = None

    @property
    def plane(self) -> int:
        return math.prod(self.shape[2:])

    @property
    def length(self) -> int:
        """How many numbers are normalized together."""
        return math.prod(self.shape[axis] for axis in self.axes) // self.groups

    @property
    def flat(self) -> bool:
        """Whether rows hold one number of each channel."""
        return self.plane == 1 and self.axes[0] == 1 and not self.blocked

    @property
    def whole(self) -> bool:
        """Whether the statistics are over channels and all of space."""
        return self.axes == tuple(range(1, len(self.shape)))


@dataclass(frozen=True)
class _Cut:
    """Numbers of a launch, its chunks and scratch, and the size of a chunk's share of the sums of an image's weights."""

    numbers: dict[str, int]
    form: str
    chunks: int
    scratch: int
    links: int = 0
    share: int = 0


def _per_chunk(images: int, of_image: int, work: int, most: int) -> tuple[int, int]:
    """Units to a chunk, each of `work` floats, and the links; a chunk is a part of an image where images are large."""
    wanted = max(1, min(most, max(_SMALL, images * of_image * work // 64) // max(1, work)))
    if of_image * work >= 2048 or wanted <= of_image:
        return divisor(of_image, wanted), images
    return min(wanted // of_image * of_image, most), 0


def _rows(target: Target, n: Normalization, gradient: bool, by_channel: bool) -> _Cut:
    outer = math.prod(n.shape[: n.axes[0]]) * n.groups
    per_image, share, wrap = outer // max(1, n.shape[0]), 0, n.length
    along = gradient and (n.weight == "image" or (n.flat and n.weight == "channel"))
    if n.whole:
        wrap *= n.groups
    per_chunk, links = _per_chunk(n.shape[0], per_image, n.length, 1 << 30)
    if along:  # each chunk adds up the weights' gradients of its rows
        parts = max(divide(outer, PIECE), split(outer * n.length, 2 * _SMALL, 8))
        per_chunk = divide(divide(outer, parts), n.groups) * n.groups
        links, share = 0, wrap
    numbers = {
        "units": outer, "per_chunk": per_chunk, "length": n.length, "inner": 1, "group": 1,
        "segment": min(n.length, n.plane) if by_channel and not n.flat else n.length, "wrap": wrap,
        "start": max(min(n.length, PIECE * 4 * target.lanes), n.length // 8),
    }  # fmt: skip
    return _Cut(numbers, "normalize_rows", divide(outer, per_chunk), 16 * target.lanes, links, share)


def _columns(target: Target, n: Normalization, gradient: bool) -> _Cut:
    lanes = target.lanes
    if n.blocked:  # the channels of a pixel, a vector for each of their blocks
        outer, length, inner = n.shape[0], blocks(n.shape[1], target), n.plane * lanes
    else:
        outer, length = math.prod(n.shape[: n.axes[0]]), n.length
        inner = math.prod(n.shape[n.axes[-1] + 1 :])
    tile = TILE * lanes
    tiles = divide(inner, tile)
    along = gradient and n.weight is not None
    per_chunk, links = _per_chunk(outer, tiles, length * tile, PIECE if along else 1 << 30)
    if links and outer != n.shape[0]:
        links = n.shape[0]
    numbers = {
        "units": outer * tiles, "per_chunk": per_chunk, "length": length, "inner": inner, "group": 1, "segment": tile,
        "wrap": tiles, "start": max(min(length, PIECE), length // 8),
    }  # fmt: skip
    share = n.length if along else 0
    scratch = 16 * tile + (2 * length * lanes if along else 0)
    return _Cut(numbers, "normalize_columns", divide(outer * tiles, per_chunk), scratch, links, share)


def _planes(target: Target, n: Normalization, gradient: bool) -> _Cut:
    lanes, count, group = target.lanes, blocks(n.shape[1], target), n.shape[1] // n.groups
    span = min(count, math.lcm(group, lanes) // lanes)  # blocks of whole groups
    spans, plane = divide(count, span), n.plane
    per_chunk, links = _per_chunk(n.shape[0], spans, span * plane * lanes, 1 << 30)
    share = 0
    if gradient and n.weight == "image":
        per_chunk, links, share = divide(n.shape[0], 8), 0, count * plane * lanes
    numbers = {
        "units": n.shape[0] * spans, "per_chunk": per_chunk, "length": plane, "inner": span, "group": group,
        "segment": plane * lanes, "wrap": count, "start": max(min(plane, 4 * PIECE), plane // 8),
    }  # fmt: skip
    return _Cut(
        numbers, "normalize_planes", divide(n.shape[0] * spans, per_chunk), (16 * span + 16) * lanes, links, share
    )


def _cut(target: Target, n: Normalization, gradient: bool, by_channel: bool) -> _Cut:
    if n.blocked:
        if n.whole:
            return _planes(target, n, gradient)
        if n.axes == (1,):
            return _columns(target, n, gradient)
        raise ValueError(f"no kernel normalizes blocks of {n.shape} over {n.axes}")
    inner = math.prod(n.shape[n.axes[-1] + 1 :])
    return _rows(target, n, gradient, by_channel) if inner == 1 else _columns(target, n, gradient)


def _launch(
    n: Normalization,
    cut: _Cut,
    arguments: Sequence[str],
    buffers: Sequence[str],
    parameters: tuple[tuple[str, object], ...],
) -> Launch:
    if math.prod(n.shape) == 0:
        return Launch(Kernel(cut.form, ()), {}, (), 0)
    numbers = cut.numbers | {"channels": n.shape[1], "plane": n.plane, "eps": bits(n.eps)}
    known = (("blocked", n.blocked), ("flat", n.flat), ("centered", n.centered))
    every = {name: numbers.get(name, 0) for name in arguments if name in numbers or name in buffers}
    return Launch(Kernel(cut.form, (*known, *parameters)), every, tuple(buffers), cut.chunks, cut.scratch, cut.links)


def plan_normalize(target: Target, n: Normalization, epilogue: Epilogue) -> Launch:
    """`y` = the epilogue's expression over y, the normalized x, and its operands a0, a1, ...: "full", "channel" or "scalar",
    or "image": one number for each place along the axes, of blocks one for each place of an image.
    """
    parameters = (("expression", epilogue.expression), ("operands", tuple(epilogue.operands)))
    return _launch(
        n, _cut(target, n, False, "channel" in epilogue.operands), ARGUMENTS, ("x", "y", *epilogue.names), parameters
    )


def plan_normalize_gradient(target: Target, n: Normalization) -> tuple[Launch, int]:
    """`y`: dL/dx from x and a0, dL/dy; a1 is the weight, where there is one. With it, `dweight` and `dbias`, which without
    `centered` is left as it is: [parts, weights], parts of the sums, to be added up. Gives the launch and the parts.
    """
    cut = _cut(target, n, True, n.weight == "channel")
    buffers = ("x", "y", "a0", *(("a1", "dweight", "dbias") if n.weight else ()))
    launch = _launch(n, cut, GRADIENT_ARGUMENTS, buffers, (("weight", n.weight),))
    kernel = Kernel(f"{cut.form}_gradient", launch.kernel.parameters)
    parts = cut.chunks if cut.share else n.shape[0]
    return Launch(kernel, launch.arguments, launch.buffers, launch.chunks, launch.scratch, launch.links), parts
