"""Tables and lines that fit the reader's width.

Where a table is too wide, long texts fold into several lines, then columns go in the order that they state. A number is
never cut: where even the columns that always stay are wider than what there is, the lines are longer than it.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

USUAL = 80  # columns, where neither COLUMNS nor a terminal says how many there are
FOLDING, LEAST = 24, 12  # columns that a text is folded to before other columns go, and when they have gone
BETWEEN = 2  # columns


def columns() -> int:
    """The width to print for: COLUMNS where it is set, else the terminal's, else 80."""
    return shutil.get_terminal_size((USUAL, 24)).columns


@dataclass(frozen=True)
class Column:
    """title: may have several lines. number: to the right, and never folded. leaves: 0 for a column that stays; of the
    others the greatest goes first.
    """

    title: str
    number: bool = False
    leaves: int = 0


@dataclass(frozen=True)
class Table:
    """Cells as text, a row of totals, and lines below that are wrapped."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    title: str = ""
    totals: Sequence[str] = ()
    notes: Sequence[str] = ()

    def natural(self) -> list[int]:
        """The columns that each column would take."""
        from rich.cells import cell_len

        cells = [*self.rows, *([self.totals] if self.totals else [])]
        return [
            max([*(cell_len(line) for line in c.title.split("\n")), *(cell_len(row[i]) for row in cells)])
            for i, c in enumerate(self.columns)
        ]

    def fit(self, width: int) -> dict[int, int]:
        """The columns that are shown, by number, and the width of each."""
        natural = self.natural()

        def folded(to: int) -> list[int]:
            return [n if c.number else min(n, to) for c, n in zip(self.columns, natural, strict=True)]

        readable, least = folded(FOLDING), folded(LEAST)
        shown = list(range(len(self.columns)))
        while sum(readable[i] + BETWEEN for i in shown) - BETWEEN > width:
            going = max(shown, key=lambda i: self.columns[i].leaves)
            if not self.columns[going].leaves:
                break
            shown.remove(going)
        over = sum(natural[i] + BETWEEN for i in shown) - BETWEEN - width
        widths = {i: natural[i] for i in shown}
        while over > 0:
            widest = max(shown, key=lambda i: widths[i] - least[i])
            if widths[widest] == least[widest]:
                break
            widths[widest] -= 1
            over -= 1
        return widths

    def hidden(self, width: int) -> str:
        """What is said of the columns that do not fit."""
        shown = self.fit(width)
        gone = [c.title.replace("-\n", "-").replace("\n", " ") for i, c in enumerate(self.columns) if i not in shown]
        whole = sum(n + BETWEEN for n in self.natural()) - BETWEEN
        return f"not shown at {width} columns: {', '.join(gone)} (all: COLUMNS={whole})" if gone else ""

    def lines(self, width: int | None = None) -> list[str]:
        """The table as text, for a width; for the reader's, if none is given."""
        width = columns() if width is None else width
        widths = self.fit(width)
        result = [*(wrapped(self.title, width) if self.title else []), *self.head(widths)]
        result += self.body(self.rows, widths)
        if self.totals:
            result += [_rule(widths), *self.body([self.totals], widths)]
        notes = [n for n in (*self.notes, self.hidden(width)) if n]
        return [*result, *([""] if notes else []), *(line for note in notes for line in wrapped(note, width))]

    def head(self, widths: Mapping[int, int]) -> list[str]:
        return [*self.body([[c.title for c in self.columns]], widths, "bottom"), _rule(widths)]

    def body(
        self, rows: Iterable[Sequence[str]], widths: Mapping[int, int], align: Literal["top", "bottom"] = "top"
    ) -> list[str]:
        """Rows of cells as lines, in the columns that `fit` gave."""
        from io import StringIO

        from rich.console import Console
        from rich.table import Table as Grid
        from rich.text import Text

        grid = Grid.grid(padding=(0, BETWEEN, 0, 0), pad_edge=False)
        for i, w in widths.items():
            justify: Literal["left", "right"] = "right" if self.columns[i].number else "left"
            grid.add_column(justify=justify, width=w, overflow="fold", vertical=align)
        for row in rows:
            grid.add_row(*(Text(row[i]) for i in widths))
        out = StringIO()
        Console(file=out, width=sum(widths.values()) + BETWEEN * len(widths), no_color=True, highlight=False).print(
            grid
        )
        return [line.rstrip() for line in out.getvalue().splitlines()]

    def __str__(self) -> str:
        return "\n".join(self.lines()) + "\n"


def _rule(widths: Mapping[int, int]) -> str:
    return (" " * BETWEEN).join("─" * w for w in widths.values())


def wrapped(text: str, width: int | None = None, indent: str = "") -> list[str]:
    """A text in lines that fit; those after the first are indented. Words are never cut."""
    return textwrap.wrap(
        text,
        max(columns() if width is None else width, len(indent) + 1),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
