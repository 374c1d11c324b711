"""`check`, `ir`, `opt` and `graph`."""

from __future__ import annotations

import json
import re
import xml.dom.minidom
from pathlib import Path

import numpy as np
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


LECTURE = ("-i", "x0=1", "-i", "x1=-1", "-i", "y0=1", "-i", "y1=-2")


def numbers_of(svg: Path) -> dict[str, dict[str, str]]:
    """What stands on each card, by its op, or its name where it is an input."""
    found = {}
    for card in re.findall(r"<g>\n<title>(.*?)</g>", svg.read_text(), re.DOTALL):
        words = re.findall(r"<text [^>]*>([^<]*)</text>", card)
        said = {words[i]: words[i + 1] for i in range(len(words) - 1) if words[i] in ("value", "gradient")}
        found[words[2] if words[0] == "input" else words[0]] = said
    return found


def test_the_computational_graph_of_the_lectures(cnnc: Cnnc, examples: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.svg"
    cnnc("graph", examples / "expression.cnn", "--values", "--gradients", *LECTURE, "-o", out)
    found = numbers_of(out)
    assert {name: (card["value"], card["gradient"]) for name, card in found.items() if card} == {
        "x0": ("1", "40.17"), "x1": ("-1", "-40.17"), "y0": ("1", "20.09"), "y1": ("-2", "-20.09"),
        "mul": ("2", "20.09"), "add": ("3", "20.09"), "neg": ("-3", "-20.09"), "exp": ("0.04979", "-403.4"),
        "div": ("20.09", "1"),
    }  # fmt: skip
    cnnc("graph", examples / "expression.cnn", "--gradients", "--of", "neg1", *LECTURE, "-o", out)
    assert numbers_of(out)["x0"] == {"gradient": "-1"}


def test_values_of_a_network(cnnc: Cnnc, lenet: Path, tmp_path: Path) -> None:
    out = tmp_path / "net.svg"
    assert "random" in cnnc("graph", lenet, "--values", "--gradients", "-o", out).stderr
    text = out.read_text()
    assert "c1.weight: gradient" in text
    assert "c1.weight: value" in text
    assert re.search(r"± [\d.e-]+", text)
    np.save(tmp_path / "x.npy", np.zeros((2, 1, 12, 12), np.float32))
    cnnc("graph", lenet, "--values", "-i", tmp_path / "x.npy", "-o", out)
    assert "gradient<" not in out.read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-i", "x0=1"], 2, "go with --values"),
        (["--values", "--mode", "train"], 2, "as it is written"),
        (["--values", "-i", "x0=1", "-i", "x1=1", "-i", "y0=1"], 3, "y1 missing"),
        (["--values", "-i", "x0=[1, 2]"], 3, "is given 2 numbers"),
        (["--values", *LECTURE, "-i", "z=1"], 3, "no input 'z'"),
        (["--values", "-i", "x0=no.npy"], 3, "nothing is given for the input 'x1'"),
        (["--gradients", "--of", "dif1"], 2, "did you mean 'div1'"),
    ],
)
def test_values_refused(cnnc: Cnnc, examples: Path, tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    run = cnnc("graph", examples / "expression.cnn", *arguments, "-o", tmp_path / "f.svg", code=code)
    assert said in run.stderr
    assert not (tmp_path / "f.svg").exists()


@pytest.mark.parametrize("command", [("ir",), ("graph", "-o", "x.svg")])
@pytest.mark.parametrize(
    ("target", "said"), [("cuda", "not for accelerators"), ("cpu-avx3", "did you mean 'cpu-avx2'?")]
)
def test_a_target_that_is_none_is_refused_where_nothing_asks_for_it(
    cnnc: Cnnc, lenet: Path, command: tuple[str, ...], target: str, said: str
) -> None:
    result = cnnc(command[0], lenet, *command[1:], "--target", target, code=2)
    assert said in result.stderr
    assert "E0809" in result.stderr
    assert not result.stdout
