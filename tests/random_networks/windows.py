"""What random networks have of windows over space: convolutions, pooling, sizes of images."""

from __future__ import annotations

from typing import Any

from cnnc.ir.types import product
from cnnc.ops.pool import window_of
from cnnc.ops.window import Window
from tests.passes.networks import WEIGHTS
from tests.random_networks.maker import CHANNELS, WORK, Kinds, Maker

WHOLE = ("relu", "relu6", "neg", "abs", "hardtanh", "clamp")
BOUNDS: dict[str, dict[str, float]] = {"clamp": {"min": -2.0, "max": 3.0}}


def activated(m: Maker, x: str) -> str:
    """With an activation that gives whole numbers for whole numbers."""
    op = m.one(WHOLE)
    return m.add(op, [x], **BOUNDS.get(op, {}))


def window(m: Maker, value: str, least: int = 0) -> dict[str, Any]:
    """A window over an image; `least` 1 keeps the padding within half of the kernel, as pooling needs it. Without it
    some windows lie in the padding alone.
    """
    axes = m.b.type(value).rank - 2
    kernel = tuple(1 + m.below(m.one((1, 3, 3, 5) if axes < 3 else (1, 2, 3))) for _ in range(axes))
    dilation = tuple(1 + m.below(3) if m.chance(15) else 1 for _ in range(axes))
    stride = tuple(m.one((1, 1, 2, 3)) for _ in range(axes)) if m.chance(50) else (1,) * axes
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if m.chance(25):
        padding = [(0, 0)] * axes
    else:
        padding = [(m.below(r // 2 + 1), m.below((r if not least else r // 2) + 1)) for r in reach]
        if not least and m.chance(12):
            padding = [(m.below(r + 2), m.below(r + 2)) for r in reach]
    if m.chance(50):
        padding = [(a, a) for a, _ in padding]
    return {"kernel": kernel, "stride": stride, "dilation": dilation, "padding": tuple(padding)}


def convolved(m: Maker, x: str, given: dict[str, Any], filters: int | None = None) -> str | None:
    """A convolution of a window, unless it is much work."""
    channels, groups = int(m.sizes(x)[1]), 1
    if filters is None:
        divisors = [g for g in range(1, channels + 1) if channels % g == 0]
        groups = m.one((channels, m.one(divisors))) if m.chance(30) else 1
        filters = m.one(CHANNELS) if groups == 1 else groups * m.one((1, 1, 2, 3, 16))
    at = Window.of(given["kernel"], given, m.b.type(x).rank - 2)
    shape = (filters, channels // groups, *at.kernel)
    out = at.output(tuple(int(d) for d in m.sizes(x)[2:]))
    if filters > 64 or product(shape) * product(out) > WORK:
        return None
    operands = [x, m.param(shape, "w", WEIGHTS[len(shape)])]
    if m.chance(60):
        operands.append(m.param((filters,), "b"))
    return m.add("conv", operands, **at.attributes(), groups=groups)


def convolution(m: Maker) -> str | None:
    x = m.image()
    if x is None:
        return None
    if m.b.type(x).rank == 4 and m.chance(25):  # what fast algorithms know
        size = m.one((3, 3, 5))
        kernel = (1, size) if m.chance(20) else (size, size)
        return convolved(m, x, {"kernel": kernel, "padding": m.one((0, 1, "same"))})
    if m.b.type(x).rank == 3 and m.chance(50):
        return convolved(m, x, {"kernel": m.one((3, 3, 5)), "padding": m.one((0, 1, "same"))})
    return convolved(m, x, window(m, x))


def transposed(m: Maker) -> str | None:
    x = m.image()
    if x is None:
        return None
    size, channels = tuple(int(d) for d in m.sizes(x)[2:]), int(m.sizes(x)[1])
    at = Window.of((given := window(m, x))["kernel"], given, len(size))
    more = [m.below(s) if m.chance(30) else 0 for s in at.stride]
    made = tuple((n - 1) * at.stride[i] + at.reach(i) - sum(at.padding[i]) + more[i] for i, n in enumerate(size))
    groups = m.one((channels, 1, 2)) if m.chance(30) else 1
    filters = m.one(CHANNELS) if groups == 1 else m.one((1, 1, 2, 16))
    shape = (channels, filters, *at.kernel)
    if channels % groups or groups * filters > 64 or min(made) < 1 or product(shape) * product(size) > WORK:
        return None
    operands = [x, m.param(shape, "w", WEIGHTS[len(shape)])]
    if m.chance(60):
        operands.append(m.param((groups * filters,), "b"))
    return m.add("conv_transpose", operands, **at.attributes(), groups=groups, size=made)


def pooled(m: Maker, op: str) -> str | None:
    x = m.image()
    if x is None:
        return None
    given = window(m, x, least=1)
    if op == "avgpool":
        del given["dilation"]
        given["padding"] = tuple(
            (min(a, k // 2), min(b, k // 2)) for (a, b), k in zip(given["padding"], given["kernel"], strict=True)
        )
    attributes: dict[str, Any] = {"ceil_mode": True} if m.chance(50) else {}
    if op == "avgpool" and m.chance(50):
        attributes["count_include_pad"] = False
    elif op == "avgpool" and m.chance(20):
        attributes["divisor_override"] = m.one((1, 3))
    at = window_of(given, m.b.type(x).rank - 2)
    return m.add(op, [x], kernel=at.kernel, **at.attributes(), **attributes)


def over_planes(m: Maker) -> str | None:
    """The mean or the largest of all pixels."""
    x = m.image()
    if x is None:
        return None
    if m.chance(50):
        return m.add("global_avgpool", [x])
    return m.add("max", [x], axis=tuple(range(2, m.b.type(x).rank)), keepdim=True)


def resize(m: Maker) -> str | None:
    x = m.image()
    if x is None:
        return None
    size = tuple(1 + m.below(m.one((2, 2, 3)) * int(d) + 1) for d in m.sizes(x)[2:])
    mode, corners = m.one(("nearest", "bilinear", "bicubic")), m.one(("half_pixel", "align_corners"))
    rule = {"mode": mode, "corners": corners} if mode != "nearest" or m.chance(20) else {}
    return m.add("upsample", [x], size=size, **rule)


def adaptive(m: Maker) -> str | None:
    x = m.image()
    if x is None:
        return None
    size = tuple(1 + m.below(int(d)) for d in m.sizes(x)[2:])
    return m.add(m.one(("adaptive_maxpool", "adaptive_avgpool")), [x], size=size)


def unpool(m: Maker) -> str | None:
    x = m.image()
    if x is None:
        return None
    kernel = tuple(1 + m.below(3) for _ in m.sizes(x)[2:])
    given = {"kernel": kernel, "stride": kernel, "ceil_mode": m.chance(50)}
    small = m.add("maxpool", [x], **given)
    if m.chance(50):
        small = activated(m, small)
    return m.add("unpool", [small, x], **given)


def norm_pool(m: Maker) -> str | None:
    x = m.image()
    if x is None:
        return None
    kernel = tuple(1 + m.below(3) for _ in m.sizes(x)[2:])
    power = m.one((1, 2, 3))
    return m.add("lppool", [m.positive(x)], kernel=kernel, stride=kernel, ceil_mode=m.chance(50), norm_type=power)


def local_response(m: Maker) -> str | None:
    x = m.image()
    attributes = {"size": 1 + m.below(6), "alpha": m.one((1e-4, 0.5)), "beta": m.one((0.75, 0.5, 1.0))}
    return None if x is None else m.add("lrn", [x], **attributes)


def pad(m: Maker) -> str | None:
    x = m.image()
    if x is None:
        return None
    padding = [(m.below(5) - 1, m.below(5) - 1) for _ in m.sizes(x)[2:]]
    mode = m.one(("constant", "constant", "reflect", "replicate", "circular"))
    value: dict[str, Any] = {"value": float(m.one((0, 0, 1, -2)))} if mode == "constant" else {}
    return m.add("pad", [x], padding=padding, mode=mode, **value)


def shuffle(m: Maker) -> str | None:
    x = m.image()
    if x is None:
        return None
    t, kind = m.b.type(x), m.one(("channel_shuffle", "pixel_shuffle", "pixel_unshuffle"))
    channels = int(t.shape[1])
    if kind == "channel_shuffle":
        divisors = [g for g in range(2, channels) if channels % g == 0]
        return m.add(kind, [x], groups=m.one(divisors)) if divisors else None
    if kind == "pixel_shuffle" and channels % 4:
        x = convolved(m, x, {"kernel": (1,) * (t.rank - 2)}, m.one((4, 8, 9, 16, 32)))
    return None if x is None else m.add(kind, [x], factor=m.one((2, 2, 3)))


KINDS: Kinds = {
    "convolution": (convolution, 8, 6),
    "transposed": (transposed, 2, 2),
    "maximum": (lambda m: pooled(m, "maxpool"), 2, 2),
    "average": (lambda m: pooled(m, "avgpool"), 0, 2),
    "over_planes": (over_planes, 1, 1),
    "resize": (resize, 1, 2),
    "adaptive": (adaptive, 1, 2),
    "unpool": (unpool, 1, 1),
    "norm_pool": (norm_pool, 0, 1),
    "local_response": (local_response, 0, 1),
    "pad": (pad, 2, 2),
    "shuffle": (shuffle, 2, 2),
}
