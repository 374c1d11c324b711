"""The roofline of a network on this machine (Williams, Waterman and Patterson, 2009) as SVG.

Across: operations a byte that must move. Up: GFLOP/s. The flat ceiling is the peak of multiply-adds, the slanted ones
are what each level of memory delivers. A dot a layer, its area by the layer's time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from cnnc.lowering.figures import Figures
from cnnc.runtime.profile import LayerTime

WIDTH, HEIGHT = 960, 620
LEFT, RIGHT, TOP, BOTTOM = 70, 30, 84, 60
LABELS = 12  # the longest layers are named in the picture; every dot has a title
CHARACTER = 6.2  # width of a character of a label
STYLE = """
  .ground { fill: #ffffff } .ink { fill: #1f2328 } .dim { fill: #59636e } .grid { stroke: #d8dee4; stroke-width: 1 }
  .axis { stroke: #59636e; stroke-width: 1.2 } .roof { stroke: #cf222e; stroke-width: 2; fill: none }
  .slope { stroke: #8250df; stroke-width: 1.4; fill: none } .note { fill: #8250df } .peak { fill: #cf222e }
  .dot { fill: #0969da; fill-opacity: .6; stroke: #0550ae } .dot:hover { fill-opacity: 1 }
  text { font: 11px ui-sans-serif, system-ui, sans-serif } .title { font-size: 15px; font-weight: 600 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117 } .ink { fill: #e6edf3 } .dim { fill: #9198a1 } .grid { stroke: #2a313c }
    .axis { stroke: #9198a1 } .roof { stroke: #ff7b72 } .slope { stroke: #d2a8ff } .note { fill: #d2a8ff }
    .peak { fill: #ff7b72 } .dot { fill: #58a6ff; stroke: #a5d6ff }
  }
"""


class Axes:
    """Logarithmic axes: decades of x and of y to pixels."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        self.x, self.y = x, y

    def across(self, value: float) -> float:
        low, high = (math.log10(v) for v in self.x)
        return LEFT + (math.log10(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def up(self, value: float) -> float:
        low, high = (math.log10(v) for v in self.y)
        return HEIGHT - BOTTOM - (math.log10(value) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Steps of 1, 2, 5 around the values."""
    steps = [m * 10.0**e for e in range(-6, 9) for m in (1, 2, 5)]
    low = max(s for s in steps if s <= min(values) * 0.9 or s == steps[0])
    return low, min(s for s in steps if s >= max(values) * 1.15 or s == steps[-1])


def _ticks(low: float, high: float) -> list[float]:
    marks = (1, 2, 5) if high / low < 2000 else (1,)
    steps = (m * 10.0**e for e in range(-6, 9) for m in marks)
    return [s for s in steps if low * 0.999 <= s <= high * 1.001]


def svg(layers: Sequence[LayerTime], figures: Figures, title: str, threads: int) -> str:
    """The picture. Layers without multiply-adds have no place in it."""
    shown = sorted((r for r in layers if r.flops and r.seconds), key=lambda r: -r.seconds)
    peak = figures.peak(threads)
    roofs = [(level.name, level.one if threads == 1 else level.all) for level in figures.levels]
    roofs = [(name, rate) for name, rate in roofs if name != "L1" and rate > 0]
    ridge = peak / min(rate for _, rate in roofs)
    xs, ys = [r.intensity for r in shown] + [ridge], [r.gflops for r in shown] + [peak]
    axes = Axes(_range([*xs, min(xs) / 1.5, max(xs) * 1.5]), _range([*ys, peak / 20]))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="ink title" x="{LEFT}" y="26">{escape(title)}</text>',
        f'<text class="dim" x="{LEFT}" y="46">{escape(figures.processor)}, {figures.target}</text>',
        f'<text class="dim" x="{LEFT}" y="62">A dot a layer, its area by its time. Operations are those of direct '
        "computation: faster algorithms may pass the peak.</text>",
        *_grid(axes),
        *_roofs(axes, roofs, peak),
        *_dots(axes, shown),
        "</svg>",
    ]
    return "\n".join([*parts, ""])


def _grid(axes: Axes) -> list[str]:
    parts = []
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    for value in _ticks(*axes.x):
        x = axes.across(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(f'<text class="dim" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{value:g}</text>')
    for value in _ticks(*axes.y):
        y = axes.up(value)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        parts.append(f'<text class="dim" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    parts.append(f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{bottom}H{right}"/>')
    middle = (LEFT + right) / 2
    parts.append(f'<text class="ink" x="{middle}" y="{HEIGHT - 18}" text-anchor="middle">operations a byte</text>')
    turned = f'transform="rotate(-90 20 {(TOP + bottom) / 2})"'
    parts.append(f'<text class="ink" x="20" y="{(TOP + bottom) / 2}" text-anchor="middle" {turned}>GFLOP/s</text>')
    return parts


def _roofs(axes: Axes, roofs: Sequence[tuple[str, float]], peak: float) -> list[str]:
    """A slanted line for each level, from the frame to the peak; the peak from the first of them on."""
    parts = []
    (x_low, x_high), y_low = axes.x, axes.y[0]
    for i, (name, rate) in enumerate(roofs):
        start = max(x_low, y_low / rate)
        x1, y1 = axes.across(start), axes.up(start * rate)
        end = min(peak / rate, x_high)
        if end <= start:
            continue
        x2, y2 = axes.across(end), axes.up(end * rate)
        parts.append(f'<line class="slope" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')
        angle = math.degrees(math.atan2(y2 - y1, x2 - x1))
        along = 0.08 + 0.26 * i  # names of lines that lie close together stand apart
        x, y = x1 + along * (x2 - x1), y1 + along * (y2 - y1) - 5
        parts.append(
            f'<text class="note" x="{x:.1f}" y="{y:.1f}" transform="rotate({angle:.1f} {x:.1f} {y:.1f})">'
            f"{name} {rate:.0f} GB/s</text>"
        )
    start = max(x_low, min(peak / rate for _, rate in roofs))
    x, y, right = axes.across(start), axes.up(peak), WIDTH - RIGHT
    parts.append(f'<line class="roof" x1="{x:.1f}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
    parts.append(f'<text class="peak" x="{right}" y="{y - 6:.1f}" text-anchor="end">peak {peak:.0f} GFLOP/s</text>')
    return parts


def _dots(axes: Axes, shown: Sequence[LayerTime]) -> list[str]:
    """The longest layers are labelled where there is room beside their dot."""
    parts = []
    total = sum(r.seconds for r in shown)
    places = [(axes.across(r.intensity), axes.up(r.gflops), max(3.0, 26 * math.sqrt(r.seconds / total))) for r in shown]
    for row, (x, y, radius) in zip(shown, places, strict=True):
        text = (
            f"{row.layer} ({row.op})\n{row.why or row.algorithm}\n{1e3 * row.seconds:.3g} ms, {row.gflops:.4g} GFLOP/s, "
            f"{row.gigabytes:.3g} GB/s, {row.intensity:.3g} operations a byte"
        )
        parts.append(
            f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"><title>{escape(text)}</title></circle>'
        )
    taken = [(x - r, y - r, x + r, y + r) for x, y, r in places]
    for row, (x, y, radius) in list(zip(shown, places, strict=True))[:LABELS]:
        width = CHARACTER * len(row.layer)
        for left, base in (
            (x + radius + 3, y + 4),
            (x - radius - 3 - width, y + 4),
            (x - width / 2, y - radius - 4),
            (x - width / 2, y + radius + 12),
        ):
            box = (left, base - 10, left + width, base + 3)
            inside = box[0] > LEFT and box[2] < WIDTH - RIGHT and box[1] > TOP and box[3] < HEIGHT - BOTTOM
            if inside and not any(box[0] < o[2] and o[0] < box[2] and box[1] < o[3] and o[1] < box[3] for o in taken):
                taken.append(box)
                parts.append(f'<text class="ink" x="{left:.1f}" y="{base:.1f}">{escape(row.layer)}</text>')
                break
    return parts
