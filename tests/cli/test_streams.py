"""Messages that cannot be written end nothing; data that cannot be written are an error, or a quiet end where nobody reads."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import cnnc as package
from cnnc import streams
from cnnc.cli import common
from cnnc.cli.main import cli
from cnnc.diagnostics import CnncError

ROOT = Path(__file__).parent.parent.parent
MODEL = "model m() {\n    input x: f32[N, 1, 4, 4]\n    return x -> flatten -> linear(3)\n}\n"
unix = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


@unix
def test_commands_and_states() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.cli.sweep", "sample"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


@unix
@pytest.mark.parametrize(
    ("redirection", "code"),
    [
        (">&-", 3),
        (">/dev/full", 3),
        ("2>&-", 0),
        ("2>/dev/full", 0),
        ("<&- 2>&-", 0),
        (">&- 2>&-", 3),
        ("| true", 0),
        ("2>&1 | true", 0),
    ],
)
def test_a_process(redirection: str, code: int) -> None:
    line = f"set -o pipefail; {sys.executable} -m cnnc explain E0204 {redirection}"
    assert subprocess.run(["bash", "-c", line], cwd=ROOT, timeout=60, capture_output=True).returncode == code


def code_of(*arguments: object) -> int:
    with pytest.raises(SystemExit) as e:
        cli.main([str(a) for a in arguments])
    assert isinstance(e.value.code, int)
    return e.value.code


class Failing(io.StringIO):
    """A stream on a full disk."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


@pytest.mark.parametrize(
    "stream", [None, Failing(OSError(28, "No space left on device")), Failing(ValueError("closed"))]
)
def test_data_that_stdout_does_not_take(
    stream: io.StringIO | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lenet: Path
) -> None:
    monkeypatch.setattr(sys, "stdout", stream)
    assert code_of("summary", lenet, "--json") == 3
    assert "error[E0601]: cannot write to stdout" in capsys.readouterr().err
    assert code_of("check", lenet) == 0
    assert code_of("check", lenet, "--json") == 3
    assert code_of("check", lenet.parent / "no.cnn", "--json") == 3
    assert sys.stdout is stream


def test_nobody_reads(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lenet: Path) -> None:
    monkeypatch.setattr(sys, "stdout", Failing(BrokenPipeError(32, "Broken pipe")))
    assert code_of("summary", lenet) == 0
    assert code_of("check", lenet.parent / "no.cnn", "--json") == 3
    assert "E0601" in capsys.readouterr().err


def test_no_stdin(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert code_of("opt", "-") == 3
    assert "there is no stdin" in capsys.readouterr().err


@pytest.mark.parametrize(
    "stream", [None, Failing(OSError(28, "No space left on device")), Failing(ValueError("closed"))]
)
def test_training_in_python_where_nothing_can_be_said(
    stream: io.StringIO | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from cnnc.train import train

    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "stdout", stream)
    x, y = np.zeros((8, 1, 4, 4), np.float32), np.arange(8) % 3
    net = package.parse(MODEL)
    assert len(package.Trainer(net).fit((x, y), epochs=2, batch=4)) == 2
    data = package.Dataset.from_arrays(x, y)
    assert len(train(net, data, tmp_path / "run", overrides=["batch=4"], epochs=2, resume=True).history) == 2
    assert not streams.messages.isatty()
    assert "<table" in net.summary()._repr_html_() or net.summary()


@unix
def test_outputs_that_are_no_files(tmp_path: Path) -> None:
    """A device stays one, a link too, and a pipe gets what is written."""
    full, link, pipe = tmp_path / "full", tmp_path / "link", tmp_path / "pipe"
    full.symlink_to("/dev/full")
    with pytest.raises(CnncError, match="no space left") as e:
        common.write_text(full, "text")
    assert e.value.exit_code == 3
    assert full.is_symlink()
    null = tmp_path / "null"
    null.symlink_to(os.devnull)
    common.write_text(null, "text")
    assert Path(os.devnull).is_char_device()
    (tmp_path / "real").write_text("old")
    link.symlink_to("real")
    common.write_text(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    common.write_text(pipe, "through")
    reader.join(10)
    assert got == ["through"]
