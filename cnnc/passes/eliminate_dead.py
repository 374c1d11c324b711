"""eliminate-dead: nodes that nothing needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from cnnc.ir.graph import LEAVES, Graph
from cnnc.passes.manager import Form, Forms, Pass, register_pass


@register_pass
@dataclass(frozen=True)
class EliminateDead(Pass):
    """y = f(x) --> nothing, where no output, update or other node reads y.

    Inputs, params and states stay: they are the graph's signature.
    """

    name: ClassVar[str] = "eliminate-dead"
    gives: ClassVar[Forms] = frozenset((Form.READ,))

    def apply(self, graph: Graph) -> Graph:
        live = set(graph.kept)
        kept = []
        for node in reversed(graph.nodes):
            if node.op in LEAVES or not live.isdisjoint(node.results):
                live.update(node.inputs)
                kept.append(node)
        return graph if len(kept) == len(graph.nodes) else replace(graph, nodes=tuple(reversed(kept)))
