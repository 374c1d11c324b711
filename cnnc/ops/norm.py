"""Batch norm, local response norm, and the sums over a batch that they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from cnnc.ir import expression as ex
from cnnc.ir.derivative import differentiate
from cnnc.ir.graph import Attributes, Node
from cnnc.ir.layer import STARTS_OF_LAYERS, Argument, ParameterSpec, Site, builds
from cnnc.ir.op import REQUIRED, InferenceError, Op, Types, defines, one_number, required
from cnnc.ir.types import TensorType
from cnnc.ops.checks import flag, integer, number
from cnnc.ops.pointwise import align, check_expressions, result_type

# ------------------------------------------------------------------------------------------------ batch norm


def _infer(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x, *vectors = types
    if x is None or x.rank < 2:
        raise InferenceError(f"batchnorm works on [N, C, ...], not on {x}", "x", "E0201")
    for name, v in zip(("weight", "bias", "mean", "variance"), vectors, strict=True):
        if v is None or v.shape != (x.shape[1],):
            raise InferenceError(f"batchnorm's {name} {v} does not fit {x.shape[1]} channels", name, "E0204")
    return (x,)


def _gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    """Over all five operands (Ioffe and Szegedy, 2015): the statistics' gradients follow from the two sums that gamma
    and beta need anyway.
    """
    dy, (x, gamma, beta, mean, variance) = gradients[0], node.operands
    eps = node.attribute("eps")
    values = {"dy": dy, "x": x, "gamma": gamma, "mean": mean, "variance": variance}
    # per-channel factors stand in brackets of their own, so that they are computed once a channel
    dx = context.pointwise(ex.parse(f"dy * (gamma / sqrt(variance + {eps!r}))"), values) if context.wanted(x) else None
    if not any(context.wanted(v) for v in (gamma, beta, mean, variance)):
        return [dx, None, None, None, None]
    dgamma, dbeta = context.reduce_channels(
        [ex.parse(f"dy * ((x - mean) * (1 / sqrt(variance + {eps!r})))"), ex.parse("dy")], values
    )
    sums = {"dgamma": dgamma, "dbeta": dbeta, "gamma": gamma, "variance": variance}
    dmean = (
        context.pointwise(ex.parse(f"-gamma * dbeta / sqrt(variance + {eps!r})"), sums)
        if context.wanted(mean)
        else None
    )
    dvariance = (
        context.pointwise(ex.parse(f"-0.5 * gamma * dgamma / (variance + {eps!r})"), sums)
        if context.wanted(variance)
        else None
    )
    return [dx, dgamma, dbeta, dmean, dvariance]


@defines(
    Op(
        "batchnorm",
        ("x", "weight", "bias", "mean", "variance"),
        infer=_infer,
        attributes={"eps": 1e-5, "momentum": 0.1},
        gradient=_gradient,
        layout="any",
        kind="norm",
    )
)
def _reference(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """(x - mean) / sqrt(variance + eps) * weight + bias per channel (Ioffe and Szegedy, 2015)."""
    x, *vectors = (np.asarray(a, np.float64) for a in arrays)
    gamma, beta, mean, variance = (align(v, x.ndim) for v in vectors)
    return ((x - mean) / np.sqrt(variance + attributes["eps"]) * gamma + beta,)


def _infer_moments(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x = required(types[0])
    return (TensorType("f32", (x.shape[1],)),) * 2


def _moments_gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    x, total = node.operands[0], None
    count = context.add("count", [x])
    values = {"x": x, "mean": node.results[0], "count": count, "dmean": gradients[0], "dvariance": gradients[1]}
    if gradients[0] is not None:
        total = ex.parse("dmean / count")
    if gradients[1] is not None:
        part = ex.parse("dvariance * 2 / count * (x - mean)")
        total = part if total is None else ("add", total, part)
    if total is None:
        return [None]
    shape = context.type(x)
    return [context.pointwise(total, {k: v for k, v in values.items() if k in ex.variables(total)}, like=shape)]


@defines(
    Op(
        "moments",
        ("x",),
        infer=_infer_moments,
        gradient=_moments_gradient,
        results=("mean", "variance"),
        layout="sink",
        kind="norm",
    )
)
def _moments(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """Mean and biased variance of every channel over N and space."""
    x = np.asarray(arrays[0], np.float64)
    axes = (0, *range(2, x.ndim))
    return x.mean(axes), x.var(axes)


@defines(Op("count", ("x",), infer=one_number, gradient=lambda context, node, gradients: [None], layout="sink"))
def _count(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """How many values of x there are to a channel; of a vector, its length."""
    return (np.float64(np.size(arrays[0]) / np.shape(arrays[0])[1] if np.ndim(arrays[0]) > 1 else np.size(arrays[0])),)


def _infer_reduce(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    check_expressions(attributes["expressions"], len(types))
    whole = result_type(types)
    if whole.rank < 2:
        raise InferenceError(f"sums over channels need [N, C, ...], not {whole}", "operands", "E0201")
    return (TensorType("f32", (whole.shape[1],)),) * len(attributes["expressions"])


def _reduce_gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    """dL/da_i: every place of a channel has the gradient of the channel's sum, times the expression's slope."""
    es = [ex.parse(t) for t in node.attributes["expressions"]]
    names = {f"a{j}": o for j, o in enumerate(node.inputs)}
    like = result_type([context.type(o) for o in node.inputs])
    result: list[str | None] = []
    for i, operand in enumerate(node.inputs):
        total: str | None = None
        for e, dy in zip(es, gradients, strict=True):
            if dy is None or not context.wanted(operand):
                continue
            part = ex.simplify(("mul", ex.var("dy"), differentiate(e, f"a{i}")))
            used = {v: o for v, o in {"dy": dy, **names}.items() if v in ex.variables(part)}
            total = context.sum(total, context.pointwise(part, used, like=like))
        result.append(context.reduce_to(total, operand) if total is not None else None)
    return result


@defines(
    Op(
        "reduce_channels",
        ("a*",),
        infer=_infer_reduce,
        attributes={"expressions": REQUIRED},
        gradient=_reduce_gradient,
        layout="sink",
        kind="norm",
    )
)
def _reduce(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """Sums over N and space of expressions over the operands, one value a channel."""
    rank = max(np.ndim(a) for a in arrays)
    values = {f"a{i}": align(np.asarray(a, np.float64), rank) for i, a in enumerate(arrays)}
    shape = np.broadcast_shapes(*(v.shape for v in values.values()))
    return tuple(
        np.broadcast_to(ex.evaluate(ex.parse(t), values), shape).sum((0, *range(2, rank)))
        for t in attributes["expressions"]
    )


def _parameters(types: Sequence[TensorType], arguments: Mapping[str, Any]) -> dict[str, ParameterSpec]:
    x = types[0]
    if x.rank < 2:
        raise InferenceError(f"batchnorm works on [N, C, ...], not on {x}", "x", "E0201")
    shape = (int(x.shape[1]),)
    specs: dict[str, ParameterSpec] = {}
    if flag(arguments["affine"], "affine"):
        specs |= {"weight": ParameterSpec(shape, initialization="ones")}
        specs |= {"bias": ParameterSpec(shape, initialization="zeros")}
    if flag(arguments["track_running_stats"], "track_running_stats"):
        specs |= {"running_mean": ParameterSpec(shape, initialization="zeros", trained=False)}
        specs |= {"running_var": ParameterSpec(shape, initialization="ones", trained=False)}
    return specs


@builds(
    "batchnorm",
    Argument("eps", 1e-5, "is added to variances"),
    Argument("momentum", 0.1, "share of the newest batch in the running statistics"),
    Argument("affine", True, "whether each channel is multiplied by a trained weight, and a trained bias added"),
    Argument("track_running_stats", True, "whether statistics are kept; without, prediction takes its batch's"),
    *STARTS_OF_LAYERS,
    parameters=_parameters,
    shapes="[N, C, ...] -> the same",
    example="x -> batchnorm",
)
def _build(site: Site) -> str:
    """each channel normalized, by the batch in training, by running statistics in prediction"""
    attributes = {
        "eps": number(site.arguments["eps"], "eps", 0.0),
        "momentum": number(site.arguments["momentum"], "momentum", 0.0, 1.0000001),
    }
    b, parameters = site.builder, dict(site.parameters)
    if not site.arguments["affine"]:
        for short, value in (("weight", 1.0), ("bias", 0.0)):
            number_of_all = b.add("constant", [], {"value": value}, f"{site.name}.{short}.value", site.origin)
            shape = {"shape": (site.type.shape[1],)}
            parameters[short] = b.add("expand", [number_of_all], shape, f"{site.name}.{short}", site.origin)
    if not site.arguments["track_running_stats"]:
        moments = b.insert("moments", site.operands, {}, f"{site.name}.mean", site.origin).results
        parameters |= dict(zip(("running_mean", "running_var"), moments, strict=True))
    names = ("weight", "bias", "running_mean", "running_var")
    return site.add("batchnorm", [*site.operands, *(parameters[name] for name in names)], attributes)


# ------------------------------------------------------------------------------------------------ local response norm


def _infer_same(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x = types[0]
    if x is None or x.rank < 3:
        raise InferenceError(f"lrn works on [N, C, H, W], not on {x}", "x", "E0201")
    if isinstance(attributes["size"], tuple):
        raise InferenceError("size of lrn is one number", "size", "E0203")
    integer(attributes["size"], "size", 1)
    for name in ("alpha", "beta", "k"):
        number(attributes[name], name, 0.0)
    return (x,)


def _neighbours(squares: Any, size: int, mirrored: bool = False) -> Any:
    """Sum over a window of channels: size // 2 before and (size - 1) // 2 behind, or the other way round."""
    before, behind = size // 2, (size - 1) // 2
    if mirrored:
        before, behind = behind, before
    padded = np.pad(squares, [(0, 0), (before, behind), *[(0, 0)] * (squares.ndim - 2)])
    return sum(padded[:, i : i + squares.shape[1]] for i in range(size))


def _lrn_terms(x: Any, attributes: Attributes) -> tuple[Any, float, float]:
    size, alpha = attributes["size"], attributes["alpha"]
    return (
        attributes["k"] + alpha / size * _neighbours(x * x, size),
        attributes["beta"],
        alpha / size,
    )


_LRN = {"size": REQUIRED, "alpha": 1e-4, "beta": 0.75, "k": 1.0}
_lrn_op = partial(Op, infer=_infer_same, attributes=_LRN, layout="any")


@defines(
    _lrn_op(
        "lrn",
        ("x",),
        gradient=lambda context, node, g: [context.add("lrn_gradient", [node.operands[0], g[0]], node.attributes)],
        kind="norm",
    )
)
def _lrn(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """x / (k + alpha / size * sum of squares over `size` channels)^beta (Krizhevsky et al., 2012; PyTorch's alpha /
    size).
    """
    x = np.asarray(arrays[0], np.float64)
    scale, beta, _ = _lrn_terms(x, attributes)
    return (x * scale**-beta,)


@defines(_lrn_op("lrn_gradient", ("x", "dy")))
def _lrn_gradient(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """dL/dx of lrn."""
    x, dy = (np.asarray(a, np.float64) for a in arrays)
    scale, beta, share = _lrn_terms(x, attributes)
    inner = _neighbours(dy * x * scale ** (-beta - 1), attributes["size"], mirrored=True)
    return (dy * scale**-beta - 2 * beta * share * x * inner,)


@builds(
    "lrn",
    Argument("size", doc="channels whose squares are added up"),
    Argument("alpha", 1e-4, "factor of the mean of these squares"),
    Argument("beta", 0.75, "power of the divisor, k + alpha * mean"),
    Argument("k", 1.0, "see beta"),
    shapes="[N, C, H, W] -> the same",
    example="x -> lrn(3)",
)
def _build_lrn(site: Site) -> str:
    """local response normalization across channels"""
    attributes: dict[str, Any] = {"size": integer(site.arguments["size"], "size", 1)}
    attributes |= {name: number(site.arguments[name], name, 0.0) for name in ("alpha", "beta", "k")}
    return site.add("lrn", site.operands, attributes)
