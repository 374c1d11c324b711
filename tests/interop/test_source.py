"""Graphs as `.cnn` files."""

from __future__ import annotations

import pytest

import cnnc
from cnnc.cli.import_ import meaning, written
from cnnc.interop.source import source
from tests.cli.conftest import ROOT

EXAMPLES = {
    "lenet5_relu": {},
    "small": {},
    "mobilenetv2": {},
    "resnet": {"depth": 18},
    "vgg": {"depth": 11},
    "alexnet": {},
    "googlenet": {},
    "mobilenetv3": {},
    "unet": {},
    "convnext": {},
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_what_is_written_is_the_same_network(example: str) -> None:
    net = cnnc.load(ROOT / "examples" / f"{example}.cnn", **EXAMPLES[example])
    again = cnnc.parse(source(net.graph))
    assert meaning(again.graph) == meaning(net.graph)
    assert list(again.weights) == list(net.weights)


def test_blocks_are_found_by_their_paths() -> None:
    text = source(cnnc.load(ROOT / "examples" / "resnet.cnn", depth=50).graph)
    assert text.count("block ") <= 4
    assert "layer2(width=256, width2=1024) as layer3.5" in text
    assert len(text.splitlines()) < 50


def test_how_it_reads() -> None:
    net = cnnc.parse(
        """model m(classes = 3) {
            input image: f32[N, 3, 8, 8]
            a = image -> conv(4, 3, stride=2, padding=[[0, 1], [0, 1]], bias=false) as stem -> relu
            b = a -> maxpool(3, stride=1, padding=1)
            c = concat([a, b, a]) -> leaky_relu(0.2)
            return {features: c, scores: (c * 2 - 1) -> flatten -> linear(classes) as head}
        }"""
    )
    assert (
        source(net.graph)
        == """model m() {
    input image: f32[N, 3, 8, 8]
    x = image -> conv(4, 3, stride=2, padding=[[0, 1], [0, 1]], bias=false) as stem -> relu
    y = x -> maxpool(3, stride=1, padding=1)
    x = concat([x, y, x]) -> leaky_relu(negative_slope=0.2)
    y = x * 2
    y = y - 1 -> flatten -> linear(3) as head
    return {features: x, scores: y}
}
"""
    )


def test_what_the_language_has_no_words_for() -> None:
    from cnnc.interop.sayings import Unsayable
    from cnnc.ir.text import parse_graph

    graph = parse_graph(
        """graph @g(%x: f32[N,2]) {
          %y = pointwise(%x) {expressions=["a0 * a0 + 1"]} : f32[N,2]
          return %y
        }"""
    )
    with pytest.raises(Unsayable):
        source(graph)


def test_open_sizes_stay_open() -> None:
    net = cnnc.parse("model m { input x: f32[N, 3, A, B] return x -> conv(4, 3) as c -> relu -> maxpool(2) }")
    text, why = written(net)
    assert why is None
    assert "input x: f32[N, 3, H, W]" in text
    sizes = cnnc.parse("model m { input x: f32[N, 3, A] return x -> flatten -> linear(2) as fc }")
    with pytest.raises(cnnc.CnncError, match="E0655"):
        written(sizes)
