"""`cnnc compile M.cnn -o M.cnnx`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cnnc import describe
from cnnc.cli.common import say
from cnnc.cli.compiling import report, target_option
from cnnc.cli.options import LARGEST, Chosen, Weights, define, load, model_options, path_option, weights_option
from cnnc.diagnostics import error
from cnnc.table import BETWEEN, Column, Table, columns, wrapped

if TYPE_CHECKING:
    from cnnc.ir.graph import Node
    from cnnc.lowering.plan import Step
    from cnnc.runtime.executable import Executable


@define("compile", "cnnc compile examples/resnet.cnn -p depth=18 --weights resnet18.safetensors -o resnet18.cnnx")
@model_options
@path_option("-o", "--output", required=True, metavar="M.cnnx", help="The artifact.")
@weights_option
@target_option
@click.option("-b", "--batch", type=click.IntRange(1, LARGEST), help="Prepare this batch size; any other works too.")
@click.option("--exact", is_flag=True, help="Only algorithms that round like the direct one.")
@click.option(
    "--tune/--no-tune",
    default=None,
    help="Estimates know this machine's speed, timed runs decide where they are close; so it is if not said.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads; as many as there are cores for it otherwise.")
def command(
    chosen: Chosen,
    output: str,
    weights: Weights | None,
    target: str,
    batch: int | None,
    exact: bool,
    tune: bool | None,
    threads: int | None,
) -> None:
    """Compile a model and its weights into one artifact; print what was folded, fused and chosen, a line for each layer.

    With -v, why: timed alternatives, multiply-adds, kernels.
    """
    from cnnc import driver
    from cnnc.artifact import save
    from cnnc.cli.run import names_of

    parent = Path(output).parent
    if Path(output).suffix.lower() != ".cnnx":
        raise error("E0603", f"artifacts are written as .cnnx, not to '{output}'", exit_code=2)
    if not parent.is_dir():
        raise error("E0601", f"the folder {parent} does not exist", help=f"mkdir -p {parent}", exit_code=3)
    network = load(chosen, weights)
    if weights is None and network.weights.drawn:
        say("no --weights given: the artifact holds the network as it was initialized")
    labels = names_of(network, chosen.path)
    start = time.perf_counter()
    executable = driver.compile(network, target=target, threads=threads, exact=exact, batch=batch or 1, tune=tune)
    save(executable, output, batch or 1, network.program.inputs, labels)
    for line in report(executable.stages):
        click.echo("\n".join(wrapped(line, indent="    ")))
    layers = made(executable, batch or 1)
    click.echo(f"\n{table(layers, columns())}", nl=False)
    for line in reasons(layers):
        say(line, 1)
    say(f"wrote {output}, {Path(output).stat().st_size / 2**20:.1f} MiB, after {time.perf_counter() - start:.1f} s")


@dataclass(frozen=True)
class Made:
    """What was made of layers of the source: its step, what goes along in it, and why."""

    name: str
    does: str
    algorithm: str
    why: tuple[str, ...]


def made(executable: Executable, batch: int) -> list[Made]:
    """A record for each layer of the compiled network that has a step, or that goes along in another's."""
    from cnnc.ir.op import OPS

    source, graph = executable.stages.stages[0][1], executable.graph
    origins = describe.done_by(source, graph)
    steps: dict[str, list[Step]] = {}
    for step in executable.runner.plan(batch).steps:
        steps.setdefault(step.node, []).append(step)

    def name(node: Node) -> str:
        return describe.main(origins[node.name]).name if origins[node.name] else node.name

    result = []
    for node in graph.nodes:
        along = graph.only_user(node.name) if describe.is_weighted(node) and node.name not in steps else None
        if node.name not in steps and along is None:
            continue
        own = steps.get(node.name, [])
        algorithm = " + ".join(dict.fromkeys(s.algorithm for s in own))
        why = [f"{s.note}; {s.kernel}" if s.note else str(s.kernel) for s in own]
        if along is not None:
            algorithm = f"ahead of {describe.layer(graph, along).partition(' ')[0]}"
            why = [f"in the step of {name(along)}, a panel of channels at a time"]
        if describe.is_weighted(node):
            macs = OPS[node.op].macs(node, graph.operand_types(node), batch)
            why.insert(0, f"{macs / 1e6:,.1f} million multiply-adds, {node.type}")
        does = describe.words(source, origins[node.name]) or node.op
        result.append(Made(name(node), does, algorithm, tuple(why)))
    return result


def table(layers: Sequence[Made], width: int) -> Table:
    """A line for each layer. Where the width is short, batchnorm is called bn."""
    heads = (Column("layer"), Column("does"), Column("algorithm"))
    result = Table(heads, [(m.name, m.does, m.algorithm) for m in layers])
    if sum(result.natural()) + BETWEEN * 2 <= width:
        return result
    return Table(heads, [(m.name, m.does.replace("batchnorm", "bn"), m.algorithm) for m in layers])


def reasons(layers: Sequence[Made]) -> list[str]:
    """Lines on each layer: multiply-adds, result and layout, why it is this algorithm and no other, the kernel."""
    return [
        line
        for m in layers
        for line in (m.name, *(piece for w in m.why for piece in wrapped(f"    {w}", indent=" " * 8)))
    ]
