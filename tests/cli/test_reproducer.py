"""What an internal error leaves behind."""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import Result

from cnnc.cli import check
from cnnc.ir.graph import Graph
from cnnc.ir.text import parse_graph
from cnnc.passes.eliminate_dead import EliminateDead
from cnnc.passes.manager import PASSES, Pass
from tests.cli.conftest import Cnnc

WHERE = re.compile(r"The command, the versions and what was worked on are in (.*)")


@dataclass(frozen=True)
class Broken(Pass):
    """x --> nothing, or an exception"""

    name: ClassVar[str] = "eliminate-dead"
    hard: bool = False

    def apply(self, graph: Graph) -> Graph:
        if self.hard:
            raise KeyError("no such node")
        return replace(graph, nodes=graph.nodes[:-1])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "temporary files"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


def fail(*_: object) -> None:
    raise RuntimeError("oops \udc80")


def written(result: Result, folder: Path) -> Path:
    match = WHERE.search(result.stderr)
    assert match is not None, result.stderr
    path = Path(match[1])
    assert path.parent == folder
    return path


def commented(text: str, name: str) -> str:
    match = re.search(rf"^# {name}: (.*)$", text, re.MULTILINE)
    assert match is not None, text
    return match[1]


@pytest.mark.parametrize("text", ["eliminate-dead", "eliminate-dead{hard=true}"])
def test_a_pass_that_fails(cnnc: Cnnc, lenet: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """The graph that it was given, which a command gives it again."""
    monkeypatch.setitem(PASSES, "eliminate-dead", Broken)
    graph = lenet.with_name("net.ir")
    graph.write_text(cnnc("ir", lenet).stdout)
    passes = f"fold-batchnorm,{text}"
    path = written(cnnc("opt", graph, "--passes", passes, code=70), folder)
    said = path.read_text()
    assert commented(said, "command") == shlex.join(["cnnc", "opt", str(graph), "--passes", passes])
    assert all(part in commented(said, "versions") for part in ("cnnc ", "Python ", "numpy ", "llvmlite "))
    assert "Traceback" in said
    given = parse_graph(said)
    assert not given.of("batchnorm"), "the graph behind the passes before"
    again = shlex.split(commented(said, "again"))
    assert again[:3] == ["cnnc", "opt", str(path)]
    second = written(cnnc(*again[1:], code=70), folder)
    assert second != path
    assert path.read_text() == said
    assert parse_graph(second.read_text()) == given
    monkeypatch.setitem(PASSES, "eliminate-dead", EliminateDead)
    cnnc("opt", path, "--passes", "eliminate-dead")


def test_any_other_bug(cnnc: Cnnc, lenet: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model, with the command that met the bug."""

    monkeypatch.setattr(check, "load", fail)
    path = written(cnnc("check", lenet, "-p", "classes=3", code=70), folder)
    said = path.read_text()
    assert said.endswith(lenet.read_text())
    assert commented(said, "again") == shlex.join(["cnnc", "check", str(path), "-p", "classes=3"])
    assert "RuntimeError: oops \\x80" in said
    monkeypatch.undo()
    assert "f32[N,3]" in cnnc(*shlex.split(commented(said, "again"))[1:]).stderr


def test_what_a_model_includes_goes_along(
    cnnc: Cnnc, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "blocks.cnn").write_text('include "more.cnn"\nconst WIDTH = 3\n')
    (tmp_path / "more.cnn").write_text('include "blocks.cnn"\nconst DEPTH = 4\n')
    model = tmp_path / "net.cnn"
    model.write_text('include "blocks.cnn"\nmodel m() { input x: f32[N, WIDTH] return x -> relu }\n')
    monkeypatch.setattr(check, "load", fail)
    said = written(cnnc("check", model, code=70), folder).read_text()
    assert all(part in said for part in ("const WIDTH = 3", "const DEPTH = 4", "model m()", f"## {model}"))


def test_without_a_file_to_read(cnnc: Cnnc, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "load", fail)
    path = written(cnnc("check", folder / "none.cnn", code=70), folder)
    assert commented(path.read_text(), "command").startswith("cnnc check ")


@pytest.mark.parametrize("failure", [FileNotFoundError(2, "no folder"), PermissionError(13, "Permission denied")])
def test_nowhere_to_write(cnnc: Cnnc, lenet: Path, monkeypatch: pytest.MonkeyPatch, failure: OSError) -> None:
    """The bug is what is said, not that there is no file."""

    def full(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(check, "load", fail)
    monkeypatch.setattr(tempfile, "mkstemp", full)
    result = cnnc("check", lenet, code=70)
    assert "internal error: RuntimeError: oops " in result.stderr
    assert WHERE.search(result.stderr) is None


def test_a_disk_that_is_full(cnnc: Cnnc, lenet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.access("/dev/full", os.W_OK):
        pytest.skip("there is no /dev/full")
    monkeypatch.setattr(check, "load", fail)
    monkeypatch.setattr(tempfile, "mkstemp", lambda *_: (os.open("/dev/full", os.O_WRONLY), "/dev/full"))
    result = cnnc("check", lenet, code=70)
    assert "internal error: RuntimeError: oops " in result.stderr
    assert WHERE.search(result.stderr) is None
