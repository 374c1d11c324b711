"""`cnnc doctor`, `cache` and `explain`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cnnc.codes import CODES
from tests.cli.conftest import Cnnc


def test_doctor(cnnc: Cnnc) -> None:
    result = cnnc("doctor", "--json", code=None)
    assert result.exit_code in (0, 4)
    found = {f["what"]: f for f in json.loads(result.stdout)["findings"]}
    assert {
        "cnnc",
        "python",
        "numba",
        "processor",
        "features",
        "cores",
        "threads",
        "cache",
        "target cpu",
        "target reference",
    } <= set(found)
    assert "numba" in cnnc("doctor", code=None).stdout


def test_doctor_says_what_to_do(cnnc: Cnnc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert "unset NUMBA_DISABLE_JIT" in cnnc("doctor", code=4).stdout


def test_cache(cnnc: Cnnc, lenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNC_CACHE_DIR", str(tmp_path / "kernels"))
    path = tmp_path / "small.cnn"
    path.write_text("model m() {\n    input x: f32[N, 4, 5, 7]\n    return x -> sigmoid -> sigmoid\n}\n")
    assert json.loads(cnnc("cache", "list", "--json").stdout) == {"folder": str(tmp_path / "kernels"), "kernels": []}
    cnnc("cache", "warm", path)
    kernels = json.loads(cnnc("cache", "list", "--json").stdout)["kernels"]
    assert kernels
    assert set(kernels[0]) == {"kernel", "target", "bytes", "file"}
    assert len(re.findall(r"^ *[\d,]+  \w+ +\w+(?:\{|$)", cnnc("cache", "list").stdout, re.MULTILINE)) == len(kernels)
    assert f"removed {len(kernels)} kernels" in cnnc("cache", "clear").stderr
    assert cnnc("cache", "list").stdout == ""


def test_cache_is_warmed_for_models_modes_and_batches(
    cnnc: Cnnc, lenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNNC_CACHE_DIR", str(tmp_path / "kernels"))
    wanted: list[int] = []

    def ready(self: Any, kernels: Any, progress: Any) -> None:
        wanted.append(len(kernels))
        for kernel in kernels:
            progress(kernel)

    monkeypatch.setattr("cnnc.backends.cpu.CpuBackend.ready", ready)
    monkeypatch.setattr("cnnc.backends.cpu.CpuBackend.missing", lambda self, kernels: list(kernels))
    said = cnnc("cache", "warm", lenet, "-b", "1", "-b", "8", "--mode", "infer").stderr
    assert f"{wanted[0]}/{wanted[0]} " in said
    cnnc("cache", "warm", lenet)
    assert wanted[1] > wanted[0], "the training step too"
    cnnc("cache", "warm", "--mode", "infer", "-b", "1")
    assert wanted[2] > wanted[0], "the examples"
    assert "name a model" in cnnc("cache", "warm", "-p", "depth=50", code=2).stderr


def test_explain(cnnc: Cnnc) -> None:
    for code, entry in CODES.items():
        text = cnnc("explain", code).stdout
        assert text.startswith(f"{code}: {entry.title}")
    assert cnnc("explain", "e0204").stdout.startswith("E0204")
    assert len(cnnc("explain").stdout.splitlines()) == len(CODES)
    assert json.loads(cnnc("explain", "E0204", "--json").stdout)["code"] == "E0204"


def test_explain_layers(cnnc: Cnnc) -> None:
    text = cnnc("explain", "conv").stdout
    assert text.startswith("conv(out_channels, kernel_size, stride=1, padding=0, ")
    for part in (
        "    stride=1  ",
        " pixels from one window to the next",
        "    x -> conv(16, 3, padding=1)",
        "f32[N, 16, 32, 32]",
        "bias [16]",
        "y[n, k, o] =",
    ):
        assert part in text
    assert "    moments(x)" not in cnnc("explain", "relu").stdout
    assert cnnc("explain", "moments").stdout.startswith("moments(x)\n\nAn op of the IR.")
    said = json.loads(cnnc("explain", "maxpool", "--json").stdout)
    assert (said["layer"], said["gives"], said["arguments"][0]["name"]) == (
        "maxpool",
        "f32[N, 3, 16, 16]",
        "kernel_size",
    )
    assert "default" not in said["arguments"][0]
    assert json.loads(cnnc("explain", "to_layout", "--json").stdout)["signature"] == "to_layout(x) {layout}"
    assert "Did you mean 'conv'?" in cnnc("explain", "Conv2d", code=2).stderr
    assert "Did you mean 'maxpool'?" in cnnc("explain", "maxpol", code=2).stderr
    assert "Write leaky_relu(0.23)" in cnnc("explain", "rrelu", code=2).stderr
    assert "See 'cnnc explain'." in cnnc("explain", "qqq", code=2).stderr
