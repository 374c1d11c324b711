"""Weights of grouped convolutions with several groups made one.

A convolution of `groups` groups is one of groups / by groups whose weights are 0 between channels that were in different
groups. `merge_groups` makes those weights, `split_groups` takes back what a gradient of them says of the given ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnc.ir.graph import Attributes
from cnnc.ir.op import REQUIRED, InferenceError, Op, Types, register, required
from cnnc.ir.types import TensorType
from cnnc.ops.checks import integer

ATTRIBUTES = {"groups": REQUIRED, "by": REQUIRED}


def _counts(w: TensorType, attributes: Attributes) -> tuple[int, int]:
    """(groups, by). Raises `InferenceError`."""
    groups, by = (integer(attributes[name], name, 1) for name in ATTRIBUTES)
    if w.rank < 3 or int(w.shape[0]) % groups:
        raise InferenceError(f"groups={groups} must divide the filters of {w}", "groups", "E0204")
    if groups % by:
        raise InferenceError(f"by={by} must divide groups={groups}", "by", "E0204")
    return groups, by


def _infer_merge(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    w = required(types[0])
    _, by = _counts(w, attributes)
    return (TensorType(w.dtype, (w.shape[0], int(w.shape[1]) * by, *w.shape[2:]), w.layout),)


def _infer_split(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    w = required(types[0])
    _, by = _counts(w, attributes)
    if int(w.shape[1]) % by:
        raise InferenceError(f"by={by} must divide the channels of {w}", "by", "E0204")
    return (TensorType(w.dtype, (w.shape[0], int(w.shape[1]) // by, *w.shape[2:]), w.layout),)


def _diagonal(dense: Any, groups: int, by: int) -> Any:
    """What of merged weights joins a group with itself, as [merged groups, by, filters, channels, *kernel]."""
    filters, channels = dense.shape[0] // groups, dense.shape[1] // by
    split = dense.reshape(groups // by, by, filters, by, channels, *dense.shape[2:])
    return np.moveaxis(np.diagonal(split, axis1=1, axis2=3), -1, 1)


def _merge(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    w, groups, by = np.asarray(arrays[0], np.float64), attributes["groups"], attributes["by"]
    merged = np.zeros((groups // by, by, w.shape[0] // groups, by, *w.shape[1:]))
    split = w.reshape(groups // by, by, -1, *w.shape[1:])
    for i in range(by):
        merged[:, i, :, i] = split[:, i]
    return (merged.reshape(types[0].sizes),)


def _split(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    dense = np.asarray(arrays[0], np.float64)
    return (_diagonal(dense, attributes["groups"], attributes["by"]).reshape(types[0].sizes),)


def _register(name: str, back: str, infer: Any, reference: Any, doc: str) -> None:
    """One of the two, whose gradient the other is."""
    register(
        Op(
            name=name,
            operands=("w",),
            infer=infer,
            reference=reference,
            attributes=ATTRIBUTES,
            gradient=lambda context, node, gradients: [context.add(back, [gradients[0]], node.attributes)],
            doc=doc,
        )
    )


_MERGED = "weights [K, C by, ...] of groups / by groups"
_register("merge_groups", "split_groups", _infer_merge, _merge, f"Weights [K, C, ...] of `groups` groups as {_MERGED}.")
_register(
    "split_groups",
    "merge_groups",
    _infer_split,
    _split,
    f"Of {_MERGED}, those that join channels of the same of `groups` groups.",
)
