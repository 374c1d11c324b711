"""Every parameter's gradient against central differences, in float64 of the reference."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnnc.ir.graph import Graph
from cnnc.ir.interpret import Array, random_values, run
from cnnc.passes.eliminate_common import EliminateCommon
from cnnc.passes.eliminate_dead import EliminateDead
from cnnc.passes.training import training_graph

TOLERANCE = 1e-5
STEPS = (1e-5, 1e-6, 1e-4, 1e-7)        # a step that crosses the kink of a ReLU or a maximum is replaced by another


@dataclass(frozen=True)
class Checked:
    """One parameter: the largest error over the entries that were tried, relative to the largest entry of its gradient."""
    parameter: str
    error: float
    entries: int
    largest: float

    @property
    def passed(self) -> bool:
        return self.error <= TOLERANCE


def gradcheck(graph: Graph, loss: str = "cross_entropy", batch: int = 2, seed: int = 0, samples: int | None = 8,
              values: dict[str, Array] | None = None, inputs: dict[str, Array] | None = None) -> Iterator[Checked]:
    """Check one parameter after another.

    samples: entries of each parameter that are tried, drawn by the seed; None for all. values, inputs: random unless given. Gradients
    smaller than 1e-4 of the loss are measured against that, below which central differences see rounding only.
    """
    backward = EliminateCommon().apply(training_graph(graph, loss, gradients=True))
    forward = EliminateDead().apply(replace(backward, outputs=backward.outputs[:1], updates=()))
    drawn_inputs, drawn_values = random_values(backward, batch, seed)
    given, weights = {**drawn_inputs, **(inputs or {})}, {**drawn_values, **(values or {})}
    result = run(replace(backward, updates=()), given, weights)
    floor = 1e-4 * max(1.0, abs(float(result["loss"])))
    rng = np.random.default_rng(seed)
    for node in graph.parameters:
        analytic = result[f"grad:{node.name}"]
        count = analytic.size if samples is None else min(samples, analytic.size)
        chosen = np.sort(rng.choice(analytic.size, count, replace=False))
        scale = max(float(np.abs(analytic).max(initial=0.0)), floor)
        errors = [_error(forward, given, weights, node.name, int(i), float(analytic.flat[i]), scale) for i in chosen]
        yield Checked(node.name, max(errors, default=0.0), count, float(np.abs(analytic).max(initial=0.0)))


def _error(graph: Graph, inputs: dict[str, Array], weights: dict[str, Array], name: str, index: int, analytic: float, scale: float) -> float:
    best = float("inf")
    for step in STEPS:
        numeric = (_loss(graph, inputs, weights, name, index, step) - _loss(graph, inputs, weights, name, index, -step)) / (2 * step)
        best = min(best, abs(numeric - analytic) / scale)
        if best <= TOLERANCE / 10:
            break
    return best


def _loss(graph: Graph, inputs: dict[str, Array], weights: dict[str, Array], name: str, index: int, step: float) -> float:
    moved: Any = np.array(weights[name], np.float64)
    moved.flat[index] += step
    return float(run(graph, inputs, {**weights, name: moved})["loss"])
