"""Chains: what they are made of, that links run in any order, and that results are those of single steps to the bit."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

import cnnc
from cnnc import driver
from cnnc.backends.cpu import CpuBackend
from cnnc.ir.interpret import random_values
from cnnc.lowering import chain, memory, place
from cnnc.lowering.lower import lower
from cnnc.lowering.plan import Buffer, KernelName, Ref, Step, parse_plan
from cnnc.passes.optimizer import SGD
from cnnc.passes.training import training_graph
from cnnc.runtime import profile
from cnnc.runtime.compiled import Compiled
from tests.networks import EXAMPLES, MIXED

INVERTED = """
block part(x, filters, stride) {
    y = x -> conv(48, 1, bias=false) -> batchnorm -> relu6
    z = y -> conv(48, 3, stride=stride, padding=1, groups=48, bias=false) -> batchnorm -> relu6
    return z -> conv(filters, 1, bias=false) -> batchnorm
}
model inverted(classes = 10) {
    input image: f32[N, 3, 24, 24]
    x = image -> conv(16, 3, padding=1, bias=false) -> batchnorm -> relu6
    y = x -> part(16, 1)
    return (x + y) -> part(24, 2) -> global_avgpool -> flatten -> linear(classes)
}
"""
KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
NETWORKS = {
    "lenet": lambda: cnnc.load(EXAMPLES / "lenet5.cnn"),
    "everything": lambda: cnnc.parse(MIXED),
    "inverted": lambda: cnnc.parse(INVERTED),
}


def compiled(network, mode, batch):
    graph = network.graph if mode == "infer" else training_graph(network.graph, optimizer=SGD(momentum=0.9))
    machine = CpuBackend()
    graph = driver.optimize(graph, machine.layouts())[0]
    inputs, values = random_values(graph, batch, 0)
    inputs = {k: np.asarray(v, np.int64 if graph.type(k).dtype == "i64" else np.float32) for k, v in inputs.items()}
    return Compiled(graph, values, machine, 2), inputs


def backwards(run, inputs, batch):
    """What a call computes when the links of every chain run from the last to the first, in memory full of NaN, as is a
    worker's own before each link.
    """
    program = run.program(batch)
    (frame,) = program._frames
    frame.arena.array[:] = 0xFF
    for result in frame.results.values():
        result.take()[:] = 0xFF
    arrays = frame.bound(inputs)
    frame.runner.bind(arrays)
    scratch = frame.runner._scratch[0].ctypes.data
    steps, spans = program.plan.steps, chain.spans(program.plan.steps)
    own = {b.name: b for b in program.plan.buffers if b.place == "own"}
    memory = frame.arena.array[program.plan.arena :]
    for begin, last in sorted(set(spans)):
        links = steps[begin].links or 1
        for link in reversed(range(links)):
            memory[:] = 0xFF
            for i in range(begin, last + 1):
                for j, (_, a) in enumerate(steps[i].arguments):
                    if isinstance(a, Ref) and a.buffer in own:
                        b = own[a.buffer]
                        frame.runner.blocks[i, j] = memory.ctypes.data + b.offset + a.offset - link * b.bytes
                kernel, each = KERNEL(program.device.code.address(steps[i].kernel)), steps[i].chunks // links
                for chunk in range(link * each, (link + 1) * each):
                    kernel(frame.runner.blocks[i].ctypes.data, chunk, scratch)
    found = {o.label: o.of(arrays) if o.read is None else o.read() for o in frame.outputs if o.buffer not in inputs}
    return {label: np.frombuffer(array.tobytes(), np.uint8) for label, array in found.items()}


@pytest.mark.parametrize("mode", ["infer", "train"])
@pytest.mark.parametrize("name", NETWORKS)
def test_bits_are_those_of_single_steps(name, mode, monkeypatch):
    batch = 8
    network = NETWORKS[name]()
    run, inputs = compiled(network, mode, batch)
    plan = run.plan(batch)
    assert any(s.follows for s in plan.steps)
    chain.check(plan)
    assert parse_plan(str(plan)) == plan
    chained = {k: v.reshape(-1).view(np.uint8) for k, v in run.run(inputs).items()}
    if mode == "infer":
        for label, bits in backwards(run, inputs, batch).items():
            np.testing.assert_array_equal(bits, chained[label], err_msg=label)
    monkeypatch.setattr(chain, "form", lambda steps, *_: [replace(s, links=0) for s in steps])
    single, _ = compiled(network, mode, batch)
    assert not any(s.links for s in single.plan(batch).steps)
    for label, value in single.run(inputs).items():
        np.testing.assert_array_equal(value.reshape(-1).view(np.uint8), chained[label], err_msg=label)
    for key, value in single.values.items():
        np.testing.assert_array_equal(value, run.values[key], err_msg=key)


def test_what_one_chain_touches_is_a_workers_own(monkeypatch):
    batch = 8
    run, inputs = compiled(NETWORKS["inverted"](), "infer", batch)
    plan = run.plan(batch)
    own = [b for b in plan.buffers if b.place == "own"]
    lives = place.lives_of(plan, "own")
    assert max(b.bytes for b in own) <= plan.own < sum(b.bytes for b in own)  # those that never meet share room
    assert {b.name for b in lives} == {b.name for b in own}
    memory.check(lives, {b.name: b.offset for b in own}, plan.own)
    expected = run.run(inputs)
    for threads in (1, 3, 8):
        other = Compiled(run.graph, run.values, run.backend, threads)
        poisoned = other.program(batch)._frames[0].arena.array
        assert other.memory(batch).arena == other.plan(batch).arena + threads * other.plan(batch).own == poisoned.nbytes
        poisoned[:] = 0xFF
        for label, value in other.run(inputs).items():
            np.testing.assert_array_equal(value, expected[label])
    apart = place.apart(plan)
    memory.check(place.lives_of(apart), {b.name: b.offset for b in apart.buffers}, apart.arena)
    assert not apart.own
    assert not any(s.links for s in apart.steps)
    timed = profile.steps(run, inputs, 1)
    assert [t.step for t in timed] == list(plan.steps)
    monkeypatch.setattr(place, "_owned", lambda *_: False)
    shared = Compiled(run.graph, run.values, run.backend, 2)
    assert not shared.plan(batch).own
    assert run.memory(batch).arena < 0.7 * shared.memory(batch).arena


def test_the_walk_finds_what_is_not_a_workers_own():
    plan = compiled(NETWORKS["inverted"](), "infer", 8)[0].plan(8)
    chain.check(plan)
    buffer = next(b.name for b in plan.buffers if b.place == "own")
    at = next(i for i, s in enumerate(plan.steps) if buffer in s.writes)
    touch = Step("late", KernelName("k"), (("x", Ref(buffer)),), 1)
    with pytest.raises(AssertionError, match="in no chain"):
        chain.check(replace(plan, steps=(*plan.steps, touch)))
    two = [replace(touch, links=8, chunks=8), replace(touch, links=8, chunks=8, follows=True)]
    with pytest.raises(AssertionError, match="two chains touch"):
        chain.check(replace(plan, steps=(*plan.steps, *two)))
    reading = replace(plan.steps[at], writes=())
    with pytest.raises(AssertionError, match="before a link wrote"):
        chain.check(replace(plan, steps=(*plan.steps[:at], reading, *plan.steps[at + 1 :])))


@pytest.mark.parametrize("target", ["avx512", "avx2"])
def test_a_small_network_begins_with_a_chain(target):
    machine = CpuBackend(target)
    graph = driver.optimize(cnnc.load(EXAMPLES / "lenet5.cnn").graph, machine.layouts())[0]
    steps = lower(graph, 16, machine).steps
    families = [s.kernel.family for s in steps if s.links]
    assert families == ["conv_direct", "avgpool", "conv_direct"]
    assert [s.follows for s in steps if s.links] == [False, True, True]
    assert not any(s.links for s in lower(graph, 1, machine).steps)


def step(reads, writes, links=8, chunks=8):
    arguments = tuple((f"x{i}", Ref(b)) for i, b in enumerate((*reads, *writes)))
    return Step("s", KernelName("k"), arguments, chunks, tuple(writes), links=links)


def formed(*steps, divided="abcd", size=8000):
    buffers = {b: Buffer(b, "arena", size) for b in "abcdwy"}
    return [s.follows for s in chain.form(steps, chain.Limits(buffers, set(divided), 8, 1 << 19))]


def test_what_makes_a_chain():
    one, two = step("a", "b"), step("b", "c")
    assert formed() == []
    assert formed(one, two) == [False, True]
    assert formed(one, step("c", "d")) == [False, False]  # nothing in common
    assert formed(one, replace(two, links=0)) == [False, False]
    assert formed(one, two, divided="ac") == [False, False]  # every image's b is read by all
    assert formed(one, step("bw", "c"), step("c", "w")) == [False, True, False]  # weights that other links still read
    assert formed(one, two, size=1 << 26) == [False, False]  # an image's b is far larger than the cache
    assert formed(one, step("bw", "c"), size=1 << 20) == [False, False]  # weights are
    assert formed(one, two, step("c", "a")) == [False, True, True]


def gathered(*steps, divided="abcd"):
    buffers = {b: Buffer(b, "arena", 8000) for b in "abcdwxy"}
    return chain.gather(steps, chain.Limits(buffers, set(divided), 8, 1 << 19))


def test_what_could_follow_is_brought_there():
    one, two, other = step("a", "b"), step("b", "c"), step("x", "y", links=0)
    assert gathered(one, other, two) == [0, 2, 1]
    packs = step("x", "w", links=0)
    assert gathered(one, packs, step("bw", "c")) == [1, 0, 2]  # its weights are packed before
    assert gathered(one, step("b", "w", links=0), step("bw", "c")) == [0, 1, 2]  # they are made of what the chain makes
    assert gathered(one, step("c", "x", links=0), two) == [1, 0, 2]  # the old c is read before
    assert gathered(one, step("b", "c", links=0), step("b", "c")) == [0, 1, 2]  # two writers of c
    assert gathered(packs, one, other, two, replace(other, links=8), step("c", "d")) == [0, 1, 3, 5, 2, 4]


def test_what_feeds_a_step_of_a_chain_follows_too():
    one, feeder, two = step("a", "b"), step("y", "d"), step("bd", "c")
    assert formed(one, feeder, two, divided="abcdy") == [False, True, True]
    assert formed(one, feeder, step("d", "c"), divided="abcdy") == [False, False, True]  # reads nothing of the chain
    assert formed(one, replace(feeder, links=0), two) == [False, False, False]
    assert formed(one, feeder, two, divided="abc") == [False, False, False]  # every image's d is read by all
    other = step("x", "w", links=0)
    assert gathered(one, other, feeder, two) == [0, 2, 3, 1]
    assert gathered(one, feeder, step("d", "w", links=0), step("bdw", "c")) == [1, 2, 0, 3]  # needed before
    assert gathered(one, step("b", "y", links=0), feeder, two) == [0, 1, 2, 3]  # made of what the whole chain makes


def test_in_training_sums_follow_the_convolution_and_its_input_comes_before():
    graph = training_graph(cnnc.parse(INVERTED).graph, optimizer=SGD())
    machine = CpuBackend("avx512")
    steps = lower(driver.optimize(graph, machine.layouts())[0], 8, machine).steps
    found = [(a.kernel.family, b.kernel.family) for a, b in pairwise(steps) if b.follows]
    for pair in (
        ("map", "conv_direct"),
        ("conv_direct", "moments"),
        ("depthwise", "moments"),
        ("depthwise", "reduce_channels"),
        ("conv_direct", "conv_pixel_weight_gradient"),
        ("depthwise", "map"),  # made again for the weight gradient
        ("map", "depthwise_weight_gradient"),
    ):
        assert pair in found


def test_chains_that_reach_far_take_no_memory(monkeypatch):
    machine = CpuBackend("avx2")
    graph = driver.optimize(cnnc.load(EXAMPLES / "mobilenetv2.cnn").graph, machine.layouts())[0]
    far = lower(graph, 16, machine)
    monkeypatch.setattr(chain, "FAR", chain.NEAR)
    near = lower(graph, 16, machine)
    assert far.arena <= 1.02 * near.arena
    assert sum(s.follows for s in far.steps) > sum(s.follows for s in near.steps) > 0


def test_text_that_follows_nothing_is_a_diagnostic():
    with pytest.raises(cnnc.CnncError):
        parse_plan("plan @x target=avx2 batch=8 arena=0 own=0 scratch=0 {\n  then %a: k{}() * 8 / 8 -> \n}\n")
