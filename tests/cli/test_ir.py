"""`check`, `ir`, `opt` and `graph`."""

from __future__ import annotations

import json
import re
import xml.dom.minidom
from pathlib import Path

import pytest

from cnnc.ir.text import parse_graph
from tests.cli.conftest import Cnnc


def test_check(cnnc: Cnnc, lenet: Path) -> None:
    result = cnnc("check", lenet)
    assert result.stdout == ""
    assert "well formed" in result.stderr


def test_check_shows_warnings(cnnc: Cnnc, tmp_path: Path) -> None:
    path = tmp_path / "m.cnn"
    path.write_text("model m() {\n    input x: f32[N, 3, 7, 7]\n    return x -> maxpool(3, stride=3)\n}\n")
    result = cnnc("check", path, "--json")
    assert "warning[W0101]" in result.stderr
    assert [d["code"] for d in json.loads(result.stdout)["diagnostics"]] == ["W0101"]


def test_several_errors_in_one_run(cnnc: Cnnc, tmp_path: Path) -> None:
    path = tmp_path / "m.cnn"
    path.write_text(
        "model m() {\n    input x: f32[N, 3, 7, 7]\n    a = x -> covn(3, 3)\n    b = x -> conv(3, 9)\n    return x\n}\n"
    )
    result = cnnc("check", path, code=1)
    assert len(re.findall(r"^error\[", result.stderr, re.MULTILINE)) == 2


def test_parameters(cnnc: Cnnc, lenet: Path) -> None:
    assert "f32[N,7]" in cnnc("check", lenet, "-p", "classes=7", "-p", "act=sigmoid").stderr
    assert "classes" in cnnc("check", lenet, "-p", "clases=7", code=1).stderr


def test_pick_a_model(cnnc: Cnnc, tmp_path: Path) -> None:
    path = tmp_path / "two.cnn"
    body = "() {\n    input x: f32[N, 4]\n    return x -> linear(2)\n}\n"
    path.write_text(f"model a{body}model b{body}")
    assert "graph @b(" in cnnc("ir", path, "-m", "b").stdout
    assert cnnc("ir", path, "-m", "c", code=1).stdout == ""


def test_ir_before_any_pass(cnnc: Cnnc, lenet: Path) -> None:
    text = cnnc("ir", lenet).stdout
    assert "batchnorm" in text
    assert str(parse_graph(text)) == text


def test_ir_positions(cnnc: Cnnc, lenet: Path) -> None:
    text = cnnc("ir", lenet, "--positions").stdout
    assert f"# {lenet}:3:" in text
    assert str(parse_graph(text)) == cnnc("ir", lenet).stdout


def test_ir_after_a_pass(cnnc: Cnnc, lenet: Path) -> None:
    text = cnnc("ir", lenet, "--after", "fold-batchnorm").stdout
    assert "batchnorm(" not in text
    assert "relu(" in text
    assert parse_graph(text)
    missing = cnnc("ir", lenet, "--after", "fold-batchnrm", code=2)
    assert "did you mean 'fold-batchnorm'?" in missing.stderr


@pytest.mark.parametrize("mode", ["infer", "train"])
def test_ir_all_stages_round_trip(cnnc: Cnnc, lenet: Path, mode: str) -> None:
    text = cnnc("ir", lenet, "--all", "--mode", mode).stdout
    stages = re.split(r"^# (\d\d [\w-]+.*|plan)\n", text, flags=re.MULTILINE)[1:]
    titles, graphs = stages[::2], stages[1::2]
    assert titles[0] == "00 source"
    assert titles[-1] == "plan"
    assert [t[:2] for t in titles[:-1]] == [f"{i:02}" for i in range(len(titles) - 1)]
    for graph in graphs[:-1]:
        assert str(parse_graph(graph)) == graph.rstrip("\n") + "\n"


def test_ir_of_a_training_step(cnnc: Cnnc, lenet: Path) -> None:
    text = cnnc("ir", lenet, "--mode", "train").stdout
    assert "%labels: i64[N]" in text
    assert "update %c1.weight" in text


def test_ir_dump_and_diff(cnnc: Cnnc, lenet: Path, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "dump"
    cnnc("ir", lenet, "--dump-dir", folder, "--diff")
    names = sorted(p.name for p in folder.iterdir())
    assert names[0] == "00-source.ir"
    assert names[-1].endswith("-plan.txt")
    assert any(n.endswith("-fold-batchnorm.diff") for n in names)
    diff = cnnc("ir", lenet, "--diff", "--after", "fold-batchnorm").stdout
    assert re.search(r"^-.*batchnorm\(", diff, re.MULTILINE)
    assert not re.search(r"^\+.*batchnorm\(", diff, re.MULTILINE)
    twice = cnnc("ir", lenet, "--diff", "--after", "fuse-epilogues").stdout
    assert re.search(r"^\+.*epilogue=", twice, re.MULTILINE), "what every run of the pass changed"


def test_ir_plan(cnnc: Cnnc, lenet: Path) -> None:
    assert "c1" in cnnc("ir", lenet, "--plan", "--batch", 3).stdout


def test_opt(cnnc: Cnnc, lenet: Path, tmp_path: Path) -> None:
    source = cnnc("ir", lenet).stdout
    after = cnnc("opt", "-", "--passes", "fold-batchnorm,fuse-epilogues", "--verify-passes", input=source).stdout
    assert "batchnorm(" not in after
    assert "epilogue" in after
    path = tmp_path / "net.ir"
    path.write_text(source)
    cnnc("opt", path, "--passes", "fold-batchnorm,fuse-epilogues", "-o", tmp_path / "out.ir")
    assert (tmp_path / "out.ir").read_text() == after
    assert cnnc("opt", path).stdout == source


def test_opt_refuses(cnnc: Cnnc, tmp_path: Path) -> None:
    path = tmp_path / "net.ir"
    path.write_text("graph @m(%x: f32[N,4]) {\n  %y = rellu(%x) : f32[N,4]\n  return %y\n}\n")
    assert "did you mean 'relu'?" in cnnc("opt", path, code=1).stderr
    assert "did you mean 'fold-batchnorm'?" in cnnc("opt", path, "--passes", "fold-batchnrm", code=2).stderr
    path.write_bytes(b"graph \xe9")
    assert "UTF-8" in cnnc("opt", path, code=1).stderr
    assert "E0601" in cnnc("opt", tmp_path / "no.ir", code=3).stderr


def test_opt_lists_passes(cnnc: Cnnc) -> None:
    assert "fold-batchnorm\n" in cnnc("opt", "--list").stdout


@pytest.mark.parametrize("suffix", [".svg", ".dot", ".mmd"])
def test_graph(cnnc: Cnnc, lenet: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"net{suffix}"
    cnnc("graph", lenet, "-o", out)
    text = out.read_text()
    assert "linear" in text
    if suffix == ".svg":
        xml.dom.minidom.parseString(text)


def test_graph_refuses(cnnc: Cnnc, lenet: Path, tmp_path: Path) -> None:
    assert ".svg" in cnnc("graph", lenet, "-o", tmp_path / "net.png", code=2).stderr
    assert "mkdir" in cnnc("graph", lenet, "-o", tmp_path / "no" / "net.svg", code=3).stderr
