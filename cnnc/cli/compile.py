"""`cnnc compile M.cnn -o M.cnnx`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cnnc.cli.common import LARGEST, define, load, model_options, say, weights_option
from cnnc.cli.compiling import report, target_option
from cnnc.diagnostics import error

if TYPE_CHECKING:
    from cnnc.runtime.executable import Executable


@define("compile", "cnnc compile examples/resnet.cnn -p depth=18 --weights resnet18.safetensors -o resnet18.cnnx")
@model_options
@click.option("-o", "--output", required=True, type=click.Path(), metavar="M.cnnx", help="The artifact.")
@weights_option
@target_option
@click.option("-b", "--batch", type=click.IntRange(1, LARGEST), help="Prepare this batch size; any other works too.")
@click.option("--exact", is_flag=True, help="Only algorithms that round like the direct one.")
@click.option(
    "--tune/--no-tune",
    default=None,
    help="Estimates know this machine's speed, timed runs decide where they are close; so it is if not said.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads; as many as there are cores otherwise.")
def command(
    path: str,
    model: str | None,
    parameters: dict[str, Any],
    output: str,
    weights: str | None,
    target: str,
    batch: int | None,
    exact: bool,
    tune: bool | None,
    threads: int | None,
) -> None:
    """Compile a model and its weights into one artifact; print what was folded, fused and chosen, one line each."""
    from cnnc import driver
    from cnnc.artifact import save
    from cnnc.cli.run import names_of

    parent = Path(output).parent
    if Path(output).suffix.lower() != ".cnnx":
        raise error("E0603", f"artifacts are written as .cnnx, not to '{output}'", exit_code=2)
    if not parent.is_dir():
        raise error("E0601", f"the folder {parent} does not exist", help=f"mkdir -p {parent}", exit_code=3)
    network = load(path, model, parameters, weights)
    if weights is None and len(network.weights):
        say("no --weights given: the artifact holds the network as it was initialized")
    labels = names_of(network, path)
    start = time.perf_counter()
    executable = driver.compile(network, target=target, threads=threads, exact=exact, batch=batch or 1, tune=tune)
    save(executable, output, batch or 1, network.program.inputs, labels)
    for line in report(executable.stages):
        click.echo(line)
    for line in chosen(executable, batch or 1):
        click.echo(line)
    for line in layers(executable, batch or 1):
        say(line, 1)
    say(f"wrote {output}, {Path(output).stat().st_size / 2**20:.1f} MiB, after {time.perf_counter() - start:.1f} s")


def chosen(executable: Executable, batch: int) -> list[str]:
    """A line per step of the Plan: the layer, its kernel, and why it was taken."""
    runner: Any = executable.runner
    steps = runner.plan(batch).steps
    width = max((len(step.node) for step in steps), default=0)
    return [f"{step.node.ljust(width)}  {step.kernel}{f'  ({step.note})' if step.note else ''}" for step in steps]


def layers(executable: Executable, batch: int) -> list[str]:
    """A line per convolution and linear layer of the Plan: its multiply-adds, its result and layout, the algorithm, and why not
    another.
    """
    from cnnc.ir.op import OPS

    runner: Any = executable.runner
    graph = executable.graph
    notes = {step.node: step.note for step in runner.plan(batch).steps}  # of a layer's last step
    rows: list[tuple[str, str, str, str]] = []
    for node in graph.nodes:
        if node.op in ("conv", "linear"):
            macs = OPS[node.op].macs(node, [graph.type(o) for o in node.inputs], batch)
            user = graph.only_user(node.name)
            note = notes.get(node.name) or (f"in the step of {user.name}" if user is not None else "")
            rows.append((node.name, f"{macs / 1e6:,.1f} million multiply-adds", str(node.type), note))
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)).rstrip() for row in rows
    ]
