"""The living definition of a graph: its ops' float64 references, one after another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from zlib import crc32

import numpy as np

from cnnc.diagnostics import error
from cnnc.ir.graph import OPERANDS, Graph, Node
from cnnc.ir.op import OPS
from cnnc.ir.types import BATCH, TensorType

Array = np.ndarray[Any, Any]


class Run(dict[str, Array]):
    """The outputs by label. `updates` holds the new value of every param and state that the graph replaces, `kept` the
    values asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.updates: dict[str, Array] = {}
        self.kept: dict[str, Array] = {}


def bind(type: TensorType, batch: int) -> TensorType:
    return replace(type, shape=type.concrete(batch))


def batch_of(graph: Graph, inputs: Mapping[str, Any]) -> int:
    """The batch N that the inputs have; 1 where none has one. Raises `CnncError` (E0702, E0703) where one is missing or
    does not fit.
    """
    found: dict[int, str] = {}
    for node in graph.inputs:
        if node.name not in inputs:
            names = ", ".join(n.name for n in graph.inputs)
            raise error("E0703", f"input '{node.name}' is missing", f"the inputs are {names}", exit_code=3)
        shape = np.shape(inputs[node.name])
        if len(shape) != node.type.rank or any(
            d not in (BATCH, s) for d, s in zip(node.type.shape, shape, strict=True)
        ):
            raise error("E0702", f"input '{node.name}' is {node.type}, not {list(shape)}", exit_code=3)
        for d, s in zip(node.type.shape, shape, strict=True):
            if d == BATCH:
                found.setdefault(s, node.name)
    if len(found) > 1:
        raise error(
            "E0702",
            f"inputs have different batches: {', '.join(f'{name} {size}' for size, name in found.items())}",
            exit_code=3,
        )
    return next(iter(found), 1)


def _exact(array: Any) -> Array:
    a = np.asarray(array)
    return a if a.dtype.kind in "iu" else a.astype(np.float64)


def run(graph: Graph, inputs: Mapping[str, Any], values: Mapping[str, Any], keep: Iterable[str] | None = None) -> Run:
    """Evaluate a graph in float64.

    inputs: arrays by input name; values: arrays by param or state name; all of the logical shapes. A value is dropped
    after its last use, unless its name is in `keep`. Raises `CnncError` (E0702, E0703) for inputs, `KeyError` for a
    param without a value.
    """
    batch = batch_of(graph, inputs)
    pending = Counter(o for n in graph.nodes for o in n.inputs)
    pending.update(v for _, v in (*graph.outputs, *graph.updates))
    wanted = frozenset(keep or ())
    live: dict[str, Array] = {}
    result = Run()
    for node in graph.nodes:
        for name, array in zip(node.results, _evaluate(node, live, inputs, values, batch), strict=True):
            if name in wanted:
                result.kept[name] = array
            if pending[name]:
                live[name] = array
        for operand in node.inputs:
            pending[operand] -= 1
            if not pending[operand]:
                del live[operand]
    result.update((label, live[value]) for label, value in graph.outputs)
    result.updates.update((name, live[value]) for name, value in graph.updates)
    return result


def _evaluate(
    node: Node, live: Mapping[str, Array], inputs: Mapping[str, Any], values: Mapping[str, Any], batch: int
) -> tuple[Any, ...]:
    if node.op == "input":
        return (_exact(inputs[node.name]),)
    if node.op in ("param", "state"):
        array = _exact(values[node.name])
        assert array.shape == node.type.shape, f"{node.name} is {array.shape}, not {node.type}"
        return (array,)
    types = tuple(bind(t, batch) for t in node.types)
    with np.errstate(all="ignore"):
        results = OPS[node.op].reference(
            [None if o is None else live[o] for o in node.operands], node.attributes, types
        )
    for array, type in zip(results, types, strict=True):
        assert np.shape(array) == type.shape, f"{node.op} %{node.name} gives {np.shape(array)}, not {type}"
    return results


# ------------------------------------------------------------------------------------------------ random tensors


def _classes(graph: Graph, name: str) -> int:
    """How many classes the labels of an input may have: the width of the logits that it is compared with."""
    readers = [n for n in graph.users(name) if "labels" in OPERANDS[n.op] and n.optional("labels") == name]
    widths = [graph.type(n.inputs[0]).shape[1] for n in readers]
    return min((int(w) for w in widths), default=2)


def _positive(graph: Graph) -> frozenset[str]:
    """Leaves that must not be negative: variances and what optimizers accumulate."""
    variances = {n.operands[4] for n in graph.of("batchnorm")}
    return frozenset(
        n.name
        for n in (*graph.parameters, *graph.states)
        if n.name in variances or n.name.endswith("running_var") or n.name.startswith("optimizer.")
    )


def random_inputs(graph: Graph, batch: int = 2, seed: int = 0, integers: bool = False) -> dict[str, Array]:
    """Inputs to run a graph on, float64, of N(0, 1), labels in range; the same for the same seed. With `integers`,
    everything is a whole number in -4..4.
    """
    inputs: dict[str, Array] = {}
    for node in graph.inputs:
        rng, shape = _generator(node, seed), node.type.concrete(batch)
        if node.type.dtype in ("i64", "i32"):
            inputs[node.name] = rng.integers(0, _classes(graph, node.name) if shape else 1 << 40, shape)
        elif not shape:
            inputs[node.name] = np.asarray(rng.integers(1, 5) if integers else rng.uniform(0.1, 0.9), np.float64)
        else:
            inputs[node.name] = _random(rng, shape, integers, 1.0)
    return inputs


def random_values(
    graph: Graph, batch: int = 2, seed: int = 0, integers: bool = False
) -> tuple[dict[str, Array], dict[str, Array]]:
    """`random_inputs`, and values (params, states) to run a graph on, float64; the same for the same seed.

    Weights are scaled by 1 / sqrt(fan in), variances positive. With `integers`, everything is a whole number in -4..4
    (variances 1..4), so that float32 arithmetic is exact while sums stay below 2^24.
    """
    positive = _positive(graph)
    values: dict[str, Array] = {}
    for node in (*graph.parameters, *graph.states):
        rng, shape = _generator(node, seed), node.type.concrete(batch)
        if node.name in positive:
            values[node.name] = (
                rng.integers(1, 5, shape).astype(np.float64) if integers else rng.uniform(0.25, 2.0, shape)
            )
        else:
            fan_in = max(int(np.prod(shape[1:])), 1)
            values[node.name] = _random(rng, shape, integers, fan_in**-0.5)
    return random_inputs(graph, batch, seed, integers), values


def _generator(node: Node, seed: int) -> np.random.Generator:
    """Each leaf has its own stream, so that a pass may add, drop or reorder leaves."""
    return np.random.default_rng((seed, crc32(node.name.encode())))


def _random(rng: np.random.Generator, shape: tuple[int, ...], integers: bool, scale: float) -> Array:
    return rng.integers(-4, 5, shape).astype(np.float64) if integers else rng.standard_normal(shape) * scale
