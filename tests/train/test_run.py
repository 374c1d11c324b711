"""Whole runs: files, resuming, interruption, settings."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnc import driver
from cnnc.diagnostics import CnncError
from cnnc.interop import safetensors
from cnnc.network import Network
from cnnc.train import Interrupted, Result, checkpoint, train
from cnnc.train import loop as run_module
from cnnc.train.trainer import Trainer

TEXT = """
model tiny(classes = 3) {
    input image: f32[N, 1, 6, 6] { mean = 0.4  std = 0.3 }
    x = image -> conv(4, 3, padding=1) as conv -> batchnorm as bn -> relu -> maxpool(2)
    return x -> flatten -> dropout(0.1) -> linear(classes) as fc
}
train {
    optimizer = sgd(lr=0.1, momentum=0.9)
    schedule = cosine(warmup=1)
    epochs = 4
    batch = 8
    augment = [random_shift(1), horizontal_flip()]
}
"""
FILES = {"weights.safetensors", "checkpoint.safetensors", "metrics.jsonl", "recipe.json"}
TARGET = "reference"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 60)
    x = rng.integers(0, 60, (60, 6, 6), dtype=np.uint8)
    x[np.arange(60), 2 * y] += 120
    np.savez(tmp_path / "data.npz", x_train=x[:50], y_train=y[:50], x_test=x[50:], y_test=y[50:])
    return tmp_path / "data.npz"


def go(data: Any, out: Path, text: str = TEXT, **options: Any) -> tuple[Network, Result]:
    network = driver.parse(text)
    return network, train(network, data, out, **{"target": TARGET, "quiet": True, "seed": 7, **options})


def code(make: Any) -> tuple[str, int]:
    with pytest.raises(CnncError) as e:
        make()
    return e.value.diagnostics[0].code, e.value.exit_code


def test_files(data: Path, tmp_path: Path) -> None:
    network, result = go(data, tmp_path / "a" / "run")
    assert {p.name for p in result.folder.iterdir()} == FILES
    lines = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    assert lines == list(result.history)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert set(lines[0]) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"}
    assert result.accuracy == lines[-1]["val_accuracy"] >= 0.7
    fresh = driver.parse(TEXT)
    assert not fresh.load_weights(result.weights)
    for name, value in network.weights.items():
        np.testing.assert_array_equal(fresh.weights[name], value)
    recipe = json.loads((result.folder / "recipe.json").read_text())
    assert recipe["seed"] == 7
    assert recipe["optimizer"]["name"] == "sgd"
    assert recipe["optimizer"]["momentum"] == 0.9
    assert recipe["schedule"] == "cosine(warmup=1)"
    assert recipe["augment"] == ["random_shift(pixels=1)", "horizontal_flip(p=0.5)"]
    assert recipe["model"]["parameters"] == {"classes": 3}
    assert recipe["versions"]["numpy"] == np.__version__


def test_runs_are_repeatable(data: Path, tmp_path: Path) -> None:
    a, b = (go(data, tmp_path / n)[1] for n in "ab")
    assert a.weights.read_bytes() == b.weights.read_bytes()
    other = go(data, tmp_path / "c", seed=8)[1]
    assert a.weights.read_bytes() != other.weights.read_bytes()
    for r in (*a.history, *b.history):
        del r["seconds"]
    assert a.history == b.history


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


def test_progress_goes_to_stderr(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    go(data, tmp_path / "a", quiet=False, epochs=2)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("epoch 2/2  loss 0.")
    assert re.fullmatch(r"epoch 2/2  loss [\d.]+  val [\d.]+  accuracy [\d.]+%  val [\d.]+%  [\d.]+ s", lines[1])


def test_frozen_parameters_and_weights_to_start_from(data: Path, tmp_path: Path) -> None:
    first = go(data, tmp_path / "a", epochs=1)[0]
    wider = TEXT.replace("classes = 3", "classes = 5")
    network, _ = go(
        data,
        tmp_path / "b",
        wider,
        weights=tmp_path / "a" / "weights.safetensors",
        overrides=['freeze=["conv.*", "bn.*"]', 'groups={"fc.bias": {lr = 0}}', "epochs=2"],
    )
    np.testing.assert_array_equal(network.weights["conv.weight"], first.weights["conv.weight"])
    np.testing.assert_array_equal(network.weights["bn.weight"], first.weights["bn.weight"])
    assert network.weights["fc.weight"].shape == (5, 36)
    start = driver.parse(wider)
    start.initialize(7)
    np.testing.assert_array_equal(network.weights["fc.bias"], start.weights["fc.bias"])


def test_a_constant_rate_may_go_on_for_longer(data: Path, tmp_path: Path) -> None:
    text = TEXT.replace("cosine(warmup=1)", "constant()")
    whole = go(data, tmp_path / "a", text, epochs=3)[1]
    go(data, tmp_path / "b", text, epochs=2)
    longer = go(data, tmp_path / "b", text, epochs=3, resume=True)[1]
    assert whole.weights.read_bytes() == longer.weights.read_bytes()
    assert code(lambda: go(data, tmp_path / "b", text, epochs=1, resume=True)) == ("E0643", 3)


def test_what_a_run_refuses(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "a"
    assert code(lambda: go(data, out, overrides=["optimizer.rl=1"])) == ("E0640", 2)
    assert code(lambda: go(data, out, overrides=["epochs=0"]))[1] == 2
    assert code(lambda: go(tmp_path / "none.npz", out)) == ("E0620", 3)
    assert code(lambda: go(data, out, TEXT.replace("classes = 3", "classes = 2"))) == ("E0629", 3)
    assert code(lambda: go(data, out, TEXT.replace("f32[N, 1, 6, 6]", "f32[N, 3, 6, 6]"))) == ("E0628", 3)
    assert code(lambda: go(data, out, weights=tmp_path / "none.safetensors"))[1] == 3
    np.savez(tmp_path / "big.npz", x=np.full((9, 6, 6), 256), y=np.zeros(9, int))
    assert code(lambda: go(tmp_path / "big.npz", out)) == ("E0628", 3)
    other = TEXT.replace("conv(4", "conv(5")
    for name, new in (("as fc", "as head"), ("as conv", "as c"), ("as bn", "as b")):
        other = other.replace(name, new)
    go(data, tmp_path / "other", other, epochs=1)
    assert code(lambda: go(data, out, weights=tmp_path / "other" / "weights.safetensors")) == ("E0611", 3)
    assert not out.exists(), "nothing is written before all is well"
    assert code(lambda: go(data, Path("/proc/run"))) == ("E0644", 3)
    assert code(lambda: go(data, data)) == ("E0644", 3)
    np.savez(tmp_path / "nan.npz", x=np.full((20, 1, 6, 6), np.nan), y=np.zeros(20, int))
    assert code(lambda: go(tmp_path / "nan.npz", out)) == ("E0642", 4)
    assert not (out / "weights.safetensors").exists()


def test_a_run_that_fails_at_once_leaves_the_one_before(data: Path, tmp_path: Path) -> None:
    go(data, tmp_path / "a", epochs=1)
    before = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    assert set(before) == FILES
    assert code(lambda: go(data, tmp_path / "a", epochs=1)) == ("E0645", 2)
    diverging = {"overrides": ["optimizer.lr=1e300", "epochs=1"], "force": True}
    assert code(lambda: go(data, tmp_path / "a", **diverging)) == ("E0642", 4)
    assert {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()} == before


def photos(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog", "fox"):
        (root / name).mkdir(parents=True)
        for i in range(12):
            Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8)).save(root / name / f"{i}.png")
    return root


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


def test_class_names_travel_with_the_weights(tmp_path: Path) -> None:
    network, result = go(photos(tmp_path / "photos"), tmp_path / "a", epochs=1)
    assert network.classes == ("cat", "dog", "fox")
    fresh = driver.parse(TEXT)
    fresh.load_weights(result.weights)
    assert fresh.classes == ("cat", "dog", "fox")
    assert driver.compile(fresh, target="reference").classes == ("cat", "dog", "fox")
    other = driver.parse(TEXT.replace("classes = 3", "classes = 4"))
    other.load_weights(result.weights, strict=False)
    assert other.classes is None


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    root = photos(tmp_path / os.fsdecode(b"ph\xf6tos"))
    (root / "cat").rename(root / os.fsdecode(b"c\xe4t"))
    (root / "dog" / "0.png").rename(root / "dog" / os.fsdecode(b"\xff.png"))
    out = tmp_path / os.fsdecode(b"r\xfcn")
    network, result = go(root, out, epochs=1)
    assert network.classes == ("c\\xe4t", "dog", "fox")
    record = json.loads((result.folder / "recipe.json").read_text(encoding="utf-8"))
    assert record["files"]["data"].endswith("ph\\xf6tos")
    assert "dog/\\xff.png" in record["data"]["files"]
    go(root, out, epochs=1, resume=True)
    (root / "dog" / os.fsdecode(b"\xff.png")).write_text("?")
    with pytest.raises(CnncError, match=r"dog/\\xff.png") as e:
        go(root, out, epochs=1, resume=True)
    assert str(e.value).isprintable() or "\n" in str(e.value)
    str(e.value).encode()


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


def test_folders_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("runs/net", "runs/net-2"):
        assert run_module.run_folder(None, "net", False) == Path(name)
        run_module.make_folder(Path(name))
    assert run_module.run_folder(None, "net", True) == Path("runs/net-2")
    assert run_module.run_folder("x", "net", False) == Path("x")
