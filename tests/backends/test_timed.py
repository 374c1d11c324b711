"""The machine's pace, and timed runs where estimates are close, decide once; nothing else depends on them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc import driver
from cnnc.artifact import open_artifact, save
from cnnc.backends import backend
from cnnc.backends.cpu import TUNED, CpuBackend, choice, decisions, trials
from cnnc.backends.cpu.choice import Decision
from cnnc.backends.cpu.machine import Cache
from cnnc.backends.cpu.pace import pace_of
from cnnc.kernels.cpu.target import TARGETS, Pace
from cnnc.lowering.figures import Figures, Level
from cnnc.lowering.lower import lower
from cnnc.passes.optimizer import SGD
from cnnc.passes.training import training_graph

NET = cnnc.parse(
    """
model m() {
    input x: f32[N, 32, 12, 12]
    return x -> conv(32, 3, padding=1) as one -> relu -> conv(32, 3, padding=1) as two -> relu
             -> conv(48, 5, padding=2) as five -> global_avgpool -> flatten -> linear(3) as fc
}
"""
)
X = np.random.default_rng(0).standard_normal((2, 32, 12, 12)).astype(np.float32)
NOTES = re.compile(r"# (.*)")


@pytest.fixture
def decided(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """Everything is close, the last algorithm is the fastest, and nothing is remembered yet; the problems that were timed."""
    calls: list[list[str]] = []

    def decide(group: Mapping[str, Any], *rest: Any) -> Decision:
        calls.append(list(group))
        return Decision(list(group)[-1], {name: 1000.0 / (i + 1) for i, name in enumerate(group)})

    monkeypatch.setattr(choice, "CLOSE", 1e9)
    monkeypatch.setattr(trials, "_decide", decide)
    monkeypatch.setattr(trials, "pace_of", lambda *machine: Pace())
    monkeypatch.setattr(trials.machine, "remembered", lambda *machine: figures(474))
    monkeypatch.setattr(decisions, "folder", lambda: tmp_path)
    monkeypatch.setattr(decisions, "_tunings", {})
    return calls


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process knows."""
    monkeypatch.setattr(decisions, "_tunings", {})


def plan(tune: bool, target: str = "cpu", exact: bool = False) -> str:
    return driver.compile(NET, tune=tune, target=target, exact=exact).plan(2)


def test_once_and_remembered(decided: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    exe = driver.compile(NET, tune=True)
    y = exe(X)
    assert len(decided) == 2  # both 3x3 layers are the same problem
    assert all("direct" in group for group in decided)
    assert len(list(tmp_path.glob("decisions-*.json"))) == 1
    assert "timed at" in exe.plan(2)
    assert exe.plan(2) != plan(False)
    forget(monkeypatch)
    assert driver.compile(NET, tune=True).plan(2) == exe.plan(2)
    for threads in (1, 2):  # cut otherwise, decided alike
        again = driver.compile(NET, tune=True, threads=threads)
        assert NOTES.findall(again.plan(2)) == NOTES.findall(exe.plan(2))
        np.testing.assert_array_equal(again(X), y)
    assert len(decided) == 2
    np.testing.assert_allclose(driver.compile(NET, tune=False)(X), y, rtol=1e-4, atol=1e-5)
    exe.plan(5)
    assert len(decided) == 4  # another batch is another problem


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"format": 2}', "[" * 100_000, "other", "wrong", "unknown", "pace", "no pace"],
)
def test_a_damaged_file(
    decided: list[list[str]], content: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = plan(True)
    (path,) = tmp_path.glob("decisions-*.json")
    record = json.loads(path.read_text())
    if content == "other":
        content = json.dumps({**record, "kernels": "of another version"})
    elif content == "wrong":
        content = json.dumps({**record, "decisions": {key: ["direct"] for key in record["decisions"]}})
    elif content == "unknown":
        each = {"algorithm": "guess", "microseconds": {}}
        content = json.dumps({**record, "decisions": dict.fromkeys(record["decisions"], each)})
    elif content == "pace":
        content = json.dumps({**record, "pace": {"own": 1, "shared": 0, "memory": 1}})
    elif content == "no pace":
        content = json.dumps({**record, "pace": {"speed": 1}})
    path.write_text(content)
    forget(monkeypatch)
    assert plan(True) == first
    assert len(decided) == 4
    assert json.loads(path.read_text()) == record


def test_a_file_that_others_may_write_is_not_read(
    decided: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan(True)
    (path,) = tmp_path.glob("decisions-*.json")
    path.chmod(0o666)
    forget(monkeypatch)
    assert TUNED.tuning == decisions.Tuning()


def test_no_folder_no_runs(decided: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "ready", lambda: False)
    assert plan(True) == plan(False)
    assert decided == []


def test_far_apart(decided: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "CLOSE", 1.0)
    assert plan(True) == plan(False)
    assert decided == []


def test_no_time_left(decided: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "BUDGET", -1.0)
    assert plan(True) == plan(False)
    assert decided == []
    assert {d.microseconds == {} for d in TUNED.tuning.decisions.values()} == {True}


def test_what_is_not_settled_is_tried_again(
    decided: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It holds for this process, and for its artifacts; later processes settle it."""
    decide, settled = trials._decide, [False, True]
    monkeypatch.setattr(trials, "_decide", lambda *args: replace(decide(*args), settled=settled.pop(0)))
    exe = driver.compile(NET, tune=True)
    first = exe.plan(2)
    assert plan(True) == first
    assert len(decided) == 2
    (path,) = tmp_path.glob("decisions-*.json")
    assert len(json.loads(path.read_text())["decisions"]) == 1
    save(exe, tmp_path / "m.cnnx", 2)
    assert open_artifact(tmp_path / "m.cnnx").plan(2) == first
    forget(monkeypatch)
    settled.append(True)
    assert plan(True) == first
    assert len(decided) == 3
    assert len(json.loads(path.read_text())["decisions"]) == 2
    forget(monkeypatch)
    assert plan(True) == first
    assert len(decided) == 3


def test_a_machine_that_is_too_busy_is_not_timed_further(
    decided: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    decide = trials._decide
    monkeypatch.setattr(trials, "_decide", lambda *args: replace(decide(*args), settled=False))
    monkeypatch.setattr(trials, "UNSETTLED", 1)
    plan(True)
    assert len(decided) == 1
    assert [d.settled for d in TUNED.tuning.decisions.values()] == [False, False]


def test_a_pace_that_could_not_be_measured_is_not_kept(
    decided: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(trials, "pace_of", lambda *machine: Pace(2, 4, 4))
    monkeypatch.setattr(trials.machine, "remembered", lambda *machine: None)
    monkeypatch.setattr(trials.machine, "measure", lambda *machine: figures(474))
    plan(True)
    assert TUNED.target.pace == Pace()
    (path,) = tmp_path.glob("decisions-*.json")
    assert json.loads(path.read_text())["pace"] is None
    assert json.loads(path.read_text())["decisions"]
    forget(monkeypatch)
    monkeypatch.setattr(trials.machine, "remembered", lambda *machine: figures(474))
    plan(True)
    assert TUNED.target.pace == Pace(2, 4, 4)
    assert json.loads(path.read_text())["pace"] is not None


@pytest.mark.parametrize(
    ("seconds", "algorithm", "settled", "rounds"),
    [
        ({"direct": [100], "fast": [80]}, "fast", True, 4),
        ({"direct": [100], "fast": [99]}, "direct", True, 4),  # not clearly faster
        ({"direct": [100, 900, 100, 900], "fast": [80, 700, 80, 700]}, "fast", True, 4),  # runs that were held up
        ({"direct": [100], "fast": [9000, 13470, 9000, 20000, 80, 81]}, "fast", True, 6),
        ({"direct": [100], "fast": [9000, 13470, 30000, 50000] * 4}, "direct", True, 8),  # two agree in the end
        ({"direct": [100], "fast": [900 * 1.3**n for n in range(16)]}, "direct", False, 16),
        ({"direct": [100], "far": [13470]}, "direct", True, 8),  # it is so
    ],
)
def test_runs_that_disagree_are_repeated(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[str, list[float]], algorithm: str, settled: bool, rounds: int
) -> None:
    """Times in microseconds, in turn, from the second run of each on."""
    now, counts = [0.0], dict.fromkeys(seconds, 0)

    class Trial:
        fresh = "x"

        def __init__(self, name: str) -> None:
            self.name, self.memory = name, {"x": np.zeros(1)}

        def runners(self, *rest: Any) -> tuple[Any, Any]:
            return (lambda: None), self.run

        def run(self) -> None:
            times, n = seconds[self.name], counts[self.name]
            now[0] += times[max(n - 1, 0) % len(times)] / 1e6
            counts[self.name] += 1

    monkeypatch.setattr(trials.time, "perf_counter", lambda: now[0])
    found = trials._decide({name: Trial(name) for name in seconds}, None, lambda: None)  # type: ignore[misc]
    assert (found.algorithm, found.settled) == (algorithm, settled)
    assert set(counts.values()) == {rounds + 1}
    assert set(found.microseconds) == (set(seconds) if settled else set())


def test_only_for_the_machine_itself(decided: list[list[str]]) -> None:
    tuned = plan(True)
    own = f"cpu-{TUNED.name}"
    assert plan(True, target=own) == plan(False, target=own) != tuned
    assert plan(True, exact=True) == plan(False, exact=True) != tuned
    assert len(decided) == 2
    for name in TARGETS:
        machine = CpuBackend(name)
        graph = driver.optimize(training_graph(NET.graph, optimizer=SGD(momentum=0.9)), machine.layouts())[0]
        machine.tune(graph, 2)
        assert "timed at" not in str(lower(graph, 2, machine))
    assert len(decided) == 2
    assert backend("cpu", tune=True) is TUNED
    assert not isinstance(backend("reference", tune=True), CpuBackend)


def test_by_default(decided: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CNNC_TUNE")
    assert "timed at" in driver.compile(NET).plan(2)
    monkeypatch.setenv("CNNC_TUNE", "0")
    assert "timed at" not in driver.compile(NET).plan(2)


def test_an_artifact_keeps_what_was_decided(
    decided: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    exe = driver.compile(NET, tune=True, batch=2)
    other = exe.plan(5)
    save(exe, tmp_path / "m.cnnx", 2)
    for path in tmp_path.glob("decisions-*.json"):
        path.unlink()
    forget(monkeypatch)
    opened = open_artifact(tmp_path / "m.cnnx")
    np.testing.assert_array_equal(opened(X), exe(X))
    assert opened.plan(2) == exe.plan(2)
    assert opened.plan(5) == other  # at any batch, as the cache had it
    assert other != driver.compile(NET, tune=False).plan(5)
    assert len(decided) == 4


@pytest.mark.parametrize("pace", [Pace(0.5, 0.125, 0.125), Pace(2, 4, 4), Pace(1, 1, 0.125)], ids=str)
def test_a_machine_of_another_pace(
    pace: Pace, decided: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is measured once, decides the plan, and changes no result; artifacts keep it."""
    monkeypatch.setattr(choice, "CLOSE", 1.0)
    paces = [pace, Pace()]
    monkeypatch.setattr(trials, "pace_of", lambda *machine: paces.pop(0))
    wide = cnnc.parse(
        """
model m() {
    input x: f32[N, 256, 14, 14]
    return x -> conv(512, 3, padding=1) -> relu -> conv(512, 1) -> relu -> conv(256, 3, padding=1) as last
             -> global_avgpool -> flatten -> linear(3) as fc
}
"""
    )
    x = np.random.default_rng(0).standard_normal((2, 256, 14, 14)).astype(np.float32)
    exe = driver.compile(wide, tune=True, batch=2)
    y = exe(x)
    assert TUNED.target.pace == TUNED.tuning.pace == pace
    assert exe.plan(2) != driver.compile(wide, tune=False).plan(2)
    np.testing.assert_allclose(driver.compile(wide, tune=False)(x), y, rtol=1e-4, atol=1e-5)
    forget(monkeypatch)
    for threads in (1, 2):
        np.testing.assert_array_equal(driver.compile(wide, tune=True, threads=threads)(x), y)
    save(exe, tmp_path / "m.cnnx", 2)
    for path in tmp_path.glob("decisions-*.json"):
        path.unlink()
    forget(monkeypatch)
    opened = open_artifact(tmp_path / "m.cnnx")
    assert opened.plan(2) == exe.plan(2)
    np.testing.assert_array_equal(opened(x), y)
    assert TUNED.target.pace == Pace()
    assert driver.compile(wide, tune=True).plan(2) == driver.compile(wide, tune=False).plan(2)
    assert (paces, decided) == ([], [])


def test_training_at_another_pace(decided: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "CLOSE", 1.0)
    labels = np.array([0, 2])
    expected, gradients = driver.value_and_grad(NET, tune=False)(X, labels)
    for pace in (Pace(0.5, 0.125, 0.125), Pace(2, 4, 4)):
        monkeypatch.setattr(decisions, "_tunings", {})
        monkeypatch.setattr(decisions, "_read", lambda *file: decisions.Tuning())
        monkeypatch.setattr(trials, "pace_of", lambda *machine, pace=pace: pace)
        loss, found = driver.value_and_grad(NET, tune=True)(X, labels)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        for name, value in gradients.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-5)


def figures(peak: float, *levels: Level, threads: int = 2) -> Figures:
    return Figures("made up", "avx512", threads, peak / threads, peak, levels)


def level(name: str, rate: float) -> Level:
    return Level(name, None, rate, rate)


def test_paces() -> None:
    wide, narrow, own = TARGETS["avx512"], TARGETS["avx2"], (Cache("L1", 2**15, 1), Cache("L2", 2**20, 1))
    usual = level("L3", 220), level("memory", 60)
    assert pace_of(wide, figures(474, *usual), own) == Pace()
    assert (
        pace_of(wide, figures(450, level("L3", 240), level("memory", 64)), own) == Pace()
    )  # it varies from run to run
    assert pace_of(wide, figures(948, *usual), own) == Pace(1, 0.5, 0.5)  # more multiply-adds, as many bytes
    assert pace_of(narrow, figures(237, *usual), own) == Pace(2, 1, 1)  # as many bytes for as many instructions
    assert pace_of(wide, figures(237 * 16, level("L3", 1760), level("memory", 120), threads=16), own) == Pace(
        1, 1, 0.25
    )
    # nothing is behind a core's cache
    assert pace_of(wide, figures(474, level("memory", 60)), own) == Pace(1, 2**-2, 1)
    assert pace_of(wide, figures(474, level("memory", 60)), ()) == Pace()  # nothing is known of caches
    assert pace_of(wide, figures(474, *usual), (Cache("L2", 2**20, 4),)).own == 0.5  # shared by four
    assert pace_of(wide, figures(474), ()) == Pace()
    assert pace_of(wide, figures(0, *usual), own) == Pace()
    assert pace_of(wide, figures(474, level("L3", 1e9), level("memory", 1e-9)), own) == Pace(1, 4, 0.125)


def test_what_is_timed_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every algorithm of forward and both gradients is really run, and training gives what it gives without."""
    monkeypatch.setattr(choice, "CLOSE", 1e9)
    monkeypatch.setattr(trials, "AGREE", 1e9)  # however busy the machine is
    monkeypatch.setattr(decisions, "folder", lambda: tmp_path)
    forget(monkeypatch)
    labels = np.array([0, 2])
    losses, gradients = zip(*(driver.value_and_grad(NET, tune=tune)(X, labels) for tune in (True, False)), strict=True)
    np.testing.assert_allclose(*losses, rtol=1e-5)
    for name, expected in gradients[1].items():
        np.testing.assert_allclose(gradients[0][name], expected, rtol=1e-3, atol=1e-5)
    executable = driver.compile_training(NET, optimizer=SGD(momentum=0.9), tune=True)
    inputs = {"x": X, "labels": labels, "learning_rate": np.array(0.1, np.float32), "seed": np.zeros(2, np.int64)}
    executable.run({n.name: inputs[n.name] for n in executable.graph.inputs})
    found = TUNED.tuning.decisions
    assert {key.split()[0] for key in found} == {"conv", "conv_data_gradient", "conv_weight_gradient"}
    assert any(key.endswith("repacked") for key in found)
    for decision in found.values():
        assert len(decision.microseconds) > 1
        assert decision.algorithm in decision.microseconds
        assert all(0 < t < 1e6 for t in decision.microseconds.values())
