"""From a network to the gradients of one of its outputs, or of an inner value, by whatever leads to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cnnc.arguments import of_kind
from cnnc.diagnostics import error
from cnnc.ir.builder import Builder
from cnnc.ir.graph import Graph
from cnnc.passes.autodiff import Context, differentiate
from cnnc.passes.eliminate_dead import EliminateDead
from cnnc.passes.named import chosen, differentiable, unknown, values

WEIGHTS = "grad_output"


def output_gradient_graph(graph: Graph, of: str, wrt: Sequence[str] | None = None) -> Graph:
    """y = f(x)  -->  value = sum(y * grad_output), and d value / d w of every w of `wrt`

    The network as it predicts: batch norms use their running statistics, and nothing is dropped. of: the label of an
    output, or the name of a value. `grad_output` is an input of its type. wrt: parameters and values, all parameters
    unless given. Outputs: "value" and "grad:<name>" each. Raises `CnncError` (E0706, E0830; E0806 where the network has a
    value of the name `grad_output`; E0807 where an op on the way has no gradient).
    """
    of_kind("of", of, str, "the name of an output or value")
    known = differentiable(graph)
    names = [n.name for n in graph.parameters] if wrt is None else chosen("wrt", wrt, known)
    labels = dict(graph.outputs)
    y = labels.get(of, of)
    if y not in known:
        raise unknown("of", of, [*labels, *(v for v in values(graph) if v not in labels)])
    if WEIGHTS in graph:
        raise error(
            "E0806",
            f"the network uses the name '{WEIGHTS}', which its gradients need for themselves",
            help="give the layer or input another name",
        )
    builder = Builder(graph.name, graph.nodes)
    builder.input(WEIGHTS, graph.type(y))
    context = Context(builder, frozenset())
    product = builder.add("mul", [y, WEIGHTS], None, builder.fresh("weighted"))
    value = context.reduce_to(product, builder.add("constant", [], {"value": 0.0}, builder.fresh("zero")))
    assert value is not None, "the gradient of what is there"
    whole, found = differentiate(builder.finish([("value", value)]), y, names, WEIGHTS)
    return EliminateDead().apply(replace(whole, outputs=(*whole.outputs, *((f"grad:{n}", found[n]) for n in names))))
