"""Every parameter's gradient against central differences in float64, and the compiled gradient against that of the
reference.

For a parameter w and a direction d of +1 and -1, (L(w + h d) - L(w - h d)) / 2h is compared with the sum of gradient
* d. One direction tests all entries at once; a difference counts relative to the gradient's norm, which is the size
that the sum has for a random direction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnnc import driver
from cnnc.diagnostics import did_you_mean, error
from cnnc.ir.graph import Graph
from cnnc.ir.interpret import random_values, run
from cnnc.ir.objective import Wanted
from cnnc.network import Network
from cnnc.passes.eliminate_dead import EliminateDead
from cnnc.passes.training import training_graph

Array = np.ndarray[Any, Any]
# A kink of ReLU or max pooling within a step spoils that step only; the best one counts.
STEPS = (1e-5, 1e-6, 1e-4, 1e-7)
TOLERANCE = 1e-5  # of the reference against central differences
COMPILED_TOLERANCE = 1e-3  # of float32 against the reference, norm of the difference over norm
# Shares of the whole gradient's norm. A gradient that is smaller is rounding, such as that of a bias before a batch
# norm; the differences must then be as small, for the loss itself is not known well enough to ask for a part of them.
FLOOR = 1e-7
COMPILED_FLOOR = 1e-3


@dataclass(frozen=True)
class Row:
    """One parameter: its gradient's norm, and the two differences relative to it (`compiled` is None where it was not
    run)."""

    name: str
    size: int
    norm: float
    error: float
    compiled: float | None

    @property
    def ok(self) -> bool:
        return self.error <= TOLERANCE and (self.compiled is None or self.compiled <= COMPILED_TOLERANCE)


def check(
    network: Network,
    batch: int = 2,
    directions: int = 2,
    seed: int = 0,
    loss: Wanted = "cross_entropy",
    names: Sequence[str] = (),
    compiled: bool = True,
    threads: int | None = None,
) -> Iterator[Row]:
    """A row per parameter, in the order of the source. Inputs and labels are random.

    batch: images. directions: random ones for each parameter. names: only these parameters.
    Raises `CnncError` (E0806 no logits, E0808 unknown parameter).
    """
    parameters = [n.name for n in network.graph.parameters]
    for name in names:
        if name not in parameters:
            known = f"the parameters are {', '.join(parameters[:8])}{', ...' if len(parameters) > 8 else ''}"
            raise error("E0808", f"'{name}' is no parameter", help=did_you_mean(name, parameters) or known, exit_code=2)
    graph = training_graph(network.graph, loss, gradients=True)
    inputs, _ = random_values(graph, batch, seed)
    values: dict[str, Array] = {name: value.astype(np.float64) for name, value in network.weights.items()}
    result = run(graph, inputs, values)
    gradients = {name: np.asarray(result[f"grad:{name}"], np.float64) for name in parameters}
    ours = _compiled(network, graph, inputs, threads) if compiled else {}
    forward = loss_only(graph)
    whole = float(np.sqrt(sum(float(np.sum(g * g)) for g in gradients.values())))
    for name in names or parameters:
        gradient = gradients[name]
        norm = float(np.linalg.norm(gradient))
        scale = norm if norm > FLOOR * whole else max(FLOOR * whole / TOLERANCE, 1e-300)

        def at(value: Array, name: str = name) -> float:
            return float(run(forward, inputs, {**values, name: value})["loss"])

        worst = max(
            (_difference(at, values[name], gradient, d) for d in _directions(gradient, name, directions, seed)),
            default=0.0,
        )
        difference = (
            float(np.linalg.norm(ours[name] - gradient)) / max(norm, COMPILED_FLOOR * whole, 1e-300)
            if name in ours
            else None
        )
        yield Row(name, gradient.size, norm, worst / scale, difference)


def loss_only(graph: Graph) -> Graph:
    """What the loss depends on, and nothing else."""
    return EliminateDead().apply(replace(graph, outputs=tuple(o for o in graph.outputs if o[0] == "loss"), updates=()))


def _directions(gradient: Array, name: str, count: int, seed: int) -> Iterator[Any]:
    key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, key], np.uint64)))
    for _ in range(count):
        yield generator.integers(0, 2, gradient.shape) * 2.0 - 1.0


def _difference(at: Callable[[Array], float], value: Array, gradient: Array, direction: Array) -> float:
    """The least difference over several steps, which are relative to the parameter's size."""
    expected = float(np.sum(gradient * direction))
    size = max(float(np.sqrt(np.mean(value * value))), 1e-3)
    enough = TOLERANCE / 10 * float(np.linalg.norm(gradient))
    best = float("inf")
    for step in STEPS:
        h = step * size
        best = min(best, abs((at(value + h * direction) - at(value - h * direction)) / (2 * h) - expected))
        if best <= enough:
            break
    return best


def _compiled(network: Network, graph: Graph, inputs: Mapping[str, Array], threads: int | None) -> dict[str, Array]:
    """The gradients of the compiled training step on the same inputs, float64 of float32."""
    executable = driver.build(graph, network.weights, threads=threads)
    types = {n.name: n.type.dtype for n in graph.inputs}
    outputs = executable(**{k: v.astype(np.float32) if types[k] == "f32" else v for k, v in inputs.items()})
    assert isinstance(outputs, dict)
    return {k.removeprefix("grad:"): np.asarray(v, np.float64) for k, v in outputs.items() if k.startswith("grad:")}
