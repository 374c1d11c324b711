"""What notebooks show is well formed, has what the texts have, and escapes names."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import cnnc
from cnnc.diagnostics import CnncError
from cnnc.ir.text import parse_graph
from cnnc.passes.compare import Comparison

LENET = Path(__file__).parent.parent / "examples" / "lenet5_relu.cnn"
NAMED = {"&rarr;": "→", "&middot;": "·"}


def tree(html: str) -> ET.Element:
    for name, sign in NAMED.items():
        html = html.replace(name, sign)
    return ET.fromstring(f"<div>{html.replace('<br>', '<br/>')}</div>")


@pytest.fixture(scope="module")
def exe() -> cnnc.Executable:
    return cnnc.compile(cnnc.load(LENET))


def test_a_network_is_drawn_and_tabled() -> None:
    net = cnnc.load(LENET)
    shown = tree(net._repr_html_())
    (details,) = shown.iter("details")
    assert "open" in details.attrib
    (totals,) = shown.iter("tfoot")
    assert f"{net.parameter_count():,}" in "".join(totals.itertext())
    assert net._repr_svg_().startswith("<svg")
    assert net.graph._repr_svg_() == net._repr_svg_()


def test_an_executable_shows_its_stages(exe: cnnc.Executable) -> None:
    text = "".join(tree(exe._repr_html_()).itertext())
    assert "fuse-epilogues" in text
    assert "-3 relu" in text
    assert "no change" in text
    assert "fuse-epilogues" in repr(exe.stages)


def test_two_stages_side_by_side(exe: cnnc.Executable) -> None:
    made = exe.stages.compare("source", "fuse-epilogues")
    kinds = [kind for kind, _, _ in made.rows()]
    assert {"same", "changed", "gone"} <= set(kinds)
    left = [line for _, line, _ in made.rows() if line]
    right = [line for _, _, line in made.rows() if line]
    assert left == str(exe.stages.after("source")).splitlines()
    assert right == exe.ir("fuse-epilogues").splitlines()
    html = made._repr_html_()
    assert "lines alike" in html
    assert "epilogue=&quot;where" in html
    tree(html)
    assert str(made).startswith("--- source\n+++ fuse-epilogues\n")
    with pytest.raises(CnncError, match="E0801"):
        exe.stages.compare("source", "fuse")


def test_names_are_escaped() -> None:
    a = parse_graph('graph @m(%x: f32[N,4]) {\n  %y = relu(%x) : f32[N,4]\n  return %y as "a<b>&\'c"\n}\n')
    b = parse_graph("graph @m(%x: f32[N,4]) {\n  %y = tanh(%x) : f32[N,4]\n  return %y\n}\n")
    made = Comparison("<i>", a, "b", b)
    assert "<i>" not in made._repr_html_()
    assert "a<b>" not in made._repr_html_()
    assert ("changed", "  %y = relu(%x) : f32[N,4]", "  %y = tanh(%x) : f32[N,4]") in made.rows()
