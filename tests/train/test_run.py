"""Whole runs: files, settings, weights to start from, names of classes."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from cnnc import driver
from cnnc.diagnostics import CnncError
from tests.train.running import FILES, TEXT, code, go, photos


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
