"""Products of tensors: the last two axes as matrices, the axes before them as a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnc.ir.graph import Attributes, Node
from cnnc.ir.layer import Argument, Site, builds
from cnnc.ir.op import InferenceError, Op, Types, register, required, whole_field
from cnnc.ir.types import Dim, TensorType, activation, product
from cnnc.ops.checks import flag, show

LARGEST_RANK = 4


def matrix(t: TensorType, transposed: bool) -> tuple[Dim, Dim]:
    """Rows and columns, as they are multiplied."""
    rows, columns = t.shape[-2:]
    return (columns, rows) if transposed else (rows, columns)


def _infer(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    a, b = required(types[0]), required(types[1])
    ta, tb = (flag(attributes[name], name) for name in ("transpose_a", "transpose_b"))
    for t in (a, b):
        if not 2 <= t.rank <= LARGEST_RANK:
            raise InferenceError(f"matmul works on tensors of 2 to {LARGEST_RANK} axes, not on {show(t)}", "x", "E0201")
    (rows, depth), (inner, columns) = matrix(a, ta), matrix(b, tb)
    if depth != inner:
        raise InferenceError(
            f"matmul of {show(a)} and {show(b)}: {depth} columns meet {inner} rows",
            "x",
            "E0205",
            help="transpose_a and transpose_b take the last two axes the other way round",
        )
    batch: list[Dim] = []
    rank = max(a.rank, b.rank)
    for x, y in zip((1,) * (rank - a.rank) + a.shape[:-2], (1,) * (rank - b.rank) + b.shape[:-2], strict=True):
        if x != y and 1 not in (x, y):
            raise InferenceError(f"matmul of {show(a)} and {show(b)}: {x} and {y} matrices", "x", "E0205")
        batch.append(y if x == 1 else x)
    return (activation((*batch, rows, columns), a.dtype),)


def _reference(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    turned = (attributes["transpose_a"], attributes["transpose_b"])
    a, b = (np.swapaxes(v, -1, -2) if t else v for v, t in zip(arrays, turned, strict=True))
    return (np.asarray(a, np.float64) @ np.asarray(b, np.float64),)


def _gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    """With A and B as they are multiplied, dA = dy B^T and dB = A^T dy, either turned back where its operand is."""
    dy, (a, b) = gradients[0] or "", node.inputs
    ta, tb = node.attribute("transpose_a"), node.attribute("transpose_b")

    def times(x: str, y: str, turn_x: bool, turn_y: bool, of: str) -> str | None:
        if not context.wanted(of):
            return None
        made = context.add("matmul", [x, y], {"transpose_a": turn_x, "transpose_b": turn_y})
        reduced: str | None = context.reduce_to(made, of)
        return reduced

    da = times(b, dy, tb, True, a) if ta else times(dy, b, False, not tb, a)
    if not ta and context.type(b).rank == 2 < context.type(a).rank:  # one matrix for all rows of a, as a layer's weight
        operands = [a, dy] if tb else [dy, a]
        return [da, context.add("linear_weight_gradient", operands) if context.wanted(b) else None]
    return [da, times(dy, a, True, ta, b) if tb else times(a, dy, not ta, False, b)]


def _macs(node: Node, types: Types, batch: int) -> int:
    depth = matrix(required(types[0]), node.attribute("transpose_a"))[1]
    return product(node.type.concrete(batch)) * (batch if isinstance(depth, str) else depth)


register(
    Op(
        name="matmul",
        operands=("a", "b"),
        infer=_infer,
        reference=_reference,
        attributes={"transpose_a": False, "transpose_b": False},
        gradient=_gradient,
        macs=_macs,
        kind="linear",
        field=whole_field,
        doc="y[..., r, c] = sum over k of a[..., r, k] * b[..., k, c]. Axes before the last two broadcast.",
    )
)


@builds(
    "matmul",
    Argument("transpose_a", False, "whether the first one's last two axes change places"),
    Argument("transpose_b", False, "whether the second one's do"),
    operands=2,
    shapes="[..., M, K], [..., K, L] -> [..., M, L]",
    example="matmul(x, x, transpose_b=true)",
)
def _build(site: Site) -> str:
    """products of matrices: the last two axes; those before them are a batch, and broadcast"""
    turned = {name: flag(site.arguments[name], name) for name in ("transpose_a", "transpose_b")}
    return site.add("matmul", site.operands, turned)
