"""What `ir`, `compile` and `cache warm` share: the stages of a network, and what its passes did."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cnnc.backends import Backend
    from cnnc.ir.graph import Graph
    from cnnc.lowering.plan import Plan
    from cnnc.network import Network
    from cnnc.passes.manager import Observer, Stages


def known(ctx: click.Context, option: click.Parameter, given: str) -> str:
    """The name of a target; a click callback. What a command prints may depend on none: a wrong name is one all the same."""
    if given != option.default:
        from cnnc.backends import check

        check(given)
    return given


target_option = click.option(
    "--target",
    default="cpu",
    callback=known,
    show_default=True,
    metavar="TARGET",
    help="This machine's processor (cpu), or an instruction set: cpu-avx512, cpu-avx2, cpu-sse2, cpu-neon.",
)
mode_option = click.option(
    "--mode",
    type=click.Choice(["infer", "train"]),
    default="infer",
    show_default=True,
    help="The network as it predicts, or its training step.",
)


def sources(network: Network, mode: str) -> list[tuple[str, Graph]]:
    """The graph as written; for training, the stages to its training step by the recipe."""
    if mode == "infer":
        return [("source", network.graph)]
    from cnnc.frontend.recipes import Recipe
    from cnnc.passes.training import training_stages
    from cnnc.train.optimizers import from_recipe

    recipe = network.program.recipe or Recipe()
    return training_stages(network.graph, recipe.losses, from_recipe(recipe))


def optimized(
    network: Network, mode: str, target: str, observer: Observer | None = None
) -> tuple[Graph, Stages, Backend]:
    """The graph after all passes, every stage, and the backend."""
    from cnnc import driver
    from cnnc.backends import backend

    machine = backend(target, tune=driver.tuning(None))
    earlier = sources(network, mode)
    graph, stages = driver.optimize(earlier[-1][1], machine.layouts(), observer, earlier)
    return graph, stages, machine


def plan_of(machine: Backend, graph: Graph, batch: int) -> Plan:
    """The Plan of an optimized graph as it would run. Raises `CnncError` where the target interprets graphs instead."""
    from cnnc.diagnostics import error
    from cnnc.lowering.lower import lower
    from cnnc.runtime.threads import cores

    target = machine.compiler
    if target is None:
        raise error("E0809", f"the target '{machine.name}' has no Plan: it interprets the graph", exit_code=2)
    target.tune(graph, batch)
    return lower(graph, batch, target, cores())


def report(stages: Stages) -> list[str]:
    """A line for each pass that changed something: how many nodes of which ops came and went."""
    lines = []
    for (_, before), (title, after) in zip(stages.stages, stages.stages[1:], strict=False):
        if before == after:
            continue
        old, new = (Counter(n.op for n in g.nodes) for g in (before, after))
        gone, come = old - new, new - old
        changes = [f"{count} {op} gone" for op, count in gone.most_common()] + [
            f"{count} {op} new" for op, count in come.most_common()
        ]
        fused = sum("epilogue" in n.attributes for n in after.nodes) - sum(
            "epilogue" in n.attributes for n in before.nodes
        )
        if fused > 0:
            changes.append(f"{fused} epilogues fused")
        lines.append(f"{title}: {', '.join(changes) or 'rewritten'}")
    return lines
