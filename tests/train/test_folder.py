"""The folder of a run: disks that are full, folders that go away, and names."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from cnnc.train import loop as run_module
from cnnc.train.trainer import Trainer
from tests.train.running import FILES, code, go


class FullDisk:
    """os.fsync for files of a run: it fails as often as it is told to."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.fsync = os.fsync

    def __call__(self, handle: int) -> None:
        if self.failures > 0:
            self.failures -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.fsync(handle)


@pytest.mark.parametrize("failures", [1, 2, 3, 5])
def test_a_full_disk_does_not_end_a_run(
    data: Path, tmp_path: Path, failures: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = go(data, tmp_path / "whole")[1]
    monkeypatch.setattr("cnnc.files.os.fsync", FullDisk(failures))
    monkeypatch.setattr("cnnc.train.folder.time.sleep", lambda seconds: None)
    result = go(data, tmp_path / "full", checkpoint_seconds=0)[1]
    said = capsys.readouterr().err
    assert "no space left on device; training goes on, and this is tried again later" in said
    assert ("tried again for 60 s" in said) == (failures > 3)
    assert whole.weights.read_bytes() == result.weights.read_bytes()
    assert {p.name for p in result.folder.iterdir()} == FILES
    lines = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    assert lines == list(result.history)


def test_a_disk_that_stays_full_is_an_error(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnc.files.os.fsync", FullDisk(1000))
    monkeypatch.setattr("cnnc.train.folder.LAST_SECONDS", 0.0)
    assert code(lambda: go(data, tmp_path / "full")) == ("E0601", 3)
    assert {p.name for p in (tmp_path / "full").iterdir()} <= {"metrics.jsonl"}


def test_leftovers_are_swept(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "a"
    out.mkdir()
    for name in FILES:
        (out / f".{name}.1.tmp").write_text("cut")
    go(data, out, epochs=1)
    assert {p.name for p in out.iterdir()} == FILES


def test_a_folder_that_goes_away_comes_back(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Trainer.measured_step

    def removing(self: Trainer, x: Any, labels: Any) -> tuple[float, float]:
        if self.steps == 9:
            shutil.rmtree(tmp_path / "a")
        return step(self, x, labels)

    monkeypatch.setattr(Trainer, "measured_step", removing)
    result = go(data, tmp_path / "a")[1]
    assert {p.name for p in result.folder.iterdir()} == FILES


def test_folders_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("runs/net", "runs/net-2"):
        assert run_module.run_folder(None, "net", False) == Path(name)
        run_module.make_folder(Path(name))
    assert run_module.run_folder(None, "net", True) == Path("runs/net-2")
    assert run_module.run_folder("x", "net", False) == Path("x")
