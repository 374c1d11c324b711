"""Layers in words, and what of the source each node of an optimized graph does."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnc import describe, driver
from cnnc.backends.cpu.pipeline import layouts
from cnnc.ir.graph import Graph
from cnnc.passes.manager import run_passes
from cnnc.passes.pipelines import inference_pipeline

EXAMPLES = Path(__file__).parent.parent / "examples"


def graph(body: str, shape: str = "32, 16, 16") -> Graph:
    return driver.parse(f"model m() {{\n    input x: f32[N, {shape}]\n    return x -> {body}\n}}\n").graph


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("conv(64, 3, padding=1)", "conv 3x3 32->64"),
        ("conv(64, 3, stride=2)", "conv 3x3/2 32->64"),
        ("conv(64, [3, 1], stride=[2, 1])", "conv 3x1/2x1 32->64"),
        ("conv(64, 3, groups=4)", "conv 3x3 32->64 in 4 groups"),
        ("conv(32, 3, groups=32, stride=2)", "depthwise 3x3/2 32"),
        ("conv(64, 3, groups=32)", "depthwise 3x3 32->64"),
        ("conv(64, 3, dilation=2)", "conv 3x3 32->64 dilation 2"),
        ("maxpool(3, stride=2)", "maxpool 3x3/2"),
        ("relu", "relu"),
        ("flatten -> linear(10)", "linear 8192->10"),
    ],
)
def test_words(body: str, words: str) -> None:
    g = graph(body)
    assert describe.layer(g, g.node(g.outputs[0][1])) == words


def test_words_of_other_ranks() -> None:
    line = graph("conv(8, 3, stride=2)", "4, 20")
    assert describe.layer(line, line.nodes[-1]) == "conv 3/2 4->8"
    cube = graph("conv(8, 3)", "4, 9, 9, 9")
    assert describe.layer(cube, cube.nodes[-1]) == "conv 3x3x3 4->8"


@pytest.mark.parametrize(
    ("body", "padding"),
    [("conv(1, 3)", "0"), ("conv(1, 3, padding=1)", "1"), ("conv(1, [3, 5], padding=[1, 2])", "1x2"),
     ('conv(1, 4, padding="same")', "1:2"), ("relu", "")],
)  # fmt: skip
def test_padding(body: str, padding: str) -> None:
    g = graph(body)
    assert describe.padding(describe.facts(g, g.nodes[-1])) == padding


def done(source: Graph) -> dict[str, str]:
    after = run_passes(source, inference_pipeline(layouts(16)))
    found = describe.done_by(source, after)
    return {describe.main(nodes).name: describe.words(source, nodes) for nodes in found.values() if nodes}


def test_a_residual_block() -> None:
    found = done(driver.load(EXAMPLES / "resnet.cnn", depth=18).graph)
    assert found["layer1.0.conv1"] == "conv 3x3 64->64 + batchnorm + relu"
    assert found["layer1.0.conv2"] == "conv 3x3 64->64 + batchnorm + add + relu"
    assert found["layer2.0.conv2"] == "conv 3x3 128->128 + batchnorm"
    assert found["layer2.0.downsample.0"] == "conv 1x1/2 64->128 + batchnorm + add + relu"
    assert found["fc"] == "linear 512->1000"


@pytest.mark.parametrize("name", ["resnet", "mobilenetv2", "alexnet", "vgg", "lenet5"])
def test_every_layer_is_done_once(name: str) -> None:
    source = driver.load(EXAMPLES / f"{name}.cnn").graph
    after = run_passes(source, inference_pipeline(layouts(16)))
    nodes = [n.name for found in describe.done_by(source, after).values() for n in found]
    assert len(nodes) == len(set(nodes))
    layers = {n.name for n in source.nodes if n.op not in ("input", "param", "state")}
    assert layers - set(nodes) == {n.name for n in source.nodes if n.op == "dropout" and n.name not in nodes}


def test_a_graph_that_is_its_own_source() -> None:
    g = graph("conv(8, 3) -> relu")
    assert {k: [n.name for n in v] for k, v in describe.done_by(g, g).items() if v} == {
        n.name: [n.name] for n in g.nodes if n.op in ("conv", "relu")
    }
