"""`cnnc import`, and commands on ONNX models."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, Cnnc


def test_the_command(cnnc: Cnnc, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    model = tmp_path / "small.onnx"
    cnnc("export", ROOT / "examples" / "small.cnn", "-o", model)
    said = cnnc("import", model, "-o", tmp_path / "again").stderr
    assert "again.cnn and" in said
    assert cnnc("import", model).exit_code == 0  # beside it, under its name
    assert (tmp_path / "small.cnn").read_text() == (tmp_path / "again.cnn").read_text()
    totals = [cnnc("summary", f).stdout.split("parameters (")[0][-9:] for f in (model, tmp_path / "again.cnn")]
    assert totals[0] == totals[1]
    assert "E0603" in cnnc("import", tmp_path / "small.cnn", code=2).stderr


def test_commands_take_onnx_models(cnnc: Cnnc, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    model = tmp_path / "lenet.onnx"
    cnnc("export", ROOT / "examples" / "lenet5_relu.cnn", "-o", model)
    assert "well formed" in cnnc("check", model).stderr
    assert "1,256,080 parameters" in cnnc("summary", model).stdout
    assert "conv(%image" in cnnc("ir", model).stdout
    cnnc("graph", model, "-o", tmp_path / "net.svg")
    cnnc("compile", model, "-o", tmp_path / "net.cnnx")
    digit = ROOT / "examples" / "data" / "7.png"
    assert cnnc("run", model, "-i", digit).stdout == cnnc("run", tmp_path / "net.cnnx", "-i", digit).stdout
    assert "E0655" in cnnc("run", model, "-i", digit, "-p", "classes=3", code=2).stderr
