"""fuse-epilogues: pointwise math behind a convolution or a linear layer happens before the sum leaves the registers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from cnnc.ir import expression as ex
from cnnc.ir.expression import Expression
from cnnc.ir.graph import Graph, Node
from cnnc.ir.rewrite import Rewriter, renamed
from cnnc.ops import pointwise
from cnnc.ops.conv import TRANSPOSED
from cnnc.passes.manager import Fusion, Limits, register_pass

PRODUCERS = ("conv", "linear", *TRANSPOSED, "normalize")
LARGEST = 48  # functions in an epilogue


@register_pass
@dataclass(frozen=True)
class FuseEpilogues(Fusion):
    """y = conv(x, w, b), z = f(y, a, ...)  -->  z = conv(x, w, b, a, ...) {epilogue="f(y, a0, ...)"}

    where f is pointwise and nothing else reads y; again and again along the chain. Operands a are tensors of the
    result's shape, one value a channel, or one value; at most `max` of them. Of a sum of two convolutions the later one
    takes the other as its operand.
    """

    name: ClassVar[str] = "fuse-epilogues"
    within: ClassVar[Limits] = {"max": (0, 8)}
    max: int = 4

    def apply(self, graph: Graph) -> Graph:
        taken: dict[str, str] = {}  # a producer's value -> the pointwise value that absorbs it
        epilogues: dict[str, Node] = {}  # that value -> its fused node, over old names
        order = {n.name: i for i, n in enumerate(graph.nodes)}
        for node in graph.nodes:
            candidates = [
                o for o in dict.fromkeys(node.inputs) if _open(graph, epilogues.get(o) or graph.node(o), node)
            ]
            for value in sorted(candidates, key=lambda v: -order[graph.node(v).name]):
                fused = self._fuse(graph, epilogues.get(value) or graph.node(value), node, value)
                if fused is not None:
                    taken[value] = node.name
                    epilogues[node.name] = fused
                    break
        if not taken:
            return graph
        rewriter = Rewriter(graph)
        for node in graph.nodes:
            if node.name not in taken:
                rewriter.put(renamed(epilogues.get(node.name, node), rewriter.names))
        rewriter.changed = True
        return rewriter.finish()

    def _fuse(self, graph: Graph, conv: Node, user: Node, value: str) -> Node | None:
        """The convolution with `user` as its epilogue, in the user's place; None where that cannot be."""
        operands: list[str | None] = [*conv.operands, *[None] * (3 - len(conv.operands))]
        extras = [o for o in operands[3:] if o is not None]
        names: dict[str, Expression] = {}
        for i, o in enumerate(user.inputs):
            producer = graph.node(o)
            if o == value:
                names[f"a{i}"] = ex.parse(conv.attributes.get("epilogue", "y"))
            elif producer.op == "constant":
                names[f"a{i}"] = ex.const(producer.attributes["value"])
            else:
                if o not in extras:
                    extras.append(o)
                names[f"a{i}"] = ex.var(f"a{extras.index(o)}")
        if len(extras) > self.max or any(not _fits(graph, conv, o, user) for o in extras):
            return None
        expression = ex.substitute(pointwise.expressions(user)[0], names)
        if ex.size(expression) > LARGEST or len(ex.text(expression)) > 2000:
            return None
        attributes = conv.attributes.with_(epilogue=ex.text(expression))
        return Node(conv.op, _trimmed([*operands[:3], *extras]), attributes, user.results, user.types, user.origin)


def _trimmed(operands: Sequence[str | None]) -> tuple[str | None, ...]:
    """Without the absent bias where nothing follows it."""
    return tuple(operands[:2] if len(operands) == 3 and operands[2] is None else operands)


def _open(graph: Graph, producer: Node, user: Node) -> bool:
    """Whether a producer's result is read by this pointwise user alone, and keeps its type there."""
    return (
        producer.op in PRODUCERS
        and pointwise.is_pointwise(user)
        and len(user.results) == 1
        and graph.only_user(producer.name) is user
        and user.type == producer.type
    )


def _fits(graph: Graph, producer: Node, operand: str, user: Node) -> bool:
    t = graph.type(operand)
    if t.dtype != user.type.dtype or (t.rank == 1 and producer.op == "linear" and user.type.rank > 2):
        return False  # a linear layer's outputs are its last axis
    return t.shape in ((), (user.type.shape[1],)) or t == user.type
