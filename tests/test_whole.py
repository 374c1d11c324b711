"""One small network on every road: checked, shown, compiled, run, trained, drawn and differentiated by the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import cnnc as package
from tests.cli.conftest import Cnnc, cnnc

__all__ = ["cnnc"]
NETWORK = """
block unit(x, width) {
    return x -> conv(width, 3, padding=1) as conv -> relu
}
model whole(classes = 3) {
    input x: f32[N, 1, 8, 8]
    y = x -> unit(16) as first -> maxpool(2)
    y = (y -> unit(16) as second) + y
    return y -> global_avgpool -> flatten -> linear(classes) as last
}
train { optimizer = sgd(lr=0.1)  epochs = 2  batch = 8 }
"""
RNG = np.random.default_rng(7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole")
    (path / "whole.cnn").write_text(NETWORK)
    labels = np.arange(24) % 3
    x = RNG.standard_normal((24, 1, 8, 8)).astype(np.float32) + labels[:, None, None, None]
    np.savez(path / "data.npz", x=x, y=labels)
    return path


def test_mistakes_are_shown_at_their_place(cnnc: Cnnc, folder: Path) -> None:
    wrong = folder / "wrong.cnn"
    wrong.write_text(NETWORK.replace("unit(16)", "unit(16, 3)", 1).replace("maxpool(2)", "maxpol(2)"))
    said = cnnc("check", wrong, code=1).stderr
    assert "did you mean 'maxpool'?" in said
    assert said.count("-->") == 2


def test_it_is_shown(cnnc: Cnnc, folder: Path) -> None:
    model = folder / "whole.cnn"
    assert "first.conv" in cnnc("summary", model).stdout
    stages = cnnc("ir", model, "--all", "--verify-passes").stdout
    assert all(part in stages for part in ("conv(", "# 05 fuse-epilogues", "to_layout", "plan"))
    cnnc("graph", model, "-o", folder / "whole.svg")
    assert (folder / "whole.svg").read_text().startswith("<svg")


def test_the_cpu_is_the_reference(folder: Path) -> None:
    net = package.load(folder / "whole.cnn")
    x = RNG.standard_normal((3, 1, 8, 8)).astype(np.float32)
    expected = package.compile(net, target="reference")(x)
    np.testing.assert_allclose(package.compile(net)(x), expected, rtol=1e-4, atol=1e-5)
    labels = np.array([0, 1, 2])
    (loss, found), (exact, gradients) = (
        package.value_and_grad(net, target=target)(x, labels) for target in ("cpu", "reference")
    )
    assert loss == pytest.approx(exact, rel=1e-5)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(found[name], gradient, atol=1e-4 * np.abs(gradient).max(), err_msg=name)


def test_it_is_trained_compiled_and_run(cnnc: Cnnc, folder: Path) -> None:
    model, data, run = folder / "whole.cnn", folder / "data.npz", folder / "run"
    cnnc("train", model, "--data", data, "--out", run, "-q")
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in history] == [1, 2]
    weights = run / "weights.safetensors"
    cnnc("compile", model, "--weights", weights, "-o", folder / "whole.cnnx")
    by_model = cnnc("run", model, "--weights", weights, "--input", data, "--json").stdout
    assert by_model == cnnc("run", folder / "whole.cnnx", "--input", data, "--json").stdout
