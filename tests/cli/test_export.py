"""`cnnc export`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import cnnc as package
from tests.cli.conftest import Cnnc


def test_export_writes_what_the_network_has(cnnc: Cnnc, lenet: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    net = package.load(lenet)
    net.initialize(7)
    net.save_weights(tmp_path / "w.safetensors")
    path = tmp_path / "lenet.onnx"
    result = cnnc("export", lenet, "-o", path, "--weights", tmp_path / "w.safetensors")
    assert f"wrote {path}" in result.stderr
    assert "initialized" not in result.stderr
    model = onnx.load(str(path))
    onnx.checker.check_model(model, full_check=True)
    weights = {w.name: onnx.numpy_helper.to_array(w) for w in model.graph.initializer}
    assert all((weights[name] == value).all() for name, value in net.weights.items())


def test_weights_and_batch_as_given(cnnc: Cnnc, lenet: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "lenet.onnx"
    assert "as it was initialized" in cnnc("export", lenet, "-o", path, "--batch", 4).stderr
    assert onnx.load(str(path)).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 4


def test_other_endings_are_refused(cnnc: Cnnc, lenet: Path, tmp_path: Path) -> None:
    assert "E0603" in cnnc("export", lenet, "-o", tmp_path / "lenet.pb", code=2).stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lenet.cnn"]


def test_nothing_is_written_where_the_model_is_wrong(cnnc: Cnnc, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    path = tmp_path / "wrong.cnn"
    path.write_text("model m() { input x: f32[N, 3, 8, 8]  return x -> convv(3, 3) }\n")
    cnnc("export", path, "-o", tmp_path / "x.onnx", code=1)
    assert not (tmp_path / "x.onnx").exists()


def test_without_the_package(cnnc: Cnnc, lenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    result = cnnc("export", lenet, "-o", tmp_path / "x.onnx", code=2)
    assert "E0650" in result.stderr
    assert "pip install 'cnnc[onnx]'" in result.stderr
