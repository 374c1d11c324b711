"""order-updates: parameters change as soon as their gradients are known, so that these need not be kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from cnnc.ir.graph import LEAVES, Graph, Node
from cnnc.ir.types import product
from cnnc.ops.pointwise import is_pointwise
from cnnc.passes.manager import Form, Forms, Limits, Pass, register_pass


@register_pass
@dataclass(frozen=True)
class OrderUpdates(Pass):
    """dw = gradient(x, dy), dx = f(dy, w), ..., new.w = g(w, dw)  -->  dw, dx, new.w, ...

    The arithmetic of updates moves up to where its operands are known and the params and states that it replaces have been
    read for the last time. A gradient is still in the caches then, and its memory is free for the layers before. A
    weight gradient with more numbers than its operands have for a batch of `batch` is computed at the end, when no
    activations are left beside it. Inputs, params and states come first.
    """

    name: ClassVar[str] = "order-updates"
    needs: ClassVar[Forms] = frozenset((Form.READ,))
    gives: ClassVar[Forms] = frozenset((Form.ORDERED,))
    within: ClassVar[Limits] = {"batch": (1, None)}
    batch: int = 128

    def apply(self, graph: Graph) -> Graph:
        late = _update_nodes(graph)
        if not late:
            return graph
        last = {n.name: n for n in graph.nodes if self._large(graph, n, late)}
        replaced: dict[str, list[str]] = {}  # by new value, the leaves that it replaces
        for leaf, value in graph.updates:
            replaced.setdefault(value, []).append(leaf)
        left: dict[str, int] = {}  # how many of the other nodes still have to read a leaf
        for node in graph.nodes:
            if node.name not in late:
                for o in dict.fromkeys(node.inputs):
                    left[o] = left.get(o, 0) + 1
        waiting = _Waiting(late.values(), replaced, left, graph)
        nodes: list[Node] = []
        for node in sorted(graph.nodes, key=lambda n: n.op not in LEAVES):
            if node.name in late or node.name in last:
                continue
            nodes.append(node)
            finished = list(node.results)
            for o in dict.fromkeys(node.inputs):
                left[o] -= 1
                if not left[o]:
                    finished.append(f"last {o}")
            nodes += waiting.released(finished)
        for node in last.values():
            nodes += [node, *waiting.released(list(node.results))]
        nodes += waiting.released(["end"])
        assert len(nodes) == len(graph.nodes)
        return graph if tuple(nodes) == graph.nodes else replace(graph, nodes=tuple(nodes))

    def _large(self, graph: Graph, node: Node, late: Mapping[str, Node]) -> bool:
        if not node.op.endswith("weight_gradient") or any(user.name not in late for user in graph.users(node.name)):
            return False
        numbers = sum(product(graph.type(o).concrete(self.batch)) for o in node.inputs)
        return node.name not in graph.kept and product(node.type.concrete(1)) > numbers


class _Waiting:
    """Nodes, and the events that each waits for: an operand is made, or a leaf that it replaces was read for the last
    time.
    """

    def __init__(
        self, late: Iterable[Node], replaced: dict[str, list[str]], left: dict[str, int], graph: Graph
    ) -> None:
        self.nodes = {n.name: n for n in late}
        self.order = {name: i for i, name in enumerate(self.nodes)}
        outputs = {value for _, value in graph.outputs}
        self.events: dict[str, set[str]] = {}
        for node in self.nodes.values():
            leaves = [leaf for r in node.results for leaf in replaced.get(r, ())]
            reads = {f"last {leaf}" for leaf in leaves if left.get(leaf)}
            never = {"end" for leaf in leaves if leaf in outputs}
            self.events[node.name] = {*node.inputs} | reads | never
        self.readers: dict[str, list[str]] = {}
        for name, events in self.events.items():
            for event in events:
                self.readers.setdefault(event, []).append(name)

    def released(self, finished: list[str]) -> list[Node]:
        """What has nothing to wait for any more after these events, in the order of the graph."""
        found: list[Node] = []
        while finished:
            ready = []
            for event in finished:
                for name in self.readers.get(event, ()):
                    self.events[name].discard(event)
                    if not self.events[name]:
                        ready.append(name)
            ready = sorted(dict.fromkeys(ready), key=self.order.__getitem__)
            found += [self.nodes[name] for name in ready]
            finished = [r for name in ready for r in self.nodes[name].results]
        return found


def _update_nodes(graph: Graph) -> dict[str, Node]:
    """The pointwise nodes that lead to updates through nothing but pointwise nodes, by name."""
    others = {value for _, value in graph.outputs}  # what is read elsewhere
    for node in reversed(graph.nodes):
        if not is_pointwise(node) or not others.isdisjoint(node.results):
            others.update(node.inputs)
    return {n.name: n for n in graph.nodes if n.inputs and is_pointwise(n) and others.isdisjoint(n.results)}
