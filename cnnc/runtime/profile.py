"""Where the time of a call goes: every step of a Plan timed by itself, and the work that its node stands for.

The steps run in the Plan's order, each launched alone, so that a round computes what a call computes and every step
meets the caches as the one before leaves them. A launch costs a microsecond or two that a whole call pays once. The
best of the rounds counts, as it does for what the machine can do (`machine.py`).
"""

from __future__ import annotations

import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from cnnc.ir.graph import Graph, Node
from cnnc.ir.op import OPS, no_macs
from cnnc.ir.types import BATCH
from cnnc.lowering.place import apart
from cnnc.lowering.plan import Ref, Step
from cnnc.lowering.target import Array, Job
from cnnc.runtime.compiled import Compiled


@dataclass(frozen=True)
class StepTime:
    """A step and the seconds it took, at best."""

    step: Step
    seconds: float


@dataclass(frozen=True)
class LayerTime:
    """The steps of one layer's op: seconds, floating point operations (two a multiply-add, as direct computation would
    need them), and bytes that it must at least read and write.

    algorithm: the longest of its steps, in a word or two; why: what is said of that step.
    """

    layer: str
    op: str
    algorithm: str
    seconds: float
    flops: int
    bytes: int
    why: str = ""

    @property
    def gflops(self) -> float:
        """GFLOP/s."""
        return self.flops / self.seconds / 1e9 if self.seconds else 0.0

    @property
    def gigabytes(self) -> float:
        """GB/s."""
        return self.bytes / self.seconds / 1e9 if self.seconds else 0.0

    @property
    def intensity(self) -> float:
        """Floating point operations a byte."""
        return self.flops / self.bytes if self.bytes else 0.0


def steps(compiled: Compiled, inputs: Mapping[str, Array], rounds: int = 5) -> list[StepTime]:
    """The time of every step, in order, at the inputs' batch. inputs: contiguous arrays of the graph's types.

    Each round does to the values what a call does: a graph with updates is trained on.
    """
    counted = next(((n.name, a) for n in compiled.graph.inputs for a, d in enumerate(n.type.shape) if d == BATCH), None)
    program = compiled.program(inputs[counted[0]].shape[counted[1]] if counted else 1)
    plan, device = apart(program.plan), program.device
    arena, buffers = device.block(max(plan.arena, 64)), {b.name: b for b in plan.buffers}
    given = {b.name: device.put(inputs[b.name]) for b in plan.buffers if b.place == "input"}
    given |= {b.name: device.block(b.bytes) for b in plan.buffers if b.place == "result"}

    def where(ref: Ref) -> int:
        buffer = buffers[ref.buffer]
        if buffer.place == "arena":
            return arena.address + buffer.offset + ref.offset
        return (given if buffer.name in given else program.fixed)[buffer.name].address + ref.offset

    runners = [device.runner(Job((s,), where, plan.scratch, program.workers)) for s in plan.steps]
    times: list[list[float]] = [[] for _ in runners]
    for turn in range(rounds + 1):
        for i, runner in enumerate(runners):
            start = time.perf_counter()
            runner()
            if turn:  # the first warms up
                times[i].append(time.perf_counter() - start)
    return [StepTime(s, min(t)) for s, t in zip(program.plan.steps, times, strict=True)]


def owners(graph: Graph) -> dict[str, str]:
    """The layer of the source that each node belongs to: the one whose parameters it reads, as they are or folded with
    others, or whose gradient it is; else the node's own name.
    """
    made: dict[str, str] = {}  # values that no input reaches -> the first parameter that they are made of
    found = {}
    for node in graph.nodes:
        if node.op == "input":
            continue
        sources = [made[o] for o in node.inputs if made.get(o)]
        if node.op in ("param", "state") or (node.inputs and all(o in made for o in node.inputs)):
            own = node.name if node.op == "param" else next(iter(sources), "")
            made.update(dict.fromkeys(node.results, own))
        name = next(iter(sources), node.name.removeprefix("grad."))
        parameter = name in graph and graph.node(name).op == "param"
        found[node.name] = name.rpartition(".")[0] or name if parameter else name
    return found


def work(graph: Graph, node: Node, batch: int, stepping: Container[str]) -> tuple[int, int]:
    """Floating point operations of a node, and the bytes of its operands and results; with those of a node that only this
    one reads, and whose value is nowhere, since it is none of those that have a step of their own.
    """
    moved = sum(graph.type(o).bytes(batch) for o in dict.fromkeys(node.inputs)) + sum(
        t.bytes(batch) for t in node.types
    )
    flops = 2 * OPS[node.op].macs(node, graph.operand_types(node), batch)
    for along in (graph.node(o) for o in dict.fromkeys(node.inputs)):
        does = along.op in OPS and OPS[along.op].macs is not no_macs
        if does and along.name not in stepping and graph.only_user(along.name) == node:
            more, reading = work(graph, along, batch, stepping)
            flops, moved = flops + more, moved + reading - 2 * along.type.bytes(batch)
    return flops, moved


def layers(graph: Graph, timed: Sequence[StepTime], batch: int) -> list[LayerTime]:
    """The steps put together by layer and op, in the order in which they begin. The work of a node that goes along in the
    step of the one that reads it is that one's.
    """
    groups: dict[tuple[str, str], list[StepTime]] = {}
    owner, stepping = owners(graph), {entry.step.node for entry in timed}
    for entry in timed:
        node = graph.node(entry.step.node)
        groups.setdefault((owner[node.name], node.op), []).append(entry)
    found = []
    for (layer, op), entries in groups.items():
        longest = max(entries, key=lambda e: e.seconds).step
        nodes = [graph.node(name) for name in dict.fromkeys(e.step.node for e in entries)]
        amounts = [work(graph, node, batch, stepping) for node in nodes]
        found.append(
            LayerTime(
                layer,
                op,
                longest.algorithm,
                sum(e.seconds for e in entries),
                sum(flops for flops, _ in amounts),
                sum(moved for _, moved in amounts),
                longest.note,
            )
        )
    return found
