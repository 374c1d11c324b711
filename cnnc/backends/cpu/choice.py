"""Which algorithm a convolution or one of its gradients runs: the one of the least estimated time, or where estimates are
close the one that was fastest in a timed run (`timed.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnc.ir.graph import Node
from cnnc.kernels.cpu import winograd_shapes, winograd_shapes_gradient
from cnnc.kernels.cpu.conv_space import Volume, winograds
from cnnc.kernels.cpu.winograd_scheme import KERNELS, Scheme
from cnnc.lowering.select import Lowering
from cnnc.ops.window import Window

# Winograd's estimated gain over direct convolution must be at least this.
WORTH = 1.1
# Algorithms whose estimates are within this factor of the least are close: estimates are wrong by as much.
CLOSE = 1.3
OPS = ("conv", "conv_data_gradient", "conv_weight_gradient")


def two(values: Sequence[Any], fill: Any) -> tuple[Any, Any]:
    """One axis of space as two, a height of 1 in front."""
    a, *rest = values
    return (a, rest[0]) if rest else (fill, a)


class Geometry:
    """A convolution: sizes with the batch bound, its window, its groups; `sizes` in two dimensions, or its `volume` where it
    really has three.
    """

    def __init__(self, low: Lowering, node: Node) -> None:
        first, second = node.inputs[:2]
        x = low.shape(node.name if node.op == "conv_data_gradient" else first)
        filters, _, *kernel = low.shape(node.name if node.op == "conv_weight_gradient" else second)
        window = Window.of(tuple(kernel), node.attributes, len(kernel))
        self.space = len(kernel)
        self.images, self.channels, self.size = x[0], x[1], x[2:]
        self.filters, self.groups = filters, int(node.attributes.get("groups", 1))
        self.window = window
        self.volume: Volume | None = None
        if self.space == 3 and self._flat():
            self.sizes: tuple[Any, ...] = (
                *(x[0], x[1], x[2], x[3] * x[4], filters),
                (window.kernel[0], 1),
                (window.stride[0], 1),
                (window.padding[0], (0, 0)),
                (window.dilation[0], 1),
                self.groups,
            )
        elif self.space == 3:
            self.volume = Volume(
                x[0], x[1], x[2:], filters, window.kernel, window.stride, window.padding, window.dilation, self.groups
            )
        else:
            self.sizes = (
                self.images,
                self.channels,
                *two(x[2:], 1),
                filters,
                two(window.kernel, 1),
                two(window.stride, 1),
                two(window.padding, (0, 0)),
                two(window.dilation, 1),
                self.groups,
            )

    def _flat(self) -> bool:
        """Whether pixels of different rows and columns never meet: then a slice's pixels are one line."""
        w = self.window
        return w.kernel[1:] == w.stride[1:] == (1, 1) and not any(sum(w.padding[1:], ()))


@dataclass(frozen=True)
class Decision:
    """What timed runs said: the algorithm by name, and the least microseconds of those that ran; of none, where the estimate
    decides. settled: whether that holds for later processes too; otherwise they try again.
    """

    algorithm: str
    microseconds: Mapping[str, float]
    settled: bool = True


@dataclass(frozen=True)
class Choice:
    """The scheme that runs, None for the direct algorithm; and the estimate of each. `key`: what tells this problem from
    others.
    """

    scheme: Scheme | None
    times: Mapping[Scheme | None, float]
    key: str
    decision: Decision | None = None

    @property
    def close(self) -> list[str]:
        """The names of the algorithms that a timed run is worth for: those with estimates close to the least, this first."""
        most = CLOSE * min(self.times.values())
        ordered = sorted(self.times, key=lambda s: (s != self.scheme, self.times[s]))
        return [named(s) for s in ordered if self.times[s] <= most]

    def because(self) -> str:
        """Why this algorithm runs and no other."""
        timed = dict(self.decision.microseconds) if self.decision is not None else {}
        if named(self.scheme) in timed:
            own = timed.pop(named(self.scheme))
            others = [f"{name} at {t:,.0f}" for name, t in sorted(timed.items(), key=lambda item: item[1])]
            return f"timed at {own:,.0f} us, {', '.join(others)}"
        gain, _ = winograd_shapes.best(self.times)
        if self.scheme is None:
            return f"Winograd is estimated at {gain:.2g} of its speed"
        return f"about {self.times[None] / self.times[self.scheme]:.1f}x faster than direct"


def named(scheme: Scheme | None) -> str:
    return "direct" if scheme is None else f"winograd {scheme}"


def choose(low: Lowering, node: Node) -> Choice | None:
    """The algorithm of a convolution or of one of its gradients; None where there is only the direct one."""
    first, second = node.inputs[:2]
    blocked = (first, second if node.op == "conv_weight_gradient" else node.name)
    if getattr(low.backend, "exact", False) or any(low.type(value).block <= 1 for value in blocked):
        return None
    g = Geometry(low, node)
    window, target, more = g.window, low.target, ""
    dilation, axes = (1, 1), 2
    if g.volume is not None:
        like = winograds(target, g.volume, node.op)
        if like is None:
            return None
        sizes: tuple[Any, ...] = (target, *like)
        depth = (g.size[0], window.kernel[0], window.stride[0], window.padding[0], window.dilation[0])
        more = " ".join(map(str, ("volume", *depth)))
    elif (kernel := g.sizes[5]) in KERNELS and g.sizes[6] == (1, 1):
        *_, padding, dilation, _ = g.sizes
        if node.op == "conv_weight_gradient" and (dilation != (1, 1) or kernel[0] == 1):
            return None
        axes = 1 if kernel[0] == 1 else 2
        more = f"dilation {dilation}" if dilation != (1, 1) else ""
        more = f"line {more}" if axes == 1 else more
        sizes = (target, g.images, g.channels // g.groups, *g.sizes[2:4], g.filters // g.groups, kernel[1], padding)
    else:
        return None
    if g.groups > 1 and (g.channels // g.groups % target.lanes or g.filters // g.groups % target.lanes):
        return None
    repacked = node.op != "conv_weight_gradient" and second in low.changing
    if node.op == "conv_weight_gradient":
        times = winograd_shapes_gradient.gradient_times(*sizes)
    else:
        times = winograd_shapes.winograd_times(*sizes, node.op == "conv_data_gradient", repacked, dilation, axes)
    if not times:
        return None
    gain, scheme = winograd_shapes.best(times)
    parts = (node.op, *sizes[1:], g.groups, *([more] if more else []), *(["repacked"] if repacked else []))
    key = " ".join(map(str, parts))
    names = {named(s): s for s in times}
    decision = getattr(low.backend, "decided", {}).get(key)
    if decision is not None and decision.algorithm in names:
        return Choice(names[decision.algorithm], times, key, decision)
    return Choice(scheme if gain >= WORTH else None, times, key)
