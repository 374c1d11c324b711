"""Layer, group, instance and RMS normalization: an image's values by the mean and the variance of a part of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from cnnc.ir.graph import Attributes, Node
from cnnc.ir.layer import STARTS_OF_LAYERS, Argument, Build, Layer, ParameterSpec, Site, builds, register_layer
from cnnc.ir.op import REQUIRED, InferenceError, Op, Types, defines, required
from cnnc.ir.receptive import Field
from cnnc.ir.types import Dim, TensorType, product
from cnnc.ops.checks import all_axes, flag, integer, number, show
from cnnc.ops.conv import apply_epilogue, check_epilogue
from cnnc.ops.pointwise import align


def _whole(x: TensorType) -> tuple[int, ...]:
    return tuple(range(1, x.rank))


def _space(x: TensorType, what: str) -> TensorType:
    if x.rank < 2:
        raise InferenceError(f"{what} works on [N, C, ...], not on {show(x)}", "x", "E0201")
    return x


def _axes(x: TensorType, given: Any, what: str) -> tuple[int, ...]:
    """The axes of a layer norm: all but the batch's, unless given."""
    if given is None:
        return _whole(_space(x, what))
    axes = all_axes(given, x.rank, "axes")
    if axes[0] == 0 or axes != tuple(range(axes[0], axes[-1] + 1)):
        raise InferenceError(
            f"axes {list(axes)} of {show(x)}: they are neighbors, and the batch is none of them",
            "axes",
            "E0203",
            help="batchnorm normalizes over the batch",
        )
    return axes


def _check(x: TensorType, attributes: Attributes) -> None:
    axes, groups = _axes(x, attributes["axes"], "normalize"), integer(attributes["groups"], "groups", 1)
    number(attributes["eps"], "eps", 0.0)
    flag(attributes["centered"], "centered")
    if axes != attributes["axes"]:
        raise InferenceError(f"axes are {list(axes)}, in this order and counted from the front", "axes", "E0203")
    if groups != 1 and axes != _whole(x):
        raise InferenceError("groups of channels are normalized over all of space", "groups", "E0203")
    if int(x.shape[1]) % groups:
        raise InferenceError(f"{x.shape[1]} channels are not cut into {groups} equal groups", "groups", "E0203")


def weight_shape(x: TensorType, axes: Sequence[int], by_channel: bool) -> tuple[Dim, ...]:
    """One number a channel, or one for each place along the axes, with axes of 1 elsewhere."""
    if by_channel or tuple(axes) == (1,):
        return (x.shape[1],)
    return tuple(d if i in axes else 1 for i, d in enumerate(x.shape))


def _check_weights(x: TensorType, attributes: Attributes, given: Mapping[str, TensorType | None]) -> None:
    axes, groups = attributes["axes"], attributes["groups"]
    fitting = [weight_shape(x, axes, True)] if axes in ((1,), _whole(x)) else []
    fitting += [weight_shape(x, axes, False)] if groups == 1 else []
    shapes = {t.shape for t in given.values() if t is not None}
    for name, t in given.items():
        if t is not None and (t.shape not in fitting or len(shapes) > 1):
            raise InferenceError(f"normalize's {name} {show(t)} does not fit {show(x)}", name, "E0204")
    centered = attributes["centered"]
    if "bias" in given and (given["weight"] is None) != (given["bias"] is None) and centered:
        raise InferenceError("normalize has a weight and a bias, or none of them", "bias", "E0204")
    if given.get("bias") is not None and not centered:
        raise InferenceError("without a mean there is no bias", "bias", "E0204")


def _infer(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x, weight, bias = (*types[:3], None, None)[:3]
    x = required(x)
    _check(x, attributes)
    _check_weights(x, attributes, {"weight": weight, "bias": bias})
    check_epilogue(attributes, types[3:], x)
    return (x,)


def _statistics(x: Any, attributes: Attributes) -> tuple[Any, Any, Any]:
    """x normalized, what it was multiplied by, and a function: the means over the parts."""
    groups, axes = attributes["groups"], attributes["axes"]

    def means(v: Any) -> Any:
        grouped = v if groups == 1 else v.reshape(v.shape[0], groups, product(v.shape[1:]) // groups)
        over = axes if groups == 1 else 2
        return np.broadcast_to(grouped.mean(over, keepdims=True), grouped.shape).reshape(v.shape)

    apart = x - means(x) if attributes["centered"] else x
    scale = 1 / np.sqrt(means(apart * apart) + attributes["eps"])
    return apart * scale, scale, means


def _gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    x, weight, bias = (*node.operands[:3], None, None)[:3]
    operands = [gradients[0], x] if weight is None else [gradients[0], x, weight]
    made = context.insert("normalize_gradient", operands, node.attributes)
    dx, dweight, dbias = (*made, None, None)[:3]
    return [dx, dweight, dbias if bias is not None else None][: len(node.operands)]


def _field(node: Node, types: Types, seen: Field) -> Field:
    """All there is along the axes."""
    return seen.over({axis - 2 for axis in node.attributes["axes"]})


_ATTRIBUTES = {"axes": REQUIRED, "groups": 1, "eps": 1e-5, "centered": True}


@defines(
    Op(
        "normalize",
        ("x", "weight?", "bias?", "epilogue*"),
        infer=_infer,
        attributes=_ATTRIBUTES | {"epilogue": None},
        gradient=_gradient,
        layout="planes",
        kind="norm",
        field=_field,
    )
)
def _reference(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """(x - mean) / sqrt(variance + eps) * weight + bias, with the statistics of each image over `axes`, or over
    each of `groups` of channels (Ba et al., 2016; Ulyanov et al., 2016; Wu and He, 2018). Without `centered` the
    mean counts as 0 (Zhang and Sennrich, 2019). `epilogue` is an expression over this y and the operands behind the
    bias.
    """
    x, weight, bias = (*arrays[:3], None, None)[:3]
    x = np.asarray(x, np.float64)
    y, _, _ = _statistics(x, attributes)
    if weight is not None:
        y = y * align(weight, x.ndim)
    if bias is not None:
        y = y + align(bias, x.ndim)
    return (apply_epilogue(y, attributes, arrays[3:]),)


def _infer_gradient(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    dy, x, weight = (*types[:3], None)[:3]
    dy, x = required(dy), required(x)
    _check(x, attributes)
    if dy != x:
        raise InferenceError(f"a gradient {dy} does not belong to {x}", "dy", "E0204")
    if weight is None:
        return (x,)
    _check_weights(x, attributes, {"weight": weight})
    return (x, *(weight,) * (2 if attributes["centered"] else 1))


@defines(
    Op(
        "normalize_gradient",
        ("dy", "x", "weight?"),
        infer=_infer_gradient,
        attributes=_ATTRIBUTES,
        results=("", "weight", "bias"),
        layout="planes",
        kind="norm",
        doc="dL/dx of normalize, and dL/dweight and dL/dbias where there is a weight.",
    )
)
def _backward(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """With h = dy * weight: dx = scale (h - mean(h) - y mean(h y)), where the means are over what was normalized
    together; of RMS normalization without the second term.
    """
    dy, x, weight = (*arrays[:3], None)[:3]
    dy, x = np.asarray(dy, np.float64), np.asarray(x, np.float64)
    y, scale, means = _statistics(x, attributes)
    h = dy if weight is None else dy * align(weight, x.ndim)
    dx = h - y * means(h * y)
    if attributes["centered"]:
        dx = dx - means(h)
    results = [scale * dx]
    for t, part in zip(types[1:], (dy * y, dy), strict=False):
        along = align(np.empty(t.sizes), x.ndim).shape
        over = tuple(i for i, d in enumerate(along) if d == 1)
        results.append(part.sum(over).reshape(t.sizes))
    return tuple(results)


# ------------------------------------------------------------------------------------------------ layers


def _vectors(shape: Sequence[Dim], arguments: Mapping[str, Any], bias: bool) -> dict[str, ParameterSpec]:
    if not flag(arguments["affine"], "affine"):
        return {}
    sizes = tuple(int(d) for d in shape)
    specs = {"weight": ParameterSpec(sizes, initialization="ones")}
    return specs | ({"bias": ParameterSpec(sizes, initialization="zeros")} if bias else {})


def _layer_parameters(bias: bool, what: str) -> Any:
    def parameters(types: Sequence[TensorType], arguments: Mapping[str, Any]) -> dict[str, ParameterSpec]:
        axes = _axes(types[0], arguments["axes"], what)
        return _vectors([types[0].shape[a] for a in axes], arguments, bias)

    return parameters


def _channel_parameters(what: str) -> Any:
    def parameters(types: Sequence[TensorType], arguments: Mapping[str, Any]) -> dict[str, ParameterSpec]:
        return _vectors([_space(types[0], what).shape[1]], arguments, True)

    return parameters


def _over_axes(site: Site, centered: bool, what: str) -> str:
    x, axes = site.type, _axes(site.type, site.arguments["axes"], what)
    shape, vectors = weight_shape(x, axes, False), list(site.parameters.values())
    if len(shape) > 1:  # as weights that broadcast
        vectors = [site.builder.add("reshape", [v], {"shape": shape}, f"{v}.aligned", site.origin) for v in vectors]
    attributes = {"axes": axes, "eps": number(site.arguments["eps"], "eps", 0.0), "centered": centered}
    if not vectors and x.rank > 2 and axes == tuple(range(2, x.rank)):  # planes of channels, in any layout
        attributes |= {"axes": _whole(x), "groups": int(x.shape[1])}
    return site.add("normalize", [*site.operands, *vectors], attributes)


def _by_groups(site: Site, groups: int) -> str:
    attributes = {"axes": _whole(site.type), "groups": groups, "eps": number(site.arguments["eps"], "eps", 0.0)}
    return site.add("normalize", [*site.operands, *site.parameters.values()], attributes)


_EPS = Argument("eps", 1e-5, "is added to variances")
_AXES = Argument("axes", None, "neighboring axes that are normalized together; all but the batch, unless told")


def _affine(default: bool, what: str) -> Argument:
    return Argument("affine", default, f"whether {what} is multiplied by a trained weight, and a trained bias added")


for _name, _centered, _doc, _more in (
    (
        "layernorm",
        True,
        "an image's values normalized by their mean and variance, or those over some axes",
        (_affine(True, "each place along the axes"), *STARTS_OF_LAYERS),
    ),
    (
        "rmsnorm",
        False,
        "an image's values divided by the root of their mean square, or of those over some axes",
        (
            Argument("affine", True, "whether each place along the axes is multiplied by a trained weight"),
            STARTS_OF_LAYERS[0],
        ),
    ),
):
    register_layer(
        Layer(
            name=_name,
            arguments=(_AXES, _EPS, *_more),
            parameters=_layer_parameters(_centered, _name),
            build=partial(_over_axes, centered=_centered, what=_name),
            doc=_doc,
            example=f"x -> {_name}(axes=1)",
        )
    )


def _of_channels(name: str, affine: bool, *arguments: Argument, example: str) -> Callable[[Build], Build]:
    """As `builds`, of a norm over space that has a weight for each channel."""
    return builds(
        name,
        *arguments,
        _EPS,
        _affine(affine, "each channel"),
        *STARTS_OF_LAYERS,
        parameters=_channel_parameters(name),
        shapes="[N, C, ...] -> the same",
        example=example,
    )


@_of_channels("groupnorm", True, Argument("groups", doc="into which the channels are cut"), example="x -> groupnorm(3)")
def _groupnorm(site: Site) -> str:
    """each group of channels normalized by its mean and variance over space"""
    return _by_groups(site, integer(site.arguments["groups"], "groups", 1))


@_of_channels("instancenorm", False, example="x -> instancenorm")
def _instancenorm(site: Site) -> str:
    """each channel of each image normalized by its mean and variance over space"""
    return _by_groups(site, int(site.type.shape[1]))
