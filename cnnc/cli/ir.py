"""`cnnc ir M.cnn`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cnnc.cli.common import say, write_text
from cnnc.cli.compiling import mode_option, optimized, plan_of, sources, target_option
from cnnc.cli.options import Chosen, batch_option, define, load, model_options, path_option
from cnnc.diagnostics import error

if TYPE_CHECKING:
    from cnnc.passes.manager import Stages


@define(
    "ir",
    "cnnc ir examples/resnet.cnn --after fuse-epilogues",
    "cnnc ir examples/lenet5.cnn --mode train --all --dump-dir stages",
    "cnnc ir examples/resnet.cnn -p depth=50 --plan --batch 4",
)
@model_options
@mode_option
@click.option("--after", metavar="PASS", help="The graph after this pass.")
@click.option("--all", "everything", is_flag=True, help="The graph before any pass, after every pass, and the Plan.")
@click.option("--plan", is_flag=True, help="The final Plan.")
@click.option("--diff", is_flag=True, help="What every pass (or the one of --after) changed.")
@path_option("--dump-dir", metavar="DIR", help="Write the stages to numbered files in this folder.")
@click.option("--positions", is_flag=True, help="Add where each node came from.")
@click.option("--verify-passes", is_flag=True, help="Run the reference before and after each pass, and compare.")
@batch_option
@target_option
def command(
    chosen: Chosen,
    mode: str,
    after: str | None,
    everything: bool,
    plan: bool,
    diff: bool,
    dump_dir: str | None,
    positions: bool,
    verify_passes: bool,
    batch: int,
    target: str,
) -> None:
    """Print the graph: before any pass, after one, after all of them, as diffs, or the final Plan."""
    network = load(chosen)
    from cnnc.ir.text import print_graph

    if not (after or everything or plan or diff or dump_dir or verify_passes):
        click.echo(print_graph(sources(network, mode)[-1][1], positions), nl=False)
        return
    from cnnc.passes.check_results import CheckResults

    graph, stages, machine = optimized(network, mode, target, CheckResults() if verify_passes else None)
    if verify_passes:
        say("every pass keeps what the graph computes")
    if dump_dir is not None:
        dump(
            Path(dump_dir),
            stages,
            positions,
            str(plan_of(machine, graph, batch)) if machine.compiler is not None else None,
            diff,
        )
        return
    parts = listed(stages, after, everything, diff, positions)
    if plan or (everything and not diff and after is None):
        parts.append(("# plan\n" if everything else "") + str(plan_of(machine, graph, batch)))
    text = ("\n" if everything else "").join(parts)
    click.echo(text, nl=not text.endswith("\n") and bool(text))


def listed(stages: Stages, after: str | None, everything: bool, diff: bool, positions: bool) -> list[str]:
    """The stages that are asked for, or what changed in each, as texts. Raises `CnncError` (E0801)."""
    from cnnc.ir.text import print_graph

    if after is not None:
        stages.after(after)
    parts = []
    for number, (title, stage) in enumerate(stages.stages):
        wanted = after is None or after in (title, title.partition("{")[0])
        if diff and number and wanted:
            parts.append(changes(stages, number))
        elif everything or (after is not None and wanted and not diff):
            heading = f"# {number:02} {title}\n" if everything else ""
            parts.append(heading + print_graph(stage, positions))
    return parts[-1:] if after is not None and not everything and not diff else parts


def changes(stages: Stages, number: int) -> str:
    from cnnc.passes.compare import diff

    (before, a), (after, b) = stages.stages[number - 1 : number + 1]
    return diff(a, b, before, after)


def dump(folder: Path, stages: Stages, positions: bool, plan: str | None, with_diffs: bool) -> None:
    """`00-source.ir`, `01-fold-constants.ir`, ..., `09-plan.txt`; with diffs, `01-fold-constants.diff` as well."""
    from cnnc.ir.text import print_graph

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise error(
            "E0601", f"cannot make the folder {folder}: {(e.strerror or str(e)).lower()}", exit_code=3
        ) from None
    for number, (title, graph) in enumerate(stages.stages):
        name = f"{number:02}-{title.partition('{')[0]}"
        write_text(folder / f"{name}.ir", print_graph(graph, positions))
        if with_diffs and number:
            write_text(folder / f"{name}.diff", changes(stages, number))
    if plan is not None:
        write_text(folder / f"{len(stages.stages):02}-plan.txt", plan)
    say(f"wrote {len(stages.stages)} stages{'' if plan is None else ' and the Plan'} to {folder}")
