"""`cnnc cache list|clear|warm`."""

from __future__ import annotations

import time
from typing import Any

import click

from cnnc.cli.common import batch_option, define, json_option, load, model_options, print_json, say
from cnnc.cli.compiling import mode_option, target_option


@click.group("cache", epilog="\b\nExamples:\n  cnnc cache list\n  cnnc cache warm examples/resnet.cnn -p depth=50")
def command() -> None:
    """List, clear or warm the compiled kernels on disk."""


@define("list", "cnnc cache list --json")
@json_option
def list_command(as_json: bool) -> None:
    """A row per kernel: bytes, target, kernel."""
    from cnnc.runtime.cache import entries
    from cnnc.storage import folder

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
    for e in found:
        click.echo(f"{e.bytes:>9,}  {e.target:<8}  {e.kernel}")
    say(f"{len(found)} kernels, {sum(e.bytes for e in found) / 2**20:.1f} MiB in {folder()}")


@define("clear", "cnnc cache clear")
def clear_command() -> None:
    """Remove every compiled kernel."""
    from cnnc.runtime.cache import clear
    from cnnc.storage import folder

    count = clear()
    say(f"removed {count} kernels from {folder()}")


@define("warm", "cnnc cache warm examples/resnet.cnn -p depth=50 --batch 16 --mode train")
@model_options
@batch_option
@mode_option
@target_option
def warm_command(path: str, model: str | None, parameters: dict[str, Any], batch: int, mode: str, target: str) -> None:
    """Compile the kernels of a model, so that later runs find them."""
    from cnnc.cli.compiling import optimized, plan_of

    start = time.perf_counter()
    graph, _, machine = optimized(load(path, model, parameters), mode, target)
    kernels = plan_of(machine, graph, batch).kernels()
    missing = machine.missing(kernels)
    for number, kernel in enumerate(missing, 1):
        say(f"{number}/{len(missing)} {kernel}")
        machine.address(kernel)
    machine.driver()
    say(f"{len(kernels)} kernels are ready, {len(missing)} of them compiled, after {time.perf_counter() - start:.1f} s")


for _command in (list_command, clear_command, warm_command):
    command.add_command(_command)
