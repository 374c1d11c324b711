"""The README's pictures are of what it says, and of what is drawn today."""

from __future__ import annotations

import re

from cnnc import driver
from cnnc.drawing import svg
from tests.bench import chart, table


def test_the_chart_has_the_tables_figures() -> None:
    found = chart.ratios(table.README.read_text(encoding="utf-8"))
    assert len(found) == len(table.TRAINING)
    assert all(set(values) == set(chart.SERIES) for values in found.values())
    assert chart.OUT.read_text(encoding="utf-8") == chart.svg(found)


def test_the_network_is_drawn_as_today() -> None:
    path = table.ROOT / "examples" / "lenet5.svg"
    assert path.read_text(encoding="utf-8") == svg(driver.load(path.with_suffix(".cnn")).graph)


def test_pictures_are_there() -> None:
    text = table.README.read_text(encoding="utf-8")
    pictures = re.findall(r'<img [^>]*src="([^"]+)"', text)
    assert len(pictures) >= 2
    assert all((table.ROOT / p).is_file() for p in pictures)
