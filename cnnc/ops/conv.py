"""Convolution in one, two and three dimensions, and its two gradients.

y[n, k, o] = b[k] + sum over c, t of w[k, c, t] * x[n, c, o * stride + t * dilation - padding]   (cross-correlation, as in every
framework), within each of `groups` groups of channels. `epilogue` is an expression over the sum `y` and the operands that follow the
bias, `a0`, `a1`, ...: what fusion has put behind the convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from cnnc.ir import expression as ex
from cnnc.ir.graph import Attributes, Node
from cnnc.ir.layer import STARTS_OF_LAYERS, Argument, ParameterSpec, Site, builds
from cnnc.ir.op import REQUIRED, InferenceError, Op, Types, defines, required
from cnnc.ir.receptive import Field
from cnnc.ir.types import WEIGHTS, TensorType, product
from cnnc.ops.checks import check_bias, flag, integer, integers
from cnnc.ops.pointwise import align
from cnnc.ops.window import DILATION, GROUPS, KERNEL_SIZE, Window, field_through, image, spatial, window_field


def check_epilogue(attributes: Mapping[str, Any], extras: Types, result: TensorType) -> None:
    """An epilogue reads y and the extra operands, each of the result's shape, one value a channel, or one value."""
    text = attributes["epilogue"]
    if text is None:
        if extras:
            raise InferenceError("operands after the bias need an epilogue", "epilogue", "E0502")
        return
    try:
        unknown = set(ex.variables(ex.parse(text))) - {"y", *(f"a{i}" for i in range(len(extras)))}
    except ValueError as e:
        raise InferenceError(str(e), "epilogue", "E0502") from None
    if unknown:
        raise InferenceError(f"the epilogue names {', '.join(sorted(unknown))}", "epilogue", "E0502")
    for t in extras:
        if t is None or (t.shape not in ((), result.shape, (result.shape[1],))):
            raise InferenceError(f"an epilogue of {result} cannot read {t}", "epilogue", "E0502")
        if t.rank == result.rank and t.layout != result.layout:
            raise InferenceError(f"an epilogue of {result} cannot read the layout of {t}", "epilogue", "E0503")


def apply_epilogue(y: Any, attributes: Mapping[str, Any], extras: Sequence[Any]) -> Any:
    text = attributes["epilogue"]
    if text is None:
        return y
    values = {"y": y, **{f"a{i}": align(a, y.ndim) for i, a in enumerate(extras)}}
    return np.broadcast_to(ex.evaluate(ex.parse(text), values), y.shape)


def _float64(arrays: Sequence[Any]) -> list[Any]:
    return [np.asarray(a, np.float64) for a in arrays]


def check_groups(given: Any, channels: int, filters: int) -> int:
    groups = integer(given, "groups", 1)
    if channels % groups or filters % groups:
        raise InferenceError(
            f"groups={groups} must divide the {channels} input channels and the {filters} output channels",
            "groups",
            "E0203",
        )
    return groups


def _infer(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x, w = image(types[0], "conv"), types[1]
    rank = x.rank - 2
    if w is None or w.rank != rank + 2:
        raise InferenceError(f"weights {w} do not fit an input {x}", "weight", "E0204")
    window = Window.of(w.shape[2:], attributes, rank)
    filters, per_group = int(w.shape[0]), int(w.shape[1])
    groups = check_groups(attributes["groups"], int(x.shape[1]), filters)
    if per_group * groups != x.shape[1]:
        raise InferenceError(
            f"conv expects {per_group * groups} input channels, the input has {x.shape[1]}", "weight", "E0204"
        )
    check_bias(types, filters, "output channels")
    shape = (x.shape[0], filters, *window.output(spatial(x)))
    result = TensorType(x.dtype, shape, attributes["layout"] or x.layout)
    check_epilogue(attributes, types[3:], result)
    return (result,)


def _grouped(a: Any, groups: int) -> Any:
    """[..., C, P] as [..., groups, C / groups, P]: products of matrices then go group by group."""
    return a.reshape(*a.shape[:-2], groups, a.shape[-2] // groups, a.shape[-1])


def _macs(node: Node, types: Types, batch: int) -> int:
    w = required(types[1])
    return product(node.type.concrete(batch)) * product(w.concrete(batch)[1:])


def _gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    dy, x, w, bias = gradients[0], node.operand("x"), node.operand("weight"), node.optional("bias")
    shared = {k: node.attributes[k] for k in ("stride", "padding", "dilation", "groups") if k in node.attributes}
    dx = (
        context.add("conv_data_gradient", [dy, w], {**shared, "size": spatial(context.type(x))})
        if context.wanted(x)
        else None
    )
    dw = (
        context.add("conv_weight_gradient", [x, dy], {**shared, "kernel": context.type(w).shape[2:]})
        if context.wanted(w)
        else None
    )
    db = context.reduce_to(dy, bias) if bias is not None and context.wanted(bias) else None
    return [dx, dw, db][: len(node.operands)]


def _field(node: Node, types: Types, seen: Field) -> Field:
    kernel = required(types[1]).shape[2:]
    return field_through(Window.of(kernel, node.attributes, len(kernel)), node, seen)


# Ops that spread the pixels of their first operand over windows: a convolution's data gradient, and that as a layer.
TRANSPOSED = ("conv_data_gradient", "conv_transpose")
ATTRIBUTES: dict[str, Any] = {
    "stride": None,
    "padding": None,
    "dilation": None,
    "groups": 1,
    "layout": None,
    "epilogue": None,
}
_convolution = partial(Op, kind="convolution")


@defines(
    _convolution(
        "conv",
        ("x", "weight", "bias?", "epilogue*"),
        infer=_infer,
        attributes=ATTRIBUTES,
        gradient=_gradient,
        macs=_macs,
        layout="window",
        field=_field,
    )
)
def _forward(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """y[n, k, o] = b[k] + sum over c, t of w[k, c, t] * x[n, c, o * stride + t * dilation - padding] within each of
    `groups` groups of channels. `epilogue` is an expression over this sum y and the operands behind the bias, a0,
    a1, ...: what fusion has put there.
    """
    x, w = _float64(arrays[:2])
    window, groups = Window.of(w.shape[2:], attributes, x.ndim - 2), attributes["groups"]
    out = types[0].sizes[2:]
    y = np.zeros((x.shape[0], groups, w.shape[0] // groups, product(out)))
    padded = window.pad(x, out)
    for tap, where in window.taps(x.shape[2:], out):
        part = padded[(slice(None), slice(None), *where)].reshape(x.shape[0], x.shape[1], product(out))
        y += np.matmul(_grouped(w[(slice(None), slice(None), *tap)], groups), _grouped(part, groups))
    y = y.reshape(x.shape[0], w.shape[0], *out)
    if len(arrays) > 2 and arrays[2] is not None:
        y = y + align(arrays[2], y.ndim)
    return (apply_epilogue(y, attributes, arrays[3:]),)


# ------------------------------------------------------------------------------------------------ gradients


def infer_data(op: str, operand: str) -> Callable[[Types, Attributes], tuple[TensorType, ...]]:
    """Inference of an op that spreads the pixels of its operand over windows of a result of `size`."""

    def infer(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
        x, w = image(types[0], op, operand), required(types[1])
        rank = x.rank - 2
        size = integers(attributes["size"], "size", rank, 1)
        window = Window.of(w.shape[2:], attributes, rank)
        if x.shape[1:] != (w.shape[0], *window.output(size)):
            raise InferenceError(
                f"{operand} {x} does not belong to windows over an image of size {size} and weights {w}",
                "size",
                "E0204",
            )
        channels = int(w.shape[1]) * check_groups(attributes["groups"], int(w.shape[0]), int(w.shape[0]))
        result = TensorType(x.dtype, (x.shape[0], channels, *size), attributes["layout"] or x.layout)
        check_bias(types, channels, "channels")
        check_epilogue(attributes, types[3:], result)
        return (result,)

    return infer


def data_macs(node: Node, types: Types, batch: int) -> int:
    dy, w = required(types[0]), required(types[1])
    return product(dy.concrete(batch)) * product(w.concrete(batch)[1:])


@defines(
    _convolution(
        "conv_data_gradient",
        ("dy", "weight", "bias?", "epilogue*"),
        infer=infer_data("conv_data_gradient", "dy"),
        attributes={**ATTRIBUTES, "size": REQUIRED},
        macs=data_macs,
        layout="window",
        doc="dL/dx of conv: every output gradient spread over the pixels its window saw. `size`: of the input.",
    )
)
def spread(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """The pixels of dy [N, K, ...], each times the weights [K, C / groups, ...], added up over windows of [N, C, *size]."""
    dy, w = _float64(arrays[:2])
    window, groups = Window.of(w.shape[2:], attributes, dy.ndim - 2), attributes["groups"]
    size, out, channels = attributes["size"], dy.shape[2:], w.shape[1] * groups
    padded = window.pad(np.zeros((dy.shape[0], channels, *size)), out)
    flat = _grouped(dy.reshape(*dy.shape[:2], product(out)), groups)
    for tap, where in window.taps(size, out):
        part = np.matmul(_grouped(w[(slice(None), slice(None), *tap)], groups).swapaxes(1, 2), flat)
        padded[(slice(None), slice(None), *where)] += part.reshape(dy.shape[0], channels, *out)
    dx = window.unpad(padded, size)
    if len(arrays) > 2 and arrays[2] is not None:
        dx = dx + align(arrays[2], dx.ndim)
    return (apply_epilogue(dx, attributes, arrays[3:]),)


def _infer_weight(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x, dy = image(types[0], "conv_weight_gradient"), required(types[1])
    rank = x.rank - 2
    kernel = integers(attributes["kernel"], "kernel", rank, 1)
    window = Window.of(kernel, attributes, rank)
    if tuple(dy.shape[2:]) != window.output(spatial(x)):
        raise InferenceError(
            f"a gradient {dy} does not belong to an input {x} and a kernel {kernel}", "kernel", "E0204"
        )
    groups = check_groups(attributes["groups"], int(x.shape[1]), int(dy.shape[1]))
    return (TensorType(x.dtype, (int(dy.shape[1]), int(x.shape[1]) // groups, *kernel), WEIGHTS[rank + 2]),)


def _weight_macs(node: Node, types: Types, batch: int) -> int:
    dy = required(types[1])
    return product(dy.concrete(batch)) * product(node.type.concrete(batch)[1:])


@defines(
    _convolution(
        "conv_weight_gradient",
        ("x", "dy"),
        infer=_infer_weight,
        attributes={"stride": None, "padding": None, "dilation": None, "groups": 1, "kernel": REQUIRED},
        macs=_weight_macs,
        layout="weight_gradient",
        field=window_field,
    )
)
def _weight(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """dL/dw of conv: products of input pixels and output gradients, summed over images and positions."""
    x, dy = _float64(arrays)
    window, groups = Window.of(attributes["kernel"], attributes, x.ndim - 2), attributes["groups"]
    out = dy.shape[2:]
    dw: Any = np.zeros(types[0].sizes)
    padded = window.pad(x, out)
    g = _grouped(dy.reshape(*dy.shape[:2], product(out)), groups)
    for tap, where in window.taps(x.shape[2:], out):
        part = padded[(slice(None), slice(None), *where)].reshape(*x.shape[:2], product(out))
        sums = np.matmul(g, _grouped(part, groups).swapaxes(2, 3)).sum(0)
        dw[(slice(None), slice(None), *tap)] = sums.reshape(dw.shape[:2])
    return (dw,)


# ------------------------------------------------------------------------------------------------ the layer


def _window(types: Sequence[TensorType], arguments: Mapping[str, Any]) -> Window:
    return Window.of(arguments["kernel_size"], arguments, len(spatial(image(types[0], "conv"))))


def _parameters(types: Sequence[TensorType], arguments: Mapping[str, Any]) -> dict[str, ParameterSpec]:
    window = _window(types, arguments)
    _mode(arguments)
    filters = integer(arguments["out_channels"], "out_channels", 1)
    channels = int(types[0].shape[1])
    groups = check_groups(arguments["groups"], channels, filters)
    fan_in = channels // groups * product(window.kernel)
    specs = {
        "weight": ParameterSpec(
            (filters, channels // groups, *window.kernel), WEIGHTS[types[0].rank], fan_in=fan_in, groups=groups
        )
    }
    if flag(arguments["bias"], "bias"):
        specs["bias"] = ParameterSpec((filters,), fan_in=fan_in)
    return specs


PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


def _mode(arguments: Mapping[str, Any]) -> str:
    mode = arguments["padding_mode"]
    if mode not in PADDING_MODES:
        known = f"{', '.join(PADDING_MODES[:-1])} or {PADDING_MODES[-1]}"
        raise InferenceError(f"padding_mode is {known}, not {mode!r}", "padding_mode", "E0203")
    return str(mode)


@builds(
    "conv",
    Argument("out_channels", doc="how many filters there are"),
    KERNEL_SIZE,
    Argument("stride", 1, "pixels from one window to the next"),
    Argument("padding", 0, 'zeros around the input: a number, a list, a list of pairs, or "same"'),
    DILATION,
    GROUPS,
    Argument("bias", True, "whether a trained number is added to each filter's sums"),
    Argument("padding_mode", "zeros", 'or what is there: "reflect", "replicate", "circular"; as in pad'),
    Argument(
        "weight_standardization",
        False,
        "whether each filter's weights are less their mean, over their deviation (Qiao et al., 2019)",
    ),
    *STARTS_OF_LAYERS,
    parameters=_parameters,
    shapes="[N, C, H, W] -> [N, out_channels, H', W'], where "
    "H' = floor((H + top + bottom - dilation * (kernel_size - 1) - 1) / stride) + 1",
    example="x -> conv(16, 3, padding=1)",
    doc='convolution in 1, 2 or 3 dimensions, by its input\'s rank; padding may be `"same"`, or a list of pairs '
    "`[[top, bottom], [left, right]]`",
)
def _build(site: Site) -> str:
    """With another padding than zeros, a pad stands in front."""
    window, mode, x = _window([site.type], site.arguments), _mode(site.arguments), site.operands[0]
    if mode != "zeros" and any(map(any, window.padding)):
        x = site.builder.add("pad", [x], {"padding": window.padding, "mode": mode}, f"{site.name}.pad", site.origin)
        window = replace(window, padding=((0, 0),) * len(window.padding))
    attributes: dict[str, Any] = window.attributes()
    if site.arguments["groups"] != 1:
        attributes["groups"] = site.arguments["groups"]
    weight, *bias = site.parameters.values()
    if flag(site.arguments["weight_standardization"], "weight_standardization"):
        axes = tuple(range(1, site.type.rank))
        weight = site.builder.add("normalize", [weight], {"axes": axes}, f"{weight}.standardized", site.origin)
    return site.add("conv", [x, weight, *bias], attributes)
