"""The README can be read: short paragraphs, and commands that do not scroll."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "tests/bench/README.md", "cnnc/README.md", "kernels/README.md")


def parts(text: str) -> tuple[list[str], list[str]]:
    """Fenced blocks and paragraphs."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    prose = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return fenced, [p for p in prose.split("\n\n") if p.strip() and not p.lstrip().startswith(("|", "#", "<"))]


@pytest.mark.parametrize("page", PAGES)
def test_paragraphs_are_short(page: str) -> None:
    for paragraph in parts((ROOT / page).read_text(encoding="utf-8"))[1]:
        assert len(paragraph.split()) <= 84, paragraph


def test_commands_do_not_scroll() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for block in parts(text[: text.index("A mistake looks like this")])[0]:
        assert all(len(line) <= 84 for line in block.splitlines()), block
    first = text[text.index("## The first minute") : text.index("## What it does")]
    assert all(len(line) <= 80 for block in parts(first)[0] for line in block.splitlines())


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert ((ROOT / page).parent / target).exists(), target


def test_the_parts_of_the_house_are_there() -> None:
    """Every file and folder of the picture is, and none of the package is missing from it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = next(b for b in parts(text)[0] if b.startswith("cnnc/"))
    named = set(re.findall(r"([a-z_]+)(?:/|\.py)", tree))
    assert all(
        (ROOT / "cnnc" / n).exists() or (ROOT / "cnnc" / f"{n}.py").exists()
        for n in named & {p.stem for p in (ROOT / "cnnc").iterdir()}
    )
    folders = {p.name for p in (ROOT / "cnnc").iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    assert folders <= named
