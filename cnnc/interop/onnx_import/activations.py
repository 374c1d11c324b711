"""Activations that exporters spell out: a sum of simple operators becomes the one that they stand for.

What they stand for is found by values, whatever way they are written: x * sigmoid(x), x / (1 + exp(-x)) and so on are silu.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from cnnc.ir import expression as ex
from cnnc.ir.expression import Expression
from cnnc.ir.graph import Graph, Node
from cnnc.ir.rewrite import Rewriter
from cnnc.ops.definitions import DEFINITIONS
from cnnc.ops.pointwise import definition, expressions, is_pointwise

KNOWN = (
    "silu",
    "hardswish",
    "hardsigmoid",
    "gelu",
    "gelu_tanh",
    "mish",
    "softplus",
    "softsign",
    "log_sigmoid",
    "relu6",
)
PROBES = np.concatenate([np.linspace(-9, 9, 73), [-2.999, 2.999, 1e-3, -1e-3, 0.5, 5.999]])
NEAR = 2e-6  # of what is worked out in float64 with constants of float32
LARGEST = 24  # functions of a sum that is looked at
CHAIN = 6  # functions of one value each
LOOKED_AT = 1 << 12  # sums of a graph; what would follow stays as it is spelled


def named(graph: Graph) -> Graph:
    """The graph with what is an activation under its name."""
    outputs = {v for _, v in graph.outputs}
    found: dict[str, tuple[str, str]] = {}
    inside: set[str] = set()
    places = {n.name: k for k, n in enumerate(graph.nodes)}
    left = LOOKED_AT
    for node in reversed(graph.nodes):
        if node.name in inside or not _plain(node) or left <= 0:
            continue
        cones = _cones(graph, node, outputs, places)
        left -= len(cones)
        for cone, x, e in cones:
            op = _known(e) if len(cone) > 1 else None
            if op is not None:
                found[node.name] = op, x
                inside |= cone
                break
    if not found:
        return graph
    rewriter = Rewriter(graph)
    for node in graph.nodes:
        if node.name in found:
            op, x = found[node.name]
            rewriter.add(op, [rewriter.new(x)], {}, origin=node.origin, results=node.results)
        else:
            rewriter.keep(node)
    return rewriter.finish()


def _plain(node: Node) -> bool:
    return is_pointwise(node) and node.op not in ("batchnorm", "constant") and len(node.results) == 1


def _cones(
    graph: Graph, node: Node, outputs: set[str], places: dict[str, int]
) -> list[tuple[set[str], str, Expression]]:
    """Sums that end in a node and start from one value: the nodes, the value, the expression over it as a0. The largest
    come first.
    """
    cone = {node.name}
    result: list[tuple[set[str], str, Expression]] = []
    while True:
        reads = [o for n in sorted(cone, key=places.__getitem__) for o in graph.node(n).inputs if o not in cone]
        leaves = [o for o in dict.fromkeys(reads) if graph.node(o).op != "constant"]
        if len(leaves) == 1 and graph.type(leaves[0]).shape == node.type.shape:
            e = _expression(graph, node.name, leaves[0])
            if e is None:
                return result  # and what is larger is longer still
            result.insert(0, (set(cone), leaves[0], e))
        inner = [o for o in leaves if o in places and o not in outputs and _inside(graph, o, cone)]
        chain = len(cone) > CHAIN and len(result) == len(cone)  # each node reads one value, and no known one is so long
        if not inner or len(cone) >= LARGEST or chain:
            return result
        cone.add(inner[0])


def _inside(graph: Graph, value: str, cone: set[str]) -> bool:
    """Whether a value is plain and nothing else reads it."""
    return _plain(graph.node(value)) and all(u.name in cone for u in graph.users(value))


def _expression(graph: Graph, value: str, x: str) -> Expression | None:
    """A value over x, as a0; None where it is too long."""
    if value == x:
        return ex.var("a0")
    node = graph.node(value)
    if node.op == "constant":
        return ex.const(node.attributes["value"])
    parts = [_expression(graph, o, x) for o in node.inputs]
    if any(p is None for p in parts):
        return None
    e = ex.substitute(expressions(node)[0], {f"a{i}": p for i, p in enumerate(parts) if p is not None})
    return e if ex.size(e) <= LARGEST else None


def _values(e: Expression) -> Any:
    return np.broadcast_to(np.asarray(ex.evaluate(e, {"a0": PROBES}), np.float64), PROBES.shape)


@cache
def _known_values() -> tuple[Any, Any]:
    """Those of the activations, a row each, and how far off others may be."""
    values = np.array([_values(definition(op, DEFINITIONS[op].defaults)) for op in KNOWN])
    return values, NEAR * (1 + np.abs(values))


def _known(e: Expression) -> str | None:
    """The activation whose values an expression has."""
    values, apart = _known_values()
    fits = np.flatnonzero((np.abs(_values(e) - values) <= apart).all(1))
    return KNOWN[fits[0]] if len(fits) else None
