"""A graph compiled for a backend: a Plan and a Program for every batch size that it meets, over one set of values."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from cnnc.ir import interpret
from cnnc.ir.graph import Graph
from cnnc.ir.types import BATCH, DTYPES
from cnnc.locks import Claims
from cnnc.lowering.lower import lower
from cnnc.lowering.memory import Memory, memory_of
from cnnc.lowering.plan import Plan
from cnnc.lowering.target import Array, Target
from cnnc.runtime import room
from cnnc.runtime.program import Program
from cnnc.runtime.recent import Recent
from cnnc.runtime.setup import Packed, contents
from cnnc.runtime.threads import cores
from cnnc.runtime.values import Values

T = TypeVar("T")
PROGRAMS = 1 << 30  # bytes of Programs that are kept, with the packed weights that they read
PLANS = 1 << 26  # bytes of Plans: more of them than of Programs, since they are small and take as long to make
ARGUMENT, BUFFER = 150, 500  # bytes of a Plan for each


def size_of(plan: Plan) -> int:
    """About the bytes of a Plan itself."""
    return ARGUMENT * sum(len(s.arguments) for s in (*plan.setup, *plan.steps)) + BUFFER * len(plan.buffers)


class Compiled:
    """Runs a graph whose layouts are the backend's. Several threads may call it; a graph with updates runs one call at
    a time.
    """

    def __init__(
        self,
        graph: Graph,
        values: Mapping[str, Any],
        backend: Target,
        threads: int | None = None,
    ) -> None:
        self._begin(graph, Values(graph, values, backend.device()), backend, max(1, threads or cores()))

    def _begin(self, graph: Graph, values: Values, backend: Target, threads: int) -> None:
        self.graph, self.values, self.backend, self.threads = graph, values, backend, threads
        self.device = backend.device()
        self._programs: Recent[int, Program] = Recent(PROGRAMS)
        self._plans: Recent[int, Plan] = Recent(PLANS)
        self.packed: Packed = {}
        self._claims: Claims[str] = Claims()  # whose turn it is: "program", "plan", "call"
        # an input and its axis that tell the batch
        self._counted = next(
            ((n.name, axis) for n in graph.inputs for axis, d in enumerate(n.type.shape) if d == BATCH), None
        )

    def __getstate__(self) -> tuple[Any, ...]:
        """What cannot be made again."""
        return self.graph, self.values, self.backend, self.threads

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._begin(*state)

    def refresh(self, values: Mapping[str, Any]) -> None:
        """Take other values: folding and packing are done again, nothing is planned or compiled again."""
        fresh = Values(self.graph, values, self.device)
        with self._claims.turn("program"):
            self.values = fresh
            self.packed.clear()
            self._programs.clear()

    def assign(self, name: str, value: Array) -> None:
        """Set a param or state that calls update."""
        self.values.assign(name, value)

    def prepare(self, batch: int) -> None:
        """Make ready for calls of this batch."""
        self.program(batch)

    def plan(self, batch: int) -> Plan:
        def make() -> Plan:
            self.backend.tune(self.graph, batch)
            plan = lower(self.graph, batch, self.backend, self.threads)
            self._plans.put(batch, plan, size_of(plan))
            return plan

        return self._kept(self._plans, "plan", batch, make)

    def program(self, batch: int) -> Program:
        def make() -> Program:
            types = [self.graph.type(value) for _, value in self.graph.outputs]
            results = [(np.dtype(DTYPES[t.dtype]), t.concrete(batch)) for t in types]
            plan = self.plan(batch)
            self._check(plan)
            program = Program(plan, self.values, self.backend, self.device, self.threads, self.packed, results)
            self._keep(batch, program)
            return program

        return self._kept(self._programs, "program", batch, make)

    def _kept(self, recent: Recent[int, T], turn: str, batch: int, make: Callable[[], T]) -> T:
        """What is kept for a batch size; what `make` gives and keeps where there is none, which one thread calls at a time."""
        found = recent.get(batch)
        if found is None:
            with self._claims.turn(turn):
                found = recent.get(batch)
                if found is None:
                    found = make()
        return found

    def _check(self, plan: Plan) -> None:
        """Raises `CnncError` (E0410, exit code 5) where there is no memory for what calls use: all of it is used in the end."""
        memory, digests = memory_of(plan, self.threads), contents(plan)
        lasting = plan.lasting()
        packed = sum(
            b.bytes
            for b in plan.buffers
            if b.name in lasting and b.place == "packed" and digests.get(b.name) not in self.packed
        )
        values = 0 if self.graph.updates else memory.values  # training has them already
        room.check(memory.arena + memory.scratch + packed + values, f" for a batch of {plan.batch}")

    def _keep(self, batch: int, program: Program) -> None:
        memory = memory_of(program.plan, self.threads)
        read = set(contents(program.plan).values()) & self.packed.keys()
        parts = {digest: self.packed[digest].nbytes for digest in read}
        own = memory.arena + memory.scratch + size_of(program.plan)
        for digest in self._programs.put(batch, program, own, parts):
            self.packed.pop(digest, None)

    def memory(self, batch: int) -> Memory:
        """The planned memory of a call, without allocating it."""
        return memory_of(self.plan(batch), self.threads)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by label. inputs: contiguous, native arrays of the graph's types; they are checked by the caller."""
        batch = inputs[self._counted[0]].shape[self._counted[1]] if self._counted else 1
        if batch == 0:
            return self._of_nothing(inputs)
        program = self.program(batch)
        if not self.graph.updates:
            return program.call(inputs)
        with self._claims.turn("call"):
            return program.call(inputs)

    def _of_nothing(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs of no images. Those that have no batch still have values: the sum over none is 0, the mean NaN."""
        types = {value: self.graph.type(value) for _, value in self.graph.outputs}
        whole = [(label, value) for label, value in self.graph.outputs if BATCH not in types[value].shape]
        found: Mapping[str, Any] = {}
        if whole and not self.graph.updates:
            needed = {value for _, value in whole}
            for node in reversed(self.graph.nodes):
                if not needed.isdisjoint(node.results):
                    needed.update(node.inputs)
            nodes = tuple(n for n in self.graph.nodes if n.op == "input" or not needed.isdisjoint(n.results))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the mean of nothing
                found = interpret.run(Graph(self.graph.name, nodes, tuple(whole)), inputs, self.values)
        empty = {v: np.full(t.concrete(0), np.nan, DTYPES[t.dtype]) for v, t in types.items()}
        return {
            label: np.asarray(found[label], empty[value].dtype) if label in found else empty[value].copy()
            for label, value in self.graph.outputs
        }
