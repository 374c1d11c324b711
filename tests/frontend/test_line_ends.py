"""Lines end as the writer's program ends them."""

from __future__ import annotations

from pathlib import Path

import pytest

import cnnc
from cnnc.diagnostics import CnncError

LINES = [
    "model m() { # a comment ends with its line",
    "    ## so does this",
    "    input x: f32[N, 4]",
    "    return x",
    "      -> relo",
    "}",
]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r", "mixed"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_line_end(ends: str, mark: str, tmp_path: Path) -> None:
    each = ["\r", "\n", "\r\n", "\r", "\r\n", "\n"] if ends == "mixed" else [ends] * len(LINES)
    text = mark + "".join(line + end for line, end in zip(LINES, each, strict=True))
    path = tmp_path / "m.cnn"
    path.write_bytes(text.encode())
    for call in (lambda: cnnc.load(path), lambda: cnnc.parse(text)):
        with pytest.raises(CnncError) as e:
            call()
        (diagnostic,) = e.value.diagnostics
        assert diagnostic.code == "E0302"
        assert diagnostic.span is not None
        assert diagnostic.span.source.position(diagnostic.span.start) == (5, 10)
    good = text.replace("relo", "relu")
    path.write_bytes(good.encode())
    assert str(cnnc.load(path).graph) == str(cnnc.parse("\n".join(LINES).replace("relo", "relu")).graph)


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c"])
def test_other_ends_of_lines_are_refused_where_they_stand(character: str) -> None:
    """Within a comment too, where some editors show a new line that is none."""
    with pytest.raises(CnncError) as e:
        cnnc.parse(f"model m() {{ # comment{character} input x: f32[N, 4]\n return x -> relu }}")
    first = e.value.diagnostics[0]
    assert first.code == "E0104"
    assert first.span is not None
    assert first.span.start == len("model m() { # comment")
