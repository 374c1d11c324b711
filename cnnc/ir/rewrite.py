"""Rewriting: a new list of nodes in place of the old, and a mapping of the values that go.

Graphs refer to values by name, so a rewrite needs no surgery: nodes are copied one by one with their operands renamed,
left out, or replaced. Every pass that is written so is linear in the nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from cnnc.diagnostics import Origin
from cnnc.ir.builder import Builder
from cnnc.ir.graph import LEAVES, Given, Graph, Node, Operands
from cnnc.ir.types import TensorType

Rule = Callable[["Rewriter", Node], "str | tuple[str, ...] | None"]


def renamed(node: Node, names: Mapping[str, str]) -> Node:
    """The node with its operands renamed; the same object where none is."""
    operands = tuple(None if o is None else names.get(o, o) for o in node.operands)
    return node if operands == node.operands else replace(node, operands=operands)


def rename_values(graph: Graph, names: Mapping[str, str]) -> Graph:
    """The graph with values called otherwise, where they are defined and everywhere else. The new names must be free."""
    nodes = tuple(replace(renamed(n, names), results=tuple(names.get(r, r) for r in n.results)) for n in graph.nodes)
    return replace(
        graph,
        nodes=nodes,
        outputs=rename_pairs(graph.outputs, names),
        updates=tuple((names.get(p, p), v) for p, v in rename_pairs(graph.updates, names)),
    )


def rename_pairs(pairs: Iterable[tuple[str, str]], names: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((label, names.get(value, value)) for label, value in pairs)


class Rewriter:
    """Copies a graph node by node. `graph` is the old one, `builder` holds the new nodes, `names` maps old values to
    new.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.builder = Builder(graph.name)
        self.names: dict[str, str] = {}
        self.producers: dict[str, Node] = {}
        self.changed = False
        self._counters: dict[str, int] = {}
        self._old = frozenset(r for n in graph.nodes for r in n.results)

    def keep(self, node: Node) -> Node:
        """Copy a node, its operands renamed."""
        return self.put(renamed(node, self.names))

    def put(self, node: Node) -> Node:
        """Add a node whose operands are new values already."""
        self.builder.append(node)
        self.producers.update((r, node) for r in node.results)
        return node

    def add(
        self,
        op: str,
        operands: Operands,
        attributes: Given = None,
        stem: str | None = None,
        origin: Origin | None = None,
        results: Sequence[str] | None = None,
    ) -> str:
        """A new node over new values, its types inferred; the first of its results.

        results: names as they are to be, such as those of the node that it replaces. Otherwise names are made from
        `stem`, so that neither graph has them.
        """
        node = self.builder.insert(op, operands, attributes, results or (self.unused(stem or op),), origin)
        self.producers.update((r, node) for r in node.results)
        self.changed = True
        return node.name

    def unused(self, stem: str) -> str:
        """`stem`, with a number behind it where either graph has it already."""
        count = self._counters.get(stem, 1)
        name = stem if count == 1 else f"{stem}.{count}"
        while name in self._old or name in self.builder:
            count += 1
            name = f"{stem}.{count}"
        self._counters[stem] = count
        return name

    def replace(self, old: Sequence[str], new: Sequence[str]) -> None:
        """The old values are the new ones from here on."""
        self.names.update((a, b) for a, b in zip(old, new, strict=True) if a != b)
        self.changed = True

    def new(self, value: str) -> str:
        """What an old value is now."""
        return self.names.get(value, value)

    def node(self, value: str) -> Node:
        """The new node that gives a new value."""
        return self.producers[value]

    def type(self, value: str) -> TensorType:
        return self.builder.type(value)

    def finish(self) -> Graph:
        """The new graph; the old object when nothing changed."""
        if not self.changed:
            return self.graph
        return self.builder.finish(
            rename_pairs(self.graph.outputs, self.names), rename_pairs(self.graph.updates, self.names)
        )


def rewrite(graph: Graph, rule: Rule) -> Graph:
    """One walk over the nodes. The rule sees each with its operands renamed already; it gives the value or values that
    stand for the node's results (having added what it needs), or None where it does not apply.
    """
    rewriter = Rewriter(graph)
    for node in graph.nodes:
        node = renamed(node, rewriter.names)
        result = None if node.op in LEAVES else rule(rewriter, node)
        if result is None:
            rewriter.put(node)
        else:
            rewriter.replace(node.results, (result,) if isinstance(result, str) else result)
    return rewriter.finish()


def dependent(graph: Graph, leaves: Iterable[str]) -> frozenset[str]:
    """All values that depend on any of the leaves, themselves included."""
    found = set(leaves)
    for node in graph.nodes:
        if not found.isdisjoint(node.inputs):
            found.update(node.results)
    return frozenset(found)


def leading_to(graph: Graph, values: Iterable[str]) -> frozenset[str]:
    """All values on which any of the given ones depend, themselves included."""
    found = set(values)
    for node in reversed(graph.nodes):
        if not found.isdisjoint(node.results):
            found.update(node.inputs)
    return frozenset(found)


def fixed_values(graph: Graph) -> frozenset[str]:
    """Values that depend on params, states and constants alone: known once the weights are."""
    found: set[str] = set()
    for node in graph.nodes:
        if node.op in ("param", "state") or (node.op != "input" and all(o in found for o in node.inputs)):
            found.update(node.results)
    return frozenset(found)
