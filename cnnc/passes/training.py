"""From a network to its training step: noise and batch statistics, loss, gradients and updates, all of it one graph.

The pieces in order: `training_mode`, `losses.attach_loss`, `autodiff.differentiate`, `optimizer.add_updates`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from cnnc.diagnostics import did_you_mean, error
from cnnc.ir.builder import Builder
from cnnc.ir.graph import Graph, Node
from cnnc.ir.objective import Wanted
from cnnc.ir.rewrite import Rewriter, renamed
from cnnc.ir.types import TensorType
from cnnc.passes.autodiff import differentiate
from cnnc.passes.eliminate_dead import EliminateDead
from cnnc.passes.losses import attach_loss, free
from cnnc.passes.named import chosen, differentiable
from cnnc.passes.optimizer import Optimizer, add_updates

SEED = TensorType("i64", (2,))  # the seed, and the number of the step


def training_mode(graph: Graph, frozen_statistics: Sequence[str] = ()) -> Graph:
    """y = batchnorm(x, g, b, running_mean, running_var)  -->  mean, variance = moments(x),  y = batchnorm(x, g, b,
    mean, variance) y = dropout(x)  -->  y = dropout(x, seed) {salt=...}

    and updates of the running statistics with `momentum` m, PyTorch's way: r = (1 - m) r + m * new, where the variance
    is the unbiased one, var * n / (n - 1). Of a single value a channel (n = 1), where PyTorch refuses, the variance
    counts as 0. Batch norms whose running statistics match a pattern of `frozen_statistics` stay as they are in
    prediction. Raises `CnncError` (E0808) for a pattern that matches none.
    """
    rewriter = Rewriter(graph)
    states = {n.name for n in graph.states}
    updates = dict(graph.updates)
    still = {n for n in states if any(fnmatchcase(n, pattern) for pattern in frozen_statistics)}
    for pattern in frozen_statistics:
        if not any(fnmatchcase(n, pattern) for n in states):
            raise error(
                "E0808",
                f"no running statistics match '{pattern}'",
                f"there are {len(states)}" + (f", the first {min(states)}" if states else ""),
                help=did_you_mean(pattern, states),
            )
    noisy = [n for n in graph.of("dropout") if len(n.inputs) == 1 and n.attribute("p") > 0]
    salts = {n.name: i for i, n in enumerate(noisy)}
    for node in graph.nodes:
        if node.name in salts:
            if "seed" not in rewriter.builder:
                rewriter.builder.input("seed", SEED)
            attributes = node.attributes.with_(salt=salts[node.name])
            rewriter.add(
                "dropout", [rewriter.new(node.inputs[0]), "seed"], attributes, origin=node.origin, results=node.results
            )
        elif node.op == "batchnorm" and states.issuperset(node.inputs[3:]) and still.isdisjoint(node.inputs[3:]):
            _batch_statistics(rewriter, node, updates)
        else:
            rewriter.keep(node)
    return replace(rewriter.finish(), updates=tuple(updates.items()))


def _batch_statistics(rewriter: Rewriter, node: Node, updates: dict[str, str]) -> None:
    x, gamma, beta, mean, variance = renamed(node, rewriter.names).inputs
    stem = node.name
    new = (rewriter.unused(f"{stem}.mean"), rewriter.unused(f"{stem}.variance"))
    rewriter.add("moments", [x], {}, origin=node.origin, results=new)
    m = node.attribute("momentum")
    if m:
        count = rewriter.add("count", [x], {}, f"{stem}.count", node.origin)
        # a batch norm used twice updates its statistics twice, in order
        for leaf, operands, text in (
            (mean, [new[0]], f"{1 - m!r} * a0 + {m!r} * a1"),
            (variance, [new[1], count], f"{1 - m!r} * a0 + {m!r} * (a1 * (a2 / max(a2 - 1, 1)))"),
        ):
            last = updates.get(leaf, leaf)
            updates[leaf] = rewriter.add(
                "pointwise", [last, *operands], {"expressions": [text]}, f"new.{leaf}", node.origin
            )
    rewriter.add("batchnorm", [x, gamma, beta, *new], node.attributes, origin=node.origin, results=node.results)


def training_graph(
    graph: Graph,
    loss: Wanted = "cross_entropy",
    optimizer: Optimizer | None = None,
    wanted: Collection[str] | None = None,
    gradients: bool = False,
) -> Graph:
    """One training step of a network.

    Inputs behind the network's: seed i64[2] (the seed, the step) if it has dropout; what the losses read, such as labels
    i64[N]; the optimizer's scalars (`learning_rate` f32[], ...). Outputs: "loss", "accuracy" where there are classes and,
    with `gradients`, "grad:<name>" for each of `wanted`, params, inputs and inner values (all params unless given).
    Updates: the running statistics and, with an optimizer, every param of `wanted` that is not frozen and the optimizer's
    states `optimizer.<state>.<param>`.
    """
    return training_stages(graph, loss, optimizer, wanted, gradients)[-1][1]


def _chosen(graph: Graph, wanted: Collection[str] | None, gradients: bool) -> list[str]:
    """What is wanted, all parameters unless given; with `gradients`, values may be named too. Raises `CnncError` (E0706,
    E0830).
    """
    parameters = [n.name for n in graph.parameters]
    if wanted is None:
        return parameters
    return chosen("wrt", wanted, differentiable(graph)) if gradients else chosen("wanted", wanted, parameters)


def training_stages(
    graph: Graph,
    loss: Wanted = "cross_entropy",
    optimizer: Optimizer | None = None,
    wanted: Collection[str] | None = None,
    gradients: bool = False,
) -> list[tuple[str, Graph]]:
    """The way to a training graph: what `training_graph` gives comes last, its title tells what was added."""
    stages, wished = [("source", graph)], _chosen(graph, wanted, gradients)
    for name in ("seed", *(optimizer.scalars(1) if optimizer is not None else ())):
        free(graph, name)
    graph = training_mode(graph, optimizer.frozen_statistics if optimizer is not None else ())
    stages.append(("training-mode", graph))
    graph = attach_loss(graph, loss)
    stages.append(("attach-loss", graph))
    parameters = [n.name for n in graph.parameters]
    trained = [p for p in optimizer.trained(parameters) if p in wished] if optimizer is not None else []
    asked = wished if gradients else []
    graph, found = differentiate(graph, graph.outputs[0][1], dict.fromkeys((*trained, *asked)))
    stages.append(("autodiff", graph))
    b = Builder(graph.name, graph.nodes)
    updates = [*graph.updates]
    if optimizer is not None:
        for parameter in trained:
            for state in optimizer.states:
                free(graph, f"optimizer.{state}.{parameter}")
        updates += add_updates(b, optimizer, {p: found[p] for p in trained})
    graph = b.finish([*graph.outputs, *((f"grad:{p}", found[p]) for p in asked)], updates)
    stages.append(("optimizer" if optimizer is not None else "gradients", EliminateDead().apply(graph)))
    return stages
