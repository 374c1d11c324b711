"""A failing network made small: outputs and nodes go as long as it still fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain

from cnnc.diagnostics import CnncError
from cnnc.ir.graph import LEAVES, Attributes, Graph, Node
from cnnc.ir.rewrite import rename_pairs, renamed
from cnnc.ir.types import PLAIN
from cnnc.ir.verify import verify


def shrink(graph: Graph, fails: Callable[[Graph], bool]) -> Graph:
    """The smallest network found that still fails: none of its parts can be left out."""
    graph = live(graph)
    again = True
    while again:
        again = False
        for smaller in candidates(graph):
            try:
                verify(smaller)
            except CnncError:
                continue
            if fails(smaller):
                graph, again = smaller, True
                break
    return graph


def candidates(graph: Graph) -> Iterator[Graph]:
    """Graphs with less in them, what takes most away first."""
    yield from map(live, chain(_fewer_outputs(graph), _fewer_nodes(graph), _less_of_nodes(graph)))


def _fewer_outputs(graph: Graph) -> Iterator[Graph]:
    if len(graph.outputs) > 1:
        for one in graph.outputs:
            yield replace(graph, outputs=(one,))
        for one in graph.outputs:
            yield replace(graph, outputs=tuple(o for o in graph.outputs if o != one))


def _fewer_nodes(graph: Graph) -> Iterator[Graph]:
    for node in reversed(graph.nodes):
        if node.op in LEAVES or len(node.results) > 1:
            continue
        plain = node.type.layout == PLAIN.get(node.type.rank) and node.op != "constant"
        if plain:  # what leads to it goes
            leaf = Node("input", (), Attributes(), node.results, node.types)
            yield _with(graph, node, leaf)
        for operand in node.inputs:  # the node goes
            if graph.type(operand) == node.type:
                yield _without(graph, node, operand)


def _less_of_nodes(graph: Graph) -> Iterator[Graph]:
    for node in graph.nodes:  # a bias goes
        if node.op in ("conv", "linear") and len(node.operands) == 3:
            yield _with(graph, node, replace(node, operands=node.operands[:2]))
    for node in graph.nodes:  # an attribute goes
        for key in node.attributes:
            yield _with(graph, node, replace(node, attributes=node.attributes.with_(**{key: None})))


def _with(graph: Graph, node: Node, other: Node) -> Graph:
    """The graph with another node in the place of one."""
    return replace(graph, nodes=tuple(other if n is node else n for n in graph.nodes))


def _without(graph: Graph, node: Node, operand: str) -> Graph:
    names = {node.name: operand}
    nodes = tuple(renamed(n, names) for n in graph.nodes if n is not node)
    return replace(graph, nodes=nodes, outputs=rename_pairs(graph.outputs, names))


def live(graph: Graph) -> Graph:
    """Without what no output needs, inputs first."""
    needed = set(graph.kept)
    for node in reversed(graph.nodes):
        if needed.intersection(node.results):
            needed.update(node.inputs)
    nodes = [n for n in graph.nodes if needed.intersection(n.results)]
    return replace(graph, nodes=tuple(sorted(nodes, key=lambda n: n.op != "input")))
