"""Plans print and parse back, and their live buffers never overlap."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cnnc
from cnnc import driver
from cnnc.backends import backend
from cnnc.backends.cpu import CpuBackend
from cnnc.diagnostics import CnncError
from cnnc.ir.text import parse_graph, print_graph
from cnnc.lowering import chain, memory
from cnnc.lowering.lower import lower
from cnnc.lowering.memory import Life
from cnnc.lowering.place import lives_of
from cnnc.lowering.plan import parse_plan
from cnnc.passes.optimizer import SGD
from cnnc.passes.training import training_graph
from tests.networks import ALL_EXAMPLES, EXAMPLES, MIXED

CPU = backend("cpu")


def graphs(net):
    yield net.graph
    yield training_graph(net.graph, optimizer=SGD(momentum=0.9))


def check(plan):
    assert parse_plan(str(plan)) == plan
    for place, size in (("arena", plan.arena), ("own", plan.own)):
        offsets = {b.name: b.offset for b in plan.buffers if b.place == place}
        memory.check(lives_of(plan, place), offsets, size)
    chain.check(plan)
    written = {b.name for b in plan.buffers if b.place in ("input", "value", "table")}
    for step in (*plan.setup, *plan.steps):
        assert set(step.reads()) <= written, step
        written |= set(step.writes)
    assert {b for _, b in plan.outputs} <= written


@pytest.mark.parametrize(("file", "parameters"), ALL_EXAMPLES, ids=str)
def test_examples(file, parameters):
    for graph in graphs(cnnc.load(EXAMPLES / file, **parameters)):
        check(lower(driver.optimize(graph, CPU.layouts())[0], 8, CPU))


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_a_network_of_everything(batch):
    for graph in graphs(cnnc.parse(MIXED)):
        check(lower(driver.optimize(graph, CPU.layouts())[0], batch, CPU))


@pytest.mark.parametrize("target", ["avx512", "avx2"])
@pytest.mark.parametrize("mode", ["infer", "train"])
def test_golden(mode, target):
    """The Plan of LeNet-5, whatever machine the tests run on. UPDATE_GOLDEN=1 writes the files anew."""
    machine = CpuBackend(target)
    infer, train = graphs(cnnc.load(EXAMPLES / "lenet5.cnn"))
    text = str(lower(driver.optimize(infer if mode == "infer" else train, machine.layouts())[0], 1, machine))
    path = Path(__file__).parent / "cases" / f"lenet5-{mode}-{target}.plan"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("file", "parameters"), ALL_EXAMPLES, ids=str)
def test_every_stage_prints_and_parses_back(file, parameters):
    for graph in graphs(cnnc.load(EXAMPLES / file, **parameters)):
        _, stages = driver.optimize(graph, CPU.layouts())
        seen = []
        for title, stage in stages.stages:
            if not any(stage is s for s in seen):
                assert parse_graph(print_graph(stage), title) == stage
                seen.append(stage)


def test_setup_reads_only_what_never_changes():
    net = cnnc.parse(MIXED)
    inference = lower(driver.optimize(net.graph, CPU.layouts())[0], 1, CPU)
    assert inference.setup
    assert not any("pack" in s.kernel.family for s in inference.steps)
    training = lower(driver.optimize(training_graph(net.graph, optimizer=SGD()), CPU.layouts())[0], 1, CPU)
    assert not any("pack" in s.kernel.family for s in training.setup)


@pytest.mark.parametrize(("file", "parameters"), [("resnet.cnn", {"depth": 18}), ("vgg.cnn", {"depth": 11})], ids=str)
def test_the_arena_of_training_is_hardly_larger_than_what_lives_at_once(file, parameters):
    net = cnnc.load(EXAMPLES / file, **parameters)
    plan = lower(driver.optimize(training_graph(net.graph, optimizer=SGD(momentum=0.9)), CPU.layouts())[0], 4, CPU)
    lives = lives_of(plan)
    most = max(sum(b.bytes for b in lives if b.first <= i <= b.last) for i in range(len(plan.steps)))
    assert plan.arena <= 1.02 * most


def test_gradients_of_large_layers_are_not_kept():
    """VGG-11's first fully connected layer has 411 MB of weights; its gradient is the largest, and alone at the end."""
    net = cnnc.load(EXAMPLES / "vgg.cnn", depth=11)
    plan = lower(driver.optimize(training_graph(net.graph, optimizer=SGD(momentum=0.9)), CPU.layouts())[0], 8, CPU)
    assert plan.arena <= 1.01 * 4 * 25088 * 4096


@given(st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 30), st.integers(0, 10)), min_size=1, max_size=60))
def test_placement_of_any_lifetimes(given_lives):
    lives = [Life(f"b{i}", size, first, first + length) for i, (size, first, length) in enumerate(given_lives)]
    offsets, size = memory.place(lives)
    memory.check(lives, offsets, size)
    assert size <= sum(memory.aligned(b.bytes) for b in lives)
    assert all(offset % memory.ALIGNMENT == 0 for offset in offsets.values())


def test_the_walk_finds_an_overlap():
    lives = [Life("a", 64, 0, 2), Life("b", 64, 2, 3)]
    with pytest.raises(AssertionError, match="overlap"):
        memory.check(lives, {"a": 0, "b": 32}, 128)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plan",
        "plan @x target=avx512 batch=1 arena=0 own=0 scratch=0 {\n  step %a: k{}(x=%",
        "plan @x target=avx512 batch=z arena=0 own=0 scratch=0 {",
        "plan @x target=a batch=1 arena=0 own=0 scratch=0 {\n  buffer %a 1 nowhere",
    ],
)
def test_bad_text_is_a_diagnostic(text):
    with pytest.raises(CnncError) as e:
        parse_plan(text)
    assert e.value.diagnostics[0].code == "E0505"
