"""Ops that give axes another order: transpose, pixel_shuffle and pixel_unshuffle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnc.ir.graph import Attributes, Node
from cnnc.ir.op import REQUIRED, InferenceError, Op, Types, register, required
from cnnc.ir.receptive import Field, space_of
from cnnc.ir.types import BATCH, Dim, TensorType, activation
from cnnc.ops.window import image, spatial

# ------------------------------------------------------------------------------------------------ transpose


def axes_of(attributes: Mapping[str, Any], rank: int) -> tuple[int, ...]:
    """The operand's axis that each axis of the result is. Raises `InferenceError`."""
    axes = attributes["axes"]
    whole = isinstance(axes, tuple | list) and all(isinstance(a, int) and not isinstance(a, bool) for a in axes)
    if not whole or sorted(a % rank if -rank <= a < rank else -1 for a in axes) != list(range(rank)):
        given = list(axes) if isinstance(axes, tuple | list) else axes
        raise InferenceError(f"axes is a list of 0 to {rank - 1} in another order, not {given!r}", "axes", "E0203")
    return tuple(a % rank for a in axes)


def _infer_transpose(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x = required(types[0])
    axes = axes_of(attributes, x.rank)
    if any(x.shape[a] == BATCH and a != i for i, a in enumerate(axes)):
        raise InferenceError("transpose cannot move the batch: it stays N to the end", "axes", "E0203")
    shape = tuple(x.shape[a] for a in axes)
    if x.block == 1:
        return (activation(shape, x.dtype),)
    if axes[:2] != (0, 1):
        raise InferenceError(f"transpose of channels works on plain layouts, not on {x}", "axes", "E0503")
    return (TensorType(x.dtype, shape, x.layout),)


def _transpose_gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    x, axes = context.type(node.operands[0]), axes_of(node.attributes, node.type.rank)
    dx = context.add("transpose", [gradients[0]], {"axes": tuple(axes.index(i) for i in range(len(axes)))})
    if context.type(dx).layout != x.layout:  # weights have a layout that no activation has
        dx = context.add("reshape", [dx], {"shape": x.shape, "layout": x.layout})
    return [dx]


def _transpose_field(node: Node, types: Types, seen: Field) -> Field:
    axes = axes_of(node.attributes, node.type.rank)
    space = [a - 2 for a in axes[2:]]
    if len(axes) != len(seen.extent) + 2 or any(a < 0 for a in space):
        return seen.whole()
    return Field(*(tuple(part[a] for a in space) for part in (seen.size, seen.jump, seen.extent)))


register(
    Op(
        name="transpose",
        operands=("x",),
        infer=_infer_transpose,
        reference=lambda a, attributes, types: (np.transpose(a[0], axes_of(attributes, np.ndim(a[0]))),),
        attributes={"axes": REQUIRED},
        gradient=_transpose_gradient,
        layout="moving",
        kind="shape",
        field=_transpose_field,
        doc="Axis i of the result is axis axes[i] of x.",
    )
)


# ------------------------------------------------------------------------------------------------ pixels and channels


def _factor(attributes: Mapping[str, Any]) -> int:
    factor = attributes["factor"]
    if isinstance(factor, bool) or not isinstance(factor, int) or factor < 1:
        raise InferenceError(f"factor is a whole number of at least 1, not {factor!r}", "factor", "E0203")
    return factor


def _infer_shuffle(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x, factor = image(types[0], "pixel_shuffle"), _factor(attributes)
    pixels = factor ** (x.rank - 2)
    if int(x.shape[1]) % pixels:
        what = f"factor {factor} needs channels that {pixels} divides; the input has {x.shape[1]}"
        raise InferenceError(what, "factor", "E0203")
    _plain(x, "pixel_shuffle")
    return (activation((x.shape[0], int(x.shape[1]) // pixels, *(d * factor for d in spatial(x))), x.dtype),)


def _infer_unshuffle(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x, factor = image(types[0], "pixel_unshuffle"), _factor(attributes)
    for axis, size in enumerate(spatial(x)):
        if size % factor:
            raise InferenceError(f"factor {factor} must divide the {size} pixels of axis {axis + 2}", "factor", "E0203")
    _plain(x, "pixel_unshuffle")
    channels = int(x.shape[1]) * factor ** (x.rank - 2)
    return (activation((x.shape[0], channels, *(d // factor for d in spatial(x))), x.dtype),)


def _plain(x: TensorType, op: str) -> None:
    if x.block != 1:
        raise InferenceError(f"{op} works on plain layouts, not on {x}", "x", "E0503")


def turned(op: str, shape: Sequence[Dim], factor: int) -> tuple[list[Dim], list[int]]:
    """The sizes of the axes that an operand of that shape is made of, and the order in which they make the result."""
    n, channels, *space = shape
    k = len(space)
    if op == "pixel_shuffle":
        sizes = [n, int(channels) // factor**k, *[factor] * k, *space]
        return sizes, [0, 1, *(axis for i in range(k) for axis in (2 + k + i, 2 + i))]
    sizes = [n, channels, *(d for size in space for d in (int(size) // factor, factor))]
    return sizes, [0, 1, *(3 + 2 * i for i in range(k)), *(2 + 2 * i for i in range(k))]


def _shuffle_field(node: Node, types: Types, seen: Field) -> Field:
    jump = tuple(-(-j // node.attributes["factor"]) for j in seen.jump)
    return Field(seen.size, jump, space_of(node.type))


def _unshuffle_field(node: Node, types: Types, seen: Field) -> Field:
    by = (node.attributes["factor"],) * len(seen.extent)
    return seen.window(by, by, space_of(node.type))


def _record(name: str, infer: Any, back: str, field: Any, doc: str) -> Op:
    def gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
        return [context.add(back, [gradients[0]], {"factor": node.attributes["factor"]})]

    def moved(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
        sizes, order = turned(name, np.shape(arrays[0]), attributes["factor"])
        parts: Any = np.asarray(arrays[0], np.float64)
        return (parts.reshape(sizes).transpose(order).reshape(types[0].sizes),)

    attributes = {"factor": REQUIRED}
    return Op(name=name, operands=("x",), infer=infer, reference=moved, attributes=attributes, gradient=gradient, kind="shape",
              field=field, doc=doc)  # fmt: skip


for _record_of in (
    ("pixel_shuffle", _infer_shuffle, "pixel_unshuffle", _shuffle_field,
     "y[n, c, h * factor + i, w * factor + j] = x[n, c * factor^2 + i * factor + j, h, w] (Shi et al., 2016); over other numbers of "
     "axes alike."),
    ("pixel_unshuffle", _infer_unshuffle, "pixel_shuffle", _unshuffle_field,
     "y[n, c * factor^2 + i * factor + j, h, w] = x[n, c, h * factor + i, w * factor + j]: pixel_shuffle the other way round."),
):  # fmt: skip
    register(_record(*_record_of))
