"""mask-normalized: the backward pass of an activation behind batch norm decides by the batch norm's input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from cnnc.ir import expression as ex
from cnnc.ir.graph import Attributes, Graph, Node
from cnnc.ops import pointwise
from cnnc.passes.manager import Form, Forms, Pass, register_pass

CLIPPED = ("relu", "relu6")  # y > 0 where x > 0, y < 6 where x < 6


@register_pass
@dataclass(frozen=True)
class MaskNormalized(Pass):
    """z = batchnorm(x, ...), y = relu(z), dz = where(y > 0, dy, 0), sums of dz and x, dx = f(dz, x, ...)  -->
    the same with dz = where(batchnorm(x, ...) > 0, dy, 0)

    where y is relu or relu6 of z. Both readers of dz read x anyway, so that they can compute dz for themselves, and
    nothing reads y and writes dz.
    """

    name: ClassVar[str] = "mask-normalized"
    needs: ClassVar[Forms] = frozenset((Form.SEPARATE, Form.READ))
    ends: ClassVar[Forms] = frozenset((Form.ORDERED,))

    def apply(self, graph: Graph) -> Graph:
        nodes = tuple(self._masked(graph, n) or n for n in graph.nodes)
        return graph if nodes == graph.nodes else replace(graph, nodes=nodes)

    def _masked(self, graph: Graph, mask: Node) -> Node | None:
        if mask.op != "pointwise" or len(mask.results) != 1 or len(mask.inputs) != 2:
            return None
        for at, y in enumerate(mask.inputs):
            dy, activation = mask.inputs[1 - at], graph.node(y)
            norm = graph.node(activation.inputs[0]) if activation.op in CLIPPED else activation
            if norm.op != "batchnorm" or dy in norm.inputs or not self._reads_input(graph, mask, norm.inputs[0]):
                continue
            tree = pointwise.expressions(mask)[0]
            if not _is_mask(tree, f"a{at}", f"a{1 - at}"):
                continue
            operands = (dy, *dict.fromkeys(norm.inputs))
            places = {f"a{i}": f"a{operands.index(o)}" for i, o in enumerate(norm.inputs)}
            normalized = ex.rename(pointwise.expressions(norm)[0], places)
            text = ex.text(ex.substitute(tree, {f"a{at}": normalized, f"a{1 - at}": ex.var("a0")}))
            return replace(mask, operands=operands, attributes=Attributes({"expressions": [text]}))
        return None

    def _reads_input(self, graph: Graph, mask: Node, x: str) -> bool:
        """Whether the mask's readers are the sums of batch norm's backward pass, which read x, and what scales dz."""
        readers = graph.users(mask.name)
        return (
            mask.name not in graph.kept
            and len(readers) == 2
            and any(r.op == "reduce_channels" and x in r.inputs for r in readers)
            and all(pointwise.is_pointwise(r) or r.op == "reduce_channels" for r in readers)
        )


def _is_mask(tree: ex.Expression, y: str, dy: str) -> bool:
    """Whether an expression is dy or 0, by comparisons of y."""
    if tree[0] != "where":
        return tree in (ex.const(0), ex.var(dy))
    return set(ex.variables(tree[1])) == {y} and all(_is_mask(b, y, dy) for b in tree[2:])
