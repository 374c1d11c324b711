"""Timing in turns, layer by layer, and the pictures and tables that come of it."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from importlib.util import find_spec
from typing import Any

import pytest

import cnnc as package
from cnnc.bench import engines, isa, timing
from cnnc.bench.roofline import svg
from cnnc.bench.run import run
from cnnc.diagnostics import CnncError
from cnnc.lowering.figures import Figures, Level
from cnnc.runtime import profile
from tests.cli.conftest import LENET
from tests.networks import MIXED

FIGURES = Figures("a processor", "wide", 2, 100.0, 190.0, (Level("L2", 2**19, 100, 200), Level("memory", None, 20, 30)))
QUICK = {"rounds": 1, "block": 0.0}
peers = [p for p in engines.PEERS if all(find_spec(m) for m in engines.PACKAGES.get(p, ("torch",)))]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "PAUSE", 0.0)


def test_engines_take_turns_and_get_three_calls() -> None:
    calls: list[str] = []
    made = {name: lambda name=name: calls.append(name) for name in "ab"}
    said: list[str] = []
    times = timing.alternate(made, rounds=2, block=0.0, pause=0.0, progress=said.append)
    assert "".join(calls) == "aaaaabbbbb" * 2
    assert {name: t.calls for name, t in times.items()} == {"a": 6, "b": 6}
    assert all(0 <= t.least <= t.median for t in times.values())
    assert said == ["round 1 of 2: a", "round 1 of 2: b", "round 2 of 2: a", "round 2 of 2: b"]


# ------------------------------------------------------------------------------------------------ layers


@pytest.mark.parametrize("mode", ["infer", "train"])
def test_layers(mode: str) -> None:
    net = package.parse(MIXED)
    case = (engines.inference if mode == "infer" else engines.training)(engines.Setting(net, mode, 3, 2))
    compiled = case.executable.runner
    before = {k: v.copy() for k, v in case.executable.values.items()}
    timed = profile.steps(compiled, case.inputs, 2)
    assert [t.step for t in timed] == list(compiled.plan(3).steps)
    assert all(t.seconds > 0 for t in timed)
    rows = profile.layers(case.executable.graph, timed, 3)
    assert sum(r.seconds for r in rows) == pytest.approx(sum(t.seconds for t in timed))
    named = {(r.layer, r.op): r for r in rows}
    stem = named["stem", "conv"]
    assert stem.flops == 2 * 3 * 18 * 10 * 9 * 3 * 25
    assert stem.bytes >= 4 * (3 * 3 * 19 * 17 + 18 * 75)
    assert {"unit1.conv1", "unit2.down", "left", "grouped", "hidden", "out"} <= {r.layer for r in rows}
    if mode == "train":
        assert ("unit1.conv1", "conv_weight_gradient") in named
        assert ("unit1.conv1", "conv_data_gradient") in named
        assert any((before[k] != v).any() for k, v in case.executable.values.items())


def test_layer_of_folded_weights_is_the_convolution() -> None:
    exe = package.compile(package.parse(LENET))
    owner = profile.owners(exe.graph)
    (conv,) = [n for n in exe.graph.of("conv") if exe.graph.type(n.name).shape[1] == 8]
    assert owner[conv.name] == "c2"


# ------------------------------------------------------------------------------------------------ pictures


def rows(**more: Any) -> list[profile.LayerTime]:
    return [
        profile.LayerTime("conv<1>", "conv", "direct & plain", 2e-3, 10**8, 10**6),
        profile.LayerTime("fc", "linear", "linear", 1e-3, 10**6, 4 * 10**6),
        profile.LayerTime("pool", "maxpool", "maxpool", 1e-4, 0, 10**6),
    ]


def test_roofline() -> None:
    text = svg(rows(), FIGURES, "a < b", 2)
    root = ET.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    dots = root.findall(f"{space}circle")
    assert len(dots) == 2
    titles = [d.find(f"{space}title").text for d in dots]
    assert titles[0].startswith("conv<1> (conv)\ndirect & plain\n2 ms, 50 GFLOP/s")
    texts = [t.text for t in root.findall(f"{space}text")]
    assert {"a < b", "conv<1>", "fc", "L2 200 GB/s", "memory 30 GB/s", "peak 190 GFLOP/s"} <= set(texts)
    assert "prefers-color-scheme: dark" in text
    for dot in dots:
        assert 0 < float(dot.get("cx")) < 960
        assert 0 < float(dot.get("cy")) < 620
    # a layer at the memory's limit lies on its line, and below it where it is slower
    on = [profile.LayerTime("x", "conv", "", 1e-3, 30 * 10**6, 10**6), *rows()]
    assert len(ET.fromstring(svg(on, FIGURES, "t", 2)).findall(f"{space}circle")) == 3


def test_roofline_of_nothing_and_of_one_thread() -> None:
    assert "<circle" not in svg([], FIGURES, "empty", 1)
    assert "peak 100 GFLOP/s" in svg(rows(), FIGURES, "one", 1)


# ------------------------------------------------------------------------------------------------ engines


def test_unknown_engine() -> None:
    with pytest.raises(CnncError, match="did you mean 'onnxruntime'") as caught:
        engines.known(["onxruntime"])
    assert caught.value.exit_code == 2
    assert engines.known([]) == ()


def test_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CnncError, match="E0650"):
        engines.known(["torch"])


@pytest.mark.parametrize("peer", [p for p in peers if p != "torch-compile"])
def test_inference_beside_a_peer(peer: str) -> None:
    report = run(engines.Setting(package.parse(MIXED), "infer", 2, 2, [peer]), **QUICK)
    names = [peer, f"{peer} channels_last"] if peer == "torch" else [peer]
    assert list(report.timings) == ["cnnc", *names]
    assert list(report.differences) == names
    assert all(d <= 1e-4 for d in report.differences.values())
    assert report.ratio == report.timings[report.best].median / report.timings["cnnc"].median


@pytest.mark.skipif("torch" not in peers, reason="PyTorch is not installed")
def test_training_beside_pytorch() -> None:
    against = ["torch", "onnxruntime"] if "onnxruntime" in peers else ["torch"]
    report = run(engines.Setting(package.parse(MIXED), "train", 4, 2, against), **QUICK)
    assert list(report.differences) == ["torch", "torch channels_last"]
    assert report.left_out == ({"onnxruntime": "it does not train"} if "onnxruntime" in peers else {})
    assert max(report.differences.values()) < 1e-4  # compared without the dropout, whose numbers differ


VOLUMES = """
model volumes() {
    input v: f32[N, 2, 5, 8, 8]
    h = v -> conv(16, 3, padding=1, bias=false) -> batchnorm -> relu -> conv(16, 3, padding=1, groups=16) -> maxpool(2)
    return h -> conv(20, 3, padding=1, stride=2) -> relu -> global_avgpool -> flatten -> linear(3)
}
"""


@pytest.mark.parametrize("peer", [p for p in peers if p != "torch-compile"])
def test_volumes_beside_a_peer(peer: str) -> None:
    for mode in ("infer", "train") if peer == "torch" else ("infer",):
        report = run(engines.Setting(package.parse(VOLUMES), mode, 2, 2, [peer]), **QUICK)
        assert report.differences
        assert all(d <= 1e-4 for d in report.differences.values())


@pytest.mark.slow
@pytest.mark.skipif("torch" not in peers, reason="PyTorch is not installed")
@pytest.mark.parametrize("mode", ["infer", "train"])
def test_compiled_pytorch(mode: str) -> None:
    report = run(engines.Setting(package.parse(LENET), mode, 4, 2, ["torch-compile"]), **QUICK)
    assert list(report.differences) == ["torch-compile", "torch-compile channels_last"]


def test_engines_that_disagree(monkeypatch: pytest.MonkeyPatch) -> None:
    real = engines.inference

    def wrong(*arguments: Any) -> engines.Case:
        case = real(*arguments)
        case.engines["liar"] = lambda: [case.engines["cnnc"]()[0] * 1.001]
        return case

    monkeypatch.setattr(engines, "inference", wrong)
    with pytest.raises(CnncError, match=r"liar by 1\.0e-03") as caught:
        run(engines.Setting(package.parse(LENET)), **QUICK)
    assert caught.value.exit_code == 4
    assert caught.value.diagnostics[0].code == "E0811"


# ------------------------------------------------------------------------------------------------ narrower vectors


def test_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in isa.SWITCHES["avx2"]:
        monkeypatch.delenv(name, raising=False)
    assert isa.switches(os.environ) == {}
    monkeypatch.setattr("sys.modules", {})
    said = isa.force("avx2", ("onnxruntime", "openvino", "torch", "torch-compile"), "avx512")
    assert isa.switches(os.environ) == {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    assert said == ["onnxruntime cannot be held to AVX2: it has no switch, and uses what the machine has"]
    assert "nothing wider" in isa.force("avx2", ("onnxruntime",), "avx2")[0]
    assert "SSE4.1" in isa.force("sse2", ("torch",), "avx2")[0]
    monkeypatch.setattr("sys.modules", {"torch": None})
    assert "loaded before" in isa.force("avx2", ("torch",), "avx2")[0]
    for name in isa.SWITCHES["avx2"]:
        monkeypatch.delenv(name, raising=False)
