"""`cnnc stats`: the lectures' experiment on how weights start, and what is said of other networks."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

import cnnc
from cnnc.frontend import load_with
from cnnc.network import Network
from cnnc.spread import Spread
from cnnc.stats import Statistics, statistics

EXAMPLES = Path(__file__).parent.parent / "examples"
# Deviations of the six layers of 4,096 on 16 inputs: tanh's as the lectures print them, those of ReLU behind a sum of
# deviation s are s * sqrt((pi - 1) / (2 pi)), and the sum's variance is half of the values' squares times the gain's.
LECTURES = {
    ("tanh", 0.64): (0.49, 0.29, 0.18, 0.11, 0.07, 0.05),  # a deviation of 0.01 at 4,096
    ("tanh", 3.2): (0.87, 0.85, 0.85, 0.85, 0.85, 0.85),  # 0.05
    ("tanh", "xavier_normal"): (0.63, 0.49, 0.41, 0.36, 0.32, 0.30),
    ("relu", "xavier_normal"): (0.58, 0.41, 0.29, 0.21, 0.145, 0.10),
    ("relu", "kaiming_normal"): (0.83,) * 6,
}


def experiment(act: str, init: str, width: int) -> Statistics:
    parameters = {"act": act, "init": init, "width": str(width)}
    return statistics(Network(load_with(EXAMPLES / "deep_mlp.cnn", None, parameters), build=cnnc.driver.build))


def spreads(found: Statistics) -> tuple[list[Spread], list[Spread], list[float]]:
    """Of the six activations: values, gradients, and shares that are saturated."""
    layers = [row for row in found.layers if row.name.startswith("h") and row.name[1:].isdigit()]
    assert len(layers) == 6
    return [r.forward for r in layers], [r.backward for r in layers], [r.saturated or 0.0 for r in layers]


@pytest.mark.parametrize(("act", "start"), LECTURES)
def test_how_weights_start(act: str, start: float | str) -> None:
    """With 1,024 features, whose weights have deviations that are 2 times as large: sums are spread alike."""
    width = 1024
    init = start if isinstance(start, str) else f"normal(std={start / width**0.5!r})"
    forward, backward, saturated = spreads(experiment(act, init, width))
    deviations = [s.deviation for s in forward]
    assert all(abs(d - e) <= 0.005 + 0.04 * e for d, e in zip(deviations, LECTURES[act, start], strict=True)), (
        deviations
    )
    if start == 0.64:  # to 0, and gradients grow on their way back from there
        assert deviations[5] < deviations[0] / 9
        assert max(saturated) < 0.001
    elif start == 3.2:
        assert min(saturated) > 0.25
        assert backward[0].deviation > 4 * backward[5].deviation, "they explode"
    elif act == "tanh":
        assert max(saturated) < 0.02
    if start == "kaiming_normal":
        assert backward[0].deviation == pytest.approx(backward[5].deviation, rel=0.1)
        assert [s.mean for s in forward] == pytest.approx([0.56] * 6, rel=0.08)
    elif act == "relu":
        assert deviations[5] / deviations[0] == pytest.approx(2**-2.5, rel=0.1), "half of the variance a layer"


@pytest.mark.slow
def test_of_4096_features_by_one_command() -> None:
    from click.testing import CliRunner

    from cnnc.cli.main import cli

    arguments = ["stats", EXAMPLES / "deep_mlp.cnn", "-p", "act=tanh", "-p", "init=normal(std=0.01)", "--json"]
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert result.exit_code == 0, result.stderr
    layers = {row["name"]: row for row in json.loads(result.stdout)["layers"]}
    found = [layers[f"h{i}"]["forward"]["deviation"] for i in range(1, 7)]
    assert [round(d, 2) for d in found] == list(LECTURES["tanh", 0.64])


NET = """model m(classes = 3) {
    input image: f32[N, 1, 8, 8]
    x = image -> conv(4, 3) as c -> batchnorm as bn -> relu as r -> maxpool(2) -> dropout(0.4)
    return x -> flatten -> linear(classes) as fc
}"""


def test_figures_are_those_of_the_arrays() -> None:
    net = cnnc.parse(NET)
    net.weights["bn.bias"] = [-9, 0.1, 0.2, 0.3]  # one channel is dead
    x = np.random.default_rng(0).standard_normal((5, 1, 8, 8)).astype(np.float32)
    labels = np.array([0, 1, 2, 1, 0])
    found = statistics(net, 5, 0, {"image": x, "labels": labels, "seed": np.array([3, 0])}, target="reference")
    wrt = [row.name for row in (*found.layers, *found.parameters)]
    loss, gradients = cnnc.value_and_grad(net, target="reference", wrt=wrt)(x, labels, seed=3)
    assert found.value == loss
    assert [row.name for row in found.layers] == ["image", "c", "bn", "r", "maxpool1", "dropout1", "flatten1", "fc"]
    for row in (*found.layers, *found.parameters):
        g = gradients[row.name]
        assert (row.backward.mean, row.backward.deviation) == pytest.approx((g.mean(), g.std()))
        assert (row.backward.least, row.backward.greatest) == (g.min(), g.max())
        assert sum(row.backward.histogram) == g.size
    layers = {row.name: row for row in found.layers}
    assert (layers["r"].dead, layers["r"].saturated) == (0.25, 0.0)
    assert layers["c"].dead is None
    assert layers["image"].forward.mean == pytest.approx(x.mean(dtype=np.float64))
    assert found.parameters[0].ratio == pytest.approx(gradients["c.weight"].std() / net.weights["c.weight"].std(), 1e-5)


@pytest.mark.parametrize("layer", ["sigmoid", "relu6", "tanh", "leaky_relu", "silu"])
def test_saturated(layer: str) -> None:
    net = cnnc.parse(f"model m {{ input x: f32[N, 4] return x -> {layer} as y }}")
    x = np.array([[-30, -0.5, 0.5, 30]], np.float32)
    found = statistics(net, 1, 0, {"x": x}, target="reference")
    assert found.loss == ("sum(output * grad_output)" if layer == "sigmoid" else "cross_entropy"), "of logits"
    expected = {"sigmoid": 0.5, "relu6": 0.25, "tanh": 0.5, "leaky_relu": 0.0, "silu": 0.25}[layer]
    assert found.layers[-1].saturated == expected
    assert found.layers[-1].dead == (0.5 if layer == "relu6" else 0.0)


def test_spreads() -> None:
    s = Spread.of(np.array([1, 2, 3, np.nan, np.inf], np.float32))
    assert (s.mean, s.least, s.greatest, s.lost, sum(s.histogram)) == (2, 1, 3, 2, 3)
    assert len(s.line()) == 12
    assert Spread.of(np.zeros(5, np.float32)).deviation == 0
    empty = Spread.of(np.zeros(0, np.float32))
    assert (empty.line(), empty.to_json()["mean"]) == (" " * 12, None)
    many = Spread.of(np.arange(3 << 20, dtype=np.float32))
    assert max(many.histogram) <= 1.01 * min(many.histogram)
    assert many.mean == pytest.approx((3 << 19) - 0.5)


def test_the_command(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from cnnc.cli.main import cli

    def call(*arguments: object, code: int = 0) -> tuple[str, str]:
        result = CliRunner().invoke(cli, [str(a) for a in ("stats", *arguments)])
        assert result.exit_code == code, result.stderr
        return result.stdout, result.stderr

    path, out = tmp_path / "m.cnn", tmp_path / "s.svg"
    path.write_text(NET)
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=rng.random((30, 1, 8, 8), np.float32), y=np.arange(30) % 3)
    text, _ = call(path, "--data", tmp_path / "d.npz", "-b", 12, "-o", out, "--target", "reference")
    assert text.startswith("m, a batch of 12, gradients of cross_entropy = ")
    assert all(len(line) <= 80 for line in text.splitlines())
    assert [line.split()[0] for line in text.splitlines() if line.startswith("c")] == ["c", "c", "c.weight", "c.bias"]
    drawing = ET.fromstring(out.read_text())
    words = [t.text for t in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert {"conv 3x3 1->4", "bn.weight", "gradients of the loss by them"} <= set(words)
    path.write_text(
        "model m { input x: f32[N, 4] param p: f32[1] = 0.5 y = (x -> linear(3) as z) * (p * 2) as y return {a: y, b: x -> softmax as s} }"
    )
    text, _ = call(path, "--target", "reference")
    assert "gradients of sum(a * grad_output) = " in text
    assert [line.split()[0] for line in text.splitlines()[3:6]] == ["x", "z", "y"]
    assert "does not depend on them: s" in " ".join(text.split())
    path.write_text(NET)
    assert "end the name in .svg" in call(path, "-o", tmp_path / "s.png", code=2)[1]
    np.savez(tmp_path / "e.npz", x=rng.random((30, 1, 8, 8), np.float32), y=np.arange(30) % 5)
    assert "E0629" in call(path, "--data", tmp_path / "e.npz", "--target", "reference", code=3)[1]
    assert "no data file" in call(path, "--data", tmp_path / "no.npz", code=3)[1]
