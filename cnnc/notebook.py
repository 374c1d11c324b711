"""What a notebook shows: drawings, tables, stages and their differences, as HTML that keeps to the page's own colors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING

from cnnc.drawing import svg
from cnnc.ir.graph import Graph
from cnnc.ir.types import product
from cnnc.summary import mib
from cnnc.table import Table

if TYPE_CHECKING:
    from cnnc.passes.compare import Comparison
    from cnnc.passes.manager import Stages
    from cnnc.runtime.executable import Executable

AROUND = 2  # lines that are shown beside those that differ
CELL = "padding:2px 8px;border:none;"
MARKS = {"same": "", "changed": "rgba(210,153,34,.22)", "gone": "rgba(207,34,46,.20)", "new": "rgba(46,160,67,.22)"}


def table(made: Table) -> str:
    """A table with a line below its head and one above its totals."""
    numbers = [c.number for c in made.columns]

    def row(tag: str, cells: Iterable[str], style: str = "") -> str:
        return (
            f'<tr style="{style}">'
            + "".join(
                f'<{tag} style="{CELL}text-align:{"right" if n else "left"}">{escape(c)}</{tag}>'
                for c, n in zip(cells, numbers, strict=True)
            )
            + "</tr>"
        )

    line = "1px solid rgba(128,128,128,.6)"
    head = row("th", [c.title.replace("-\n", "-").replace("\n", " ") for c in made.columns], f"border-bottom:{line}")
    body = "".join(
        row("td", cells, "background:rgba(128,128,128,.07)" if i % 2 else "") for i, cells in enumerate(made.rows)
    )
    foot = f"<tfoot>{row('th', made.totals, f'border-top:{line}')}</tfoot>" if made.totals else ""
    notes = "<br>".join(map(escape, made.notes))
    return (
        f'<div style="overflow-x:auto"><table style="border-collapse:collapse;font-variant-numeric:tabular-nums">'
        f"<caption style='text-align:left;font-weight:bold'>{escape(made.title)}</caption>"
        f"<thead>{head}</thead><tbody>{body}</tbody>{foot}</table></div><p>{notes}</p>"
    )


def graph(shown: Graph) -> str:
    """The drawing of a graph, an SVG document."""
    return svg(shown)


def executable(made: Executable) -> str:
    """What was compiled: in and out, weights, what each pass did, the drawing of the result."""
    ends = [
        f"{n.name}: {n.type}" for n in made.graph.inputs
    ], [f"{label}: {made.graph.type(value)}" for label, value in made.graph.outputs]  # fmt: skip
    count = sum(product(n.type.concrete(1)) for n in made.graph.parameters)
    return (
        f"<p><b>{escape(made.graph.name)}</b>, compiled: {escape(', '.join(ends[0]))} &rarr; "
        f"{escape(', '.join(ends[1]))}; {count:,} parameters ({mib(4 * count)})</p>{stages(made.stages)}"
        f"<details><summary>the graph after all passes</summary>{svg(made.graph)}</details>"
    )


def stages(made: Stages) -> str:
    """A row for each stage: its nodes, and which came and went; it opens to the lines that differ."""
    from cnnc.passes.compare import Comparison

    lines = []
    before: tuple[str, Graph] | None = None
    for title, after in made.stages:
        words = f"<b>{escape(title)}</b> &middot; {len(after.nodes)} nodes"
        if before is None or before[1] == after:
            lines.append(f"<div style='padding-left:1em'>{words}{' &middot; no change' if before else ''}</div>")
        else:
            told = comparison(Comparison(before[0], before[1], title, after))
            lines.append(
                f"<details><summary>{words} &middot; {escape(moves(before[1], after))}</summary>{told}</details>"
            )
        before = (title, after)
    return "".join(lines)


def moves(before: Graph, after: Graph) -> str:
    """How many nodes of which ops went and came."""
    old, new = Counter(n.op for n in before.nodes), Counter(n.op for n in after.nodes)
    told = [f"&minus;{n} {op}".replace("&minus;", "-") for op, n in (old - new).most_common()]
    return ", ".join([*told, *(f"+{n} {op}" for op, n in (new - old).most_common())]) or "rewritten"


def comparison(made: Comparison) -> str:
    """Both texts side by side: what is gone, new and changed is marked, and what is far from that left out."""
    rows = made.rows()
    near = {i + k for i, (kind, _, _) in enumerate(rows) if kind != "same" for k in range(-AROUND, AROUND + 1)}
    body = []
    for close, run in groupby(enumerate(rows), lambda item: item[0] in near):
        part = list(run)
        if close:
            body += [_pair(kind, (left, right)) for _, (kind, left, right) in part]
        else:
            body.append(f'<tr><td colspan="2" style="{CELL}opacity:.6">{len(part)} lines alike</td></tr>')
    head = "".join(f'<th style="{CELL}text-align:left">{escape(t)}</th>' for t in (made.before, made.after))
    return (
        '<div style="overflow-x:auto"><table style="border-collapse:collapse;font-family:monospace;font-size:12px">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _pair(kind: str, texts: Sequence[str]) -> str:
    cells = "".join(
        f'<td style="{CELL}text-align:left;white-space:pre-wrap;vertical-align:top;width:50%;'
        f'background:{MARKS[kind] if t else "none"}">{escape(t)}</td>'
        for t in texts
    )
    return f"<tr>{cells}</tr>"
