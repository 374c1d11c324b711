"""The drawing as an SVG document: a title, cards and the lines between them, frames around what is repeated, a legend.

Colors are classes of a style sheet that follows the reader's choice of a dark or light page, unless one is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise

from cnnc.drawing.cards import COLORS, DARK, LONG, PADDING, SMALL, Card, Line, Numbers, cards_of
from cnnc.drawing.fold import Repeated, fold
from cnnc.drawing.layout import MARGIN, arrange
from cnnc.ir.graph import Graph
from cnnc.ir.types import product

HEAD, LEGEND, FRAME, TIMES = 52, 24, 9, 36  # pixels; frames are closer than half of what is between cards
LIGHT_PAGE = ("#fcfcfd", "#223", "#556", "#667", "#8250df")  # page, text, text beside it, lines, frames
TONES = {"value": ("#116329", "#7ee787"), "gradient": ("#b3261e", "#ff9b8e")}  # on a light page and on a dark one
DARK_PAGE = ("#0d1117", "#e6edf3", "#aab4c0", "#8b949e", "#d2a8ff")


def svg(graph: Graph, title: str = "", dark: bool | None = None, numbers: Mapping[str, Numbers] | None = None) -> str:
    """The drawing as an SVG document.

    title: stands above it; the graph's name otherwise. dark: for a dark page or a light one; as the reader's is, if None.
    numbers: of values, inputs and parameters by name, written on a card for each node.
    """
    cards, edges, repeated = fold(*cards_of(graph, numbers))
    edges = _named(cards, edges)
    paths = arrange(cards, edges)
    kinds = list(dict.fromkeys(line.kind for c in cards for line in c.lines))
    said = _legend(kinds, cards, repeated)
    for card in cards:
        card.y += HEAD
        card.row = (card.row[0] + HEAD, card.row[1] + HEAD)
    drawn = max(c.x + c.width / 2 for c in cards) + MARGIN + (TIMES if repeated else 0)
    head = title or graph.name
    width = max(drawn, len(head) * 9.2 + 2 * MARGIN, 340)
    for card in cards:
        card.x += (width - drawn) / 2
    bottom = max(c.y + c.height for c in cards) + MARGIN
    legend, tall = _swatches(said, bottom, width)
    height = bottom + tall + MARGIN / 2
    parameters = sum(product(n.type.concrete(1)) for n in graph.parameters)
    parts = [
        opening(width, height),
        f"<title>{escape(head)}</title>",
        f"<style>{style(dark, TONES if numbers else {})}</style>",
        '<defs><marker id="cnnc-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0,0 L8,4 L0,8 z" class="cnnc-head"/></marker></defs>',
        '<rect width="100%" height="100%" class="cnnc-page"/>',
        f'<text x="{MARGIN}" y="26" class="cnnc-text" font-size="15" font-weight="bold">{escape(head)}</text>',
        f'<text x="{MARGIN}" y="43" class="cnnc-more">{parameters:,} parameters</text>',
    ]
    parts += [
        f'<path d="{_curve([cards[i] for i in path])}" fill="none" class="cnnc-line" stroke-width="1.2" '
        'marker-end="url(#cnnc-arrow)"/>'
        for path in paths
    ]
    for r in repeated:
        levels = {cards[i].level for i in r.cards}
        parts += _frame([c for c in cards if c.level in levels], r.times)
    for card in cards:
        parts += _box(card)
    return "\n".join([*parts, *legend, "</svg>", ""])


def opening(width: float, height: float) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" class="cnnc" '
        'font-family="ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="11">'
    )


def _named(cards: Sequence[Card], edges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The edges that are drawn. A value that is read far below is named on the card that reads it instead."""
    depth = [0] * len(cards)
    for a, b in sorted(edges, key=lambda e: e[1]):
        depth[b] = max(depth[b], depth[a] + 1)
    into: dict[int, list[int]] = {}
    for a, b in edges:
        into.setdefault(b, []).append(a)
    kept = []
    for b, sources in into.items():
        nearest = max(depth[a] for a in sources)
        for a in sources:
            if depth[b] - depth[a] <= LONG or depth[a] == nearest or not cards[a].nodes:
                kept.append((a, b))
            else:
                line = Line(cards[b].lines[0].kind, f"reads {cards[a].nodes[-1].name}", small=True)
                cards[b].lines.append(line)
                cards[b].width = max(cards[b].width, line.width)
    return kept


def style(dark: bool | None, tones: Mapping[str, tuple[str, str]]) -> str:
    """The style sheet of a drawing, for a dark page, a light one, or the reader's."""

    def rules(page: Sequence[str], colors: dict[str, str], night: bool) -> str:
        ground, text, more, line, frame = page
        return (
            f".cnnc-page{{fill:{ground}}}.cnnc-text{{fill:{text}}}.cnnc-more{{fill:{more}}}.cnnc-line{{stroke:{line}}}"
            f".cnnc-head{{fill:{line}}}.cnnc-frame{{stroke:{frame}}}.cnnc-times{{fill:{frame}}}"
            + "".join(f".cnnc-{kind}{{fill:{color}}}" for kind, color in colors.items())
            + "".join(f".cnnc-of-{tone}{{fill:{both[night]}}}" for tone, both in tones.items())
        )

    light, night = rules(LIGHT_PAGE, COLORS, False), rules(DARK_PAGE, DARK, True)
    if dark is not None:
        return night if dark else light
    return f"{light}@media (prefers-color-scheme:dark){{{night}}}"


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
    left, y, parts = card.x - card.width / 2, card.y + PADDING, []
    for number, line in enumerate(card.lines):
        first, last = number == 0, number == len(card.lines) - 1
        top, tall = y - (PADDING if first else 0), line.height + PADDING * (first + last)
        base, small = y + (10 if line.small else 13), ' font-size="9"' if line.small else ""
        parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{card.width:.1f}" height="{tall}" class="cnnc-{line.kind}"/>'
        )
        tone = f"of-{line.tone}" if line.tone in TONES else "more"
        if line.left:
            parts.append(
                f'<text x="{left + PADDING + 2:.1f}" y="{base:.1f}" class="cnnc-{tone if line.small else "text"}"{small}>'
                f"{escape(line.left)}</text>"
            )
        if line.right:
            parts.append(
                f'<text x="{left + card.width - PADDING - 2:.1f}" y="{base:.1f}" class="cnnc-{tone}"{small} '
                f'text-anchor="end">{escape(line.right)}</text>'
            )
        y += line.height
    parts.append(
        f'<rect x="{left:.1f}" y="{card.y:.1f}" width="{card.width:.1f}" height="{card.height:.1f}" rx="3" fill="none" '
        'class="cnnc-line"/>'
    )
    return ["<g>", f"<title>{escape(card.tip)}</title>" if card.tip else "", *parts, "</g>"]


def _frame(cards: Sequence[Card], times: int) -> list[str]:
    left = min(c.x - c.width / 2 for c in cards) - FRAME
    right = max(c.x + c.width / 2 for c in cards) + FRAME
    top, bottom = min(c.y for c in cards) - FRAME, max(c.y + c.height for c in cards) + FRAME
    return [
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}" rx="8" fill="none" '
        'class="cnnc-frame" stroke-width="1.4" stroke-dasharray="5 4"/>',
        f'<text x="{right + 5:.1f}" y="{top + 14:.1f}" class="cnnc-times" font-size="13" font-weight="bold">x {times}</text>',
    ]


def _legend(kinds: Iterable[str], cards: Iterable[Card], repeated: Sequence[Repeated]) -> list[tuple[str, str]]:
    """What is explained: (kind or "", words)."""
    said = [(kind, kind) for kind in COLORS if kind in set(kinds) and kind != "terminal"]
    words = [line.left for card in cards for line in card.lines]
    if any("/" in w.partition(" ")[2] for w in words):
        said.append(("", "3x3/2: kernel 3x3, stride 2"))
    if any("->" in w for w in words):
        said.append(("", "3->64: channels in, out"))
    if repeated:
        said.append(("", "x 3: the frame, three times"))
    return said


def _swatches(said: Sequence[tuple[str, str]], top: float, width: float) -> tuple[list[str], float]:
    """The legend in as many rows as it takes, and their height."""
    parts, x, y = [], float(MARGIN), top + LEGEND / 2
    for kind, words in said:
        wide = (16 if kind else 0) + len(words) * 6 + 16
        if x > MARGIN and x + wide > width - MARGIN / 2:
            x, y = float(MARGIN), y + SMALL + 4
        if kind:
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="11" height="11" rx="2" class="cnnc-{kind} cnnc-line" '
                'stroke-width="0.6"/>'
            )
        text = x + (16 if kind else 0)
        parts.append(f'<text x="{text:.1f}" y="{y + 9.5:.1f}" class="cnnc-more" font-size="10">{escape(words)}</text>')
        x += wide
    return ['<g class="cnnc-legend">', *parts, "</g>"], y + SMALL - top
