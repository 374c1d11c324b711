"""Dropout: values put to 0 in training, by random numbers that follow from a counter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnc.ir.graph import Attributes, Node
from cnnc.ir.layer import Argument, Site, builds
from cnnc.ir.op import InferenceError, Op, Types, defines, required
from cnnc.ir.types import Dim, TensorType, product
from cnnc.ops.checks import number, show


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


BY = ("element", "channel", "row")


def dropped_shape(shape: Sequence[Dim], by: str) -> tuple[Dim, ...]:
    """What is kept or dropped together has one place of this shape: an element; a channel of an image; an image."""
    axes = {"element": len(shape), "channel": 2, "row": 1}[by]
    return (*shape[:axes], *[1] * (len(shape) - axes))


def _infer_dropout(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x = required(types[0])
    number(attributes["p"], "p", 0.0, 1.0)
    if attributes["by"] not in BY:
        raise InferenceError(f"by is {attributes['by']!r}; it is one of {', '.join(BY)}", "by", "E0203")
    if x.rank < {"element": 0, "channel": 2, "row": 1}[attributes["by"]]:
        raise InferenceError(f"there is no {attributes['by']} of {show(x)} to drop", "by", "E0201")
    if len(types) > 1 and types[1] is not None and (types[1].dtype, types[1].shape) != ("i64", (2,)):
        raise InferenceError(f"dropout's seed is i64[2], the seed and the step, not {types[1]}", "seed", "E0204")
    return (x,)


def _dropout_gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    if len(node.operands) < 2:
        return [gradients[0]]
    return [context.add("dropout", [gradients[0], node.operands[1]], node.attributes), None]


@defines(
    Op(
        "dropout",
        ("x", "seed?"),
        infer=_infer_dropout,
        attributes={"p": 0.5, "salt": 0, "by": "element"},
        gradient=_dropout_gradient,
        layout="any",
        kind="regularization",
    )
)
def _dropout(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """Without a seed, x. With one, x / (1 - p) where a counter-based random number keeps it, else 0: the gradient
    draws the same. By channel, all of a channel of an image has one number; by row, all of an image.
    """
    x, p = np.asarray(arrays[0], np.float64), attributes["p"]
    if len(arrays) < 2 or arrays[1] is None:
        return (x,)
    seed, step = (int(v) for v in np.asarray(arrays[1]))
    together = tuple(int(d) for d in dropped_shape(x.shape, attributes["by"]))
    return (np.where(dropout_mask(together, p, seed, step, attributes["salt"]), x / (1 - p), 0.0),)


def _build_dropout(site: Site) -> str:
    p, by = number(site.arguments["p"], "p", 0.0, 1.0), site.arguments.get("by", "row")
    return site.add("dropout", site.operands, {"p": p, "by": by})


@builds(
    "dropout",
    Argument("p", 0.5, "share of values set to zero in training"),
    Argument("by", "element", 'what has a random number: each "element", "channel" of an image, or "row", an image'),
    example="x -> dropout(0.2)",
)
def _dropout_layer(site: Site) -> str:
    """puts some values to 0, in training only; `by="channel"`: whole channels of an image"""
    return _build_dropout(site)


@builds(
    "drop_path",
    Argument("p", 0.1, "share of images whose values are all set to zero in training"),
    example="x + (x -> conv(3, 3, padding=1) -> drop_path(0.2))",
)
def _drop_path(site: Site) -> str:
    """stochastic depth (Huang et al., 2016): leaves a path out for some images, in training only"""
    return _build_dropout(site)
