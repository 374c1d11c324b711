"""Fully connected: y[n, o] = b[o] + sum over i of w[o, i] * x[n, i], and its two gradients; of more axes n stands for all but the last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from cnnc.ir.graph import Attributes, Node
from cnnc.ir.layer import STARTS_OF_LAYERS, Argument, ParameterSpec, Site, builds
from cnnc.ir.op import InferenceError, Op, Types, defines, required
from cnnc.ir.receptive import Field
from cnnc.ir.types import Dim, TensorType, activation, product
from cnnc.ops.checks import check_bias, flag, integer, show
from cnnc.ops.conv import apply_epilogue, check_epilogue


def _rows(t: TensorType | None, what: str) -> TensorType:
    """A tensor whose last axis is the features."""
    if t is None or t.rank < 2 or not isinstance(t.shape[-1], int):
        raise InferenceError(f"linear works on [N, features], not on {show(t)}", what, "E0201")
    return t


def _weight(t: TensorType | None) -> TensorType:
    if t is None or t.rank != 2:
        raise InferenceError(f"linear's weights are [outputs, features], not {show(t)}", "weight", "E0201")
    return t


def _of(x: TensorType, features: Dim) -> TensorType:
    """The type of x with another last axis."""
    return activation((*x.shape[:-1], features), x.dtype)


def _infer(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x, w = _rows(types[0], "x"), _weight(types[1])
    if x.shape[-1] != w.shape[1]:
        raise InferenceError(f"linear expects {x.shape[-1]} inputs, the weights have {w.shape[1]}", "weight", "E0204")
    check_bias(types, w.shape[0], "outputs")
    result = _of(x, w.shape[0])
    check_epilogue(attributes, types[3:], result)
    return (result,)


def _macs(node: Node, types: Types, batch: int) -> int:
    x, other = (required(t).concrete(batch) for t in types[:2])
    return product(x) * (other[0] if node.op == "linear" else other[-1])


def _gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    dy, x, w, bias = gradients[0], node.operand("x"), node.operand("weight"), node.optional("bias")
    dx = context.add("linear_data_gradient", [dy, w]) if context.wanted(x) else None
    dw = context.add("linear_weight_gradient", [x, dy]) if context.wanted(w) else None
    db = None
    if bias is not None and context.wanted(bias):
        rows = tuple(range(node.type.rank - 1))
        db = context.reduce_to(dy, bias) if len(rows) == 1 else context.add("sum", [dy], {"axis": rows})
    return [dx, dw, db][: len(node.operands)]


def _field(node: Node, types: Types, seen: Field) -> Field:
    """All of the last axis."""
    rank = node.type.rank
    return seen.whole() if rank == 2 else seen.over({rank - 3})


_linear = partial(Op, macs=_macs, kind="linear")


@defines(
    _linear(
        "linear",
        ("x", "weight", "bias?", "epilogue*"),
        infer=_infer,
        attributes={"epilogue": None},
        gradient=_gradient,
        field=_field,
    )
)
def _forward(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """y[n, o] = b[o] + sum over i of w[o, i] * x[n, i]. `epilogue` is an expression over this sum y and the
    operands behind the bias, a0, a1, ...
    """
    y = np.asarray(arrays[0], np.float64) @ np.asarray(arrays[1], np.float64).T
    if len(arrays) > 2 and arrays[2] is not None:
        y = y + arrays[2]
    return (apply_epilogue(y, attributes, arrays[3:]),)


def _infer_data(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    dy, w = _rows(types[0], "dy"), _weight(types[1])
    if dy.shape[-1] != w.shape[0]:
        raise InferenceError(f"a gradient {dy} does not belong to weights {w}", "weight", "E0204")
    return (_of(dy, w.shape[1]),)


def _infer_weight(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x, dy = _rows(types[0], "x"), _rows(types[1], "dy")
    if x.shape[:-1] != dy.shape[:-1]:
        raise InferenceError(f"a gradient {dy} does not belong to {x}", "dy", "E0204")
    return (TensorType(x.dtype, (dy.shape[-1], x.shape[-1])),)


@defines(_linear("linear_data_gradient", ("dy", "weight"), infer=_infer_data))
def _linear_data_gradient(
    arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]
) -> tuple[Any, ...]:
    """dL/dx = dy w."""
    return (np.asarray(arrays[0], np.float64) @ arrays[1],)


@defines(_linear("linear_weight_gradient", ("x", "dy"), infer=_infer_weight))
def _weight_gradient(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """dL/dw = dy^T x."""
    x, dy = (np.asarray(a, np.float64).reshape(-1, np.shape(a)[-1]) for a in arrays)
    return (dy.T @ x,)


def _parameters(types: Sequence[TensorType], arguments: Mapping[str, Any]) -> dict[str, ParameterSpec]:
    features = int(_rows(types[0], "x").shape[-1])
    outputs = integer(arguments["out_features"], "out_features", 1)
    biased = flag(arguments["bias"], "bias")
    specs = {"weight": ParameterSpec((outputs, features), fan_in=features)}
    if biased:
        specs["bias"] = ParameterSpec((outputs,), fan_in=features)
    return specs


@builds(
    "linear",
    Argument("out_features", doc="how many numbers it gives for an image"),
    Argument("bias", True, "whether a trained number is added to each"),
    *STARTS_OF_LAYERS,
    parameters=_parameters,
    shapes="[N, ..., features] -> [N, ..., out_features]",
    example="x -> flatten -> linear(10)",
)
def _build(site: Site) -> str:
    """fully connected, on `[N, features]`; of more axes, along the last"""
    return site.add("linear", [*site.operands, *site.parameters.values()])
