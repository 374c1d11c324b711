"""How numbers are spread, drawn: a row for each name, with two histograms side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from cnnc.drawing.cards import kind
from cnnc.drawing.layout import MARGIN
from cnnc.drawing.picture import opening, style
from cnnc.spread import BINS, Spread

NAMES, PLOT, GAP = 190, 250, 28  # pixels across: names, a histogram, what is between
BARS, ROW, HEAD = 34, 70, 60  # pixels down: bars, a row, what stands above the first section
SECTION = 34


@dataclass(frozen=True)
class Row:
    """op: gives the color. words: under the name. remark: beside the figures of the left histogram."""

    name: str
    op: str
    words: str
    left: Spread
    right: Spread
    remark: str = ""


@dataclass(frozen=True)
class Section:
    left: str
    right: str
    rows: Sequence[Row]


def histograms(title: str, about: str, sections: Sequence[Section], dark: bool | None = None) -> str:
    """The drawing as an SVG document. dark: for a dark page or a light one; as the reader's is, if None."""
    width = 2 * MARGIN + NAMES + 2 * (PLOT + GAP)
    parts, y = [], float(HEAD)
    lefts = (MARGIN + NAMES, MARGIN + NAMES + PLOT + GAP)
    for section in sections:
        for x, words in zip(lefts, (section.left, section.right), strict=True):
            parts.append(_text(x, y + 14, words, "text", 'font-weight="bold"'))
        y += SECTION - 10
        for row in section.rows:
            parts += [
                _text(MARGIN, y + 18, _cut(row.name, 27), "text"),
                _text(MARGIN, y + 32, _cut(row.words, 33), "more", SMALL),
            ]
            parts += [*_plot(lefts[0], y, row.left, row.op, row.remark), *_plot(lefts[1], y, row.right, row.op)]
            y += ROW
        y += 10
    parts.append(_text(MARGIN, y + 6, "heights are roots of counts; the line is at 0", "more", SMALL))
    head = [
        opening(width, y + MARGIN),
        f"<title>{escape(title)}</title>",
        f"<style>{style(dark, {})}</style>",
        '<rect width="100%" height="100%" class="cnnc-page"/>',
        _text(MARGIN, 26, title, "text", 'font-size="15" font-weight="bold"'),
        _text(MARGIN, 43, about, "more"),
    ]
    return "\n".join([*head, *parts, "</svg>", ""])


SMALL = 'font-size="9"'


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else "..." + text[3 - letters :]


def _text(x: float, y: float, text: str, tone: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="cnnc-{tone}" {more}>{escape(text)}</text>'


def _plot(x: float, y: float, spread: Spread, op: str, remark: str = "") -> list[str]:
    bottom, step = y + BARS, PLOT / BINS
    parts = ["<g>"]
    for i, h in enumerate(spread.heights()):
        if h:
            tall = max(1.0, h * BARS)
            parts.append(
                f'<rect x="{x + i * step:.1f}" y="{bottom - tall:.1f}" width="{step - 1:.1f}" height="{tall:.1f}" '
                f'class="cnnc-{_color(op)} cnnc-line" stroke-width="0.5"/>'
            )
    parts.append(f'<path d="M{x},{bottom:.1f} h{PLOT}" class="cnnc-line" stroke-width="0.8"/>')
    if spread.least < 0 < spread.greatest:
        zero = x + PLOT * -spread.least / (spread.greatest - spread.least)
        parts.append(f'<path d="M{zero:.1f},{y:.1f} V{bottom + 4:.1f}" class="cnnc-line" stroke-width="0.8"/>')
    if any(spread.histogram):
        figures = f"{spread.mean:.3g} \u00b1 {spread.deviation:.3g}"
        parts.append(_text(x, bottom + 11, f"{spread.least:.3g}", "more", SMALL))
        parts.append(_text(x + PLOT, bottom + 11, f"{spread.greatest:.3g}", "more", f'{SMALL} text-anchor="end"'))
    else:
        figures = "no number is finite"
    words = figures + (f", {remark}" if remark else "")
    parts.append(_text(x + PLOT / 2, bottom + 22, words, "text", f'{SMALL} text-anchor="middle"'))
    return [*parts, "</g>"]


def _color(op: str) -> str:
    """An input's bars are as grey as what only moves values."""
    found = kind(op)
    return "shape" if found == "terminal" else found
