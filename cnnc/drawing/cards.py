"""What stands on the cards of a drawing. A layer and the cheap ones that follow it alone (norm, activation, dropout) share
one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cnnc import describe
from cnnc.describe import computes
from cnnc.ir.graph import LEAVES, Graph, Node
from cnnc.ir.op import OPS
from cnnc.ir.types import product

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
DARK = {
    "convolution": "#1f4e86",
    "linear": "#4a3a86",
    "pooling": "#7a4a16",
    "norm": "#1f5f48",
    "shape": "#3d444d",
    "terminal": "#0d1117",
    "regularization": "#66404f",
    "pointwise": "#655710",
}
JOINS = ("pointwise", "norm", "regularization")  # kinds that share the card of the layer before them
LONG = 16  # levels: a value that is read further down is named there, in place of a line

LINE, SMALL, PADDING = 18, 14, 5  # pixels
LETTER, SMALL_LETTER = 6.9, 5.7  # widths


def kind(op: str) -> str:
    """What an op is drawn as; inputs are ends, as outputs are."""
    return "terminal" if op in LEAVES else OPS[op].kind


def size(node: Node) -> str:
    return " x ".join(str(d) for d in node.type.shape[1:]) or str(node.type)


@dataclass(frozen=True)
class Line:
    """A line of a card: text on the left and on the right; a small one says more of the line above it. tone: of a small
    one, its color: "more", "value" or "gradient".
    """

    kind: str
    left: str
    right: str = ""
    small: bool = False
    tone: str = "more"

    @property
    def height(self) -> int:
        return SMALL if self.small else LINE

    @property
    def width(self) -> float:
        letters = len(self.left) + len(self.right) + (3 if self.right else 0)
        return letters * (SMALL_LETTER if self.small else LETTER) + 2 * PADDING + 6


@dataclass(frozen=True)
class Numbers:
    """What is said of a value in a drawing, as text: the value itself, and its gradient."""

    value: str = ""
    gradient: str = ""


@dataclass
class Card:
    """One box: its nodes from top to bottom. A lane is a card without lines. tip: what is said of it where the pointer
    rests. label: what it has in common with cards that may be folded with it.
    """

    nodes: list[Node] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    tip: str = ""
    label: tuple[object, ...] = ()
    width: float = 0.0
    x: float = 0.0  # of the center
    y: float = 0.0  # of the top
    weight: float = 1.0  # how much its place counts beside others'
    level: int = 0
    row: tuple[float, float] = (0.0, 0.0)  # top and bottom of its level

    @property
    def height(self) -> float:
        return sum(line.height for line in self.lines) + 2 * PADDING if self.lines else 0.0


def shown(graph: Graph) -> list[Node]:
    """The nodes that are drawn: inputs, and what they reach. What is made of weights alone is not."""
    reached: set[str] = set()
    for node in graph.nodes:
        if node.op == "input" or any(o in reached for o in node.inputs):
            reached.update(node.results)
    found = [n for n in graph.nodes if n.name in reached and (computes(n) or n.op == "input")]
    return found or [n for n in graph.nodes if computes(n)]


def cards_of(graph: Graph, numbers: Mapping[str, Numbers] | None = None) -> tuple[list[Card], list[tuple[int, int]]]:
    """The cards in order and the edges between them, by index. numbers: what is said of values and parameters, by name;
    then each node has a card of its own.
    """
    cards, home, edges = _joined(graph, apart=numbers is not None)
    trained, made = {n.name: product(n.type.concrete(1)) for n in graph.parameters}, made_of(graph)
    for card in cards:
        _write(card, graph, trained, made)
        if numbers is not None:
            _say(card, graph, numbers)
    for label, value in graph.outputs:
        if value in home:
            cards.append(Card(lines=[Line("terminal", "output" if label in (value, "output") else f"output  {label}")]))
            edges.append((home[value], len(cards) - 1))
    for card in cards:
        card.width = max(line.width for line in card.lines)
    return cards, edges


def _joined(graph: Graph, apart: bool) -> tuple[list[Card], dict[str, int], list[tuple[int, int]]]:
    """Nodes on cards: by itself, `apart`, or with those that it follows alone; the card of each value; the edges."""
    cards: list[Card] = []
    home: dict[str, int] = {}
    edges: dict[tuple[int, int], None] = {}
    for node in shown(graph):
        before = [o for o in node.inputs if o in home]
        last = cards[home[before[0]]] if len(before) == 1 else None
        alone = last is not None and last.nodes[-1].name == before[0] and graph.only_user(before[0]) is node
        joins = kind(node.op) in JOINS and not apart
        if last is not None and alone and joins and last.nodes[0].op != "input":
            last.nodes.append(node)
            home.update(dict.fromkeys(node.results, home[before[0]]))
        else:
            cards.append(Card([node]))
            home.update(dict.fromkeys(node.results, len(cards) - 1))
            edges.update({(home[o], len(cards) - 1): None for o in before})
    return cards, home, list(edges)


def named(node: Node) -> str:
    """The name, where it says more than the op."""
    return node.name if node.name.rstrip("0123456789.") != describe.called(node) or node.op == "input" else ""


def made_of(graph: Graph) -> dict[str, frozenset[str]]:
    """The parameters that each value is made of which no input reaches: folded weights, and parameters themselves."""
    made: dict[str, frozenset[str]] = {}
    for node in graph.nodes:
        if node.op == "param":
            made[node.name] = frozenset((node.name,))
        elif node.op != "input" and all(o in made for o in node.inputs):
            made.update(dict.fromkeys(node.results, frozenset[str]().union(*(made[o] for o in node.inputs))))
    return made


def count_of(nodes: list[Node], trained: dict[str, int], made: dict[str, frozenset[str]]) -> int:
    """How many trained numbers nodes read, as they are or folded, each once."""
    return sum(trained[p] for p in {p for n in nodes for o in n.inputs for p in made.get(o, ())})


def _write(card: Card, graph: Graph, trained: dict[str, int], made: dict[str, frozenset[str]]) -> None:
    main = describe.main(card.nodes)
    total = count_of(card.nodes, trained, made)
    for node in card.nodes:
        words = describe.layer(graph, node) + (" + epilogue" if node.attributes.get("epilogue") else "")
        name = named(node)
        card.lines.append(Line(kind(node.op), words, size(node)))
        if node is main and (name or total):
            parameters = f"{total:,} parameters" if total else ""
            card.lines.append(Line(kind(node.op), name, parameters, small=True))
    card.tip = "\n".join(_tip(n, graph, count_of([n], trained, made)) for n in card.nodes)
    card.label = (tuple((line.kind, line.left if not line.small else "", line.right) for line in card.lines),)


def _say(card: Card, graph: Graph, numbers: Mapping[str, Numbers]) -> None:
    """Add the value and the gradient of a card's node, and of the parameters that it reads."""
    (node,) = card.nodes
    for name in (*node.results, *node.inputs):
        known = numbers.get(name)
        if known is None or (name not in node.results and graph.node(name).op != "param"):
            continue  # other operands have a card of their own
        whose = "" if name == node.name else f"{name}: "
        for tone, text in (("value", known.value), ("gradient", known.gradient)):
            if text:
                card.lines.append(Line(kind(node.op), whose + tone, text, small=True, tone=tone))
    card.label = (*card.label, node.name)  # no two are alike


def _tip(node: Node, graph: Graph, count: int) -> str:
    attributes = ", ".join(f"{k}={v}" for k, v in node.attributes.items())
    parts = [f"{node.name} = {node.op}" + (f" {{{attributes}}}" if attributes else "") + f" : {node.type}"]
    if count:
        parts.append(f"{count:,} parameters")
    if node.op in OPS and (macs := OPS[node.op].macs(node, graph.operand_types(node), 1)):
        parts.append(f"{macs:,} multiply-adds an image")
    return "\n    ".join(parts)
