"""`cnnc new`: what it writes checks, trains and runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnc.cli.new import examples, identifier
from cnnc.frontend import load
from tests.cli.conftest import Cnnc


def test_every_example_can_be_begun_with(cnnc: Cnnc, tmp_path: Path) -> None:
    for name in examples():
        cnnc("new", tmp_path / f"my-{name}", "--from", name)
        assert load(tmp_path / f"my-{name}.cnn").graph.name == f"my_{name}"


def test_a_new_model_trains_and_runs(cnnc: Cnnc, tmp_path: Path) -> None:
    for kind, level in (("dark", 40), ("light", 210)):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for i in range(10):
            noise = np.random.default_rng(i).integers(0, 40, (20, 16, 3), np.uint8)
            Image.fromarray(noise + np.uint8(level)).save(tmp_path / "photos" / kind / f"{i}.png")
    said = cnnc("new", tmp_path / "mine").stderr
    assert "cnnc train" in said
    model, settings = tmp_path / "mine.cnn", ("-p", "classes=2", "-p", "size=16", "-p", "width=8")
    cnnc("check", model, *settings)
    cnnc("train", model, *settings, "--data", tmp_path / "photos", "--out", tmp_path / "run", "--epochs", 2, "-q")
    weights = tmp_path / "run" / "weights.safetensors"
    result = cnnc("run", model, *settings, "--weights", weights, "--input", tmp_path / "photos" / "dark" / "0.png")
    assert "%" in result.stdout


def test_usage(cnnc: Cnnc, tmp_path: Path) -> None:
    path = tmp_path / "mine.cnn"
    cnnc("new", path)
    before = path.read_text()
    assert "--force" in cnnc("new", path, code=2).stderr
    assert path.read_text() == before
    cnnc("new", path, "--from", "lenet5", "--force")
    assert path.read_text() != before
    assert "did you mean 'resnet'" in cnnc("new", tmp_path / "x", "--from", "resnt", code=2).stderr
    assert "NAME" in cnnc("new", code=2).stderr
    assert "does not exist" in cnnc("new", tmp_path / "no" / "x", code=3).stderr
    assert not (tmp_path / "x.cnn").exists()
    listed = cnnc("new", "--list").stdout
    assert all(name in listed for name in examples())


@pytest.mark.parametrize(
    ("stem", "name"), [("mine", "mine"), ("my net", "my_net"), ("3d", "m_3d"), ("model", "model_"), ("é", "m__")]
)
def test_names(stem: str, name: str) -> None:
    assert identifier(stem) == name
