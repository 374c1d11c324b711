"""Layers in a few words: `conv 3x3/2 64->128`, and which layers of the source a node of an optimized graph does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cnnc.ir.graph import LEAVES, Graph, Node
from cnnc.ir.layer import LAYERS
from cnnc.ir.op import OPS
from cnnc.ops.window import Window

MULTIPLYING = ("convolution", "linear")  # kinds of ops that multiply by weights, where those are an operand


@dataclass(frozen=True)
class Facts:
    """What a layer slides over space and multiplies by: a number for each axis; padding before and after it. Empty where
    there is none.
    """

    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    weight: tuple[int, ...] = ()


def times(sizes: Iterable[object]) -> str:
    return "x".join(map(str, sizes))


def per_axis(values: Sequence[object]) -> str:
    """One number where all axes agree."""
    return str(values[0]) if len(set(values)) == 1 else times(values)


def padding(facts: Facts) -> str:
    """`1`, `1x2` by axis, `0:1` where before and after differ."""
    return per_axis([a if a == b else f"{a}:{b}" for a, b in facts.padding]) if facts.padding else ""


def computes(node: Node) -> bool:
    """Whether a node makes its results from others', and is no leaf of the graph and no constant."""
    return node.op not in LEAVES and OPS[node.op].operands != ()


def multiplies(node: Node) -> bool:
    """Whether a node multiplies by weights that are its operand."""
    return node.op not in LEAVES and OPS[node.op].kind in MULTIPLYING and "weight" in OPS[node.op].operands


def is_weighted(node: Node) -> bool:
    """Whether a node is a layer with weights, as the language has them, and no gradient of one."""
    return node.op in LAYERS and multiplies(node)


def facts(graph: Graph, node: Node) -> Facts:
    """The facts of a node of any op."""
    weight: tuple[int, ...] = ()
    if multiplies(node):
        weight = tuple(int(d) for d in graph.type(node.operand("weight")).shape)
    if len(weight) > 2:
        kernel = weight[2:]
    elif "kernel" in node.attributes:
        kernel = tuple(node.attributes["kernel"])
    else:
        return Facts(weight=weight)
    window = Window.of(kernel, node.attributes, len(kernel))
    groups = int(node.attributes.get("groups", 1))
    return Facts(kernel, window.stride, window.padding, window.dilation, groups, weight)


def channels(graph: Graph, node: Node) -> tuple[int, int] | None:
    """How many channels or features a layer with weights reads and gives."""
    if not multiplies(node):
        return None
    return int(graph.type(node.inputs[0]).shape[1]), int(node.type.shape[1])


def window(facts: Facts) -> str:
    """`3x3`, `3x3/2` with its stride."""
    stride = f"/{per_axis(facts.stride)}" if any(s != 1 for s in facts.stride) else ""
    return times(facts.kernel) + stride


def called(node: Node) -> str:
    """What a node is called: its op, or of an activation that the model has written, its name."""
    return str(node.attributes["name"]) if node.op == "pointwise" and "name" in node.attributes else node.op


def layer(graph: Graph, node: Node) -> str:
    """A node in a few words."""
    f, between = facts(graph, node), channels(graph, node)
    depthwise = between is not None and f.groups > 1 and f.groups == between[0]
    parts = ["depthwise" if depthwise and node.op in LAYERS else called(node)]
    if f.kernel:
        parts.append(window(f))
    if between is not None:
        parts.append(str(between[0]) if depthwise and between[0] == between[1] else f"{between[0]}->{between[1]}")
    if f.groups > 1 and not depthwise:
        parts.append(f"in {f.groups} groups")
    if any(d != 1 for d in f.dilation):
        parts.append(f"dilation {per_axis(f.dilation)}")
    return " ".join(parts)


def main(nodes: Sequence[Node]) -> Node:
    """The node that a group is named after: its first with weights, else its last."""
    return next((n for n in nodes if is_weighted(n)), nodes[-1])


def words(graph: Graph, nodes: Sequence[Node]) -> str:
    """Nodes in a few words, one behind another: `conv 3x3 64->64 + batchnorm + relu`."""
    return " + ".join(layer(graph, n) for n in nodes)


def done_by(source: Graph, graph: Graph) -> dict[str, tuple[Node, ...]]:
    """For each node of an optimized graph, the nodes of the source that it does, in the source's order: those that lie between
    the values that it reads and the one that it gives. Names of values that are still there are the source's.
    """
    order = {n.name: i for i, n in enumerate(source.nodes)}
    made_of: dict[str, frozenset[str]] = {}  # values -> those of the source that they are, or are made of
    claimed: set[str] = set()
    result: dict[str, tuple[Node, ...]] = {}
    for node in graph.nodes:
        read = frozenset[str]().union(*(made_of[o] for o in node.inputs))
        for value in node.results:
            made_of[value] = frozenset((value,)) if value in source else read
        found: list[Node] = []
        waiting = [value for value in node.results if value in source]
        while waiting:
            one = source.node(waiting.pop())
            if one.op in LEAVES or one.name in claimed:
                continue
            claimed.add(one.name)
            found.append(one)
            waiting += [o for o in one.inputs if o not in read]
        result[node.name] = tuple(sorted(found, key=lambda n: order[n.name]))
    return result
