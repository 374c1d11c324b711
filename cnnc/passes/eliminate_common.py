"""eliminate-common: one node where two would compute the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cnnc.ir.graph import LEAVES, Graph
from cnnc.ir.op import OPS
from cnnc.ir.rewrite import Rewriter, renamed
from cnnc.ir.text import print_value
from cnnc.passes.manager import Form, Forms, Pass, register_pass


@register_pass
@dataclass(frozen=True)
class EliminateCommon(Pass):
    """y = f(x), z = f(x) --> y = f(x), with z called y. Dropouts differ in their salt, so each keeps its own noise."""

    name: ClassVar[str] = "eliminate-common"
    needs: ClassVar[Forms] = frozenset((Form.ONCE,))

    def apply(self, graph: Graph) -> Graph:
        rewriter = Rewriter(graph)
        seen: dict[tuple[object, ...], tuple[str, ...]] = {}
        for node in graph.nodes:
            node = renamed(node, rewriter.names)
            if node.op in LEAVES or not OPS[node.op].pure:
                rewriter.put(node)
                continue
            # attributes by their text: 0.0 and -0.0 are equal, and are not the same constant
            key = (node.op, node.operands, tuple((k, print_value(v)) for k, v in node.attributes.items()), node.types)
            if key in seen:
                rewriter.replace(node.results, seen[key])
            else:
                seen[key] = node.results
                rewriter.put(node)
        return rewriter.finish()
