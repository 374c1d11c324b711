"""Training graphs of random networks: losses, optimizers, gradients of all outputs."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np

from cnnc.ir import objective
from cnnc.ir.builder import Builder
from cnnc.ir.graph import Graph
from cnnc.ir.objective import Loss
from cnnc.ir.types import activation
from cnnc.ops.bounds import are_probabilities
from cnnc.passes.autodiff import differentiate
from cnnc.passes.optimizer import SGD, Adadelta, Adagrad, Adam, RMSprop
from cnnc.passes.training import training_graph, training_mode
from tests.random_networks.shrink import live


def trainable(graph: Graph) -> tuple[tuple[str, str], ...]:
    """The outputs that parameters reach through gradients alone."""
    trained, ends = {n.name for n in graph.parameters}, set[str]()
    for node in graph.nodes:
        if not ends.isdisjoint(node.inputs) or (node.op in WITHOUT_GRADIENT and not trained.isdisjoint(node.inputs)):
            ends.update(node.results)
        if not trained.isdisjoint(node.inputs):
            trained.update(node.results)
    return tuple((label, value) for label, value in graph.outputs if value not in ends)


def graph_of(graph: Graph, mode: str) -> Graph | None:
    """The graph of a mode, as written; None where the network has none."""
    if mode == "inference":
        return graph
    outputs = trainable(graph)
    if not outputs:
        return None
    graph = live(replace(graph, outputs=outputs))
    if mode == "step":
        rng = _rng(graph, 1)
        return training_graph(graph, losses(graph), OPTIMIZERS[int(rng.integers(len(OPTIMIZERS)))], gradients=True)
    graph = training_mode(graph)
    b = Builder(graph.name, graph.nodes)
    loss = b.add("constant", [], {"value": 0.0}, "start")
    for i, (_, value) in enumerate(graph.outputs):
        t = b.type(value)
        weight = b.input(f"cotangent{i}", activation(t.shape))
        part = b.add("mul", [value, weight], {}, f"part{i}")
        if t.rank:
            part = b.add("sum", [part], {"axis": tuple(range(t.rank))}, f"total{i}")
        loss = b.add("add", [loss, part], {}, f"loss{i}")
    parameters = [n.name for n in graph.parameters]
    whole, found = differentiate(b.finish([*graph.outputs, ("loss", loss)], graph.updates), loss, parameters)
    return Graph(
        whole.name, whole.nodes, (*whole.outputs, *((f"grad:{p}", v) for p, v in found.items())), whole.updates
    )


WITHOUT_GRADIENT = ("argmax", "argmin")
OF_CLASSES = (
    Loss("cross_entropy"),
    Loss("cross_entropy"),
    objective.loss("cross_entropy", label_smoothing=0.25, ignore_index=0),
    objective.loss("cross_entropy", soft=True, label_smoothing=0.25),
    objective.loss("multiclass_hinge", margin=0.5, p=2),
    Loss("multiclass_hinge"),
)
OF_NUMBERS = (
    Loss("mse"),
    Loss("l1"),
    objective.loss("huber", delta=0.5),
    Loss("smooth_l1"),
    objective.loss("bce_with_logits", pos_weight=2),
    objective.loss("focal", gamma=1),
    objective.loss("kl_div", reduction="batchmean"),
    Loss("output"),
)
OPTIMIZERS = (
    SGD(momentum=0.9, weight_decay=0.01),
    SGD(momentum=0.9, dampening=0.1, nesterov=False),
    SGD(momentum=0.5, nesterov=True),
    Adam(weight_decay=0.01),
    Adam(weight_decay=0.01, decoupled=True),
    RMSprop(momentum=0.9),
    Adagrad(lr_decay=0.1),
    Adadelta(),
)


def _rng(graph: Graph, what: int) -> np.random.Generator:
    """Numbers of a network's own."""
    return np.random.default_rng([what, zlib.crc32(f"{graph.name} {len(graph.nodes)}".encode())])


def losses(graph: Graph) -> tuple[Loss, ...]:
    """A loss of every output, others for another graph, each with a target of its own; and now and then penalties."""
    rng = _rng(graph, 0)
    found: list[Loss] = []
    for i, (label, value) in enumerate(graph.outputs):
        t = graph.type(value)
        fixed = t.rank > 0 and t.shape[0] == "N" and "N" not in t.shape[1:]
        kinds: tuple[Loss, ...] = OF_NUMBERS if fixed else (Loss("output"),)
        logits = fixed and t.rank >= 2 and not are_probabilities(graph, value)
        if (
            logits
            and "N" not in t.shape[1:]
            and (t.rank == 2 or any(d != 1 for d in t.shape[2:]))
            and rng.random() < 0.6
        ):
            kinds = tuple(k for k in OF_CLASSES if t.rank == 2 or k.name == "cross_entropy")
        loss = kinds[int(rng.integers(len(kinds)))]
        if loss.name in ("bce_with_logits", "focal") and not logits:
            loss = Loss("mse")
        name = {} if loss.target is None else {"target": f"target{i}"}
        loss = replace(loss, arguments=loss.arguments.with_(**name), output=label, weight=1.0 if i == 0 else 0.5)
        found.append(loss)
    if graph.parameters and any(len(n.type.shape) > 1 for n in graph.parameters) and rng.random() < 0.3:
        found.append(Loss("l2_penalty" if rng.random() < 0.5 else "l1_penalty", weight=0.125))
    return tuple(found)
