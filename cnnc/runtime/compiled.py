"""A graph compiled for a backend: a Plan and a Program for every batch size that it meets, over one set of values."""
from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from cnnc.ir.graph import Graph
from cnnc.ir.types import BATCH, DTYPES
from cnnc.lowering.plan import KernelName, Plan
from cnnc.lowering.select import Rules, lower
from cnnc.runtime.program import Array, Machine, Packed, Program, aligned_empty
from cnnc.runtime.threads import cores

KEPT = 8                    # Programs kept, by batch size


class Target(Rules, Machine, Protocol):
    """What a compiled graph asks of its backend."""
    def missing(self, kernels: Iterable[KernelName]) -> list[KernelName]: ...


@dataclass(frozen=True)
class Memory:
    """Bytes that a batch size needs: the arena, values (params and states), packed weights, and scratch of all workers."""
    arena: int
    values: int
    packed: int
    scratch: int

    @property
    def total(self) -> int:
        return self.arena + self.values + self.packed + self.scratch


def memory_of(plan: Plan, threads: int) -> Memory:
    """The memory that running a Plan takes."""
    return Memory(plan.arena, plan.bytes_in("value"), plan.bytes_in("packed"), 4 * plan.scratch * threads)


class Compiled:
    """Runs a graph whose layouts are the backend's. Several threads may call it; a graph with updates runs one call at a time."""

    def __init__(self, graph: Graph, values: Mapping[str, Any], backend: Target, threads: int | None = None,
                 packed: Packed | None = None) -> None:
        self.graph, self.backend = graph, backend
        self.threads = max(1, threads or cores())
        changing = {name for name, _ in graph.updates}
        self.values: dict[str, Array] = {}
        for node in (*graph.parameters, *graph.states):
            if node.name not in values and packed is not None:
                continue                        # an artifact holds some values in packed form only
            array = np.asarray(values[node.name], DTYPES[node.type.dtype])
            self.values[node.name] = own(array) if node.name in changing else np.ascontiguousarray(array)
        self._programs: dict[int, Program] = {}
        self._plans: dict[int, Plan] = {}
        self.packed: Packed = packed if packed is not None else {}
        self._lock = threading.RLock()
        self._exclusive = threading.Lock() if changing else None

    def plan(self, batch: int) -> Plan:
        with self._lock:
            if batch not in self._plans:
                self._plans[batch] = lower(self.graph, batch, self.backend)
            return self._plans[batch]

    def program(self, batch: int) -> Program:
        with self._lock:
            program = self._programs.pop(batch, None)
            if program is None:
                program = Program(self.plan(batch), self.values, self.backend, self.threads, self.packed)
            self._programs[batch] = program              # the last used is last
            while len(self._programs) > KEPT:
                oldest = next(iter(self._programs))
                del self._programs[oldest], self._plans[oldest]
            return program

    def memory(self, batch: int) -> Memory:
        """The planned memory of a call, without allocating it."""
        return memory_of(self.plan(batch), self.threads)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by label. inputs: contiguous, native arrays of the graph's types; they are checked by the caller."""
        batch = self._batch(inputs)
        shapes = [self.graph.type(value).concrete(batch) for _, value in self.graph.outputs]
        types = [DTYPES[self.graph.type(value).dtype] for _, value in self.graph.outputs]
        if batch == 0:
            return {label: np.full(shape, np.nan, dtype) for (label, _), shape, dtype in zip(self.graph.outputs, shapes, types, strict=True)}
        program = self.program(batch)
        if self._exclusive is not None:
            with self._exclusive:
                raw = program.call(inputs)
        else:
            raw = program.call(inputs)
        return {label: data.view(dtype).reshape(shape)
                for (label, _), data, shape, dtype in zip(self.graph.outputs, raw, shapes, types, strict=True)}

    def _batch(self, inputs: Mapping[str, Array]) -> int:
        for node in self.graph.inputs:
            for axis, d in enumerate(node.type.shape):
                if d == BATCH:
                    return int(inputs[node.name].shape[axis])
        return 1


def own(array: Array) -> Array:
    """A copy at a cache line's start: storage that training updates."""
    copy = aligned_empty(max(array.nbytes, 1)).view(array.dtype)[:array.size].reshape(array.shape)
    copy[...] = array
    return copy
