"""fold-constants: what is known before anything runs, and what does nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from cnnc.ir import expression as ex
from cnnc.ir.graph import Graph, Node
from cnnc.ir.rewrite import Rewriter, rewrite
from cnnc.ir.types import BATCH, PLAIN
from cnnc.ops import pointwise
from cnnc.ops.selection import SELECTING, selected
from cnnc.ops.transpose import axes_of
from cnnc.ops.window import Window
from cnnc.passes.manager import Pass, register_pass


def _constant(rewriter: Rewriter, node: Node) -> str | None:
    """f(2, 3) --> constant"""
    if node.op == "constant" or not pointwise.is_pointwise(node) or node.type.rank or len(node.results) > 1:
        return None
    producers = [rewriter.node(o) for o in node.inputs]
    if any(p.op != "constant" for p in producers):
        return None
    values = {f"a{i}": float(p.attributes["value"]) for i, p in enumerate(producers)}
    value = float(ex.evaluate(pointwise.expressions(node)[0], values))
    return (
        rewriter.add("constant", [], {"value": value}, origin=node.origin, results=node.results)
        if math.isfinite(value)
        else None
    )


def _identity(rewriter: Rewriter, node: Node) -> str | None:
    """x + 0, x - 0, x * 1, x / 1, --x --> x"""
    if node.op == "constant" or not pointwise.is_pointwise(node) or len(node.results) > 1:
        return None
    constants = {
        f"a{i}": ex.const(p.attributes["value"])
        for i, p in enumerate(map(rewriter.node, node.inputs))
        if p.op == "constant"
    }
    if not constants and node.op != "pointwise":
        return None
    expression = ex.simplify(ex.substitute(pointwise.expressions(node)[0], constants))
    return node.inputs[int(expression[1][1:])] if expression[0] == "var" else None


def _twice_negated(rewriter: Rewriter, node: Node) -> str | None:
    """neg(neg(x)) --> x"""
    inner = rewriter.node(node.inputs[0]) if node.op == "neg" else None
    return inner.inputs[0] if inner is not None and inner.op == "neg" else None


def _no_dropout(rewriter: Rewriter, node: Node) -> str | None:
    """dropout(x) --> x where there is no seed, as in prediction, or p = 0"""
    if node.op != "dropout" or (len(node.inputs) > 1 and node.attribute("p") > 0):
        return None
    return node.inputs[0]


def _same_shape(rewriter: Rewriter, node: Node) -> str | None:
    """flatten, reshape, expand, slice, to_layout and concat that give back their one operand --> the operand"""
    if node.op not in ("flatten", "reshape", "expand", "slice", "to_layout", "concat") or len(node.inputs) != 1:
        return None
    return node.inputs[0] if node.type == rewriter.type(node.inputs[0]) else None


def _nothing_moves(rewriter: Rewriter, node: Node) -> str | None:
    """pad by 0, gather in order, repeat once, shuffles of one group or pixel --> the operand"""
    if node.op in SELECTING:
        shape = tuple(0 if d == BATCH else int(d) for d in rewriter.type(node.inputs[0]).shape)
        same = [
            index.tolist() == list(range(shape[axis]))
            for axis, index in selected(node.op, node.attributes, shape).items()
        ]
        return node.inputs[0] if all(same) else None
    if node.op in ("pixel_shuffle", "pixel_unshuffle") and node.attributes["factor"] == 1:
        return node.inputs[0]
    return None


def _moved_twice(rewriter: Rewriter, node: Node) -> str | None:
    """transpose(transpose(x)) --> transpose(x) or x; flip(flip(x)) and the shuffles that undo each other --> x"""
    inner = rewriter.node(node.inputs[0]) if node.inputs else node
    if node.op == "transpose" == inner.op:
        axes = axes_of(inner.attributes, node.type.rank)
        both = tuple(axes[a] for a in axes_of(node.attributes, node.type.rank))
        if both == tuple(range(len(both))):
            return inner.inputs[0]
        return rewriter.add("transpose", inner.inputs, {"axes": both}, origin=node.origin, results=node.results)
    if (node.op, inner.op) in (("pixel_shuffle", "pixel_unshuffle"), ("pixel_unshuffle", "pixel_shuffle")):
        return inner.inputs[0] if node.attributes == inner.attributes else None
    if node.op == "flip" == inner.op and node.attributes == inner.attributes:
        return inner.inputs[0]
    if node.op == "channel_shuffle" == inner.op:
        undone = node.attributes["groups"] * inner.attributes["groups"] == node.type.shape[1]
        return inner.inputs[0] if undone else None
    return None


def _turned(rewriter: Rewriter, node: Node) -> str | None:
    """matmul(transpose(a), b) --> matmul(a, b) {transpose_a=true} where the last two axes change places; the same for b"""
    if node.op != "matmul":
        return None
    operands, attributes = list(node.inputs), node.attributes
    for i, name in enumerate(("transpose_a", "transpose_b")):
        inner, rank = rewriter.node(node.inputs[i]), rewriter.type(node.inputs[i]).rank
        swapped = (*range(rank - 2), rank - 1, rank - 2)
        if inner.op == "transpose" and axes_of(inner.attributes, rank) == swapped:
            operands[i], attributes = inner.inputs[0], attributes.with_(**{name: not node.attribute(name) or None})
    if operands == list(node.inputs):
        return None
    return rewriter.add("matmul", operands, attributes, origin=node.origin, results=node.results)


def _padded(rewriter: Rewriter, node: Node) -> str | None:
    """conv(pad(x)) by zeros --> conv(x) with more padding; the same for its gradients"""
    if node.op not in ("conv", "conv_weight_gradient") or node.type.rank not in PLAIN:
        return None
    inner = rewriter.node(node.inputs[0])
    if not _zeros_around(inner) or any(before < 0 or after < 0 for before, after in inner.attributes["padding"]):
        return None
    padding = _wider(rewriter, node, inner.attributes["padding"])
    operands = [inner.inputs[0], *node.operands[1:]]
    attributes = node.attributes.with_(padding=padding)
    return rewriter.add(node.op, operands, attributes, origin=node.origin, results=node.results)


def _cut(rewriter: Rewriter, node: Node) -> str | None:
    """pad(conv_data_gradient(dy)) by fewer pixels, which only it reads --> conv_data_gradient(dy) with more padding"""
    inner = rewriter.node(node.inputs[0]) if node.op == "pad" else node
    if (
        node is inner
        or inner.op != "conv_data_gradient"
        or not _zeros_around(node)
        or inner.name in rewriter.graph.kept
    ):
        return None
    if any(before > 0 or after > 0 for before, after in node.attributes["padding"]):
        return None
    if len(rewriter.graph.users(inner.name)) != 1 or "epilogue" in inner.attributes:
        return None
    padding = _wider(rewriter, inner, [(-before, -after) for before, after in node.attributes["padding"]])
    attributes = inner.attributes.with_(padding=padding, size=tuple(int(d) for d in node.type.shape[2:]))
    return rewriter.add(inner.op, inner.operands, attributes, origin=node.origin, results=node.results)


def _zeros_around(node: Node) -> bool:
    """Whether a node pads the axes of space alone, by zeros."""
    if node.op != "pad" or node.type.rank not in PLAIN or "interior" in node.attributes:
        return False
    constant = node.attribute("mode") == "constant" and node.attribute("value") == 0
    return constant and len(node.attributes["padding"]) == node.type.rank - 2


def _wider(rewriter: Rewriter, node: Node, around: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The padding of a convolution, and more."""
    kernel = node.attributes.get("kernel") or rewriter.type(node.inputs[1]).shape[2:]
    own = Window.of(kernel, node.attributes, len(around)).padding
    return tuple((a + c, b + d) for (a, b), (c, d) in zip(own, around, strict=True))


def _chain(rewriter: Rewriter, node: Node) -> str | None:
    """to_layout(to_layout(x)) --> to_layout(x) or x; the same for reshape(reshape(x))"""
    if node.op not in ("to_layout", "reshape"):
        return None
    inner = rewriter.node(node.inputs[0])
    if inner.op != node.op and not (node.op == "reshape" and inner.op == "flatten"):
        return None
    source = inner.inputs[0]
    if rewriter.type(source) == node.type:
        return source
    return rewriter.add(node.op, [source], node.attributes, origin=node.origin, results=node.results)


def _one_element(rewriter: Rewriter, node: Node) -> str | None:
    """sum or mean over axes of size 1 --> reshape"""
    if node.op not in ("sum", "mean"):
        return None
    x = rewriter.type(node.inputs[0])
    axes = node.attributes["axis"]
    if any(x.shape[a] != 1 for a in (axes if isinstance(axes, tuple) else (axes,))) or list(x.shape).count(BATCH) > 1:
        return None
    return rewriter.add("reshape", node.inputs, {"shape": node.type.shape}, origin=node.origin, results=node.results)


RULES = (
    _constant,
    _identity,
    _twice_negated,
    _no_dropout,
    _same_shape,
    _nothing_moves,
    _moved_twice,
    _turned,
    _padded,
    _cut,
    _chain,
    _one_element,
)


def _rule(rewriter: Rewriter, node: Node) -> str | None:
    for rule in RULES:
        result = rule(rewriter, node)
        # a value may only be replaced by one of exactly its type: broadcasting x + zeros[N, 1] is no identity
        if result is not None and rewriter.type(result) == node.type:
            return result
    return None


@register_pass
@dataclass(frozen=True)
class FoldConstants(Pass):
    """f(constant, ...) --> constant;  x + 0, x * 1, --x --> x;  dropout without a seed --> x;  flatten of rank 2,
    reshape to the same shape, concat of one --> x;  to_layout(to_layout(x)) --> to_layout(x);  pads, gathers and shuffles
    that move nothing, or undo each other --> x;  conv(pad(x)) by zeros --> conv(x) with more padding
    """

    name: ClassVar[str] = "fold-constants"

    def apply(self, graph: Graph) -> Graph:
        return rewrite(graph, _rule)
