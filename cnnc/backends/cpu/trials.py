"""Timed runs between algorithms whose estimates are close.

What was decided once stays (`decisions.py`). Where the folder cannot be written nothing is timed. What runs could not settle,
as on a busy machine, the estimate decides for this process alone.

A run meets the caches as in a network: weights and what an earlier layer wrote long ago come from memory, what the layer
before wrote from a cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from cnnc.backends.cpu import decisions, machine
from cnnc.backends.cpu.backend import CpuBackend
from cnnc.backends.cpu.choice import Choice, choose, named
from cnnc.backends.cpu.decisions import Decision, Tuning
from cnnc.backends.cpu.pace import pace_of
from cnnc.backends.cpu.problem import OPS
from cnnc.backends.cpu.run.launch import Runner
from cnnc.ir.graph import Graph, Node
from cnnc.kernels.cpu.elementwise import layout_plan
from cnnc.kernels.cpu.target import Pace
from cnnc.locks import Claims
from cnnc.lowering import chain
from cnnc.lowering.lower import lower
from cnnc.lowering.memory import memory_of
from cnnc.lowering.plan import KernelName, Ref, Step
from cnnc.lowering.target import Array, Job
from cnnc.runtime import room
from cnnc.runtime.device import aligned_empty
from cnnc.runtime.threads import cores
from cnnc.storage import ready

MANY = 64  # problems of a graph that are timed
ROUNDS, MOST_ROUNDS = 4, 16  # of runs of each algorithm in turns; more where they disagree
AGREE = 1.15  # the least two runs of an algorithm are within this factor
FAR = 3.0  # algorithms further apart than this, whose estimates are close, run twice as often
UNSETTLED = 3  # decisions one after the other, after which the machine is too busy for more
BUDGET, LONG = 1.0, 0.15  # seconds of runs for a graph, and for one decision
LARGE = 2**27  # bytes read between runs at most, and of a buffer that is worth a run
READ, WRITE = KernelName("stream"), KernelName("fill")
BETTER = 0.97  # of the time of the algorithm that runs otherwise: what another must reach

_claims: Claims[Path] = Claims()  # who decides for a file


def tune(backend: CpuBackend, graph: Graph, batch: int) -> None:
    """Measure the machine's pace, and decide for every problem of the graph whose estimates are close; where that is not
    done yet. One thread at a time: runs beside each other say nothing.
    """
    if decisions.remembered(backend.code).pace is not None and not _open(backend, graph, batch):
        return
    with _claims.turn(decisions.path_of(backend.code)):
        if decisions.remembered(backend.code).pace is None and ready():
            figures = machine.figures(backend.code)
            settled = machine.remembered(backend.code) is not None
            pace = pace_of(backend.target, figures, machine.caches()) if settled else Pace()
            decisions.remember(backend.code, Tuning(pace, settled=settled))
        open_ = _open(backend, graph, batch)
        if open_ and ready():
            decisions.remember(backend.code, Tuning(None, _runs(backend, graph, batch, open_)))


def _open(backend: CpuBackend, graph: Graph, batch: int) -> dict[str, tuple[Node, Choice]]:
    """The problems of a graph that a run has to decide."""
    low = backend.lowering(graph, batch, chain.WORKERS)
    found: dict[str, tuple[Node, Choice]] = {}
    for node in graph.nodes:
        choice = choose(low, node) if node.op in OPS else None
        if choice is not None and choice.decision is None and len(choice.close) > 1:
            found.setdefault(choice.key, (node, choice))
    return found


def _runs(
    backend: CpuBackend, graph: Graph, batch: int, open_: Mapping[str, tuple[Node, Choice]]
) -> dict[str, Decision]:
    """What runs say of the problems of a graph."""
    trials = {
        key: {name: _Trial(backend, graph, batch, node, key, name) for name in choice.close}
        for key, (node, choice) in list(open_.items())[:MANY]
    }
    plan, eviction = lower(graph, batch, backend, cores()), WRITE if graph.updates else READ
    kernels = [k for group in trials.values() for trial in group.values() for k in trial.kernels()]
    backend.ready([*plan.kernels(), *kernels, eviction])  # with what the network needs, so that workers start once
    evict = _eviction(backend, eviction, memory_of(plan, cores()).total)
    found = {key: Decision(named(choice.scheme), {}, settled=False) for key, (_, choice) in open_.items()}
    end, unsettled = time.perf_counter() + BUDGET, 0
    for key, group in trials.items():
        sizes = [b.bytes for trial in group.values() for b in trial.low.buffers.values()]
        if max(sizes) > LARGE:
            found[key] = replace(found[key], settled=True)  # is never run
        elif time.perf_counter() < end and unsettled < UNSETTLED and sum(sizes) < room.left() // 2:
            found[key] = _decide(group, backend, evict)
            unsettled = 0 if found[key].settled else unsettled + 1
    return found


class _Trial:
    """One node lowered by itself to one algorithm."""

    def __init__(self, backend: CpuBackend, graph: Graph, batch: int, node: Node, key: str, name: str) -> None:
        self.low = low = backend.deciding({key: Decision(name, {})}).lowering(graph, batch, cores())
        weights = None if node.op == "conv_weight_gradient" else node.operands[1]
        for value in dict.fromkeys(node.inputs):
            fixed = value == weights and value not in low.changing
            low.places[value] = low.buffer(value, "value" if fixed else "arena", low.type(value).bytes(batch))
        backend.rule(node.op)(low, node)
        user = graph.only_user(node.name)
        if user is not None and user.op == "maxpool":  # which one algorithm does in its own step, another does not
            backend.rule(user.op)(low, user)
        self.steps = [replace(step, links=0) for step in low.steps]
        self.fresh = node.inputs[1 if node.op == "conv_weight_gradient" else 0]  # what the layer before wrote

    def kernels(self) -> Iterable[KernelName]:
        return dict.fromkeys(step.kernel for step in self.steps)

    def runners(self, backend: CpuBackend, memory: dict[str, Array]) -> tuple[Runner, Runner]:
        """What runs once, reading fixed values alone, and what runs at each call. memory: buffers that trials share."""
        fixed = {b.name for b in self.low.buffers.values() if b.place != "arena"}
        once: list[Step] = []
        for step in self.steps:
            if all(b in fixed for b in step.reads()):
                once.append(step)
                fixed.update(step.writes)
        own = {}
        for b in self.low.buffers.values():
            if b.place == "table":
                own[b.name] = np.array(b.data, np.int64)
            elif b.name not in memory or memory[b.name].nbytes != b.bytes:
                own[b.name] = memory[b.name] = aligned_empty(b.bytes)
                own[b.name][: b.bytes // 4 * 4].view(np.float32)[:] = 1e-3
            else:
                own[b.name] = memory[b.name]
        self.memory = own
        each = [step for step in self.steps if step not in once]

        def runner(steps: list[Step]) -> Runner:
            def where(ref: Ref) -> int:
                return int(own[ref.buffer].ctypes.data) + ref.offset

            return Runner(Job(tuple(steps), where, self.low.scratch, cores()), backend.code)

        return runner(once), runner(each)


def _decide(group: Mapping[str, _Trial], backend: CpuBackend, evict: Callable[[], None]) -> Decision:
    """The fastest of some runs each, in turns; the first, where no other is clearly faster, or where runs disagree."""
    memory: dict[str, Array] = {}
    runners = {}
    for name, trial in group.items():
        once, runners[name] = trial.runners(backend, memory)
        once()
    runs: dict[str, list[float]] = {name: [] for name in group}
    begin, settled = time.perf_counter(), False
    for turn in range(MOST_ROUNDS + 1):
        for name, trial in group.items():
            evict()
            fresh = trial.memory[trial.fresh]
            fresh[:] = fresh
            start = time.perf_counter()
            runners[name]()
            if turn:  # the first warms up
                runs[name].append(time.perf_counter() - start)
        seconds = time.perf_counter() - begin
        settled = _agree(runs)
        if settled and (turn >= ROUNDS or seconds > LONG):
            break
        if turn > 1 and seconds > 2 * LONG:
            break
    best = {name: min(times) for name, times in runs.items()}
    first, fastest = next(iter(group)), min(best, key=best.__getitem__)
    if not settled:
        return Decision(first, {}, settled=False)
    algorithm = fastest if best[fastest] < BETTER * best[first] else first
    return Decision(algorithm, {name: round(1e6 * seconds, 1) for name, seconds in best.items()})


def _agree(runs: Mapping[str, list[float]]) -> bool:
    """Whether runs may be believed: the least two of each algorithm agree, and all of them with estimates that are close,
    unless they have been repeated.
    """
    least = [sorted(times)[:2] for times in runs.values()]
    if any(len(times) < 2 or times[1] > AGREE * times[0] for times in least):
        return False
    near = max(times[0] for times in least) <= FAR * min(times[0] for times in least)
    return near or all(len(times) >= 2 * ROUNDS for times in runs.values())


def _eviction(backend: CpuBackend, kernel: KernelName, size: int) -> Callable[[], None]:
    """Touches as many bytes as a network has, on all workers: the caches are left as when a call comes to a step, and the
    workers awake. Inference mostly reads weights; training writes, and what is written has to go before anything else
    finds room.
    """
    most = 2 * max((c.bytes for c in machine.caches()), default=2**24)  # more need not be touched
    unit = machine.LOADS * backend.lanes * cores()
    turns = max(1, min(size, most, LARGE, room.left() // 4) // (4 * unit))
    data = np.ones(turns * unit, np.float32)
    arguments, chunks = {"turns": turns, "passes": 1}, cores()
    if kernel == WRITE:
        fill = layout_plan.plan_fill(backend.target, data.size, 1.0)
        arguments, chunks = {k: v for k, v in fill.arguments.items() if k != "y"}, fill.chunks
    step = Step("evict", kernel, (*arguments.items(), ("at", int(data.ctypes.data))), chunks, ())
    runner = Runner(Job((step,), lambda ref: 0, 4 * backend.lanes, cores()), backend.code)

    def evict() -> None:
        data[0] = 1  # it is kept as long as this
        runner()

    return evict
