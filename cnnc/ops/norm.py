"""Batch norm, local response norm, dropout, and the sums over a batch that they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from cnnc.ir import expression as ex
from cnnc.ir.graph import Attributes, Node
from cnnc.ir.layer import STARTS_OF_LAYERS, Argument, Layer, ParameterSpec, Site, register_layer
from cnnc.ir.op import REQUIRED, InferenceError, Op, Types, one_number, register, required
from cnnc.ir.types import TensorType, product
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


def _reference(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    x, *vectors = (np.asarray(a, np.float64) for a in arrays)
    gamma, beta, mean, variance = (align(v, x.ndim) for v in vectors)
    return ((x - mean) / np.sqrt(variance + attributes["eps"]) * gamma + beta,)


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


register(
    Op(
        name="batchnorm",
        operands=("x", "weight", "bias", "mean", "variance"),
        infer=_infer,
        reference=_reference,
        attributes={"eps": 1e-5, "momentum": 0.1},
        gradient=_gradient,
        layout="any",
        kind="norm",
        doc="(x - mean) / sqrt(variance + eps) * weight + bias per channel (Ioffe and Szegedy, 2015).",
    )
)


def _infer_moments(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x = required(types[0])
    return (TensorType("f32", (x.shape[1],)),) * 2


def _moments(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    x = np.asarray(arrays[0], np.float64)
    axes = (0, *range(2, x.ndim))
    return x.mean(axes), x.var(axes)


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


register(
    Op(
        name="moments",
        operands=("x",),
        infer=_infer_moments,
        reference=_moments,
        gradient=_moments_gradient,
        results=("mean", "variance"),
        layout="sink",
        kind="norm",
        doc="Mean and biased variance of every channel over N and space.",
    )
)


register(
    Op(
        name="count",
        operands=("x",),
        infer=one_number,
        reference=lambda a, attributes, types: (
            np.float64(np.size(a[0]) / np.shape(a[0])[1] if np.ndim(a[0]) > 1 else np.size(a[0])),
        ),
        layout="sink",
        doc="How many values of x there are to a channel; of a vector, its length.",
    )
)


def _infer_reduce(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    check_expressions(attributes["expressions"], len(types))
    whole = result_type(types)
    if whole.rank < 2:
        raise InferenceError(f"sums over channels need [N, C, ...], not {whole}", "operands", "E0201")
    return (TensorType("f32", (whole.shape[1],)),) * len(attributes["expressions"])


def _reduce(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    rank = max(np.ndim(a) for a in arrays)
    values = {f"a{i}": align(np.asarray(a, np.float64), rank) for i, a in enumerate(arrays)}
    shape = np.broadcast_shapes(*(v.shape for v in values.values()))
    return tuple(
        np.broadcast_to(ex.evaluate(ex.parse(t), values), shape).sum((0, *range(2, rank)))
        for t in attributes["expressions"]
    )


register(
    Op(
        name="reduce_channels",
        operands=("a*",),
        infer=_infer_reduce,
        reference=_reduce,
        attributes={"expressions": REQUIRED},
        layout="sink",
        kind="norm",
        doc="Sums over N and space of expressions over the operands, one value a channel.",
    )
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


def _build(site: Site) -> str:
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


register_layer(
    Layer(
        name="batchnorm",
        arguments=(
            Argument("eps", 1e-5, "is added to variances"),
            Argument("momentum", 0.1, "share of the newest batch in the running statistics"),
            Argument(
                "affine", True, "whether each channel is multiplied by a trained weight, and a trained bias added"
            ),
            Argument("track_running_stats", True, "whether statistics are kept; without, prediction takes its batch's"),
            *STARTS_OF_LAYERS,
        ),
        build=_build,
        parameters=_parameters,
        doc="each channel normalized, by the batch in training, by running statistics in prediction",
        shapes="[N, C, ...] -> the same",
        example="x -> batchnorm",
    )
)


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


def _lrn(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    x = np.asarray(arrays[0], np.float64)
    scale, beta, _ = _lrn_terms(x, attributes)
    return (x * scale**-beta,)


def _lrn_gradient(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    x, dy = (np.asarray(a, np.float64) for a in arrays)
    scale, beta, share = _lrn_terms(x, attributes)
    inner = _neighbours(dy * x * scale ** (-beta - 1), attributes["size"], mirrored=True)
    return (dy * scale**-beta - 2 * beta * share * x * inner,)


_LRN = {"size": REQUIRED, "alpha": 1e-4, "beta": 0.75, "k": 1.0}
_lrn_op = partial(Op, infer=_infer_same, attributes=_LRN, layout="any")
register(
    _lrn_op(
        name="lrn",
        operands=("x",),
        reference=_lrn,
        gradient=lambda context, node, g: [context.add("lrn_gradient", [node.operands[0], g[0]], node.attributes)],
        kind="norm",
        doc="x / (k + alpha / size * sum of squares over `size` channels)^beta (Krizhevsky et al., 2012; PyTorch's alpha / size).",
    )
)
register(
    _lrn_op(
        name="lrn_gradient",
        operands=("x", "dy"),
        reference=_lrn_gradient,
        doc="dL/dx of lrn.",
    )
)


def _build_lrn(site: Site) -> str:
    attributes: dict[str, Any] = {"size": integer(site.arguments["size"], "size", 1)}
    attributes |= {name: number(site.arguments[name], name, 0.0) for name in ("alpha", "beta", "k")}
    return site.add("lrn", site.operands, attributes)


register_layer(
    Layer(
        name="lrn",
        arguments=(
            Argument("size", doc="channels whose squares are added up"),
            Argument("alpha", 1e-4, "factor of the mean of these squares"),
            Argument("beta", 0.75, "power of the divisor, k + alpha * mean"),
            Argument("k", 1.0, "see beta"),
        ),
        build=_build_lrn,
        doc="local response normalization across channels",
        shapes="[N, C, H, W] -> the same",
        example="x -> lrn(3)",
    )
)


# ------------------------------------------------------------------------------------------------ dropout


def philox(key: int, index: Any, salt: int, step: int) -> Any:
    """The first word of Philox4x32-10 (Salmon et al., 2011) for the counters (index mod 2^32, index / 2^32, salt, step):
    uint32[n].
    """
    mask, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    index = np.asarray(index, np.uint64)
    c = [index & mask, index >> shift, *(np.full_like(index, v & 0xFFFFFFFF) for v in (salt, step))]
    k0, k1 = key & 0xFFFFFFFF, (key >> 32) & 0xFFFFFFFF
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> shift) ^ c[1] ^ np.uint64(k0), p1 & mask, (p0 >> shift) ^ c[3] ^ np.uint64(k1), p0 & mask]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c[0].astype(np.uint32)


def dropout_mask(shape: Sequence[int], p: float, seed: int, step: int, salt: int) -> Any:
    """True where an element is kept: element i of the logical tensor is dropped when its random word is below p * 2^32."""
    words = philox(seed, np.arange(product(tuple(shape)), dtype=np.uint64), salt, step)
    return (words.astype(np.uint64) >= np.uint64(round(p * 2**32))).reshape(shape)


def _infer_dropout(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x = required(types[0])
    number(attributes["p"], "p", 0.0, 1.0)
    if len(types) > 1 and types[1] is not None and (types[1].dtype, types[1].shape) != ("i64", (2,)):
        raise InferenceError(f"dropout's seed is i64[2], the seed and the step, not {types[1]}", "seed", "E0204")
    return (x,)


def _dropout(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    x, p = np.asarray(arrays[0], np.float64), attributes["p"]
    if len(arrays) < 2 or arrays[1] is None:
        return (x,)
    seed, step = (int(v) for v in np.asarray(arrays[1]))
    return (np.where(dropout_mask(x.shape, p, seed, step, attributes["salt"]), x / (1 - p), 0.0),)


def _dropout_gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    if len(node.operands) < 2:
        return [gradients[0]]
    return [context.add("dropout", [gradients[0], node.operands[1]], node.attributes), None]


register(
    Op(
        name="dropout",
        operands=("x", "seed?"),
        infer=_infer_dropout,
        reference=_dropout,
        attributes={"p": 0.5, "salt": 0},
        gradient=_dropout_gradient,
        layout="any",
        kind="regularization",
        doc="Without a seed, x. With one, x / (1 - p) where a counter-based random number keeps it, else 0: the gradient draws the same.",
    )
)


def _build_dropout(site: Site) -> str:
    return site.add("dropout", site.operands, {"p": number(site.arguments["p"], "p", 0.0, 1.0)})


register_layer(
    Layer(
        name="dropout",
        arguments=(Argument("p", 0.5, "share of values set to zero in training"),),
        build=_build_dropout,
        doc="puts some values to 0, in training only",
        example="x -> dropout(0.2)",
    )
)
