"""mask-pooled: the gradient of an activation in front of max pooling is masked while it is still small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cnnc.ir import expression as ex
from cnnc.ir.expression import Expression
from cnnc.ir.graph import Graph, Node
from cnnc.ir.rewrite import Rewriter
from cnnc.ops import pointwise
from cnnc.passes.manager import Form, Forms, Pass, register_pass


@register_pass
@dataclass(frozen=True)
class MaskPooled(Pass):
    """y = maxpool(x), dx = where(c(x), maxpool_gradient(x, dy), 0)  -->  dx = maxpool_gradient(x, where(c(y), dy, 0))

    where nothing else reads the gradient. A window's gradient goes to an element that is its maximum, so that the mask of
    one is that of the other. The mask then stands behind what computes dy, whose epilogue it may become.
    """

    name: ClassVar[str] = "mask-pooled"
    needs: ClassVar[Forms] = frozenset((Form.SEPARATE, Form.READ))
    ends: ClassVar[Forms] = frozenset((Form.ORDERED,))

    def apply(self, graph: Graph) -> Graph:
        found: dict[str, tuple[Node, Node, str]] = {}  # by the mask's value: the mask, the gradient, and y
        for gradient in graph.of("maxpool_gradient"):
            mask, y = graph.only_user(gradient.name), _pooled(graph, gradient)
            if mask is not None and y is not None and _masks(mask, gradient):
                found[mask.name] = (mask, gradient, y)
        if not found:
            return graph
        rewriter, gone = Rewriter(graph), {gradient.name for _, gradient, _ in found.values()}
        for node in graph.nodes:
            if node.name in found:
                mask, gradient, y = found[node.name]
                x, dy = gradient.inputs
                operands = [{gradient.name: dy, x: y}[o] for o in mask.inputs]
                masked = rewriter.add(
                    mask.op,
                    [rewriter.new(o) for o in operands],
                    mask.attributes,
                    f"{gradient.name}.masked",
                    mask.origin,
                )
                rewriter.add(
                    gradient.op,
                    [rewriter.new(x), masked],
                    gradient.attributes,
                    origin=gradient.origin,
                    results=mask.results,
                )
            elif node.name not in gone:
                rewriter.keep(node)
        return rewriter.finish()


def _pooled(graph: Graph, gradient: Node) -> str | None:
    """The result of the pooling that a gradient belongs to."""
    x, dy = gradient.inputs
    window = {k: v for k, v in gradient.attributes.items() if k != "size"}
    for node in graph.users(x):
        shared = all(node.attributes.get(k) == v for k, v in window.items())
        if node.op == "maxpool" and shared and node.type == graph.type(dy):
            return node.name
    return None


def _masks(mask: Node, gradient: Node) -> bool:
    """Whether a node does no more than put 0 for some elements of the gradient, by the values of the pooling's input."""
    x = gradient.inputs[0]
    if not pointwise.is_pointwise(mask) or len(mask.results) != 1 or set(mask.inputs) != {gradient.name, x}:
        return False
    names = dict(zip((f"a{i}" for i in range(len(mask.inputs))), mask.inputs, strict=True))

    def masked(e: Expression) -> bool:
        if e[0] != "where":
            return e == ex.const(0) or (e[0] == "var" and names[e[1]] == gradient.name)
        condition, *branches = e[1:]
        return all(names[v] == x for v in ex.variables(condition)) and all(masked(b) for b in branches)

    return masked(pointwise.expressions(mask)[0])
