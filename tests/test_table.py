"""Tables fit: no line is longer than the width, and no number is cut."""

from __future__ import annotations

import re
import sys

import pytest

from cnnc.table import Column, Table, columns, wrapped

COLUMNS = (
    Column("layer"),
    Column("op", leaves=2),
    Column("parameters", True),
    Column("multiply-\nadds", True, leaves=1),
    Column("weight", True, leaves=3),
)
ROWS = (
    ("layer1.0.downsample.0", "conv", "1,234,567,890", "118,013,752", "64x3x7x7"),
    ("a", "global_avgpool", "", "1", ""),
)
TABLE = Table(COLUMNS, ROWS, "A title", ("total", "", "1,234,567,890", "118,013,753", ""), ("a note " * 12,))


@pytest.mark.parametrize("width", [27, 32, 40, 60, 80, 100, 200])
def test_lines_fit(width: int) -> None:
    lines = TABLE.lines(width)
    assert max(map(len, lines)) <= width
    assert all(line == line.rstrip() for line in lines)
    for number in re.findall(r"[\d,]*\d{3}", "\n".join(lines)):
        assert number in ("1,234,567,890", "118,013,752", "118,013,753")


@pytest.mark.parametrize(
    ("width", "shown"),
    [(200, "01234"), (75, "01234"), (74, "0123"), (65, "0123"), (64, "023"), (49, "023"), (48, "02"), (10, "02")],
)
def test_columns_leave_in_their_order(width: int, shown: str) -> None:
    assert sorted(TABLE.fit(width)) == [int(i) for i in shown]


def test_where_nothing_may_leave_a_number_is_whole() -> None:
    text = "\n".join(TABLE.lines(5))
    assert "1,234,567,890" in text
    assert "…" not in text


def test_long_texts_fold_before_columns_leave() -> None:
    table = Table((Column("layer"), Column("numbers", True, 1)), [("a.long.name." * 5, "12,345")])
    assert sorted(table.fit(40)) == [0, 1]
    text = table.lines(40)
    assert "".join(line[:31].strip() for line in text[2:4]) == "a.long.name." * 5
    assert sorted(table.fit(20)) == [0]


def test_what_is_not_shown_is_said() -> None:
    assert TABLE.lines(74)[-1] == "not shown at 74 columns: weight (all: COLUMNS=75)"
    assert not any("not shown" in line for line in TABLE.lines(200))


@pytest.mark.parametrize(("given", "width"), [("40", 40), ("200", 200), ("0", 80), ("-3", 80), ("wide", 80), ("", 80)])
def test_width_without_a_terminal(monkeypatch: pytest.MonkeyPatch, given: str, width: int) -> None:
    monkeypatch.setattr(sys, "__stdout__", None)
    monkeypatch.setenv("COLUMNS", given)
    assert columns() == width


def test_wrapped() -> None:
    lines = wrapped("one two three four", 9, "  ")
    assert lines == ["one two", "  three", "  four"]
    assert wrapped("a-word-that-is-long/and-a-path", 10) == ["a-word-that-is-long/and-a-path"]
