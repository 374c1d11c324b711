"""Random networks against the reference: a few seeds at every run, and every network that has once failed.

More of them: `python -m tests.random_networks --seeds 100..200`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cnnc.ir.interpret import run
from cnnc.ir.text import parse_graph
from tests.random_networks.check import MODES, TARGETS, Checker, Setting, check, settings
from tests.random_networks.generate import KINDS, network
from tests.random_networks.reference import Mismatch
from tests.random_networks.shrink import shrink

CASES = sorted((Path(__file__).parent / "cases").glob("*.ir"))
SEEDS = range(4)


@pytest.mark.parametrize("seed", SEEDS)
def test_seed(seed: int) -> None:
    check(network(seed), thorough=False, turn=seed)


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_case(path: Path) -> None:
    checker = Checker(parse_graph(path.read_text(encoding="utf-8"), path.name))
    for mode in MODES:
        checker.check(Setting(mode, TARGETS[0]))


def test_every_kind_of_op_is_drawn() -> None:
    ops = {n.op for seed in range(280) for n in network(seed).nodes}
    assert ops >= {"conv", "linear", "maxpool", "avgpool", "global_avgpool", "batchnorm", "lrn", "dropout", "softmax"}
    assert ops >= {"concat", "slice", "flatten", "mean", "sum", "div", "selu", "sqrt"}
    assert str(network(3)) == str(network(3))
    assert len(KINDS) > 15


def test_a_wrong_result_is_found_and_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that takes the largest of one value too few."""
    from cnnc.backends.cpu.rules import pool as rules

    plan = rules.pool_plan.plan_maxpool

    def wrong(target, pool, *rest):  # type: ignore[no-untyped-def]
        return plan(target, replace(pool, kernel=(*pool.kernel[:-1], max(pool.kernel[-1] - 1, 1))), *rest)

    graph = parse_graph(
        """graph @g(%x: f32[N,3,6,5] nchw) {
          %a = relu(%x) : f32[N,3,6,5] nchw
          %b = maxpool(%a) {kernel=[2,2]} : f32[N,3,5,4] nchw
          %c = abs(%b) : f32[N,3,5,4] nchw
          return %c as "y", %a as "z"
        }"""
    )
    setting = Setting("inference", TARGETS[0])
    Checker(graph).check(setting)
    monkeypatch.setattr(rules.pool_plan, "plan_maxpool", wrong)

    def fails(candidate):  # type: ignore[no-untyped-def]
        try:
            Checker(candidate).check(setting)
        except Mismatch:
            return True
        return False

    assert fails(graph)
    small = shrink(graph, fails)
    assert [n.op for n in small.nodes] == ["input", "maxpool"]


def test_settings() -> None:
    everything = list(settings())
    assert all(Setting.parse(str(s)) == s for s in everything)
    assert {s for turn in range(40) for s in settings(False, turn)} <= set(everything)


def test_exactness_and_tolerance() -> None:
    """What adds and multiplies whole numbers is met to the bit; what rounds, nearly."""
    graph = parse_graph(
        """graph @g(%x: f32[N,3] ) {
          %w = param : f32[4,3]
          %y = linear(%x, %w) : f32[N,4]
          %z = sigmoid(%y) : f32[N,4]
          return %y, %z
        }"""
    )
    reference = Checker(graph).reference("inference", 3, True)
    assert reference.exact == {"x", "w", "y"}
    assert 1e-7 < reference.tolerance("z") < 1e-4
    found = run(graph, reference.inputs, reference.values)
    reference.compare("z", "z", found["z"] + 1e-8)
    with pytest.raises(Mismatch):
        reference.compare("z", "z", found["z"] + 1e-3)
    with pytest.raises(Mismatch, match="to the bit"):
        reference.compare("y", "y", found["y"] + 1e-8)
