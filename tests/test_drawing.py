"""The drawings: every layer is there, nothing overlaps, and names cannot break out of the text."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from cnnc import drawing, driver
from cnnc.drawing.cards import cards_of, shown
from cnnc.drawing.fold import fold
from cnnc.ir.graph import Graph
from cnnc.ir.text import parse_graph
from cnnc.passes.optimizer import SGD
from cnnc.passes.training import training_graph

EXAMPLES = Path(__file__).parent.parent / "examples"
SVG = "{http://www.w3.org/2000/svg}"


def resnet(depth: int = 18) -> Graph:
    return driver.load(EXAMPLES / "resnet.cnn", depth=depth).graph


def boxes(svg: str) -> list[tuple[float, float, float, float]]:
    """Left, top, right, bottom of every card."""
    found = []
    for group in ET.fromstring(svg).iter(f"{SVG}g"):
        if group.get("class") == "cnnc-legend":
            continue
        *_, frame = group.iter(f"{SVG}rect")
        x, y, w, h = (float(frame.attrib[k]) for k in ("x", "y", "width", "height"))
        found.append((x, y, x + w, y + h))
    return found


def words(svg: str) -> list[str]:
    return [t.text or "" for t in ET.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize(("name", "depth"), [("resnet", 18), ("resnet", 50), ("resnet", 152), ("mobilenetv2", 0)])
def test_every_layer_is_drawn_once_but_for_those_that_repeat(name: str, depth: int) -> None:
    graph = driver.load(EXAMPLES / f"{name}.cnn", **({"depth": depth} if depth else {})).graph
    cards, edges = cards_of(graph)
    kept, _, repeated = fold(cards, edges)
    assert sum(len(c.nodes) for c in cards) == len(shown(graph))
    away = sum(sum(len(kept[i].nodes) for i in r.cards) * (r.times - 1) for r in repeated)
    assert sum(len(c.nodes) for c in kept) + away == len(shown(graph))
    assert repeated
    text = words(drawing.svg(graph))
    assert sorted(w for w in text if re.fullmatch(r"x \d+", w)) == sorted(f"x {r.times}" for r in repeated)


def test_blocks_of_resnet50_are_folded() -> None:
    """Of 3, 4, 6 and 3 blocks each stage's first is another."""
    _, edges, repeated = fold(*cards_of(resnet(50)))
    assert [r.times for r in repeated] == [2, 3, 5, 2]
    assert all(a < b for a, b in edges)


def test_blocks_that_differ_are_not_folded() -> None:
    text = "model m() {{\n input x: f32[N, 8, 9, 9]\n return x -> {} \n}}"
    same, other = (
        "conv(8, 3, padding=1) -> maxpool(3, stride=1, padding=1)",
        "conv(8, 1) -> maxpool(3, stride=1, padding=1)",
    )
    for body, times in ((f"{same} -> {same} -> {same}", [3]), (f"{same} -> {other} -> {same}", []), (same, [])):
        assert [r.times for r in fold(*cards_of(driver.parse(text.format(body)).graph))[2]] == times


def test_what_is_read_twice_is_not_folded_away() -> None:
    """The second of three equal layers is also read by the last: a piece of its own, which no other is like."""
    graph = driver.parse(
        "model m() {\n input x: f32[N, 8, 9, 9]\n a = x -> conv(8, 3, padding=1)\n b = a -> conv(8, 3, padding=1)\n"
        " c = b -> conv(8, 3, padding=1)\n return c + b + a\n}"
    ).graph
    kept, _, _ = fold(*cards_of(graph))
    assert sum(len(c.nodes) for c in kept) == len(shown(graph))


def test_cards_have_what_a_layer_is() -> None:
    text = words(drawing.svg(resnet(18), "resnet depth=18"))
    for said in ("resnet depth=18", "11,689,512 parameters", "conv 7x7/2 3->64", "9,536 parameters", "maxpool 3x3/2"):
        assert said in text
    assert any(w.startswith("3x3/2: kernel") for w in text)
    tips = [t.text or "" for t in ET.fromstring(drawing.svg(resnet(18))).iter(f"{SVG}title")]
    assert any("stride=(2, 2)" in t and "multiply-adds" in t for t in tips)


def test_dark_and_light() -> None:
    graph = resnet()
    both, dark, light = (drawing.svg(graph, dark=d) for d in (None, True, False))
    assert "prefers-color-scheme:dark" in both
    assert "prefers-color-scheme" not in dark + light
    assert "#0d1117" in dark
    assert "#0d1117" not in light


def test_a_training_step_is_drawn() -> None:
    """Values that are read far below are named there; cards do not overlap."""
    net = driver.load(EXAMPLES / "lenet5.cnn")
    graph = training_graph(net.graph, "cross_entropy", SGD())
    svg = drawing.svg(graph)
    cards = boxes(svg)
    for i, a in enumerate(cards):
        assert not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for b in cards[:i])
    assert any(w.startswith("conv_weight_gradient") for w in words(svg))
    assert any(w.startswith("reads ") for w in words(svg))


@pytest.mark.parametrize("name", ["resnet", "alexnet", "lenet5", "vgg", "mobilenetv2"])
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
    assert dot.count('" -> "') == mermaid.count("-->")
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
