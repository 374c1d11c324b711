"""Random networks against the reference: two hundred seeds at every run, and every network that has once failed.

More of them: `python -m tests.random_networks --seeds 100..200`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cnnc.ir.interpret import run
from cnnc.ir.layer import LAYERS
from cnnc.ir.objective import LOSSES
from cnnc.ir.op import OPS
from cnnc.ir.text import parse_graph
from tests.random_networks.check import MODES, TARGETS, Checker, Setting, check, executables, settings
from tests.random_networks.generate import network
from tests.random_networks.layers import DRAWN
from tests.random_networks.reference import Mismatch
from tests.random_networks.shrink import shrink
from tests.random_networks.training import OPTIMIZERS, graph_of, losses

CASES = sorted((Path(__file__).parent / "cases").glob("*.ir"))
TOGETHER = 10  # seeds of a test
OPTIMIZED = 4
# Ops that are made by passes, losses and gradients alone.
MADE = {"numbers", "count", "batch_size", "reduce_channels", "merge_groups", "split_groups", "to_layout"}
MADE |= {"accuracy", "class_hits", "cross_entropy", "cross_entropy_terms", "cross_entropy_soft", "multiclass_hinge"}


@pytest.mark.parametrize("first", range(0, 200, TOGETHER))
def test_seeds(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of the time would go into optimizing kernels that run once: it is done for the first seeds alone."""
    for seed in range(first, first + TOGETHER):
        if seed >= OPTIMIZED:
            monkeypatch.setenv("CNNC_OPTIMIZE", "0")
        check(network(seed), thorough=False, turn=seed)


def test_kernels_that_are_not_optimized_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    checker = Checker(network(3))
    for setting in (Setting("inference", TARGETS[0]), Setting("gradients", TARGETS[-1])):
        reference, found = checker.reference(setting.mode, 3, False), []
        for effort in ("0", "3"):
            monkeypatch.setenv("CNNC_OPTIMIZE", effort)
            exe, _ = executables(reference.graph, setting, reference.values)
            found.append(checker.call(exe, reference, 3))
            assert exe.runner.backend.code.effort == int(effort)  # type: ignore[attr-defined]
        assert all(found[0][name].tobytes() == found[1][name].tobytes() for name in found[0])


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_case(path: Path) -> None:
    checker = Checker(parse_graph(path.read_text(encoding="utf-8"), path.name))
    for mode in MODES:
        checker.check(Setting(mode, TARGETS[0]))


def test_every_layer_and_op_is_drawn() -> None:
    assert DRAWN.keys() == LAYERS.keys()
    networks = [network(seed) for seed in range(500)]
    ops = {n.op for graph in networks for n in graph.nodes}
    assert {op for op in OPS if not op.endswith("_gradient")} - MADE <= ops
    assert str(network(3)) == str(networks[3])
    shapes = [[graph.type(value) for _, value in graph.outputs] for graph in networks]
    assert {len(types) for types in shapes} >= {1, 2, 3, 4}
    assert any(t.rank == 0 for types in shapes for t in types)
    assert {len(graph.inputs) for graph in networks} == {1, 2, 3}
    assert {graph.inputs[0].type.rank for graph in networks} == {3, 4, 5}


def test_every_loss_and_optimizer_is_drawn() -> None:
    found = [graph_of(network(seed), "step") for seed in range(120)]
    losses_ = {loss.name for seed in range(120) for loss in losses(network(seed))}
    assert losses_ == LOSSES.keys()
    states = {
        n.name.split(".")[1] for graph in found if graph is not None for n in graph.states if "optimizer" in n.name
    }
    assert states == {state for optimizer in OPTIMIZERS for state in optimizer.states}


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
    assert {s for turn in range(800) for s in settings(False, turn)} <= set(everything)


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
