"""fold-batchnorm: at prediction, batch norm is part of the layer before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cnnc.ir.graph import Graph, Node
from cnnc.ir.rewrite import Rewriter, fixed_values, renamed
from cnnc.ir.types import Dim, product
from cnnc.ops.conv import TRANSPOSED
from cnnc.passes.manager import Form, Forms, Pass, register_pass


@register_pass
@dataclass(frozen=True)
class FoldBatchnorm(Pass):
    """y = batchnorm(conv(x, w, b), weight, bias, mean, variance)
    --> y = conv(x, w * s, (b - mean) * s + bias)  with  s = weight / sqrt(variance + eps);  the same for linear and for
    a transposed convolution.

    Only with statistics that are fixed (a training graph's are not), and where nothing else reads the convolution and
    nothing has been fused into it. Everything new depends on params alone, so it is computed once, when the weights are
    loaded. A batch norm with fixed statistics behind anything else:  y = batchnorm(x, ...) --> y = (x - mean) * s + bias.
    """

    name: ClassVar[str] = "fold-batchnorm"
    needs: ClassVar[Forms] = frozenset((Form.PLAIN, Form.SEPARATE, Form.READ))

    def apply(self, graph: Graph) -> Graph:
        if graph.updates or not graph.of("batchnorm"):
            return graph
        fixed = fixed_values(graph)
        folded = {n.operands[0]: n for n in graph.of("batchnorm") if _folds(graph, n, fixed)}
        rewriter = Rewriter(graph)
        for node in graph.nodes:
            if node.name in folded:
                continue  # it is written where its batch norm stands
            if node.op == "batchnorm" and all(v in fixed for v in node.inputs[1:]):
                producer = graph.node(node.inputs[0])
                if producer.name in folded:
                    _fold(rewriter, renamed(producer, rewriter.names), renamed(node, rewriter.names))
                else:
                    _normalize(rewriter, renamed(node, rewriter.names))
            else:
                rewriter.keep(node)
        return rewriter.finish()


def _folds(graph: Graph, norm: Node, fixed: frozenset[str]) -> bool:
    producer = graph.node(norm.inputs[0])
    if producer.op not in ("conv", "linear", *TRANSPOSED) or graph.only_user(producer.name) is not norm:
        return False
    if producer.op == "linear" and producer.type.rank > 2:
        return False  # its outputs are the last axis, and batch norm's channels axis 1
    return "epilogue" not in producer.attributes and all(v in fixed for v in (*norm.inputs[1:], *producer.inputs[1:]))


def _scale(rewriter: Rewriter, norm: Node) -> str:
    _, weight, _, _, variance = norm.inputs
    eps = norm.attribute("eps")
    return rewriter.add(
        "pointwise",
        [weight, variance],
        {"expressions": [f"a0 / sqrt(a1 + {eps!r})"]},
        f"{norm.name}.scale",
        norm.origin,
    )


def _fold(rewriter: Rewriter, conv: Node, norm: Node) -> None:
    _, _, beta, mean, _ = norm.inputs
    scale = _scale(rewriter, norm)
    b = conv.operands[2] if len(conv.operands) > 2 else None
    weight = _scaled(rewriter, conv, norm, scale)
    text, operands = (
        ("a2 - a0 * a1", [mean, scale, beta]) if b is None else ("(a3 - a0) * a1 + a2", [mean, scale, beta, b])
    )
    bias = rewriter.add("pointwise", operands, {"expressions": [text]}, f"{norm.name}.bias.folded", norm.origin)
    rewriter.add(conv.op, [conv.operands[0], weight, bias], conv.attributes, origin=norm.origin, results=norm.results)


def _scaled(rewriter: Rewriter, conv: Node, norm: Node, scale: str) -> str:
    """The weights times a number for each output channel, whose axis is the first; of a transposed convolution the second,
    within each of the groups, one behind the other along the first.
    """
    w, stem = conv.inputs[1], norm.name
    t = rewriter.type(w)
    groups = int(conv.attribute("groups")) if conv.op in TRANSPOSED else 1

    def shaped(value: str, shape: tuple[Dim, ...], layout: str | None, what: str) -> str:
        return rewriter.add("reshape", [value], {"shape": shape, "layout": layout}, f"{stem}.{what}", norm.origin)

    if groups == 1:
        axis = 1 if conv.op in TRANSPOSED else 0
        column = shaped(scale, tuple(d if i == axis else 1 for i, d in enumerate(t.shape)), t.layout, "scale.column")
        return rewriter.add("mul", [w, column], {}, f"{stem}.weight.folded", norm.origin)
    inputs, filters, *kernel = t.sizes
    apart = shaped(w, (groups, inputs // groups, filters, product(tuple(kernel))), None, "weight.groups")
    column = shaped(scale, (groups, 1, filters, 1), None, "scale.column")
    scaled = rewriter.add("mul", [apart, column], {}, f"{stem}.weight.scaled", norm.origin)
    return shaped(scaled, t.shape, t.layout, "weight.folded")


def _normalize(rewriter: Rewriter, norm: Node) -> None:
    x, _, beta, mean, _ = norm.inputs
    rewriter.add(
        "pointwise",
        [x, mean, _scale(rewriter, norm), beta],
        {"expressions": ["(a0 - a1) * a2 + a3"]},
        origin=norm.origin,
        results=norm.results,
    )
