"""`cnnc summary`, `compile`, `gradcheck`, `train` and `graph`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from cnnc import driver
from tests.cli.conftest import Cnnc


def test_summary_json(cnnc: Cnnc, lenet: Path) -> None:
    record = json.loads(cnnc("summary", lenet, "--json").stdout)
    assert set(record) == {"layers", "totals", "memory"}
    measures = ["name", "op", "output", "params", "macs", "output_kib", "receptive_field"]
    assert list(record["layers"][0]) == [*measures, "kernel", "stride", "padding", "dilation", "groups", "weight"]
    first = record["layers"][0]
    assert (first["name"], first["op"], first["output"]) == ("c1", "conv", [1, 4, 12, 12])
    assert (first["params"], first["macs"], first["output_kib"], first["receptive_field"]) == (
        40,
        9 * 4 * 144,
        4 * 144 / 256,
        3,
    )
    assert (first["kernel"], first["padding"], first["weight"]) == ([3, 3], [[1, 1], [1, 1]], [4, 1, 3, 3])
    assert set(record["totals"]) == {"params", "macs", "output_kib"}
    assert record["memory"]["training_bytes"] > record["memory"]["inference_bytes"] > 0
    batch = json.loads(cnnc("summary", lenet, "--json", "--batch", 8).stdout)
    assert batch["layers"][0]["output"] == [8, 4, 12, 12]
    assert batch["totals"]["macs"] == 8 * record["totals"]["macs"]
    assert batch["totals"]["params"] == record["totals"]["params"]


def test_summary_text(cnnc: Cnnc, lenet: Path) -> None:
    text = cnnc("summary", lenet).stdout
    assert re.search(r"c1 +conv +3x3 .* 1x4x12x12 +40 +5,184", text)
    assert "multiply-adds at batch 1" in text
    assert "\x1b" not in text


def test_compile_and_run_the_artifact(cnnc: Cnnc, lenet: Path, weights: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "lenet.cnnx"
    told = cnnc("compile", lenet, "-w", weights, "-o", out).stdout
    assert "batchnorm gone" in told
    assert "epilogues fused" in told
    assert (
        cnnc("run", out, "-i", images, "--json").stdout
        == cnnc("run", lenet, "-w", weights, "-i", images, "--json").stdout
    )
    assert "do not go with it" in cnnc("run", out, "-i", images, "-w", weights, code=2).stderr
    out.write_bytes(out.read_bytes()[:-5])
    assert "E0610" in cnnc("run", out, "-i", images, code=3).stderr


def test_compile_refuses(cnnc: Cnnc, lenet: Path, tmp_path: Path) -> None:
    assert "mkdir" in cnnc("compile", lenet, "-o", tmp_path / "no" / "m.cnnx", code=3).stderr
    assert "did you mean 'cpu'?" in cnnc("compile", lenet, "-o", tmp_path / "m.cnnx", "--target", "cpuu", code=2).stderr
    assert not (tmp_path / "m.cnnx").exists()


def test_gradcheck(cnnc: Cnnc, lenet: Path) -> None:
    record = json.loads(cnnc("gradcheck", lenet, "--json").stdout)
    assert record["ok"]
    assert [p["name"] for p in record["parameters"]] == [n.name for n in driver.load(lenet).graph.parameters]
    assert all(p["compiled_error"] is not None for p in record["parameters"])
    assert "fc.bias" in cnnc("gradcheck", lenet, "--parameter", "fc.bias", "--reference-only").stdout
    assert "did you mean 'fc.bias'" in cnnc("gradcheck", lenet, "--parameter", "fc.bais", code=2).stderr
    assert "did you mean 'fc.bias'?" in cnnc("gradcheck", lenet, "--parameter", "fc.bia", code=2).stderr
    assert "the parameters are c1.weight, " in cnnc("gradcheck", lenet, "--parameter", "typo", code=2).stderr


def test_gradcheck_finds_a_wrong_gradient(cnnc: Cnnc, lenet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnc.ir.op import OPS
    from cnnc.train import gradcheck

    wrong = lambda *a: tuple(1.01 * g for g in OPS["linear_weight_gradient"].reference(*a))  # noqa: E731
    broken = {**OPS, "linear_weight_gradient": gradcheck.replace(OPS["linear_weight_gradient"], reference=wrong)}
    monkeypatch.setattr("cnnc.ir.interpret.OPS", broken)
    result = cnnc("gradcheck", lenet, "--reference-only", code=4)
    assert re.search(r"^FAIL +fc.weight", result.stdout, re.MULTILINE)
    assert "1 of" in result.stderr


def test_train(cnnc: Cnnc, lenet: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 256, (40, 12, 12), np.uint8), np.arange(40) % 10
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x[:10], y_test=y[:10])
    result = cnnc(
        "train",
        lenet,
        "--data",
        tmp_path / "data.npz",
        "--out",
        tmp_path / "run",
        "--epochs",
        2,
        "--set",
        "optimizer.lr=0.05",
    )
    assert result.stdout.strip() == str(tmp_path / "run" / "weights.safetensors")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    cnnc("run", lenet, "-w", tmp_path / "run" / "weights.safetensors", "-i", tmp_path / "data.npz", "--json")
    assert "E0640" in cnnc("train", lenet, "--data", tmp_path / "data.npz", "--set", "optimiser.lr=1", code=2).stderr
    assert "E0601" in cnnc("train", lenet, "--data", tmp_path / "dta.npz", code=3).stderr


def test_graph_of_any_stage(cnnc: Cnnc, lenet: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.svg"
    cnnc("graph", lenet, "-o", path, "-p", "classes=7")
    assert "lenet classes=7" in path.read_text()
    cnnc("graph", lenet, "-o", path, "--after", "fuse-epilogues", "--dark")
    assert "conv 3x3 4-&gt;8 + epilogue" in path.read_text()
    assert f"{3 * 3 * 4 * 8 + 8 + 2 * 8} parameters" in path.read_text(), "those of the batch norm are folded in"
    assert "prefers-color-scheme" not in path.read_text()
    cnnc("graph", lenet, "-o", path, "--mode", "train")
    assert "a training step" in path.read_text()
    assert "conv_weight_gradient" in path.read_text()
    cnnc("graph", lenet, "-o", tmp_path / "x.mmd", "--after", "select-layout")
    assert "to_layout" in (tmp_path / "x.mmd").read_text()
    assert "E0801" in cnnc("graph", lenet, "-o", path, "--after", "fold", code=2).stderr
