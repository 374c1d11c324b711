"""Every example is run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnc import driver
from cnnc.data.dataset import Dataset
from cnnc.frontend.inputs import Preprocess

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
DIGITS = EXAMPLES / "data" / "digits.npz"
FORMS: dict[str, list[dict[str, Any]]] = {
    "lenet5": [{}],
    "lenet5_relu": [{}],
    "alexnet": [{}, {"original": True}, {"size": 227}],
    "convnetjs": [{}],
    "convnext": [{}, {"kind": "small"}],
    "deep_mlp": [{}, {"act": "relu"}],
    "densenet": [{}, {"depth": 201}],
    "efficientnet": [{}],
    "expression": [{}],
    "googlenet": [{}, {"aux": True}],
    "inception3": [{}, {"aux": True}],
    "m5": [{}],
    "mobilenetv2": [{}],
    "mobilenetv3": [{}, {"kind": "small"}],
    "r3d": [{}],
    "resnet": [{"depth": d} for d in (18, 34, 50, 101, 152)],
    "resnet_cifar": [{}, {"depth": 110}],
    "resnext": [{}, {"depth": 101, "group_width": 8}],
    "shufflenetv2": [{}, {"width": 2.0}],
    "small": [{}, {"size": 224, "width": 64}],
    "squeezenet": [{}, {"version": 1.0}],
    "unet": [{}],
    "vgg": [{"depth": d} for d in (11, 13, 16, 19)],
    "yolo": [{}],
    "zfnet": [{}, {"widths": [512, 1024, 512]}],
}
# what comes out of an image, where it is not logits of 1,000 classes
OUTPUTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("convnetjs", "deep_mlp", "lenet5", "lenet5_relu", "resnet_cifar", "small"), (10,)),
    "expression": (1,),
    "m5": (35,),
    "r3d": (400,),
    "unet": (2, 256, 256),
    "yolo": (125, 13, 13),
}
UNTRAINED = {"expression", "yolo"}


def command(*arguments: str, folder: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done


def test_all_are_named_here() -> None:
    assert {p.stem for p in EXAMPLES.glob("*.cnn")} == set(FORMS)
    assert {p.stem for p in EXAMPLES.glob("*.py")} == {"__init__", "embed", "saliency"}


@pytest.mark.parametrize(("name", "parameters"), [(n, p) for n, forms in FORMS.items() for p in forms])
def test_models_are_elaborated(name: str, parameters: dict[str, Any]) -> None:
    network = driver.load(EXAMPLES / f"{name}.cnn", **parameters)
    assert {w.code for w in network.warnings} <= {"W0101"}, "as printed, some windows do not tile"
    assert (network.program.recipe is None) == (name in UNTRAINED)
    assert network.graph.type(network.graph.outputs[0][1]).shape == ("N", *OUTPUTS.get(name, (1000,)))


def test_the_table_of_the_readme() -> None:
    """It names every network, and its parameters."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [
        line for line in text[text.index("## Networks") : text.index("## What it does")].splitlines() if "`" in line
    ]
    for name, forms in FORMS.items():
        row = next(row for row in rows if f"`{name}`" in row and row.startswith("|"))
        count = driver.load(EXAMPLES / f"{name}.cnn", **forms[0]).parameter_count()
        assert f" {count:,}" in row, (name, count)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("lenet5", {}),
        ("lenet5_relu", {}),
        ("alexnet", {}),
        ("alexnet", {"original": True}),
        ("vgg", {"depth": 11}),
        ("resnet", {"depth": 18}),
    ],
)
def test_models_run(name: str, parameters: dict[str, Any]) -> None:
    network = driver.load(EXAMPLES / f"{name}.cnn", **parameters)
    shape = [2 if d == "N" else int(d) for d in network.graph.inputs[0].type.shape]
    logits = driver.compile(network)(np.random.default_rng(0).random(shape, np.float32))
    assert isinstance(logits, np.ndarray)
    assert logits.shape[0] == 2
    assert np.all(np.isfinite(logits))


def test_digits_are_1797() -> None:
    data = Dataset.open(DIGITS, Preprocess(), (1, 8, 8))
    assert (len(data.train), len(data.test)) == (1437, 360)
    assert DIGITS.stat().st_size < 100_000


@pytest.mark.slow
def test_embedding(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "data", tmp_path / "data")
    shutil.copy(EXAMPLES / "embed.py", tmp_path)
    output = command("embed.py", folder=tmp_path).stdout
    share = float(output.split("% of 360 digits recognized")[0].split()[-1])
    assert share > 90
    assert {p.name for p in tmp_path.iterdir()} == {"data", "embed.py"}


@pytest.mark.slow
def test_saliency(tmp_path: Path) -> None:
    """The network finds the digits, and pixels that are white in most digits count more than those that never are."""
    out = tmp_path / "saliency.png"
    output = command(str(EXAMPLES / "saliency.py"), str(out)).stdout
    said = output.split("taken for ")[1].split(";")[0].split(", ")
    assert sum(int(digit) == i for i, digit in enumerate(said)) >= 9
    picture = np.asarray(Image.open(out).convert("RGB"), np.float64).reshape(20, 12, 100, 12, 3).mean((1, 3))
    assert picture.std() > 30
    tiles = picture[10:].reshape(10, 10, 10, 3)[1:9, :, 1:9].sum((1, 3))
    assert tiles[2:6, 2:6].mean() > 1.5 * tiles[:, [0, 7]].mean()


@pytest.mark.alone
@pytest.mark.slow
def test_lenet_learns_the_digits_in_a_minute(tmp_path: Path) -> None:
    """From an empty kernel cache to 98 % on the test part, and ten pictures classified."""
    start = time.monotonic()
    run = tmp_path / "run"
    command(
        "-m",
        "cnnc",
        "train",
        str(EXAMPLES / "lenet5_relu.cnn"),
        "--data",
        str(DIGITS),
        "--out",
        str(run),
        CNNC_CACHE_DIR=str(tmp_path / "cache"),
        CNNC_JOBS="",  # as many as there are cores
    )
    seconds = time.monotonic() - start
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert history[-1]["val_accuracy"] >= 0.98
    assert seconds < 60
    for digit in range(10):
        done = command(
            "-m",
            "cnnc",
            "run",
            str(EXAMPLES / "lenet5_relu.cnn"),
            "--weights",
            str(run / "weights.safetensors"),
            "--input",
            str(EXAMPLES / "data" / f"{digit}.png"),
            "--json",
        )
        output = next(iter(json.loads(done.stdout)["outputs"].values()))
        assert output["top"][0]["index"] == digit
