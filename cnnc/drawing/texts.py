"""The drawing for other programs: Graphviz and Mermaid."""

from __future__ import annotations

from cnnc import describe
from cnnc.drawing.cards import COLORS, kind, shown, size
from cnnc.ir.graph import Graph, Node


def _label(graph: Graph, node: Node) -> str:
    return f"{describe.layer(graph, node)} {node.name}".strip()


def _links(graph: Graph) -> tuple[list[Node], list[tuple[str, str]]]:
    nodes = shown(graph)
    producer = {r: n.name for n in nodes for r in n.results}
    return nodes, [(producer[o], n.name) for n in nodes for o in n.inputs if o in producer]


def dot(graph: Graph) -> str:
    """The drawing in Graphviz's language."""

    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    nodes, links = _links(graph)
    lines = [
        f"digraph {quoted(graph.name)} {{",
        '  node [shape=box, style="filled,rounded", fontname=monospace, fontsize=10];',
    ]
    for n in nodes:
        label = quoted(f"{_label(graph, n)}\n{size(n)}").replace("\n", "\\n")
        lines.append(f"  {quoted(n.name)} [label={label}, fillcolor={quoted(COLORS[kind(n.op)])}];")
    lines += [f"  {quoted(a)} -> {quoted(b)};" for a, b in links]
    for label, value in graph.outputs:
        lines += [
            f"  {quoted('output ' + label)} [label={quoted(label)}, shape=plaintext, style=solid];",
            f"  {quoted(graph.node(value).name)} -> {quoted('output ' + label)};",
        ]
    return "\n".join([*lines, "}", ""])


def mermaid(graph: Graph) -> str:
    """The drawing as a Mermaid flow chart."""
    nodes, links = _links(graph)
    number = {n.name: f"n{i}" for i, n in enumerate(nodes)}
    lines = ["flowchart TD"]
    lines += [f'  {number[n.name]}["{_label(graph, n)}<br/>{size(n)}"]:::{kind(n.op)}' for n in nodes]
    lines += [f"  {number[a]} --> {number[b]}" for a, b in links]
    for i, (label, value) in enumerate(graph.outputs):
        lines += [f'  o{i}(["{label}"])', f"  {number[graph.node(value).name]} --> o{i}"]
    lines += [
        f"  classDef {k} fill:{c},stroke:#667,color:#223"
        for k, c in COLORS.items()
        if any(kind(n.op) == k for n in nodes)
    ]
    return "\n".join([*lines, ""])
