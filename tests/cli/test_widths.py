"""What commands print fits the width, with no number cut, on 40 to 200 columns; 80 where nobody says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cnnc import driver
from cnnc.bench import timing
from cnnc.summary import summarize
from tests.cli.conftest import Cnnc

WIDTHS = (40, 60, 80, 100, 200)


def fits(text: str, width: int) -> None:
    """No line is longer, but for a single word that cannot be folded."""
    for line in text.splitlines():
        assert len(line) <= width or len(line.split()) == 1 or len(line.split()[-1]) > width // 2, line
    assert "…" not in text


@pytest.mark.parametrize(
    ("name", "depth", "total"),
    [("resnet", 50, "25,557,032"), ("vgg", 16, "138,357,544"), ("mobilenetv2", 0, "3,504,872")],
)
def test_summary(examples: Path, name: str, depth: int, total: str) -> None:
    table = summarize(driver.load(examples / f"{name}.cnn", **({"depth": depth} if depth else {})).graph).table()
    for width in WIDTHS:
        lines = table.lines(width)
        fits("\n".join(lines), width)
        rows = lines[1 : lines.index("")]
        assert total in rows[-1].split()
        assert all(re.fullmatch(r"[\w./:-]+|[\d,.]+|─+", word) for line in rows for word in line.split())
        shown = {
            c for c in ("kernel", "stride", "padding", "weight", "multiply-adds", "output") if c in rows[0] + rows[1]
        }
        assert len(shown) >= {40: 0, 60: 1, 80: 2, 100: 4, 200: 6}[width]
    assert "not shown" not in "\n".join(table.lines(200))


def test_summary_follows_columns(cnnc: Cnnc, lenet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    fits(cnnc("summary", lenet).stdout, 80)
    monkeypatch.setenv("COLUMNS", "40")
    fits(cnnc("summary", lenet).stdout, 40)
    monkeypatch.setenv("COLUMNS", "200")
    assert "not shown" not in cnnc("summary", lenet).stdout


def test_the_other_tables(cnnc: Cnnc, lenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    width = 40
    monkeypatch.setattr(timing, "PAUSE", 0.0)
    monkeypatch.setenv("COLUMNS", str(width))
    compiled = cnnc("compile", lenet, "-o", tmp_path / "lenet.cnnx", "-v")
    fits(compiled.stdout, width)
    fits("\n".join(line for line in compiled.stderr.splitlines() if line.startswith(" ")), width)
    fits(cnnc("bench", lenet, "--rounds", 1, "--block", 0, "--layers", "--threads", 1).stdout, width)
    fits(cnnc("gradcheck", lenet, "--directions", 1, "--parameter", "c1.weight").stdout, width)
    fits(cnnc("stats", lenet, "--target", "reference").stdout, width)
    fits(cnnc("cache", "list").stdout, width)
    fits(cnnc("explain").stdout, width)
    fits(cnnc("explain", "conv").stdout, width)
    fits(cnnc("opt", "--list").stdout, width)
    fits(cnnc("new", "--list").stdout, width)
    fits(cnnc("doctor", code=None).stdout, width)


def test_compile_has_a_line_for_each_layer(cnnc: Cnnc, lenet: Path, tmp_path: Path) -> None:
    """Each is named after the convolution or linear layer; reasons are on stderr, with -v only."""
    result = cnnc("compile", lenet, "-o", tmp_path / "lenet.cnnx")
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if line.startswith(("c1", "c2", "fc"))}
    assert re.match(r"c1\s+conv 3x3 1->4 \+ relu\s+direct [\dx]+$", rows["c1"])
    assert re.match(r"c2\s+conv 3x3 4->8 \+ batchnorm \+ relu\s+direct [\dx]+$", rows["c2"])
    assert re.match(r"fc\s+linear 128->10\s+linear panels$", rows["fc"])
    assert "Winograd wants" not in result.stdout + result.stderr
    assert "Winograd wants" in " ".join(cnnc("compile", lenet, "-o", tmp_path / "x.cnnx", "-v").stderr.split())


def test_bench_keeps_reasons_out_of_the_table(cnnc: Cnnc, lenet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "PAUSE", 0.0)
    result = cnnc("bench", lenet, "--rounds", 1, "--block", 0, "--layers", "-v")
    assert "wants" not in result.stdout
    assert "Winograd wants" in " ".join(result.stderr.split())
