"""Normalizations and softmax."""

from __future__ import annotations

import numpy as np

from cnnc.interop.onnx_import.calls import Call, Unsupported
from cnnc.interop.onnx_import.importer import Array, Importer, rule
from cnnc.ir.types import BATCH, product


@rule("BatchNormalization")
def batch_norm(i: Importer, c: Call) -> str | list[str]:
    x = i.tensor(c, 0)
    i.layer(c)
    if c.integer("training_mode", 0) or (i.opset < 14 and len([o for o in c.outputs if o]) > 1):
        return _by_the_batch(i, c, x)
    names = ("weight", "bias", "running_mean", "running_var")
    starts = ("ones", "zeros", "zeros", "ones")
    operands = [x]
    for at, (short, start) in enumerate(zip(names, starts, strict=True), 1):
        array = i.known(c, at, short).reshape(-1)
        trained = short in ("weight", "bias")
        operands.append(i.parameter(array, c.inputs[at], short, None, start, trained))
    eps, momentum = c.number("epsilon", 1e-5), round(1 - c.number("momentum", 0.9), 7)
    return i.add("batchnorm", operands, {"eps": eps, "momentum": momentum})


def _by_the_batch(i: Importer, c: Call, x: str) -> list[str]:
    """As batchnorm(track_running_stats=false) does it; and what the running statistics become."""
    moments = i.builder.insert("moments", [x], {}, f"{i.label}.mean").results
    names = (("weight", "ones"), ("bias", "zeros"))
    affine = [
        i.parameter(i.known(c, at, short).reshape(-1), c.inputs[at], short, None, start)
        for at, (short, start) in enumerate(names, 1)
    ]
    keep = c.number("momentum", 0.9)
    attributes = {"eps": c.number("epsilon", 1e-5), "momentum": round(1 - keep, 7)}
    results = [i.add("batchnorm", [x, *affine, *moments], attributes)]
    for at, (now, name) in enumerate(zip(moments, ("mean", "variance"), strict=True), 3):
        if len(c.outputs) > at - 2 and c.outputs[at - 2]:
            before = i.parameter(i.known(c, at, name).reshape(-1), c.inputs[at], f"running_{name}")
            results.append(i.pointwise(f"{keep!r} * a0 + {1 - keep!r} * a1", before, now))
    return results


@rule("LRN")
def local_response(i: Importer, c: Call) -> str:
    numbers = {
        ours: c.number(name, v)
        for ours, name, v in (("alpha", "alpha", 1e-4), ("beta", "beta", 0.75), ("k", "bias", 1.0))
    }
    return i.add("lrn", [i.tensor(c, 0)], {"size": c.integer("size", 1), **numbers})


def _rows(i: Importer, c: Call, op: str) -> str:
    """Along an axis; before opset 13 along all axes from one on."""
    x = i.tensor(c, 0)
    t = i.type(x)
    axis = c.integer("axis", -1 if i.opset >= 13 else 1) % max(1, t.rank)
    if i.opset >= 13 or axis == t.rank - 1 or all(d == 1 for d in t.shape[axis + 1 :]):
        return i.add(op, [x], {"axis": axis})
    if BATCH in t.shape[axis:]:
        raise Unsupported(c, "it runs along the batch, which is open")
    flat = (*t.shape[:axis], product(tuple(int(d) for d in t.shape[axis:])))
    y = i.add(op, [i.add("reshape", [x], {"shape": flat})], {"axis": axis})
    return i.add("reshape", [y], {"shape": t.shape})


@rule("Softmax")
def softmax(i: Importer, c: Call) -> str:
    return _rows(i, c, "softmax")


@rule("LogSoftmax")
def log_softmax(i: Importer, c: Call) -> str:
    return _rows(i, c, "log_softmax")


@rule("LpNormalization")
def lp_norm(i: Importer, c: Call) -> str:
    x, axis, p = i.tensor(c, 0), c.integer("axis", -1), c.integer("p", 2)
    axis %= i.type(x).rank
    power = i.pointwise("abs(a0)" if p == 1 else "a0 * a0", x)
    total = i.add("sum", [power], {"axis": (axis,), "keepdim": True})
    return i.pointwise(f"where(a1 == 0, 0, a0 / {'a1' if p == 1 else 'sqrt(a1)'})", x, total)


@rule("MeanVarianceNormalization")
def mean_variance(i: Importer, c: Call) -> str:
    x = i.tensor(c, 0)
    axes = tuple(a % i.type(x).rank for a in c.integers("axes") or (0, 2, 3))
    mean = i.add("mean", [x], {"axis": axes, "keepdim": True})
    apart = i.pointwise("a0 - a1", x, mean)
    square = i.add("mean", [i.pointwise("a0 * a0", apart)], {"axis": axes, "keepdim": True})
    return i.pointwise("a0 / (sqrt(a1) + 1e-9)", apart, square)


def _weights(i: Importer, c: Call, count: int | None = None) -> dict[str, tuple[Array, str]]:
    """The scale and the bias, operands 1 and 2, as what a layer calls them; zeros where there is no bias."""
    i.layer(c)
    weight = i.known(c, 1, "scale")
    i.make(weight.size * (count or 1))
    weight = weight if count is None else np.repeat(weight.reshape(-1), count)
    if not c.has(2):
        return {"weight": (weight, c.inputs[1]), "bias": (np.zeros(weight.shape), "")}
    bias = i.known(c, 2, "bias")
    return {
        "weight": (weight, c.inputs[1]),
        "bias": (bias if count is None else np.repeat(bias.reshape(-1), count), c.inputs[2]),
    }


@rule("LayerNormalization", "RMSNormalization")
def layer_norm(i: Importer, c: Call) -> list[str]:
    x, centered = i.tensor(c, 0), c.operator == "LayerNormalization"
    rank, eps = i.type(x).rank, c.number("epsilon", 1e-5)
    axes = tuple(range(c.integer("axis", -1) % rank, rank))
    if axes[0] and len([o for o in c.outputs if o]) == 1:
        arguments = {"axes": axes, "eps": eps, "affine": True}
        return [i.apply("layernorm" if centered else "rmsnorm", x, arguments, _weights(i, c))]
    mean = i.add("mean", [x], {"axis": axes, "keepdim": True})
    apart = i.pointwise("a0 - a1", x, mean) if centered else x
    square = i.add("mean", [i.pointwise("a0 * a0", apart)], {"axis": axes, "keepdim": True})
    scale = i.pointwise(f"1 / sqrt(a0 + {eps!r})", square)
    y = i.add("mul", [apart, scale])
    for place, op in ((1, "mul"), (2, "add")):
        if c.has(place):
            y = i.add(op, [y, i.aligned(i.known(c, place, "scale"), rank, c.inputs[place])])
    return [y, mean, scale]


@rule("InstanceNormalization")
def instance_norm(i: Importer, c: Call) -> str:
    arguments = {"eps": c.number("epsilon", 1e-5), "affine": True}
    return i.apply("instancenorm", i.tensor(c, 0), arguments, _weights(i, c))


@rule("GroupNormalization")
def group_norm(i: Importer, c: Call) -> str:
    """Its weights are of channels since opset 21, of groups before."""
    x, groups = i.tensor(c, 0), c.integer("num_groups", 1)
    count = int(i.type(x).shape[1]) // groups if i.opset < 21 else None
    arguments = {"groups": groups, "eps": c.number("epsilon", 1e-5), "affine": True}
    return i.apply("groupnorm", x, arguments, _weights(i, c, count))
