"""Commands on networks with open sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.test_open_sizes import TEXT


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "fcn.cnn"
    path.write_text(TEXT)
    return path


def test_each_picture_runs_at_its_own_size(cnnc, model: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "photos").mkdir()
    for name, size in (("a", (6, 4)), ("b", (10, 8))):
        Image.new("RGB", size).save(tmp_path / "photos" / f"{name}.png")
    found = cnnc("run", model, "-i", tmp_path / "photos")
    assert "a.png:\n  [4, 2, 3]" in found.stdout
    assert "b.png:\n  [4, 4, 5]" in found.stdout
    many = cnnc("run", model, "-i", tmp_path / "photos", "-o", tmp_path / "y.npz", code=3)
    assert "E0705" in many.stderr
    assert not (tmp_path / "y.npz").exists()


def test_arrays_and_fixed_sizes(cnnc, model: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    np.save(tmp_path / "x.npy", np.zeros((2, 3, 8, 6), np.float32))
    cnnc("run", model, "-i", tmp_path / "x.npy", "-o", tmp_path / "y.npz")
    assert np.load(tmp_path / "y.npz")["output"].shape == (2, 4, 4, 3)
    assert "1x4x20x25" in cnnc("summary", model, "--input-shape", "image=N,3,40,50").stdout
    assert "well formed" in cnnc("check", model).stderr
    assert "--input-shape image=N,3,224,224" in cnnc("summary", model, code=2).stderr
    assert "E0655" in cnnc("summary", model, "--input-shape", "image=N,1,40,50", code=2).stderr
    assert "is no list of sizes" in cnnc("summary", model, "--input-shape", "image=a,b", code=2).stderr
