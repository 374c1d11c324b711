"""What tests of whole runs share: a small network with its recipe, data, and one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnc import driver
from cnnc.diagnostics import CnncError
from cnnc.network import Network
from cnnc.train import Result, train

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


def data_in(folder: Path) -> Path:
    """Sixty small images of three classes, of which one place is brighter; ten of them to test with."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 60)
    x = rng.integers(0, 60, (60, 6, 6), dtype=np.uint8)
    x[np.arange(60), 2 * y] += 120
    np.savez(folder / "data.npz", x_train=x[:50], y_train=y[:50], x_test=x[50:], y_test=y[50:])
    return folder / "data.npz"


def go(data: Any, out: Path, text: str = TEXT, **options: Any) -> tuple[Network, Result]:
    network = driver.parse(text)
    return network, train(network, data, out, **{"target": TARGET, "quiet": True, "seed": 7, **options})


def code(make: Any) -> tuple[str, int]:
    with pytest.raises(CnncError) as e:
        make()
    return e.value.diagnostics[0].code, e.value.exit_code


def photos(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog", "fox"):
        (root / name).mkdir(parents=True)
        for i in range(12):
            Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8)).save(root / name / f"{i}.png")
    return root
