"""recompute: what the backward pass reads again is made again where that is cheap, so that it need not be kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from cnnc.ir.graph import Graph, Node
from cnnc.ir.types import BATCH, product
from cnnc.passes.manager import Form, Forms, Limits, Pass, register_pass


@register_pass
@dataclass(frozen=True)
class Recompute(Pass):
    """y = f(x, ...), z = conv(y, w), ..., dw = conv_weight_gradient(y, dz), g(x, ...)  -->
    y = f(x, ...), z = conv(y, w), ..., y' = f(x, ...), dw = conv_weight_gradient(y', dz), g(x, ...)

    where f is pointwise, nothing else reads y, all x of its size live on anyway, and `weights` times as many numbers as w
    has are not more than an image of y has. With so few weights the steps go through the batch image by image, and
    neither y nor y' ever leaves the cache: that takes less time besides.
    """

    name: ClassVar[str] = "recompute"
    needs: ClassVar[Forms] = frozenset((Form.ORDERED,))
    ends: ClassVar[Forms] = frozenset((Form.ONCE,))
    within: ClassVar[Limits] = {"weights": (1, None)}
    weights: int = 8

    def apply(self, graph: Graph) -> Graph:
        at = {n.name: i for i, n in enumerate(graph.nodes)}
        again: dict[str, Node] = {}  # by the gradient that reads it, what is made again
        for node in graph.nodes:
            gradient = self._gradient(graph, node)
            if gradient is not None and all(
                any(at[u.name] > at[gradient.name] for u in graph.users(o)) or o in graph.kept
                for o in node.inputs
                if graph.type(o).shape[:1] == (BATCH,)
            ):
                again[gradient.name] = node
        nodes: list[Node] = []
        for node in graph.nodes:
            source = again.get(node.name)
            if source is not None:
                name = f"{source.name}.again"
                nodes.append(replace(source, results=(name,)))
                node = replace(node, operands=tuple(name if o == source.name else o for o in node.operands))
            nodes.append(node)
        return replace(graph, nodes=tuple(nodes)) if again else graph

    def _gradient(self, graph: Graph, node: Node) -> Node | None:
        """The weight gradient that reads a value which nothing reads but a convolution with few weights."""
        readers = graph.users(node.name)
        if node.op != "pointwise" or len(node.results) > 1 or node.name in graph.kept or len(readers) != 2:
            return None
        conv, gradient = readers
        if (conv.op, gradient.op) != ("conv", "conv_weight_gradient") or f"{node.name}.again" in graph:
            return None
        once = conv.inputs.count(node.name) == 1 == gradient.inputs.count(node.name)
        few = self.weights * product(gradient.type.concrete(1)) <= product(node.type.concrete(1))
        return gradient if once and few and node.type.shape[:1] == (BATCH,) else None
