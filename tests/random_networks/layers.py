"""Every layer of the language, each as likely as any other, as the front end applies it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cnnc.ir.layer import LAYERS, Site
from cnnc.ir.op import REQUIRED
from cnnc.ir.types import product
from tests.random_networks.maker import WORK, Kinds, Maker

Pick = Callable[[Maker], str | None]  # what a layer is applied to
Given = Callable[[Maker, str], Mapping[str, Any]]  # its arguments


def choices(**options: Any) -> Given:
    """Each argument one of some."""
    return lambda m, x: {name: m.one(values) for name, values in options.items()}


def small_image(m: Maker) -> str | None:
    """An image of at most a thousand pixels, for windows that are read much."""
    x = m.image()
    return x if x is not None and product(tuple(int(d) for d in m.sizes(x)[2:])) <= 1000 else None


def split_sizes(m: Maker, x: str) -> Mapping[str, Any]:
    axis = m.axis(x)
    size = 2 if axis is None else int(m.sizes(x)[axis])
    first = 1 + m.below(size)
    return {"axis": 1 if axis is None else axis, "sizes": [first, size - first] if first < size else [size]}


def axes(m: Maker, x: str) -> Mapping[str, Any]:
    """Axes that are summed over, not the batch most often."""
    rank = m.b.type(x).rank
    found = [a for a in range(rank) if m.chance(40 if a else 10)]
    return {"axis": found or [rank - 1], "keepdim": m.chance(50)}


def one_axis(m: Maker, x: str) -> Mapping[str, Any]:
    axis = m.axis(x)
    return {"axis": 1 if axis is None else axis}


def normalized_axes(m: Maker, x: str) -> Mapping[str, Any]:
    rank = m.b.type(x).rank
    return {"axes": m.one((None, [1], [rank - 1])), "affine": m.chance(60), "eps": m.one((1e-5, 0.1))}


def divisor(m: Maker, x: str) -> int:
    channels = int(m.sizes(x)[1])
    return m.one([g for g in range(1, channels + 1) if channels % g == 0])


def kernels(m: Maker, x: str) -> list[int]:
    return [m.one((1, 2, 3)) for _ in m.sizes(x)[2:]]


def pooling(m: Maker, x: str) -> Mapping[str, Any]:
    kernel = kernels(m, x)
    stride = m.one((None, None, 1, 2))
    return {
        "kernel_size": kernel,
        "stride": stride,
        "padding": [m.below(k // 2 + 1) for k in kernel],
        "ceil_mode": m.chance(50),
    }


def convolving(m: Maker, x: str) -> Mapping[str, Any]:
    groups = divisor(m, x) if m.chance(30) else 1
    mode = m.one(("zeros", "zeros", "reflect", "replicate", "circular"))
    standard = not m.whole and m.chance(20)
    return {"out_channels": groups * m.one((1, 2, 5)), "kernel_size": kernels(m, x), "padding": m.one((0, 1, "same")),
            "groups": groups, "bias": m.chance(60), "padding_mode": mode, "weight_standardization": standard}  # fmt: skip


def transposing(m: Maker, x: str) -> Mapping[str, Any]:
    stride = m.one((1, 2))
    return {"out_channels": m.one((1, 5, 8)), "kernel_size": kernels(m, x), "stride": stride, "bias": m.chance(60),
            "output_padding": m.below(stride)}  # fmt: skip


def padding(m: Maker, x: str) -> Mapping[str, Any]:
    pairs = [[m.below(3), m.below(3)] for _ in m.sizes(x)[2:]]
    return {"padding": pairs, "mode": m.one(("constant", "reflect", "replicate", "circular"))}


def resized(m: Maker, x: str) -> Mapping[str, Any]:
    smooth = m.one((("nearest", False), ("bilinear", False), ("bilinear", True), ("bicubic", False)))
    return {"factor": m.one((2, 3)), "mode": smooth[0], "align_corners": smooth[1]}


def expanded(m: Maker, x: str) -> Mapping[str, Any]:
    return {"shape": [m.one((2, 3)) if d == 1 else d for d in m.sizes(x)]}


def reordered(m: Maker, x: str) -> Mapping[str, Any]:
    free = [int(i) + 1 for i in m.rng.permutation(m.b.type(x).rank - 1)]
    return {"axes": [0, *free]}


def entries(m: Maker, x: str) -> Mapping[str, Any]:
    axis = m.axis(x)
    size = 1 if axis is None else int(m.sizes(x)[axis])
    return {"axis": 1 if axis is None else axis, "indices": [m.below(size) for _ in range(1 + m.below(6))]}


ANY, RANKED, IMAGE, FEATURED = Maker.any, Maker.ranked, Maker.image, Maker.featured


def _at_least_one(m: Maker) -> str:
    return m.positive(m.any())


def _bounded(m: Maker) -> str:
    return m.bounded(m.ranked())


NOTHING = choices()
# What a layer is applied to, its arguments besides the defaults, and whether whole numbers stay whole.
DRAWN: dict[str, tuple[Pick, Given, bool]] = {
    "conv": (small_image, convolving, True),
    "conv_transpose": (small_image, transposing, True),
    "linear": (FEATURED, choices(out_features=(1, 3, 10, 17), bias=(True, False)), True),
    "matmul": (FEATURED, choices(transpose_b=(True,)), True),
    "adaptive_avgpool": (IMAGE, choices(size=(1, 2, 3)), False),
    "adaptive_maxpool": (IMAGE, choices(size=(1, 2, 3)), True),
    "global_maxpool": (IMAGE, NOTHING, True),
    "global_avgpool": (IMAGE, NOTHING, False),
    "maxpool": (IMAGE, pooling, True),
    "avgpool": (IMAGE, pooling, False),
    "lppool": (
        IMAGE,
        lambda m, x: {"norm_type": m.one((1, 2)), "kernel_size": kernels(m, x), "ceil_mode": m.chance(50)},
        False,
    ),
    "unpool": (IMAGE, lambda m, x: {"kernel_size": kernels(m, x)}, True),
    "mean": (RANKED, axes, False),
    "sum": (RANKED, axes, True),
    "max": (RANKED, axes, True),
    "min": (RANKED, axes, True),
    "prod": (_bounded, axes, True),
    "logsumexp": (RANKED, axes, False),
    "norm": (RANKED, lambda m, x: {**axes(m, x), "p": m.one((1, 2))}, False),
    "argmax": (RANKED, one_axis, True),
    "argmin": (RANKED, one_axis, True),
    "cumsum": (RANKED, one_axis, True),
    "batchnorm": (FEATURED, choices(affine=(True, False), track_running_stats=(True, True, False)), False),
    "lrn": (FEATURED, choices(size=(1, 3, 5), alpha=(1e-4, 0.5)), False),
    "layernorm": (FEATURED, normalized_axes, False),
    "rmsnorm": (FEATURED, normalized_axes, False),
    "groupnorm": (IMAGE, lambda m, x: {"groups": divisor(m, x), "affine": m.chance(60)}, False),
    "instancenorm": (IMAGE, choices(affine=(True, False)), False),
    "dropout": (ANY, choices(p=(0.5, 0.3), by=("element", "channel")), False),
    "drop_path": (ANY, choices(p=(0.5, 0.1)), False),
    "reshape": (FEATURED, lambda m, x: {"shape": ["N", m.one((1, divisor(m, x))), -1]}, True),
    "squeeze": (RANKED, NOTHING, True),
    "unsqueeze": (RANKED, lambda m, x: {"axis": 1 + m.below(m.b.type(x).rank)}, True),
    "expand": (FEATURED, expanded, True),
    "transpose": (FEATURED, reordered, True),
    "split": (RANKED, split_sizes, True),
    "stack": (RANKED, lambda m, x: {"axis": 1 + m.below(m.b.type(x).rank)}, True),
    "concat": (FEATURED, choices(axis=(1, 1, -1)), True),
    "pad": (IMAGE, padding, True),
    "flip": (RANKED, one_axis, True),
    "gather": (RANKED, entries, True),
    "repeat": (RANKED, lambda m, x: {"repeats": [1, *(m.one((1, 1, 2)) for _ in m.sizes(x)[1:])]}, True),
    "channel_shuffle": (IMAGE, lambda m, x: {"groups": divisor(m, x)}, True),
    "pixel_shuffle": (IMAGE, choices(factor=(1, 2)), True),
    "pixel_unshuffle": (IMAGE, choices(factor=(2, 2, 3)), True),
    "flatten": (FEATURED, NOTHING, True),
    "upsample": (small_image, resized, False),
    "prelu": (FEATURED, lambda m, x: {"num_parameters": m.one((1, int(m.sizes(x)[1])))}, True),
    "silu": (FEATURED, choices(beta=(1, 1.5), trained=(True, False)), False),
    "glu": (RANKED, one_axis, False),
    "maxout": (FEATURED, lambda m, x: {"pieces": max(2, divisor(m, x))}, True),
    "softmax": (RANKED, one_axis, False),
    "log_softmax": (RANKED, one_axis, False),
    "gelu": (ANY, choices(approximate=("none", "tanh")), False),
    "leaky_relu": (ANY, choices(negative_slope=(0.01, 0.2)), False),
    "elu": (ANY, choices(alpha=(1, 0.5)), False),
    "celu": (ANY, choices(alpha=(1, 0.7)), False),
    "softplus": (ANY, choices(beta=(1, 1.5), threshold=(20, 2)), False),
    "hardtanh": (ANY, choices(min_val=(-1, -2), max_val=(1, 3)), True),
    "clamp": (ANY, choices(min=(None, -2.0), max=(1.0, 3.0)), True),
    "threshold": (ANY, choices(threshold=(0, 1), value=(0, -2)), True),
    "pow": (_at_least_one, choices(exponent=(0.5, 1.5, 2, -1)), False),
    **{name: (ANY, NOTHING, True) for name in ("relu", "relu6", "abs", "sign", "floor")},
    **{name: (_at_least_one, NOTHING, False) for name in ("log", "log1p", "sqrt")},
    **{name: (_bounded, NOTHING, False) for name in ("exp", "expm1")},
    **{
        name: (ANY, NOTHING, False)
        for name in ("sigmoid", "tanh", "selu", "mish", "log_sigmoid", "softsign", "hardsigmoid", "hardswish", "erf")
    },
}
WHOLE = [name for name, (_, _, whole) in DRAWN.items() if whole]


def others(m: Maker, name: str, x: str) -> list[str]:
    """What a layer of several tensors is applied to besides."""
    if name not in ("matmul", "concat", "stack"):
        return []
    alike = [v for v in m.values if m.sizes(v) == m.sizes(x)]
    return [m.one(alike) for _ in range(1 if name == "matmul" else m.below(3))]


def layer(m: Maker) -> str | None:
    """One application of any layer. Raises `InferenceError`."""
    name = m.one(WHOLE if m.whole else list(DRAWN))
    pick, given, _ = DRAWN[name]
    x = pick(m)
    if x is None:
        return None
    record = LAYERS[name]
    defaults = {a.name: a.default for a in record.arguments if a.default is not REQUIRED}
    arguments = {**defaults, **given(m, x)}
    operands = [x, *others(m, name, x)]
    if name == "unpool":
        kernel = arguments["kernel_size"]
        operands = [m.add("maxpool", [x], kernel=kernel, stride=kernel), x]
    specs = record.parameters([m.b.type(o) for o in operands], arguments)
    pixels = product(tuple(int(d) for d in m.sizes(x)[2:] if d != "N"))
    if pixels * sum(product(s.shape) for s in specs.values()) > WORK:
        return None
    at = m.name()
    parameters = {
        short: m.param(spec.shape, "w", spec.layout) if spec.trained else m.b.state(f"{at}.{short}", spec.type)
        for short, spec in specs.items()
    }
    made = record.build(Site(m.b, tuple(operands), parameters, arguments, at))
    if isinstance(made, str):
        return made
    for value in made[1:]:
        m.keep(value)
    return made[0]


KINDS: Kinds = {"layer": (layer, 18, 24)}
