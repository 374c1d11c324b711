"""The reference backend: any graph, in float64, one op after another in NumPy. Slow, and right by definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import cnnc.ops  # noqa: F401  (registers the ops)
from cnnc.backends.cpu.pipeline import layouts
from cnnc.diagnostics import error
from cnnc.ir.graph import Graph
from cnnc.ir.interpret import Array, Run, batch_of, random_values, run
from cnnc.lowering.memory import Memory
from cnnc.lowering.plan import Plan
from cnnc.passes.manager import Pass

__all__ = ["BACKEND", "Interpreter", "ReferenceBackend", "Run", "backend", "batch_of", "random_values", "run"]


class Interpreter:
    """A graph with its values, float64; updates are performed on `values`."""

    def __init__(self, graph: Graph, values: Mapping[str, Any], backend: ReferenceBackend) -> None:
        self.graph, self.backend = graph, backend
        self.refresh(values)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        result = run(self.graph, inputs, self.values)
        for name, new in result.updates.items():
            self.assign(name, new)
        return result

    def assign(self, name: str, value: Array) -> None:
        self.values[name][...] = value

    def refresh(self, values: Mapping[str, Any]) -> None:
        """Take other values."""
        leaves = (*self.graph.parameters, *self.graph.states)
        self.values = {n.name: np.array(values[n.name], np.float64) for n in leaves}

    def prepare(self, batch: int) -> None:
        """Nothing is made for a batch."""

    def plan(self, batch: int) -> Plan:
        """Raises `CnncError` (E0809)."""
        raise error("E0809", "the reference has no Plan: it interprets the graph", exit_code=2)

    def memory(self, batch: int) -> Memory:
        """Raises `CnncError` (E0809)."""
        raise error("E0809", "the reference has no Plan: it interprets the graph", exit_code=2)


class ReferenceBackend:
    name = "reference"
    lanes = 1
    compiler = None

    def unavailable(self) -> str | None:
        return None

    def layouts(self) -> Sequence[Pass]:
        """The processor's passes, which leave plain layouts as they are: stages have the same names for both."""
        return layouts(self.lanes)

    def prepare(self, graph: Graph, values: Mapping[str, Any], threads: int | None = None) -> Interpreter:
        return Interpreter(graph, values, self)


BACKEND = ReferenceBackend()


def backend(variant: str, exact: bool, tune: bool) -> ReferenceBackend:
    return BACKEND
