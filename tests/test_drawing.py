"""The drawings: every layer is there, nothing overlaps, and names cannot break out of the text."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from cnnc import drawing, driver
from cnnc.ir.graph import Graph
from cnnc.ir.text import parse_graph

EXAMPLES = Path(__file__).parent.parent / "examples"
SVG = "{http://www.w3.org/2000/svg}"


def resnet(depth: int = 18) -> Graph:
    return driver.load(EXAMPLES / "resnet.cnn", depth=depth).graph


def boxes(svg: str) -> list[tuple[float, float, float, float]]:
    """Left, top, right, bottom of every card."""
    found = []
    for group in ET.fromstring(svg).iter(f"{SVG}g"):
        *_, frame = group.iter(f"{SVG}rect")
        x, y, w, h = (float(frame.attrib[k]) for k in ("x", "y", "width", "height"))
        found.append((x, y, x + w, y + h))
    return found


@pytest.mark.parametrize("depth", [18, 50])
def test_every_layer_is_drawn_once(depth: int) -> None:
    graph = resnet(depth)
    text = drawing.svg(graph)
    words = [t.text or "" for t in ET.fromstring(text).iter(f"{SVG}text")]
    for op in ("conv", "batchnorm", "relu", "add", "maxpool", "linear"):
        assert sum(w.split()[0] == op for w in words) == len(graph.of(op))


@pytest.mark.parametrize("name", ["resnet", "alexnet", "lenet5", "vgg"])
def test_cards_do_not_overlap(name: str) -> None:
    svg = drawing.svg(driver.load(EXAMPLES / f"{name}.cnn").graph)
    width, height = (float(v) for v in re.findall(r'viewBox="0 0 (\d+) (\d+)"', svg)[0])
    cards = boxes(svg)
    for i, a in enumerate(cards):
        assert 0 <= a[0] <= a[2] <= width
        assert 0 <= a[1] <= a[3] <= height
        assert not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for b in cards[:i])


def test_edges_that_skip_go_round_the_cards() -> None:
    """Straight pieces run beside the cards of the levels that they pass."""
    svg = drawing.svg(resnet())
    cards = boxes(svg)
    for path in re.findall(r'<path d="(M[^"]+)" fill="none"', svg):
        x = y = 0.0
        for command, numbers in re.findall(r"([MCV])([^MCV]+)", path):
            values = [float(v) for v in re.split("[ ,]+", numbers.strip())]
            if command == "V":
                assert not any(a[0] < x < a[2] and y < a[3] - 0.2 and a[1] + 0.2 < values[-1] for a in cards)
                y = values[-1]
            else:
                x, y = values[-2:]


def test_texts_for_other_programs() -> None:
    graph = resnet()
    dot, mermaid = drawing.dot(graph), drawing.mermaid(graph)
    assert dot.count("->") == mermaid.count("-->")
    assert (
        dot.count("[label=")
        == mermaid.count('["')
        == len([n for n in graph.nodes if n.op not in ("param", "state")]) + len(graph.outputs)
    )
    assert not re.search(r":::end\b|classDef end\b", mermaid)  # a word that Mermaid keeps for itself


def test_names_are_escaped() -> None:
    graph = parse_graph('graph @m(%x: f32[N,4]) {\n  %y = relu(%x) : f32[N,4]\n  return %y as "a<b>&\'c"\n}\n')
    svg = drawing.svg(graph)
    assert any("a<b>&'c" in (t.text or "") for t in ET.fromstring(svg).iter(f"{SVG}text"))
    assert "a<b>" in drawing.dot(graph)


def test_an_input_that_is_an_output() -> None:
    graph = parse_graph("graph @m(%x: f32[N,4]) {\n  return %x\n}\n")
    for draw in drawing.WRITERS.values():
        assert "output" in draw(graph) or "%x" in draw(graph) or "x" in draw(graph)
