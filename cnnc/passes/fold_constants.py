"""fold-constants: what is known before anything runs, and what does nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from cnnc.ir import expression as ex
from cnnc.ir.graph import Graph, Node
from cnnc.ir.rewrite import Rewriter, rewrite
from cnnc.ir.types import BATCH
from cnnc.ops import pointwise
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


RULES = (_constant, _identity, _twice_negated, _no_dropout, _same_shape, _chain, _one_element)


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
    reshape to the same shape, concat of one --> x;  to_layout(to_layout(x)) --> to_layout(x)
    """

    name: ClassVar[str] = "fold-constants"

    def apply(self, graph: Graph) -> Graph:
        return rewrite(graph, _rule)
