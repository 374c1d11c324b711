"""Ops that put values into other shapes: flatten, reshape, concat, expand, and the change of layout."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from cnnc.ir.graph import Attributes, Node
from cnnc.ir.layer import Argument, named_op
from cnnc.ir.op import REQUIRED, InferenceError, Op, Types, defines, one_number, register, required
from cnnc.ir.types import BATCH, PLAIN, Dim, TensorType, activation, product
from cnnc.ops.checks import one_axis, show
from cnnc.ops.pointwise import align

_moving = partial(Op, kind="shape")

# ------------------------------------------------------------------------------------------------ flatten, reshape


def _infer_flatten(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x = required(types[0])
    start = one_axis(attributes["start"], max(x.rank, 1), "start")
    if start == 0:
        raise InferenceError("flatten cannot merge the batch; start is at least 1", "start", "E0203")
    return (activation((*x.shape[:start], product(tuple(int(d) for d in x.shape[start:]))), x.dtype),)


def _infer_reshape(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x, shape = required(types[0]), attributes["shape"]

    if any(d != BATCH and not isinstance(d, int) for d in shape):
        raise InferenceError(f"shape is a list of whole numbers and {BATCH}, not {list(shape)}", "shape", "E0203")

    def size(dims: Sequence[Dim]) -> tuple[int, int]:
        return sum(d == BATCH for d in dims), product(tuple(int(d) for d in dims if d != BATCH))

    if size(x.shape) != size(shape):
        raise InferenceError(f"{show(x)} cannot be reshaped to {list(shape)}", "shape", "E0204")
    result = activation(tuple(shape), x.dtype, attributes["layout"])
    if result.block != 1 or x.block != 1:
        raise InferenceError(f"reshape works on plain layouts, not from {x} to {result}", "layout", "E0503")
    return (result,)


def _reshaped(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    return (np.asarray(arrays[0], np.float64).reshape(types[0].sizes),)


def _reshape_back(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    x = context.type(node.operands[0])
    return [
        context.add(
            "reshape", [gradients[0]], {"shape": x.shape, "layout": None if x.layout in PLAIN.values() else x.layout}
        )
    ]


_reshaping = partial(_moving, operands=("x",), reference=_reshaped, gradient=_reshape_back)
_doc = "Axes from `start` on merged into one."
register(_reshaping("flatten", infer=_infer_flatten, attributes={"start": 1}, doc=_doc))
register(
    _reshaping(
        "reshape",
        infer=_infer_reshape,
        attributes={"shape": REQUIRED, "layout": None},
        doc="The same values in another shape; `layout` names a plain order that is no activation's, such as oihw.",
    )
)


# ------------------------------------------------------------------------------------------------ concat


def _infer_concat(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    if not types:
        raise InferenceError("concat needs at least one tensor", "operands", "E0203")
    first = required(types[0])
    axis = one_axis(attributes["axis"], first.rank)
    for t in types:
        t = required(t)
        if t.rank != first.rank or any(
            a != b for i, (a, b) in enumerate(zip(t.shape, first.shape, strict=True)) if i != axis
        ):
            raise InferenceError(
                f"concat along axis {axis} cannot join {show(first)} and {show(t)}",
                "operands",
                "E0205",
                help="all other axes must have the same size",
            )
        if t.layout != first.layout:
            raise InferenceError(f"concat of different layouts: {first.layout} and {t.layout}", "operands", "E0503")
    if BATCH in (required(t).shape[axis] for t in types) and len(types) > 1:
        raise InferenceError("concat cannot join batches: the batch stays N to the end", "axis", "E0205")
    total = first.shape[axis] if len(types) == 1 else sum(int(required(t).shape[axis]) for t in types)
    return (TensorType(first.dtype, (*first.shape[:axis], total, *first.shape[axis + 1 :]), first.layout),)


def _concat_gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    if len(node.inputs) == 1:  # along whatever axis, the batch's too
        return list(gradients)
    result: list[str | None] = []
    start, axis = 0, node.attribute("axis") % node.type.rank
    for operand in node.inputs:
        size = context.type(operand).shape[axis]
        result.append(
            context.add("slice", [gradients[0]], {"axis": axis, "start": start, "size": size})
            if context.wanted(operand)
            else None
        )
        start += int(size) if size != BATCH else 0
    return result


@defines(
    _moving(
        "concat", ("x*",), infer=_infer_concat, attributes={"axis": 1}, gradient=_concat_gradient, layout="channels"
    )
)
def _concat(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """Tensors joined along an axis."""
    return (np.concatenate(arrays, attributes["axis"]),)


# ------------------------------------------------------------------------------------------------ expand


@defines(Op("batch_size", ("x",), infer=one_number, layout="sink"))
def _batch_size(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """The batch N as a number."""
    return (np.float64(np.shape(arrays[0])[0]),)


def _infer_expand(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x, shape = required(types[0]), tuple(attributes["shape"])
    if x.rank not in (0, 1, len(shape)) or any(
        a not in (1, b) for a, b in zip(x.shape, shape, strict=False) if x.rank == len(shape)
    ):
        raise InferenceError(f"{show(x)} does not expand to {list(shape)}", "shape", "E0205")
    return (TensorType(x.dtype, shape, attributes["layout"] or x.layout or PLAIN.get(len(shape))),)


@defines(
    _moving(
        "expand",
        ("x",),
        infer=_infer_expand,
        attributes={"shape": REQUIRED, "layout": None},
        gradient=lambda context, node, g: [context.reduce_to(g[0], node.operands[0])],
        layout="any",
    )
)
def _expanded(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """x broadcast to a shape."""
    shape = types[0].sizes
    return (np.broadcast_to(align(arrays[0], len(shape)), shape).astype(np.float64),)


# ------------------------------------------------------------------------------------------------ layout


def _infer_layout(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x = required(types[0])
    if x.rank not in PLAIN:
        raise InferenceError(f"{x} has no layout to change", "layout", "E0503")
    result = x.with_layout(attributes["layout"])
    if result.layout != PLAIN[x.rank] and result.block == 1:
        raise InferenceError(f"unknown layout '{attributes['layout']}' of a tensor of rank {x.rank}", "layout", "E0503")
    return (result,)


@defines(
    _moving(
        "to_layout",
        ("x",),
        infer=_infer_layout,
        attributes={"layout": REQUIRED},
        gradient=lambda context, node, g: [
            context.add("to_layout", [g[0]], {"layout": context.type(node.operands[0]).layout})
        ],
        layout="convert",
    )
)
def _to_layout(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """The same tensor in another memory layout."""
    return (np.asarray(arrays[0], np.float64),)


# ------------------------------------------------------------------------------------------------ layers


named_op(
    "flatten",
    Argument("start", 1, "the first axis that is merged"),
    shapes="[N, C, H, W] -> [N, C * H * W]",
    example="x -> flatten",
    doc="`[N, C, H, W]` to `[N, C * H * W]`",
)
named_op(
    "concat",
    Argument("axis", 1, "along which they are joined; the channels, unless told"),
    operands=None,
    shapes="[N, A, H, W], [N, B, H, W], ... -> [N, A + B + ..., H, W]",
    example="concat([x, x -> relu])",
    doc="tensors joined",
)
