"""`cnnc bench`: what it prints, beside peers and layer by layer."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from importlib.util import find_spec
from pathlib import Path

import pytest

from cnnc.bench import isa, timing
from cnnc.kernels.cpu import target as targets
from tests.cli.conftest import Cnnc


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "PAUSE", 0.0)


def test_command(cnnc: Cnnc, lenet: Path, tmp_path: Path) -> None:
    picture = tmp_path / "roof.svg"
    result = cnnc("bench", lenet, "--rounds", 1, "--block", 0, "--layers", "--roofline", picture)
    assert re.search(r"^\s*cnnc\s+[\d.]+", result.stdout, re.MULTILINE)
    assert "GFLOP/s" in result.stdout
    assert "c2 " in result.stdout
    assert "compiling" in result.stderr
    assert ET.parse(picture).getroot().tag.endswith("svg")


def test_json(cnnc: Cnnc, lenet: Path) -> None:
    options = ("--rounds", 1, "--block", 0, "--layers", "--json", "-q", "--batch", 4, "--threads", 1, "-p", "classes=7")
    result = cnnc("bench", lenet, "--mode", "train", *options)
    assert result.stderr == ""
    record = json.loads(result.stdout)
    assert (record["network"], record["mode"], record["batch"], record["threads"]) == ("lenet classes=7", "train", 4, 1)
    assert record["engines"][0]["name"] == "cnnc"
    assert record["engines"][0]["calls"] >= 3
    assert record["machine"]["peak_one"] > 0
    assert {"layer", "algorithm", "ms", "gflops", "share_of_peak", "gigabytes_per_second"} <= set(record["layers"][0])
    assert record["ratio"] is None


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="ONNX Runtime is not installed")
def test_command_beside_a_peer(cnnc: Cnnc, lenet: Path) -> None:
    result = cnnc("bench", lenet, "--rounds", 1, "--block", 0, "--against", "onnxruntime")
    assert any(
        text in result.stdout for text in ("the best peer, onnxruntime, takes", "the machine is busy: other programs")
    )


@pytest.mark.parametrize(
    ("options", "code", "hint"),
    [
        (["--against", "onxruntime"], 2, "did you mean 'onnxruntime'?"),
        (["--against", "tensorflow"], 2, "one of onnxruntime, openvino"),
        (["--roofline", "x.png"], 2, "E0603"),
        (["--mode", "train", "--exact"], 2, "--exact"),
        (["--isa", "avx3"], 2, "avx2"),
        (["--rounds", "0"], 2, "not in the range"),
    ],
)
def test_usage(cnnc: Cnnc, lenet: Path, options: list[str], code: int, hint: str) -> None:
    assert hint in cnnc("bench", lenet, *options, code=code).stderr


def test_narrower_vectors(cnnc: Cnnc, lenet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [t.name for t in targets.runnable() if t.name in isa.SWITCHES]
    for name in (n for s in isa.SWITCHES.values() for n in s):
        monkeypatch.setenv(name, "")  # so that what the command sets is taken back
    for name in names:
        result = cnnc("bench", lenet, "--rounds", 1, "--block", 0, "--json", "--isa", name)
        assert json.loads(result.stdout)["target"] == name
