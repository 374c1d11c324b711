"""Every code is explained, and every example of a frontend code gives that code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cnnc.codes import CODES
from cnnc.diagnostics import CnncError
from cnnc.frontend import load, parse

ROOT = Path(__file__).parents[2]
OTHERWISE = {"E0105", "E0106", "E0401", "E0204", "E0410"}  # not by the text of a model alone
FRONTEND = sorted(c for c in CODES if c[:3] in ("E01", "E02", "E03", "E04", "W01") and c not in OTHERWISE)


def used_codes() -> set[str]:
    return {
        code
        for path in (ROOT / "cnnc").rglob("*.py")
        if path.parent.name != "codes"
        for code in re.findall(r'"([EW]0\d{3})"', path.read_text(encoding="utf-8"))
    }


def test_every_code_in_use_is_explained() -> None:
    assert sorted(used_codes() - set(CODES)) == []


@pytest.mark.parametrize("code", sorted(CODES))
def test_entries_are_whole(code: str) -> None:
    entry = CODES[code]
    assert entry.title
    assert entry.title[-1] != "."
    assert entry.text.endswith(".")
    assert entry.example
    assert entry.fix


@pytest.mark.parametrize("code", FRONTEND)
def test_example_gives_its_code(code: str) -> None:
    if code.startswith("W"):
        assert [w.code for w in parse(CODES[code].example).warnings] == [code]
        return
    with pytest.raises(CnncError) as caught:
        parse(CODES[code].example)
    assert caught.value.diagnostics[0].code == code


def test_files(tmp_path: Path) -> None:
    for code, content in (("E0105", b"# caf\xe9\n"), ("E0401", b"#" * (2 << 20))):
        path = tmp_path / "m.cnn"
        path.write_bytes(content)
        with pytest.raises(CnncError) as caught:
            load(path)
        assert caught.value.diagnostics[0].code == code
    with pytest.raises(CnncError) as caught:
        load(tmp_path / "mm.cnn")
    assert caught.value.diagnostics[0].code == "E0106"
    assert "m.cnn" in (caught.value.diagnostics[0].help or "")
