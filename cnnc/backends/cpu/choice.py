"""Which algorithm a convolution or one of its gradients runs: the one of the least estimated time, or where estimates are
close the one that was fastest in a timed run (`trials.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cnnc.backends.cpu.context import Lowering
from cnnc.backends.cpu.decisions import Decision
from cnnc.backends.cpu.problem import Problem, problem
from cnnc.ir.graph import Node
from cnnc.kernels.cpu.conv.arguments import form_of
from cnnc.kernels.cpu.problem import Conv
from cnnc.kernels.cpu.target import Target
from cnnc.kernels.cpu.volume.plan import like_winograds
from cnnc.kernels.cpu.winograd import scheme as schemes
from cnnc.kernels.cpu.winograd.gradient_plan import gradient_times
from cnnc.kernels.cpu.winograd.plan import best, winograd_times
from cnnc.kernels.cpu.winograd.scheme import Scheme

# Winograd's estimated gain over direct convolution must be at least this.
WORTH = 1.1
# Algorithms whose estimates are within this factor of the least are close: estimates are wrong by as much.
CLOSE = 1.3


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
        gain, _ = best(self.times)
        if self.scheme is None:
            return f"Winograd is estimated at {gain:.2g} of its speed"
        return f"about {self.times[None] / self.times[self.scheme]:.1f}x faster than direct"


def named(scheme: Scheme | None) -> str:
    return "direct" if scheme is None else f"winograd {scheme}"


def choose(low: Lowering, node: Node) -> Choice | None:
    """The algorithm of a convolution or of one of its gradients; None where there is only the direct one."""
    return low.once(("choice", node.name), lambda: _chosen(low, node))


def _chosen(low: Lowering, node: Node) -> Choice | None:
    p = problem(low, node)
    blocked = (p.x, p.weight if node.op == "conv_weight_gradient" else node.name)
    if low.exact or any(low.type(value).block <= 1 for value in blocked):
        return None
    conv, gradient = _like(low.target, p), node.op == "conv_weight_gradient"
    if conv is None or form_of(low.target, p.conv) == "banded":
        return None
    repacked = not gradient and p.weight in low.changing
    times = gradient_times(low.target, conv) if gradient else winograd_times(low.target, conv, p.transposed, repacked)
    if not times:
        return None
    gain, scheme = best(times)
    key, names = _key(p, conv, repacked), {named(s): s for s in times}
    decision = low.decisions.get(key)
    if decision is not None and decision.algorithm in names:
        return Choice(names[decision.algorithm], times, key, decision)
    return Choice(scheme if gain >= WORTH else None, times, key)


def why_not(low: Lowering, node: Node) -> str:
    """Why a convolution, or one of its gradients, is not Winograd's."""
    conv, choice = problem(low, node).conv, choose(low, node)
    because = f", {choice.because()}" if choice is not None else ""
    size = "x".join(map(str, conv.kernel))
    if conv.groups > 1:
        return f"{conv.groups} groups{because}"
    if max(conv.kernel) == 1:
        return "1x1, a product over pixels" + (f", stride {max(conv.stride)}" if max(conv.stride) > 1 else "")
    if max(conv.stride) > 1:
        return f"{size}, stride {max(conv.stride)}"
    if max(conv.dilation) > 1:
        return f"{size}, dilation {max(conv.dilation)}"
    if (1, *conv.kernel)[-2:] not in schemes.SCHEMES:
        return f"{size}, for which there is no Winograd kernel"
    if low.exact:
        return f"{size}, and exact rounding was asked for"
    if min(conv.channels, conv.filters) < schemes.FEWEST:
        return f"{size}, {min(conv.channels, conv.filters)} channels, Winograd wants {schemes.FEWEST}"
    return f"{size}{because}"


def _like(target: Target, p: Problem) -> Conv | None:
    """The convolution of one group, over two axes, that Winograd's algorithm is to make; None where it does not apply."""
    if p.flat is None:
        return like_winograds(target, p.conv, p.op)
    conv = p.flat.of_group
    if conv.kernel not in schemes.SCHEMES or conv.stride != (1, 1):
        return None
    if p.op == "conv_weight_gradient" and (conv.dilation != (1, 1) or conv.kernel[0] == 1):
        return None
    return conv


def _key(p: Problem, conv: Conv, repacked: bool) -> str:
    """What tells a problem from others."""
    if p.flat is None:
        c = p.conv
        depth = (c.size[0], c.kernel[0], c.stride[0], c.padding[0], c.dilation[0])
        more = " ".join(map(str, ("volume", *depth)))
    else:
        more = f"dilation {conv.dilation}" if conv.dilation != (1, 1) else ""
        more = f"line {more}" if conv.kernel[0] == 1 else more
    sizes = (conv.images, conv.channels, *conv.size, conv.filters, conv.kernel[1], conv.padding, p.conv.groups)
    return " ".join(map(str, (p.op, *sizes, *([more] if more else []), *(["repacked"] if repacked else []))))
