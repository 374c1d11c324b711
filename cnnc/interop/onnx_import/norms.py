"""Layer norms that exporters spell out, as means, differences and roots, under their name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnnc.ir.graph import Graph, Node
from cnnc.ir.layer import ParameterSpec
from cnnc.ir.op import InferenceError
from cnnc.ir.rewrite import Rewriter
from cnnc.ir.types import TensorType
from cnnc.ops.normalize import weight_shape

Array = np.ndarray[Any, Any]
SQUARES = (("a0 * a0",),)


@dataclass(frozen=True)
class Norm:
    """x normalized over axes, with a weight and a bias or without; `end` is the node that gives the result."""

    x: str
    axes: tuple[int, ...]
    eps: float
    end: str
    weight: str | None = None
    bias: str | None = None


def named(graph: Graph, parameters: dict[str, ParameterSpec], weights: dict[str, Array]) -> Graph:
    """The graph with layer norms in place of their pieces. Their parameters get the shapes that the layer gives them."""
    found = {n.end: n for node in graph.of("div") if (n := _norm(graph, node)) is not None}
    if not found:
        return graph
    shapes = {}
    for norm in found.values():
        t = graph.type(norm.x)
        for p in (norm.weight, norm.bias):
            if p is not None:
                shapes[p] = tuple(int(t.shape[a]) for a in norm.axes)
                weights[p] = weights[p].reshape(shapes[p])
                parameters[p] = replace(parameters[p], shape=shapes[p], layout=None)
    rewriter = Rewriter(graph)
    for node in graph.nodes:
        if node.name in shapes:
            rewriter.builder.param(node.name, TensorType("f32", shapes[node.name]), node.origin)
        elif node.name in found:
            _add(rewriter, graph, node, found[node.name])
        else:
            rewriter.keep(node)
    return rewriter.finish()


def _add(rewriter: Rewriter, graph: Graph, node: Node, norm: Norm) -> None:
    x = graph.type(norm.x)
    shape = weight_shape(x, norm.axes, False)
    vectors = [p for p in (norm.weight, norm.bias) if p is not None]
    if len(shape) > 1:
        vectors = [rewriter.builder.add("reshape", [v], {"shape": shape}, f"{v}.aligned") for v in vectors]
    attributes: Mapping[str, Any] = {"axes": norm.axes, "eps": norm.eps}
    rewriter.add("normalize", [rewriter.new(norm.x), *vectors], attributes, origin=node.origin, results=node.results)


def _norm(graph: Graph, node: Node) -> Norm | None:
    """What ends in (x - mean) / sqrt(mean of squares + eps), and what follows it."""
    try:
        apart, root = (graph.node(o) for o in node.inputs)
        if root.op != "sqrt":
            return None
        inside = graph.node(root.inputs[0])
        terms = [graph.node(o) for o in inside.inputs] if inside.op == "add" else []
        square = next((t for t in terms if t.op == "mean"), None)
        eps = next((t.attributes["value"] for t in terms if t.op == "constant"), None)
        if apart.op != "sub" or square is None or eps is None or not _is_square(graph, square.inputs[0], apart.name):
            return None
        x, mean = apart.inputs[0], graph.node(apart.inputs[1])
        axes = mean.attributes.get("axis")
        if mean.op != "mean" or mean.inputs[0] != x or axes != square.attributes["axis"] or axes[0] == 0:
            return None
        if not mean.attributes.get("keepdim") or axes != tuple(range(axes[0], axes[-1] + 1)):
            return None
    except (ValueError, InferenceError, KeyError, IndexError):
        return None
    return _affine(graph, Norm(x, axes, float(eps), node.name))


def _is_square(graph: Graph, value: str, of: str) -> bool:
    node = graph.node(value)
    if set(node.inputs) != {of}:
        return False
    return (
        node.op == "mul"
        or (node.op == "pow" and node.attributes["exponent"] == 2)
        or (node.op == "pointwise" and tuple(node.attributes["expressions"]) in SQUARES)
    )


def _affine(graph: Graph, norm: Norm) -> Norm:
    """With the weight and the bias behind it, where both are parameters of the layer's shape."""
    scale = graph.only_user(norm.end)
    if scale is None or scale.op != "mul":
        return norm
    shift = graph.only_user(scale.name)
    if shift is None or shift.op != "add":
        return norm
    found = []
    for node, before in ((scale, norm.end), (shift, scale.name)):
        others = [o for o in node.inputs if o != before]
        if len(others) != 1 or graph.node(others[0]).op != "param" or graph.only_user(others[0]) is None:
            return norm
        found.append(others[0])
    x = graph.type(norm.x)
    if any(graph.type(p).shape != weight_shape(x, norm.axes, False) for p in found):
        return norm
    return replace(norm, end=shift.name, weight=found[0], bias=found[1])
