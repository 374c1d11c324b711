"""A network drawn: SVG laid out here, Graphviz DOT, Mermaid.

The SVG is a layered drawing (Sugiyama, Tagawa and Toda, 1981) from top to bottom. A layer and the cheap ones that
follow it alone (norm, activation, dropout) share a card; cards stand in networkx's topological generations; an edge
that skips generations goes round the cards between through a place of its own in each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

from cnnc.ir.graph import LEAVES, Graph, Node

HIDDEN = (*LEAVES, "constant")
KINDS: dict[str, tuple[str, ...]] = {
    "convolution": ("conv",),
    "linear": ("linear", "matmul"),
    "pooling": ("maxpool", "avgpool", "global_avgpool", "mean", "sum", "max"),
    "norm": ("batchnorm", "lrn", "layernorm", "groupnorm", "instancenorm"),
    "shape": ("flatten", "reshape", "concat", "slice", "expand", "to_layout"),
    "terminal": ("input", "output"),
    "regularization": ("dropout",),
}
COLORS = {
    "convolution": "#9ec5f4",
    "linear": "#b8a9e8",
    "pooling": "#f4c18f",
    "norm": "#a8dcc5",
    "shape": "#d5d8dc",
    "terminal": "#ffffff",
    "regularization": "#ecd0d9",
    "pointwise": "#f7e59a",
}
JOINS = ("pointwise", "norm", "regularization")  # kinds that share the card of the layer before them

LINE, PADDING, GAP, SPREAD, LANE, MARGIN = 18, 5, 26, 28, 14, 20  # pixels


def kind(op: str) -> str:
    return next((k for k, ops in KINDS.items() if op in ops), "pointwise")


@dataclass
class Card:
    """One box: its nodes from top to bottom, and the values that come in from other cards. A lane is a card without
    nodes."""

    nodes: list[Node] = field(default_factory=list)
    lines: list[tuple[str, str, str]] = field(default_factory=list)  # kind, text on the left, text on the right
    width: float = 0.0
    x: float = 0.0  # of the center
    y: float = 0.0  # of the top
    level: int = 0
    row: tuple[float, float] = (0.0, 0.0)  # top and bottom of its level

    @property
    def height(self) -> float:
        return LINE * len(self.lines) + 2 * PADDING if self.lines else 0.0


def _size(node: Node) -> str:
    return " x ".join(str(d) for d in node.type.shape[1:]) or str(node.type)


def _line(node: Node) -> tuple[str, str, str]:
    name = node.name if node.name.rstrip("0123456789.") != node.op or node.op == "input" else ""
    return kind(node.op), f"{node.op}  {name}".strip(), _size(node)


def _cards(graph: Graph) -> tuple[list[Card], list[tuple[int, int]]]:
    """The cards in order and the edges between them, by index."""
    cards: list[Card] = []
    home: dict[str, int] = {}
    edges: dict[tuple[int, int], None] = {}
    for node in graph.nodes:
        if node.op in HIDDEN and node.op != "input":
            continue
        before = [o for o in node.inputs if o in home]
        last = cards[home[before[0]]] if len(before) == 1 else None
        alone = last is not None and last.nodes[-1].name == before[0] and graph.only_user(before[0]) is node
        if last is not None and alone and kind(node.op) in JOINS and last.nodes[0].op != "input":
            last.nodes.append(node)
            home.update(dict.fromkeys(node.results, home[before[0]]))
        else:
            cards.append(Card([node]))
            home.update(dict.fromkeys(node.results, len(cards) - 1))
            edges.update({(home[o], len(cards) - 1): None for o in before})
    for card in cards:
        card.lines = [_line(n) for n in card.nodes]
    for label, value in graph.outputs:
        if value in home:
            cards.append(Card(lines=[("terminal", "output" if label == value else f"output  {label}", "")]))
            edges[(home[value], len(cards) - 1)] = None
    for card in cards:
        card.width = max(len(a) + len(b) + (3 if b else 0) for _, a, b in card.lines) * 6.9 + 2 * PADDING + 6
    return cards, list(edges)


def _levels(cards: list[Card], edges: Iterable[tuple[int, int]]) -> list[list[int]]:
    import networkx

    graph = networkx.DiGraph()
    graph.add_nodes_from(range(len(cards)))
    graph.add_edges_from(edges)
    levels = [sorted(generation) for generation in networkx.topological_generations(graph)]
    for number, level in enumerate(levels):
        for i in level:
            cards[i].level = number
    return levels


def _route(cards: list[Card], edges: Sequence[tuple[int, int]], levels: list[list[int]]) -> list[list[int]]:
    """Every edge as a path of neighbors; a lane is put into each level that an edge skips."""
    paths = []
    for a, b in edges:
        path = [a]
        for level in range(cards[a].level + 1, cards[b].level):
            cards.append(Card(width=LANE, level=level))
            levels[level].append(len(cards) - 1)
            path.append(len(cards) - 1)
        paths.append([*path, b])
    return paths


def _neighbors(paths: Iterable[Sequence[int]], count: int) -> tuple[list[list[int]], list[list[int]]]:
    above: list[list[int]] = [[] for _ in range(count)]
    below: list[list[int]] = [[] for _ in range(count)]
    for path in paths:
        for a, b in pairwise(path):
            below[a].append(b)
            above[b].append(a)
    return above, below


def _order(levels: list[list[int]], above: list[list[int]], below: list[list[int]]) -> None:
    """Sort each level by the mean place of the neighbors, down and up a few times, so that few edges cross."""
    place = {i: p for level in levels for p, i in enumerate(level)}
    for sweep in range(6):
        near = above if sweep % 2 == 0 else below
        for level in levels if sweep % 2 == 0 else reversed(levels):
            level.sort(key=lambda i: (sum(place[j] for j in near[i]) / len(near[i]) if near[i] else place[i], place[i]))
            place.update({i: p for p, i in enumerate(level)})


def _place(cards: list[Card], levels: list[list[int]], above: list[list[int]], below: list[list[int]]) -> None:
    """Centers: first side by side, then drawn towards the neighbors while nothing overlaps."""
    for level in levels:
        at = 0.0
        for i in level:
            cards[i].x = at + cards[i].width / 2
            at += cards[i].width + SPREAD
        for i in level:
            cards[i].x -= (at - SPREAD) / 2
    for sweep in range(8):
        near = above if sweep % 2 == 0 else below
        for level in levels if sweep % 2 == 0 else reversed(levels):
            wanted = [sum(cards[j].x for j in near[i]) / len(near[i]) if near[i] else cards[i].x for i in level]
            _settle([cards[i] for i in level], wanted)
    y = float(MARGIN)
    for level in levels:
        tallest = max((cards[i].height for i in level), default=0.0)
        for i in level:
            cards[i].y = y + (tallest - cards[i].height) / 2
            cards[i].row = (y, y + tallest)
        y += tallest + GAP
    left = min(c.x - c.width / 2 for c in cards)
    for c in cards:
        c.x += MARGIN - left


def _settle(row: list[Card], wanted: list[float]) -> None:
    """Put a row as near to the wanted centers as its widths allow: groups that would overlap move as one (least
    squares)."""
    groups: list[tuple[list[Card], list[float], float]] = []  # members, offsets from the first, the first's center
    for card, center in zip(row, wanted, strict=True):
        members, offsets, first = [card], [0.0], center
        while groups:
            m, o, f = groups[-1]
            step = o[-1] + (m[-1].width + members[0].width) / 2 + SPREAD
            if f + step <= first:
                break
            groups.pop()
            first = (f * len(m) + (first - step) * len(members)) / (len(m) + len(members))
            members, offsets = m + members, o + [step + x for x in offsets]
        groups.append((members, offsets, first))
    for members, offsets, first in groups:
        for card, offset in zip(members, offsets, strict=True):
            card.x = first + offset


def svg(graph: Graph) -> str:
    """The drawing as an SVG document."""
    cards, edges = _cards(graph)
    levels = _levels(cards, edges)
    paths = _route(cards, edges, levels)
    above, below = _neighbors(paths, len(cards))
    _order(levels, above, below)
    _place(cards, levels, above, below)
    width = max(c.x + c.width / 2 for c in cards) + MARGIN
    height = max(c.y + c.height for c in cards) + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" '
        'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="11">',
        f"<title>{escape(graph.name)}</title>",
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#667"/></marker></defs>',
        '<rect width="100%" height="100%" fill="#fcfcfd"/>',
    ]
    parts += [
        f'<path d="{_curve([cards[i] for i in path])}" fill="none" stroke="#667" stroke-width="1.2" '
        'marker-end="url(#arrow)"/>'
        for path in paths
    ]
    for card in cards:
        parts += _box(card)
    return "\n".join([*parts, "</svg>", ""])


def _curve(path: list[Card]) -> str:
    """From the bottom of the first card to the top of the last: straight within a level, bent between levels."""
    start, end = path[0], path[-1]
    line = f"M{start.x:.1f},{start.y + start.height:.1f} V{start.row[1]:.1f}"
    for a, b in pairwise(path):
        middle = (a.row[1] + b.row[0]) / 2
        line += f" C{a.x:.1f},{middle:.1f} {b.x:.1f},{middle:.1f} {b.x:.1f},{b.row[0]:.1f}"
        below = end.y if b is end else b.row[1]
        line += f" V{below:.1f}" if below > b.row[0] else ""  # a line without length has no direction for its arrow
    return line


def _box(card: Card) -> list[str]:
    if not card.lines:
        return []
    left, parts = card.x - card.width / 2, []
    for number, (kind, text, size) in enumerate(card.lines):
        y = card.y + PADDING + number * LINE
        top = y - (PADDING if number == 0 else 0)
        tall = LINE + (PADDING if number == 0 else 0) + (PADDING if number == len(card.lines) - 1 else 0)
        parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{card.width:.1f}" height="{tall}" fill="{COLORS[kind]}"/>'
        )
        parts.append(f'<text x="{left + PADDING + 2:.1f}" y="{y + 13:.1f}" fill="#223">{escape(text)}</text>')
        if size:
            parts.append(
                f'<text x="{left + card.width - PADDING - 2:.1f}" y="{y + 13:.1f}" fill="#556" '
                f'text-anchor="end">{escape(size)}</text>'
            )
    parts.append(
        f'<rect x="{left:.1f}" y="{card.y:.1f}" width="{card.width:.1f}" height="{card.height:.1f}" rx="3" fill="none" '
        'stroke="#667"/>'
    )
    return ["<g>", *parts, "</g>"]


# ---------------------------------------------------------------------------------------------- texts for other
# programs


def _links(graph: Graph) -> tuple[list[Node], list[tuple[str, str]]]:
    nodes = [n for n in graph.nodes if n.op not in HIDDEN or n.op == "input"]
    shown = {r: n.name for n in nodes for r in n.results}
    return nodes, [(shown[o], n.name) for n in nodes for o in n.inputs if o in shown]


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
        label = quoted(f"{n.op} {n.name}\n{_size(n)}").replace("\n", "\\n")
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
    lines += [f'  {number[n.name]}["{n.op} {n.name}<br/>{_size(n)}"]:::{kind(n.op)}' for n in nodes]
    lines += [f"  {number[a]} --> {number[b]}" for a, b in links]
    for i, (label, value) in enumerate(graph.outputs):
        lines += [f'  o{i}(["{label}"])', f"  {number[graph.node(value).name]} --> o{i}"]
    lines += [
        f"  classDef {k} fill:{c},stroke:#667,color:#223"
        for k, c in COLORS.items()
        if any(kind(n.op) == k for n in nodes)
    ]
    return "\n".join([*lines, ""])


WRITERS = {".svg": svg, ".dot": dot, ".mmd": mermaid}
