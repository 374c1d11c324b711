"""`cnnc cache list|clear|warm`."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from cnnc.cli.common import print_json, say
from cnnc.cli.compiling import target_option
from cnnc.cli.options import LARGEST, Chosen, define, json_option, load, model_option, parameters_option

if TYPE_CHECKING:
    from cnnc.lowering.plan import KernelName


@click.group("cache", epilog="\b\nExamples:\n  cnnc cache list\n  cnnc cache warm examples/resnet.cnn -p depth=50")
def command() -> None:
    """List, clear or warm the compiled kernels on disk."""


@define("list", "cnnc cache list --json")
@json_option
def list_command(as_json: bool) -> None:
    """A row per kernel: bytes, target, kernel."""
    from cnnc.runtime.cache import DAMAGED, entries
    from cnnc.storage import folder
    from cnnc.table import Column, Table

    found = entries()
    if as_json:
        print_json(
            {
                "folder": str(folder()),
                "kernels": [
                    {"kernel": e.kernel, "target": e.target, "bytes": e.bytes, "file": e.path.name} for e in found
                ],
            }
        )
        return
    if found:
        columns = (Column("bytes", True), Column("target", leaves=1), Column("kernel"))
        click.echo(str(Table(columns, [(f"{e.bytes:,}", e.target, e.kernel) for e in found])), nl=False)
    if any(e.kernel == DAMAGED for e in found):
        say("files that are damaged, or of another version, are not used; `cnnc cache clear` removes them")
    say(f"{len(found)} kernels, {sum(e.bytes for e in found) / 2**20:.1f} MiB in {folder()}")


@define("clear", "cnnc cache clear")
def clear_command() -> None:
    """Remove every compiled kernel."""
    from cnnc.runtime.cache import clear
    from cnnc.storage import folder

    count = clear()
    say(f"removed {count} kernels from {folder()}")


# What is warmed without a model: an example, its parameters, and the batch sizes of inference and of training.
SHIPPED: tuple[tuple[str, dict[str, str], int], ...] = (
    ("lenet5", {}, 64),
    ("lenet5_relu", {}, 64),
    ("alexnet", {}, 32),
    ("vgg", {}, 8),
    ("resnet", {"depth": "18"}, 16),
    ("resnet", {"depth": "50"}, 8),
    ("mobilenetv2", {}, 16),
)


@define("warm", "cnnc cache warm", "cnnc cache warm examples/resnet.cnn -p depth=50 --batch 16 --mode train")
@model_option
@parameters_option
@click.option(
    "-b",
    "--batch",
    "batches",
    type=click.IntRange(1, LARGEST),
    multiple=True,
    help="Images in a batch; may be repeated.",
)
@click.option("--mode", type=click.Choice(["infer", "train"]), help="Inference or the training step; both otherwise.")
@target_option
@click.argument("paths", metavar="[MODEL]...", nargs=-1, type=click.Path())
def warm_command(
    paths: tuple[str, ...],
    model: str | None,
    parameters: dict[str, Any],
    batches: tuple[int, ...],
    mode: str | None,
    target: str,
) -> None:
    """Compile the kernels of models, so that later runs find them; of the shipped examples, where none is given. Several are
    compiled at a time; CNNC_JOBS is how many.
    """
    from cnnc.backends import backend

    start = time.perf_counter()
    kernels: dict[KernelName, None] = {}
    for path, given, training in [(p, parameters, 16) for p in paths] or _shipped(parameters):
        for each in (mode,) if mode else ("infer", "train"):
            for batch in batches or ((1, 16) if each == "infer" else (training,)):
                kernels |= dict.fromkeys(_kernels(Chosen(path, model, given), each, target, batch))
    machine = backend(target).compiler
    assert machine is not None  # its kernels were planned
    missing = machine.missing(kernels)
    count = 0

    def progress(kernel: KernelName) -> None:
        nonlocal count
        count += 1
        say(f"{count}/{len(missing)} {kernel}")

    machine.ready(kernels, progress)
    machine.device().ready()
    say(f"{len(kernels)} kernels are ready, {len(missing)} of them compiled, after {time.perf_counter() - start:.1f} s")


def _shipped(parameters: dict[str, Any]) -> list[tuple[str, dict[str, Any], int]]:
    """The examples that come with the package, as they are."""
    from cnnc.cli.new import examples

    if parameters:
        raise click.UsageError("name a model: -p sets its parameters")
    folder = examples()
    return [(str(folder[name]), dict(given), batch) for name, given, batch in SHIPPED]


def _kernels(chosen: Chosen, mode: str, target: str, batch: int) -> Iterable[KernelName]:
    """The kernels of a model's Plan. A network that cannot be trained has no training step, and none is warmed."""
    from cnnc.cli.compiling import optimized, plan_of
    from cnnc.diagnostics import CnncError

    network = load(chosen)
    try:
        graph, _, machine = optimized(network, mode, target)
    except CnncError as e:
        if mode == "train" and {d.code for d in e.diagnostics} == {"E0806"}:
            say(f"{chosen.path} has no training step: {e.diagnostics[0].message}", 1)
            return ()
        raise
    return plan_of(machine, graph, batch).kernels()


for _command in (list_command, clear_command, warm_command):
    command.add_command(_command)
