"""What `--input` gives to commands that look into a network: numbers, lists of them, or files as `cnnc run` takes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnc.cli.common import say
from cnnc.diagnostics import error

if TYPE_CHECKING:
    from cnnc.ir.graph import Node
    from cnnc.network import Network

Array = np.ndarray[Any, Any]


def arrays_of(network: Network, given: Sequence[str], batch: int = 1, seed: int = 0) -> dict[str, Array]:
    """An array for each input: of a batch of random numbers where nothing is given, else of one sample. Raises `CnncError`
    (E07xx for what does not fit, E06xx for files).
    """
    nodes = network.graph.inputs
    if not given:
        say("no --input is given: it is random, of N(0, 1)")
        return {n.name: random_array(n, batch, seed + i) for i, n in enumerate(nodes)}
    numbers = {name: text for name, _, text in (item.partition("=") for item in given) if _is_numbers(text)}
    if len(numbers) < len(given):
        from cnnc.cli.run import read

        shapes = {n.name: n.type.shape for n in network.graph.inputs}
        opened = read(shapes, network.program.inputs, given)
        return {name: inputs.take(0, 1) for name, inputs in opened.items()}
    from cnnc.runtime.inputs import gather

    known = {n.name: n for n in nodes}
    return gather(nodes, (), {k: _shaped(json.loads(t), known[k]) if k in known else t for k, t in numbers.items()})


def random_array(node: Node, batch: int, seed: int) -> Array:
    """float32, of N(0, 1)."""
    return np.random.default_rng(seed).standard_normal(node.type.concrete(batch), np.float32)


def _is_numbers(text: str) -> bool:
    if not text or Path(text).exists():
        return False
    try:
        return np.asarray(json.loads(text)).dtype.kind in "fi"
    except (ValueError, RecursionError):
        return False


def _shaped(numbers: Any, node: Node) -> Array:
    """Numbers as one sample of an input. Raises `CnncError` (E0702)."""
    array, shape = np.asarray(numbers, np.float32), node.type.concrete(1)
    if array.size != int(np.prod(shape)):
        raise error(
            "E0702",
            f"input '{node.name}' is given {array.size} numbers; one of {node.type} has {int(np.prod(shape))}",
            exit_code=3,
        )
    return array.reshape(shape)
