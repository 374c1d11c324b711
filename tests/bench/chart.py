"""The README's figures as a picture: `python -m tests.bench.chart` draws the best peer's time over ours from its tables."""

from __future__ import annotations

import re
import sys
from html import escape
from pathlib import Path

from tests.bench import table

OUT = Path(__file__).with_name("ratios.svg")
WIDTH, LEFT, RIGHT, TOP, ROW, BAR = 640, 110, 40, 58, 46, 12  # pixels
SERIES = {"Inference, batch 1": "one", "Inference, batch 16": "many", "A training step": "step"}
STYLE = """
  .page { fill: #fcfcfd } .ink { fill: #1f2328 } .dim { fill: #59636e } .grid { stroke: #d8dee4 } .even { stroke: #59636e }
  .one { fill: #0969da } .many { fill: #54aeff } .step { fill: #bf8700 }
  text { font: 12px ui-sans-serif, system-ui, sans-serif } .title { font-size: 15px; font-weight: 600 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117 } .ink { fill: #e6edf3 } .dim { fill: #9198a1 } .grid { stroke: #2a313c }
    .even { stroke: #9198a1 } .one { fill: #58a6ff } .many { fill: #1f6feb } .step { fill: #d29922 }
  }
"""


def ratios(readme: str) -> dict[str, dict[str, float]]:
    """Network -> heading of the table -> the best peer's time over ours."""
    text = readme.partition(table.BEGIN)[2].partition(table.END)[0]
    found: dict[str, dict[str, float]] = {}
    heading = ""
    for line in text.splitlines():
        cells = [c.strip() for c in line.strip("| ").split("|")]
        if cells[0] in SERIES:
            heading = cells[0]
        elif heading and re.fullmatch(r"[\d.]+", cells[-1]):
            found.setdefault(re.split(r"[,(]", cells[0])[0].strip(), {})[heading] = float(cells[-1])
    return found


def svg(found: dict[str, dict[str, float]]) -> str:
    """Three bars for each network, from 0; a line where both take the same time."""
    most = max(max(r.values()) for r in found.values())
    scale = (WIDTH - LEFT - RIGHT) / most
    bottom = TOP + ROW * len(found)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 30}" width="{WIDTH}" '
        f'height="{bottom + 30}">',
        "<title>The best peer's time over ours</title>",
        f"<style>{STYLE}</style>",
        '<rect width="100%" height="100%" class="page"/>',
        '<text x="16" y="24" class="ink title">The best peer\'s time over ours: more is faster</text>',
    ]
    x = 16.0
    for words, kind in SERIES.items():
        parts.append(f'<rect x="{x}" y="36" width="11" height="11" rx="2" class="{kind}"/>')
        parts.append(f'<text x="{x + 16}" y="46" class="dim">{words.lower()}</text>')
        x += 34 + 6.6 * len(words)
    for tick in range(int(most) + 1):
        at, kind = LEFT + tick * scale, "even" if tick == 1 else "grid"
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{bottom}" class="{kind}"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 18}" class="dim" text-anchor="middle">{tick}</text>')
    for i, (name, values) in enumerate(found.items()):
        top = TOP + i * ROW + 5
        parts.append(f'<text x="{LEFT - 10}" y="{top + 22}" class="ink" text-anchor="end">{escape(name)}</text>')
        for j, (heading, kind) in enumerate(SERIES.items()):
            if heading in values:
                y, wide = top + j * BAR, values[heading] * scale
                parts.append(f'<rect x="{LEFT}" y="{y}" width="{wide:.1f}" height="{BAR - 1}" class="{kind}"/>')
                parts.append(f'<text x="{LEFT + wide + 4:.1f}" y="{y + 10}" class="dim">{values[heading]:.2f}</text>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> int:
    OUT.write_text(svg(ratios(table.README.read_text(encoding="utf-8"))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
