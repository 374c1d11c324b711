"""Runs that are stopped, killed and damaged, and go on."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnc import driver
from cnnc.diagnostics import CnncError
from cnnc.interop import safetensors
from cnnc.train import Interrupted, checkpoint
from cnnc.train.trainer import Trainer
from tests.train.running import TEXT, code, go, photos


class Stop(Exception):
    """A run that is killed."""


def killed(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    step = Trainer.measured_step

    def dying(self: Trainer, x: Any, labels: Any) -> tuple[float, float]:
        if self.steps == after:
            raise Stop
        return step(self, x, labels)

    monkeypatch.setattr(Trainer, "measured_step", dying)


@pytest.mark.parametrize("steps", [3, 8, 20])
def test_a_killed_run_that_is_resumed_ends_alike(
    data: Path, tmp_path: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = go(data, tmp_path / "whole")[1]
    with monkeypatch.context() as m:
        killed(m, steps)
        with pytest.raises(Stop):
            go(data, tmp_path / "cut", checkpoint_seconds=0)
    resumed = go(data, tmp_path / "cut", resume=True)[1]
    assert whole.weights.read_bytes() == resumed.weights.read_bytes()
    a, b = (safetensors.open_file(r.folder / "checkpoint.safetensors") for r in (whole, resumed))
    for name in a.entries:
        np.testing.assert_array_equal(a.read(name), b.read(name))
    lines = [json.loads(line) for line in (resumed.folder / "metrics.jsonl").read_text().splitlines()]
    assert [(r["epoch"], r["loss"], r["val_loss"]) for r in lines] == [
        (r["epoch"], r["loss"], r["val_loss"]) for r in whole.history
    ]


@pytest.mark.parametrize(("steps", "number"), [(1, signal.SIGINT), (7, signal.SIGTERM), (9, signal.SIGINT)])
def test_an_interrupted_run_goes_on_in_the_middle_of_an_epoch(
    data: Path, tmp_path: Path, steps: int, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = signal.getsignal(number)
    whole = go(data, tmp_path / "whole")[1]
    step = Trainer.measured_step

    def interrupting(self: Trainer, x: Any, labels: Any) -> tuple[float, float]:
        if self.steps == steps:
            os.kill(os.getpid(), number)
        return step(self, x, labels)

    with monkeypatch.context() as m:
        m.setattr(Trainer, "measured_step", interrupting)
        with pytest.raises(Interrupted) as e:
            go(data, tmp_path / "cut")
    assert isinstance(e.value, KeyboardInterrupt)
    assert e.value.result.weights.is_file()
    assert signal.getsignal(number) is handler
    resumed = go(data, tmp_path / "cut", resume=True)[1]
    assert whole.weights.read_bytes() == resumed.weights.read_bytes()
    assert [r["loss"] for r in whole.history] == [r["loss"] for r in resumed.history]


def test_a_finished_run_resumed_stays_as_it_is(data: Path, tmp_path: Path) -> None:
    before = go(data, tmp_path / "a")[1]
    content = before.weights.read_bytes()
    after = go(data, tmp_path / "a", resume=True)[1]
    assert after.weights.read_bytes() == content
    assert after.history == before.history


def test_resume_refuses_other_settings(data: Path, tmp_path: Path) -> None:
    go(data, tmp_path / "a", epochs=1)
    for options in (
        {"seed": 8},
        {"overrides": ["optimizer.lr=0.2"]},
        {"overrides": ["batch=9"]},
        {"text": TEXT.replace("conv(4", "conv(5")},
    ):
        assert code(lambda o=options: go(data, tmp_path / "a", resume=True, epochs=1, **o)) == ("E0643", 3)
    assert (tmp_path / "a" / "weights.safetensors").is_file()


def test_resume_refuses_damaged_checkpoints(data: Path, tmp_path: Path) -> None:
    go(data, tmp_path / "a", epochs=1)
    path = tmp_path / "a" / "checkpoint.safetensors"
    file = safetensors.open_file(path)
    values = {n: np.array(file.read(n)) for n in file.entries}
    run = file.metadata["run"]
    record = json.loads(run)
    counts = [
        {"epoch": 2},
        {"epoch": 0},
        {"step": 1},
        {"total": 0},
        {"total": 2**70},
        {"history": []},
        {"history": [{}]},
    ]
    sums = [
        ["0x1p99999", "0x0p0", 0],
        ["nan", "0x0p0", 0],
        [0.0, 0.0, 0],
        ["0x0p0", "0x0p0", True],
        ["0x0p0", "0x0p0", 5],
    ]
    other = [
        {"recipe": []},
        {"recipe": {"epochs": "1"}},
        {"recipe": {"epochs": 0}},
        {"history": [{**record["history"][0], "loss": "a"}]},
    ]
    for change in (
        {"run": "{}"},
        {"run": "["},
        {"run": run.replace('"epoch": 1', '"epoch": -1', 1)},
        {"run": run.replace('"epoch": 1', '"epoch": Infinity', 1)},
        {"run": run.replace('"epoch": 1', '"epoch": 1e400', 1)},
        {"run": run.replace('"epoch": 1', '"epoch": true', 1)},
        {"run": run.replace('"epoch": 1', '"epoch": 1, "epoch": 1', 1)},
        {"run": run.replace('"recipe": {', '"recipe": {"deep": ' + "[" * 900 + "]" * 900 + ", ", 1)},
        {"cnnc.checkpoint": "9"},
        {"run": run.replace('"sums": [', '"sums": [1, ')},
        *({"run": json.dumps({**record, **c})} for c in (*counts, *({"sums": s} for s in sums), *other)),
    ):
        safetensors.write_file(path, values, {**file.metadata, **change})
        assert code(lambda: go(data, tmp_path / "a", resume=True, epochs=1)) == ("E0643", 3)
    values.pop("optimizer.momentum.fc.bias")
    safetensors.write_file(path, values, file.metadata)
    assert code(lambda: go(data, tmp_path / "a", resume=True, epochs=1)) == ("E0643", 3)
    path.write_bytes(b"no")
    assert code(lambda: go(data, tmp_path / "a", resume=True, epochs=1)) == ("E0610", 3)


def test_resume_without_a_checkpoint_starts(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(go(data, tmp_path / "a", resume=True, epochs=1, quiet=False)[1].history) == 1
    assert "no checkpoint" in capsys.readouterr().err


def test_a_run_goes_on_whatever_lies_beside_the_images(tmp_path: Path) -> None:
    """What is not read is no part of the data: the run folder within it, or what a file manager leaves."""
    root = photos(tmp_path / "photos")
    out = root / "runs" / "a"
    text = TEXT.replace("cosine(warmup=1)", "constant()")
    go(root, out, text, epochs=1)
    (root / ".DS_Store").write_text("?")
    (root / "cat" / "Thumbs.db").write_text("?")
    (root / "notes.txt").write_text("?")
    assert len(go(root, out, text, epochs=2, resume=True)[1].history) == 2
    whole = go(root, tmp_path / "whole", text, epochs=2)[1]
    assert whole.weights.read_bytes() == (out / "weights.safetensors").read_bytes()


@pytest.mark.parametrize("listed", [1000, 5])
def test_the_files_that_differ_are_named(tmp_path: Path, listed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnc.train.provenance.LISTED", listed)
    root = photos(tmp_path / "photos")
    go(root, tmp_path / "a", epochs=1)
    (root / "cat" / "3.png").write_bytes((root / "cat" / "3.png").read_bytes() + b"0")
    (root / "dog" / "4.png").rename(root / "dog" / "new.png")
    with pytest.raises(CnncError) as e:
        go(root, tmp_path / "a", epochs=1, resume=True)
    assert e.value.diagnostics[0].code == "E0643"
    said = str(e.value)
    if listed == 5:
        assert "data: cat is another one: 12 files" in said
        assert "data: dog is another one" in said
        assert "fox" not in said
    else:
        assert "data: cat/3.png is another one" in said
        assert "data: dog/4.png is gone" in said
        assert "data: dog/new.png is new" in said


def test_what_differs_is_said_without_digests(data: Path, tmp_path: Path) -> None:
    go(data, tmp_path / "a", epochs=1)
    arrays = dict(np.load(data))
    for change, said in (
        ({"text": TEXT.replace("conv(4", "conv(5")}, "model: its content is another one"),
        ({"overrides": ["optimizer.lr=0.2"]}, "optimizer.lr: 0.1 then, 0.2 now"),
        ({"seed": 8}, "seed: 7 then, 8 now"),
        ({}, f"data: the content of {data} is another one"),
    ):
        if not change:
            np.savez(data, **{**arrays, "x_train": arrays["x_train"] // 2})
        with pytest.raises(CnncError) as e:
            go(data, tmp_path / "a", epochs=1, resume=True, **change)
        assert said in e.value.diagnostics[0].notes


def test_flipped_bits_are_noticed(data: Path, tmp_path: Path) -> None:
    go(data, tmp_path / "a", epochs=1)
    rng = np.random.default_rng(0)
    for name, load in (
        ("checkpoint.safetensors", checkpoint.load),
        ("weights.safetensors", driver.parse(TEXT).load_weights),
    ):
        path = tmp_path / "a" / name
        whole = bytearray(path.read_bytes())
        load(path)
        for at in [9, len(whole) - 1, *rng.integers(8, len(whole), 20)]:
            cut = bytearray(whole)
            cut[at] ^= 1 << int(rng.integers(8))
            path.write_bytes(cut)
            if b'"cnnc.crc32"' in cut:  # else it says nothing of the rest, which is sound
                assert code(lambda load=load, path=path: load(path))[1] == 3, at
        path.write_bytes(whole)


def test_a_long_epoch_has_checkpoints_within(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = go(data, tmp_path / "whole")[1]
    monkeypatch.setattr("cnnc.train.folder.WITHIN_SECONDS", 0.0)
    monkeypatch.setattr("cnnc.train.folder.WITHIN_SHARE", 0)
    with monkeypatch.context() as m:
        killed(m, 5)
        with pytest.raises(Stop):
            go(data, tmp_path / "cut")
    assert checkpoint.load(tmp_path / "cut" / "checkpoint.safetensors").step == 5
    resumed = go(data, tmp_path / "cut", resume=True)[1]
    assert whole.weights.read_bytes() == resumed.weights.read_bytes()
