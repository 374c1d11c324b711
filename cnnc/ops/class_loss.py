"""Losses over classes, place by place: cross-entropy with class weights, label smoothing, labels that do not count and
soft targets; the multiclass hinge; right answers. `passes/losses.py` makes the mean over the places of them.

Logits are [N, C] or [N, C, ...] with a place for each pixel; labels are whole numbers [N, ...], soft targets floats of
the logits' shape. A label that is no class gives NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from cnnc.ir.graph import Attributes, Node
from cnnc.ir.op import REQUIRED, InferenceError, Op, Types, defines, required
from cnnc.ir.types import PLAIN, TensorType
from cnnc.ops.checks import number, show

IGNORED = -100  # PyTorch's


def _places(logits: TensorType) -> TensorType:
    """A float for each place."""
    shape = (logits.shape[0], *logits.shape[2:])
    return TensorType("f32", shape, PLAIN.get(len(shape)))


def check_target(types: Types, soft: bool, what: str) -> TensorType:
    """The type of the logits, where labels or soft targets and the class weights fit them. Raises `InferenceError`."""
    logits, target = required(types[0]), required(types[1])
    if logits.rank < 2:
        raise InferenceError(f"{what} works on logits [N, classes, ...], not on {show(logits)}", "loss", "E0201")
    name, wanted = ("target", logits) if soft else ("labels", _places(logits))
    if target.shape != wanted.shape or target.dtype not in (("f32",) if soft else ("i64", "i32")):
        form = f"a share of each class, {show(wanted)}" if soft else f"a class index a place, {show(wanted)}"
        raise InferenceError(f"{name} {target} do not fit logits {logits}: {form} is expected", name, "E0204")
    if len(types) > 2 and types[2] is not None and types[2].shape != logits.shape[1:2]:
        raise InferenceError(f"weights {types[2]} do not fit {logits.shape[1]} classes", "weight", "E0204")
    return logits


def _infer(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    number(attributes["label_smoothing"], "label_smoothing", 0.0, math.nextafter(1, 2))
    return (_places(check_target(types, False, "cross_entropy")),) * 2


def _infer_soft(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    number(attributes["label_smoothing"], "label_smoothing", 0.0, math.nextafter(1, 2))
    return (_places(check_target(types, True, "cross_entropy")),)


def _infer_logits(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    return (required(types[0]),)


def _last(x: Any) -> Any:
    """[N, C, ...] as [N, ..., C]."""
    return np.moveaxis(np.asarray(x, np.float64), 1, -1)


def _weights(arrays: Sequence[Any], at: int, classes: int) -> Any:
    weight = arrays[at] if len(arrays) > at else None
    return np.ones(classes) if weight is None else np.asarray(weight, np.float64)


def _shares(x: Any, labels: Any, attributes: Attributes) -> tuple[Any, Any]:
    """What of each class is wanted at every place [..., C], smoothed, and which labels are classes that count."""
    classes = x.shape[-1]
    good = (labels >= 0) & (labels < classes) & (labels != attributes["ignore_index"])
    wanted = (np.arange(classes) == np.where(good, labels, -1)[..., None]).astype(np.float64)
    return wanted, good


def _smooth(wanted: Any, attributes: Attributes) -> Any:
    smoothing = attributes["label_smoothing"]
    return (1 - smoothing) * wanted + smoothing / wanted.shape[-1]


def _negative_logs(x: Any, wanted: Any) -> Any:
    """-log softmax(x) along the last axis. Where a class is wanted alone, it keeps its digits though it is near 0."""
    top = x.max(-1, keepdims=True)
    powers = np.exp(x - top)
    own = (powers * wanted).sum(-1, keepdims=True)
    return top - x + np.log1p((powers * (1 - wanted)).sum(-1, keepdims=True) + (own - 1))


def _gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    """The gradient of the logits; labels have none, and what a place counts depends on no parameter."""
    logits, target, *weight = node.operands
    if gradients[0] is None:
        return [None] * len(node.operands)
    operands = [logits, target, gradients[0], *weight]
    return [context.add(f"{node.op}_gradient", operands, node.attributes), *[None] * (len(node.operands) - 1)]


_entropy = partial(Op, attributes={"label_smoothing": 0.0, "ignore_index": IGNORED})


@defines(
    _entropy(
        "cross_entropy_terms",
        ("logits", "labels", "weight?"),
        infer=_infer,
        gradient=_gradient,
        results=("", "counted"),
    )
)
def _terms(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """Of every place, -sum over classes c of t_c weight_c log softmax(logits)_c with t = (1 - label_smoothing) *
    one_hot(label) + label_smoothing / C; and the weight of the label. Both are 0 where the label is ignore_index.
    """
    x, labels = _last(arrays[0]), np.asarray(arrays[1])
    weight = _weights(arrays, 2, x.shape[-1])
    wanted, good = _shares(x, labels, attributes)
    with np.errstate(all="ignore"):
        losses = _negative_logs(x, wanted) * weight
    parts = np.where(_smooth(wanted, attributes) != 0, _smooth(wanted, attributes) * losses, 0.0).sum(-1)
    # smoothing weighs the others by their own weights, and the label's count alone divides
    outside = np.where(labels == attributes["ignore_index"], 0.0, np.nan)
    return np.where(good, parts, outside), np.where(good, (wanted * weight).sum(-1), outside)


@defines(_entropy("cross_entropy_terms_gradient", ("logits", "labels", "dterm", "weight?"), infer=_infer_logits))
def _terms_gradient(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """dL/dlogits of cross_entropy_terms: dterm * (softmax(logits) * sum of t weight - t weight)."""
    x, labels, dterm = _last(arrays[0]), np.asarray(arrays[1]), np.asarray(arrays[2], np.float64)
    weight = _weights(arrays, 3, x.shape[-1])
    wanted, good = _shares(x, labels, attributes)
    smoothing = attributes["label_smoothing"]
    with np.errstate(all="ignore"):
        powers = np.exp(x - x.max(-1, keepdims=True))
        total, rest = powers.sum(-1, keepdims=True), (powers * (1 - wanted)).sum(-1, keepdims=True)
        own = (wanted * weight).sum(-1, keepdims=True)
        sure = np.where(wanted != 0, -rest, powers) / total * own
        spread = powers / total * weight.sum() - weight
        result = ((1 - smoothing) * sure + smoothing / x.shape[-1] * spread) * dterm[..., None]
    outside = np.where(labels == attributes["ignore_index"], 0.0, np.nan)
    return (np.moveaxis(np.where(good[..., None], result, outside[..., None]), -1, 1),)


@defines(
    Op(
        "cross_entropy_soft",
        ("logits", "target", "weight?"),
        infer=_infer_soft,
        attributes={"label_smoothing": 0.0},
        gradient=_gradient,
    )
)
def _soft_terms(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """Of every place, -sum over classes c of t_c weight_c log softmax(logits)_c with t = (1 - label_smoothing) *
    target + label_smoothing / C.
    """
    x, target = _last(arrays[0]), _smooth(_last(arrays[1]), attributes)
    with np.errstate(all="ignore"):
        return ((target * _weights(arrays, 2, x.shape[-1]) * _negative_logs(x, 0.0)).sum(-1),)


@defines(
    Op(
        "cross_entropy_soft_gradient",
        ("logits", "target", "dterm", "weight?"),
        infer=_infer_logits,
        attributes={"label_smoothing": 0.0},
    )
)
def _soft_gradient(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """dL/dlogits of cross_entropy_soft: dterm * (softmax(logits) * sum of t weight - t weight)."""
    x, target, dterm = _last(arrays[0]), _smooth(_last(arrays[1]), attributes), np.asarray(arrays[2], np.float64)
    with np.errstate(all="ignore"):
        powers, wanted = np.exp(x - x.max(-1, keepdims=True)), target * _weights(arrays, 3, x.shape[-1])
        p = powers / powers.sum(-1, keepdims=True)
        result = (p * wanted.sum(-1, keepdims=True) - wanted) * dterm[..., None]
    return (np.moveaxis(result, -1, 1),)


# ------------------------------------------------------------------------------------------------ multiclass hinge


def _infer_hinge(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    logits = check_target(types, False, "multiclass_hinge")
    if logits.rank != 2:
        raise InferenceError(f"multiclass_hinge works on [N, classes], not on {show(logits)}", "loss", "E0201")
    if attributes["p"] not in (1, 2):
        raise InferenceError(f"p is {attributes['p']}; it is 1 or 2", "p", "E0203")
    return (_places(logits),)


def _over(arrays: Sequence[Any], attributes: Attributes) -> tuple[Any, Any, Any]:
    """max(0, margin - x[label] + x) of the other classes, one_hot(labels), and which labels are classes."""
    x, labels = np.asarray(arrays[0], np.float64), np.asarray(arrays[1])
    good = (labels >= 0) & (labels < x.shape[1])
    hit = np.arange(x.shape[1]) == np.where(good, labels, -1)[:, None]
    own = np.where(hit, x, 0.0).sum(1, keepdims=True)
    return np.where(hit, 0.0, np.maximum(attributes["margin"] - own + x, 0.0)), hit, good


@defines(
    Op(
        "multiclass_hinge",
        ("logits", "labels", "weight?"),
        infer=_infer_hinge,
        attributes={"margin": 1.0, "p": 1},
        gradient=_gradient,
    )
)
def _hinge(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """Of every row, weight[label] / C * the sum over other classes c of max(0, margin - x[label] + x[c])^p (Crammer
    and Singer, 2001, summed; torch.nn.MultiMarginLoss).
    """
    over, hit, good = _over(arrays, attributes)
    weight = (hit * _weights(arrays, 2, over.shape[1])).sum(1)
    return (np.where(good, (over ** attributes["p"]).mean(1) * weight, np.nan),)


@defines(
    Op(
        "multiclass_hinge_gradient",
        ("logits", "labels", "dterm", "weight?"),
        infer=_infer_logits,
        attributes={"margin": 1.0, "p": 1},
    )
)
def _hinge_gradient(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """dL/dlogits of multiclass_hinge."""
    over, hit, good = _over(arrays, attributes)
    weight = (hit * _weights(arrays, 3, over.shape[1])).sum(1) * np.asarray(arrays[2], np.float64) / over.shape[1]
    slope = (2 * over if attributes["p"] == 2 else (over > 0) * 1.0) * weight[:, None]
    return (np.where(good[:, None], np.where(hit, -slope.sum(1, keepdims=True), slope), np.nan),)


# ------------------------------------------------------------------------------------------------ answers, numbers


def _infer_hits(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    return (_places(check_target(types, False, "accuracy")),) * 2


@defines(
    Op(
        "class_hits",
        ("logits", "labels"),
        infer=_infer_hits,
        attributes={"ignore_index": IGNORED},
        results=("", "counted"),
    )
)
def _hits(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """Of every place, 1 where the first largest logit is the label's; and 1 where the label is not ignore_index."""
    x, labels = np.asarray(arrays[0]), np.asarray(arrays[1])
    counted = labels != attributes["ignore_index"]
    return ((x.argmax(1) == labels) & counted).astype(np.float64), counted.astype(np.float64)


def _infer_numbers(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    values = attributes["values"]
    if not isinstance(values, tuple) or not values or len(values) > 1 << 20:
        raise InferenceError("values is a list of numbers", "values", "E0502")
    if not all(isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < 3e38 for v in values):
        raise InferenceError("values is a list of numbers that float32 holds", "values", "E0502")
    return (TensorType("f32", (len(values),)),)


@defines(Op("numbers", (), infer=_infer_numbers, attributes={"values": REQUIRED}))
def _numbers(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """A vector of numbers, such as a weight for each class."""
    return (np.array(attributes["values"], np.float64),)
