"""Softmax, cross-entropy and accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from cnnc.ir.graph import Attributes, Node
from cnnc.ir.layer import Argument, Site, builds
from cnnc.ir.op import InferenceError, Op, Types, defines, required, same_type
from cnnc.ir.types import TensorType
from cnnc.ops.checks import one_axis


def stable_softmax(x: Any, axis: int) -> Any:
    with np.errstate(all="ignore"):
        e = np.exp(x - x.max(axis, keepdims=True, initial=-np.inf))
        return e / e.sum(axis, keepdims=True)


def _infer_softmax(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x = required(types[0])
    one_axis(attributes["axis"], x.rank)
    return (x,)


_softmax = partial(Op, infer=_infer_softmax, attributes={"axis": 1})


@defines(
    _softmax(
        "softmax",
        ("x",),
        gradient=lambda context, node, g: [context.add("softmax_gradient", [node.name, g[0]], node.attributes)],
    )
)
def _softmax_reference(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """exp(x_i) / sum over j of exp(x_j) along an axis, shifted by the maximum."""
    return (stable_softmax(np.asarray(arrays[0], np.float64), attributes["axis"]),)


@defines(_softmax("softmax_gradient", ("y", "dy")))
def _softmax_gradient_reference(
    arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]
) -> tuple[Any, ...]:
    """dL/dx of softmax over its result: y * (dy - sum of y * dy)."""
    y, dy = (np.asarray(a, np.float64) for a in arrays)
    return (y * (dy - (y * dy).sum(attributes["axis"], keepdims=True)),)


def _infer_loss(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    logits, labels = required(types[0]), required(types[1])
    if logits.rank != 2:
        raise InferenceError(
            f"cross_entropy works on logits [N, classes], not on {logits}",
            "loss",
            "E0201",
            help="put `-> flatten` before it",
        )
    if labels.shape != logits.shape[:1] or labels.dtype not in ("i64", "i32"):
        raise InferenceError(
            f"labels {labels} do not fit logits {logits}: one class index an image is expected", "labels", "E0204"
        )
    return (TensorType("f32", ()),)


def _powers(x: Any, labels: Any) -> tuple[Any, Any, Any]:
    """Of each row: the largest logit, exp(logit - largest) of the label, and the sum of the other classes'."""
    rows, top = np.arange(len(x)), x.max(1)
    powers = np.exp(x - top[:, None])
    own = powers[rows, labels].copy()
    powers[rows, labels] = 0
    return top, own, powers.sum(1)


def _loss_gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    return [context.add("cross_entropy_gradient", [*node.operands, gradients[0]]), None]


@defines(Op("cross_entropy", ("logits", "labels"), infer=_infer_loss, gradient=_loss_gradient))
def _cross_entropy(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """Mean over the batch of -log softmax(logits)[label]; NaN where a label is no class."""
    x, labels = np.asarray(arrays[0], np.float64), np.asarray(arrays[1])
    if np.any((labels < 0) | (labels >= x.shape[1])):
        return (np.float64(np.nan),)
    with np.errstate(all="ignore"):
        top, own, rest = _powers(x, labels)
        return (np.mean(top - x[np.arange(len(x)), labels] + np.log1p(rest + (own - 1))),)


@defines(Op("cross_entropy_gradient", ("logits", "labels", "dloss"), infer=same_type))
def _cross_entropy_gradient(
    arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]
) -> tuple[Any, ...]:
    """dL/dlogits = dloss * (softmax - one_hot) / N."""
    x, labels, dloss = np.asarray(arrays[0], np.float64), np.asarray(arrays[1]), np.asarray(arrays[2], np.float64)
    if np.any((labels < 0) | (labels >= x.shape[1])):
        return (np.full_like(x, np.nan),)
    with np.errstate(all="ignore"):
        top, own, rest = _powers(x, labels)
        p = np.exp(x - top[:, None])
        p[np.arange(len(x)), labels] = -rest  # p - 1, and no difference of near values
        return (p / (own + rest)[:, None] * dloss / max(len(x), 1),)


@defines(Op("accuracy", ("logits", "labels"), infer=_infer_loss))
def _accuracy(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """Share of rows whose first largest logit is the label's."""
    x, labels = np.asarray(arrays[0]), np.asarray(arrays[1])
    return (np.float64(np.mean(x.argmax(1) == labels)) if len(x) else np.float64(0),)


@builds(
    "softmax",
    Argument("axis", 1, "along which the results add up to 1; the classes, unless told"),
    example="x -> flatten -> linear(10) -> softmax",
)
def _softmax_layer(site: Site) -> str:
    """powers of e, divided by their sum along an axis"""
    return site.add("softmax", site.operands, {"axis": one_axis(site.arguments["axis"], site.type.rank)})
