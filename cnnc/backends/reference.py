"""The reference backend: any graph, in float64, one op after another in NumPy. Slow, and right by definition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import cnnc.ops  # noqa: F401  (registers the ops)
from cnnc.ir.graph import Graph
from cnnc.ir.interpret import Array, Run, batch_of, random_values, run

__all__ = ["BACKEND", "Interpreter", "ReferenceBackend", "Run", "batch_of", "random_values", "run"]


class Interpreter:
    """A graph with its values, float64; updates are performed on `values`."""

    def __init__(self, graph: Graph, values: Mapping[str, Any]) -> None:
        self.graph = graph
        self.refresh(values)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        result = run(self.graph, inputs, self.values)
        for name, new in result.updates.items():
            self.values[name][...] = new
        return result

    def refresh(self, values: Mapping[str, Any]) -> None:
        """Take other values."""
        leaves = (*self.graph.parameters, *self.graph.states)
        self.values = {n.name: np.array(values[n.name], np.float64) for n in leaves}


class ReferenceBackend:
    name = "reference"
    lanes = 1

    def unavailable(self) -> str | None:
        return None

    def prepare(self, graph: Graph, values: Mapping[str, Any], threads: int | None = None) -> Interpreter:
        return Interpreter(graph, values)


BACKEND = ReferenceBackend()
