"""Layer-sequential unit variance: a start that looks at data."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from cnnc import driver
from cnnc.arguments import of_kind, wrong
from cnnc.ir.builder import Builder
from cnnc.ir.graph import LEAVES, Graph
from cnnc.ir.op import OPS
from cnnc.network import Network
from cnnc.runtime.inputs import gather
from cnnc.train.named import start


def lsuv(
    network: Network,
    x: Any,
    tolerance: float = 0.1,
    iterations: int = 10,
    kept: Collection[str] = (),
    threads: int | None = None,
    target: str = "cpu",
) -> dict[str, float]:
    """Layer-sequential unit variance (Mishkin and Matas, 2015): in the order of the network, the weight of each
    convolution and linear layer is divided by the deviation of its outputs on a batch, until their variance is within
    `tolerance` of 1, or `iterations` times. Gives the variance in the end by name of the weight.

    x: a batch [n, ...], or of several inputs a mapping by name. The weights should be orthogonal before:
    `net.initialize(seed, cnnc.start("orthogonal"))`. Layers with an `init=` of their own and the names in `kept` stay as
    they are; so does a layer whose outputs are all the same. Raises `CnncError` (E0706, E07xx for arrays that do not fit).
    """
    of_kind("network", network, Network, "a network", "cnnc.load gives one")
    begin = start("lsuv", tolerance=tolerance, iterations=iterations)
    graph, weights = _variances(network, kept)
    executable = driver.build(graph, network.weights, target, threads)
    inputs = gather(list(graph.inputs), (), x) if isinstance(x, dict) else gather(list(graph.inputs), (x,), {})

    def variance(weight: str) -> float:
        """Of all values of a layer, from the means and variances of its channels."""
        found = executable.run(inputs)
        mean, inner = (found[f"{part}:{weight}"].astype(np.float64) for part in ("mean", "variance"))
        return float(inner.mean() + mean.var())

    result: dict[str, float] = {}
    for weight in weights:
        result[weight] = variance(weight)
        for _ in range(begin.argument("iterations")):
            now = result[weight]
            if not 0 < now < np.inf or abs(now - 1) <= begin.argument("tolerance"):
                break
            network.weights[weight] = network.weights[weight] / np.sqrt(now)
            executable.refresh(network.weights)
            result[weight] = variance(weight)
    return result


def _variances(network: Network, kept: Collection[str]) -> tuple[Graph, list[str]]:
    """The network with the means and variances of what each layer gives for its outputs, and the layers' weights."""
    builder = Builder(network.graph.name, network.graph.nodes)
    outputs: list[tuple[str, str]] = []
    weights: list[str] = []
    specs = network.program.parameters
    for node in network.graph.nodes:
        if node.op in LEAVES or OPS[node.op].kind not in ("convolution", "linear"):
            continue
        weight = node.operands[1]
        if weight is None or weight not in specs or specs[weight].told is not None or weight in (*weights, *kept):
            continue
        moments = builder.insert("moments", [node.name], {}, f"moments.{node.name}", node.origin).results
        outputs += zip((f"mean:{weight}", f"variance:{weight}"), moments, strict=True)
        weights.append(weight)
    if not weights:
        raise wrong("network", network, "one with convolutions or linear layers that do not say how they start")
    return builder.finish(outputs), weights
