"""Chains: what they are made of, that links run in any order, and that results are those of single steps to the bit."""

from __future__ import annotations

import ctypes
from dataclasses import replace

import numpy as np
import pytest

import cnnc
from cnnc import driver
from cnnc.backends.cpu import CpuBackend
from cnnc.ir.interpret import random_values
from cnnc.lowering import chain
from cnnc.lowering.plan import Buffer, KernelName, Ref, Step, parse_plan
from cnnc.passes.optimizer import SGD
from cnnc.passes.training import training_graph
from cnnc.runtime.compiled import Compiled
from tests.networks import EXAMPLES, MIXED

KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
NETWORKS = {
    "lenet": lambda: cnnc.load(EXAMPLES / "lenet5_relu.cnn"),
    "everything": lambda: cnnc.parse(MIXED),
}


def compiled(network, mode, batch):
    graph = network.graph if mode == "infer" else training_graph(network.graph, optimizer=SGD(momentum=0.9))
    machine = CpuBackend()
    graph = driver.optimize(graph, machine.lanes)[0]
    inputs, values = random_values(graph, batch, 0)
    inputs = {k: np.asarray(v, np.int64 if graph.type(k).dtype == "i64" else np.float32) for k, v in inputs.items()}
    return Compiled(graph, values, machine, 2), inputs


def backwards(run, inputs, batch):
    """What a call computes when the links of every chain run from the last to the first, in memory full of NaN."""
    program = run.program(batch)
    (frame,) = program._frames
    frame.arena[:] = 0xFF
    for name in frame.runner.slots:
        frame.runner.bind(name, inputs[name].ctypes.data)
    scratch = frame.runner._scratch[0].ctypes.data
    steps, spans = program.plan.steps, chain.spans(program.plan.steps)
    for begin, last in sorted(set(spans)):
        links = steps[begin].links or 1
        for link in reversed(range(links)):
            for i in range(begin, last + 1):
                kernel, each = KERNEL(program.machine.address(steps[i].kernel)), steps[i].chunks // links
                for chunk in range(link * each, (link + 1) * each):
                    kernel(frame.runner.blocks[i].ctypes.data, chunk, scratch)
    return {label: frame._view(name, program).copy() for label, _, name, _, _ in frame.outputs if name not in inputs}


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


@pytest.mark.parametrize("target", ["avx512", "avx2"])
def test_a_small_network_is_one_chain_up_to_its_matrices(target):
    machine = CpuBackend(target)
    graph = driver.optimize(cnnc.load(EXAMPLES / "lenet5_relu.cnn").graph, machine.lanes)[0]
    steps = machine.plan(graph, 16).steps
    families = [s.kernel.family for s in steps if s.links]
    assert families == ["conv_direct", "maxpool", "conv_direct", "maxpool", "unblock"]
    assert [s.follows for s in steps if s.links] == [False, True, True, True, True]
    assert not any(s.links for s in machine.plan(graph, 1).steps)


def step(reads, writes, links=8, chunks=8):
    arguments = tuple((f"x{i}", Ref(b)) for i, b in enumerate((*reads, *writes)))
    return Step("s", KernelName("k"), arguments, chunks, tuple(writes), links=links)


def formed(*steps, divided="abcd", size=8000):
    buffers = {b: Buffer(b, "arena", size) for b in "abcdw"}
    return [s.follows for s in chain.form(steps, buffers, set(divided), 8, 1 << 19)]


def test_what_makes_a_chain():
    one, two = step("a", "b"), step("b", "c")
    assert formed(one, two) == [False, True]
    assert formed(one, step("c", "d")) == [False, False]  # nothing in common
    assert formed(one, replace(two, links=0)) == [False, False]
    assert formed(one, two, divided="ac") == [False, False]  # every image's b is read by all
    assert formed(one, step("bw", "c"), step("c", "w")) == [False, True, False]  # weights that other links still read
    assert formed(one, two, size=1 << 26) == [False, False]  # an image's b is far larger than the cache
    assert formed(one, step("bw", "c"), size=1 << 20) == [False, False]  # weights are
    assert formed(one, two, step("c", "a")) == [False, True, True]


def test_text_that_follows_nothing_is_a_diagnostic():
    with pytest.raises(cnnc.CnncError):
        parse_plan("plan @x target=avx2 batch=8 arena=0 scratch=0 {\n  then %a: k{}() * 8 / 8 -> \n}\n")
