"""The group: help, usage errors, exit codes, and what becomes of every exception."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import pytest

import cnnc as package
from cnnc.cli import check, common
from cnnc.cli.main import COMMANDS, cli
from cnnc.diagnostics import CnncError, error
from tests.cli.conftest import ROOT, Cnnc


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an internal error leaves behind goes with the test's folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_help_lists_every_command(cnnc: Cnnc) -> None:
    text = cnnc("--help").stdout
    assert all(f"  {name} " in text for name in COMMANDS)
    assert "Examples:" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_has_an_example(cnnc: Cnnc, name: str) -> None:
    text = cnnc(name, "--help").stdout
    assert "Example" in text
    assert f"cnnc {name}" in text.partition("Example")[2]


def test_commands_are_described_as_they_are_listed() -> None:
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        assert command.help


@pytest.mark.parametrize("sub", ["list", "clear", "warm"])
def test_help_of_cache(cnnc: Cnnc, sub: str) -> None:
    assert f"cnnc cache {sub}" in cnnc("cache", sub, "--help").stdout


def test_version(cnnc: Cnnc) -> None:
    assert package.__version__ in cnnc("--version").stdout


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["chek", "x"], "Did you mean 'check'?"),
        (["sumary", "x"], "Did you mean 'summary'?"),
        (["check", "--jsno", "x"], "--json"),
        (["nothing-like-it"], "cnnc --help"),
        (["check"], "MODEL"),
        (["ir", "x", "--mode", "both"], "'infer', 'train'"),
        (["check", "x", "-p", "depth"], "name=value"),
        (["check", "x", "-p", "a=1", "-p", "a=2"], "twice"),
        (["run", "x"], "--input"),
        (["summary", "x", "--batch", "-1"], "-1"),
        (["summary", "x", "--batch", "99999999999999999999"], "not in the range"),
        (["run", "x", "--input", "y", "--batch", "99999999999999999999"], "not in the range"),
        (["gradcheck", "x", "--batch", "99999999999999999999"], "not in the range"),
        (["compile", "x", "-o", "y.cnnx", "--batch", "99999999999999999999"], "not in the range"),
        (["train", "x", "--data", "y", "--seed", "99999999999999999999"], "not in the range"),
        (["explain", "E9999"], "no error code"),
        (["cache", "lst"], "lst"),
    ],
)
def test_usage_errors(cnnc: Cnnc, arguments: list[str], hint: str) -> None:
    result = cnnc(*arguments, code=2)
    assert hint in result.stderr
    assert result.stdout == ""


def test_missing_model(cnnc: Cnnc, lenet: Path) -> None:
    result = cnnc("check", lenet.with_name("lenett.cnn"), code=3)
    assert "E0601" in result.stderr
    assert "did you mean 'lenet.cnn'?" in result.stderr


def test_missing_folder(cnnc: Cnnc, lenet: Path) -> None:
    assert "does not exist" in cnnc("check", lenet.parent / "no" / "lenet.cnn", code=3).stderr
    assert "is a folder" in cnnc("check", lenet.parent, code=3).stderr


def test_errors_as_json(cnnc: Cnnc, tmp_path: Path) -> None:
    path = tmp_path / "wrong.cnn"
    path.write_text("model m() {\n    input x: f32[N, 3, 8, 8]\n    return x -> convv(3, 3)\n}\n")
    result = cnnc("check", path, "--json", code=1)
    record = json.loads(result.stdout)
    assert not record["ok"]
    (d,) = record["diagnostics"]
    assert (d["line"], d["column"], d["end_column"]) == (3, 17, 22)
    assert d["severity"] == "error"
    assert "conv" in d["help"]
    assert f"error[{d['code']}]" in result.stderr


@pytest.mark.parametrize(
    ("exception", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 5, "E0602"),
        (RuntimeError("oops"), 70, "report it"),
        (AssertionError("broken"), 70, "AssertionError: broken"),
        (error("E0611", "no fit", exit_code=3), 3, "error[E0611]: no fit"),
        (PermissionError(13, "Permission denied", "/secret"), 3, "/secret: permission denied"),
        (OSError(28, "No space left on device"), 3, "cannot write: no space left on device"),
        (BrokenPipeError(), 70, "BrokenPipeError"),
    ],
)
def test_exceptions(
    cnnc: Cnnc, lenet: Path, monkeypatch: pytest.MonkeyPatch, exception: BaseException, code: int, said: str
) -> None:
    def fail(*_: object) -> None:
        raise exception

    monkeypatch.setattr(check, "load", fail)
    monkeypatch.delenv("CNNC_DEBUG", raising=False)
    result = cnnc("check", lenet, code=code)
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_traceback_on_request(
    cnnc: Cnnc, lenet: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("oops")

    monkeypatch.setattr(check, "load", fail)
    monkeypatch.setenv("CNNC_DEBUG", "1")
    result = cnnc("check", lenet, code=70)
    assert "Traceback" in result.stderr + capsys.readouterr().err


def test_quiet(cnnc: Cnnc, lenet: Path) -> None:
    assert cnnc("check", lenet).stderr != ""
    assert cnnc("check", lenet, "-q").stderr == ""
    assert cnnc("-q", "check", lenet).stderr == ""
    assert cnnc("--quiet", "check", lenet, "-v").stderr == ""


def test_verbose(cnnc: Cnnc, lenet: Path) -> None:
    for arguments, level in ((("-v", "check", lenet), 1), (("-v", "check", lenet, "-vv"), 3), (("check", lenet), 0)):
        cnnc(*arguments)
        assert common.verbosity.level == level


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert common.color(Terminal())  # type: ignore[arg-type]
    monkeypatch.setenv("NO_COLOR", "1")
    assert not common.color(Terminal())  # type: ignore[arg-type]


def test_replacing_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    target.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        common.write_text(target, "\ud800")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(CnncError, match="no space left") as e, common.replacing(target):
        raise OSError(28, "No space left on device")
    assert e.value.exit_code == 3
    assert list(tmp_path.iterdir()) == [target]
    common.write_text(target, "new")
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def cnnc_process(*arguments: object, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cnnc", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        **more,
    )  # type: ignore[call-overload,no-any-return]


def test_as_a_module(lenet: Path) -> None:
    done = cnnc_process("check", lenet, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["ok"]
    assert cnnc_process("chek").returncode == 2


def test_broken_pipe_is_quiet(examples: Path) -> None:
    command = f"{sys.executable} -m cnnc ir {examples / 'resnet.cnn'} -p depth=152 | head -n 1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith("graph @")
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    """As the README says: a script for the shell's start file, which asks for commands, options and their values."""
    script = cnnc_process(env={**os.environ, "_CNNC_COMPLETE": f"{shell}_source"})
    assert script.returncode == 0
    assert f"_CNNC_COMPLETE={shell}_complete" in script.stdout
    for words, found in (("ch", "check"), ("summary --ba", "--batch"), ("ir x.cnn --mode tr", "train")):
        given = f"cnnc {words}"
        count = len(given.split()) - 1
        incomplete = given.split()[-1]
        completing = {"COMP_WORDS": given, "COMP_CWORD": incomplete if shell == "fish" else str(count)}
        done = cnnc_process(env={**os.environ, "_CNNC_COMPLETE": f"{shell}_complete", **completing})
        assert found in done.stdout, given


def test_a_terminal_without_the_characters(tmp_path: Path) -> None:
    path = tmp_path / "漢.cnn"
    path.write_text("model m() {\n    input x: f32[N, 4]\n    return x -> relu\n}\n")
    done = cnnc_process("ir", path, "--positions", env={**os.environ, "PYTHONIOENCODING": "latin-1"})
    assert done.returncode == 0
    assert "\\u6f22.cnn:3:17" in done.stdout
