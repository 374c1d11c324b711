"""Activations that are more than a function of single numbers: with a trained slope, over an axis, in two forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnc.ir.graph import Attributes
from cnnc.ir.layer import Argument, ParameterSpec, Site, builds
from cnnc.ir.op import InferenceError, Op, Types, defines, required
from cnnc.ir.start import Start, start
from cnnc.ir.types import TensorType
from cnnc.ops.checks import flag, integer, number, one_axis, show

AXIS = Argument("axis", 1, "along which; the channels, unless told")

# ------------------------------------------------------------------------------------------------ gelu


@builds(
    "gelu",
    Argument("approximate", "none", '"tanh" for a cubic within tanh in place of the error function'),
    example="x -> gelu",
)
def _gelu(site: Site) -> str:
    """x times the normal distribution's part below it"""
    forms = {"none": "gelu", "tanh": "gelu_tanh"}
    form = site.arguments["approximate"]
    if form not in forms:
        raise InferenceError(f'approximate is "none" or "tanh", not {form!r}', "approximate", "E0203")
    return site.add(forms[form], site.operands)


# ------------------------------------------------------------------------------------------------ trained slopes


def _prelu_parameters(types: Sequence[TensorType], arguments: Mapping[str, Any]) -> dict[str, ParameterSpec]:
    """A slope for all values, or one for each channel. Raises `InferenceError`."""
    count, x = integer(arguments["num_parameters"], "num_parameters", 1), types[0]
    channels = x.shape[1] if x.rank > 1 else 1
    if count not in (1, channels):
        what = f"num_parameters is {count}; it must be 1 or the channels of {show(x)}"
        raise InferenceError(what, "num_parameters", "E0203")
    init = arguments["init"]
    begin = init if isinstance(init, Start) else start("constant", value=number(init, "init", -1e30))
    return {"weight": ParameterSpec((count,), told=begin)}


def _with(op: str, site: Site, parameter: str) -> str:
    """An op of x and a parameter: of one number, which works on every value, as a number of no axes."""
    value = site.parameters[parameter]
    if site.builder.type(value).shape == (1,):
        value = site.builder.add("reshape", [value], {"shape": ()}, f"{site.name}.number", site.origin)
    return site.add(op, [*site.operands, value])


@builds(
    "prelu",
    Argument("num_parameters", 1, "1, or the channels: a slope for each"),
    Argument("init", 0.25, "the slope that training begins with"),
    parameters=_prelu_parameters,
    example="x -> prelu(x.channels)",
)
def _prelu(site: Site) -> str:
    """x, or `weight * x` where it is negative, with a trained weight"""
    return _with("prelu", site, "weight")


def _silu_parameters(types: Sequence[TensorType], arguments: Mapping[str, Any]) -> dict[str, ParameterSpec]:
    beta = number(arguments["beta"], "beta", -1e30)
    if not flag(arguments["trained"], "trained"):
        return {}
    return {"beta": ParameterSpec((1,), initialization=start("constant", value=beta))}


@builds(
    "silu",
    Argument("beta", 1.0, "factor of x within the sigmoid"),
    Argument("trained", False, "whether beta is a parameter, which begins so"),
    parameters=_silu_parameters,
    example="x -> silu",
)
def _silu(site: Site) -> str:
    """`x * sigmoid(beta * x)`"""
    if site.parameters:
        return _with("swish", site, "beta")
    return site.add("silu", site.operands, {"beta": float(site.arguments["beta"])})


# ------------------------------------------------------------------------------------------------ over channels


@builds("glu", AXIS, shapes="[N, 2 * C, ...] -> [N, C, ...]", example="x -> conv(8, 3) -> glu")
def _glu(site: Site) -> str:
    """the first half along an axis times the sigmoid of the second"""
    x = site.type
    axis = one_axis(site.arguments["axis"], x.rank)
    whole = x.shape[axis]
    if not isinstance(whole, int) or whole % 2:
        raise InferenceError(f"axis {axis} of {show(x)} has no two halves", "axis", "E0204")
    size = whole // 2

    def half(begin: int, name: str) -> str:
        attributes = {"axis": axis, "start": begin, "size": size}
        return site.builder.add("slice", site.operands, attributes, f"{site.name}.{name}", site.origin)

    gate = site.builder.add("sigmoid", [half(size, "gate")], {}, f"{site.name}.sigmoid", site.origin)
    return site.add("mul", [half(0, "value"), gate])


@builds(
    "maxout",
    Argument("pieces", doc="how many channels that follow each other become one"),
    shapes="[N, pieces * C, ...] -> [N, C, ...]",
    example="x -> conv(8, 3) -> maxout(2)",
    doc="the largest of each `pieces` channels",
)
def _maxout(site: Site) -> str:
    """Channels that follow each other are the pieces of one (Goodfellow et al., 2013)."""
    pieces, x = integer(site.arguments["pieces"], "pieces", 2), site.type
    if x.rank < 2 or not isinstance(x.shape[1], int) or x.shape[1] % pieces:
        raise InferenceError(f"pieces={pieces} must divide the channels of {show(x)}", "pieces", "E0204")
    shape = (x.shape[0], x.shape[1] // pieces, *x.shape[2:])

    def add(op: str, operand: str, attributes: dict[str, Any]) -> str:
        return site.builder.add(op, [operand], attributes, f"{site.name}.{op}", site.origin)

    apart = add("reshape", site.operands[0], {"shape": (*shape[:2], pieces, *shape[2:])})
    parts = [add("slice", apart, {"axis": 2, "start": i, "size": 1}) for i in range(pieces)]
    *most, last = [add("reshape", part, {"shape": shape}) for part in parts]
    largest = most[0]
    for part in most[1:]:
        largest = site.builder.add("maximum", [largest, part], {}, f"{site.name}.maximum", site.origin)
    return site.add("maximum", [largest, last])


# ------------------------------------------------------------------------------------------------ log_softmax


def _infer_log_softmax(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x = required(types[0])
    one_axis(attributes["axis"], x.rank)
    return (x,)


@defines(
    Op(
        "log_softmax",
        ("x",),
        infer=_infer_log_softmax,
        attributes={"axis": 1},
        gradient=lambda context, node, g: [context.add("log_softmax_gradient", [node.name, g[0]], node.attributes)],
    )
)
def _log_softmax(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """x_i - log(sum over j of exp(x_j)) along an axis, shifted by the maximum."""
    x, axis = np.asarray(arrays[0], np.float64), attributes["axis"]
    with np.errstate(all="ignore"):
        shifted = x - x.max(axis, keepdims=True, initial=-np.inf)
        return (shifted - np.log(np.exp(shifted).sum(axis, keepdims=True)),)


@defines(Op("log_softmax_gradient", ("y", "dy"), infer=_infer_log_softmax, attributes={"axis": 1}))
def _log_softmax_gradient(
    arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]
) -> tuple[Any, ...]:
    """dL/dx of log_softmax over its result: dy - exp(y) * sum of dy."""
    y, dy = (np.asarray(a, np.float64) for a in arrays)
    return (dy - np.exp(y) * dy.sum(attributes["axis"], keepdims=True),)


@builds("log_softmax", AXIS, example="x -> flatten -> linear(10) -> log_softmax")
def _log_softmax_layer(site: Site) -> str:
    """the logarithm of softmax"""
    return site.add("log_softmax", site.operands, {"axis": one_axis(site.arguments["axis"], site.type.rank)})
