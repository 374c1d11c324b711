"""`cnnc opt F.ir --passes ...`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from inspect import cleandoc
from itertools import pairwise
from pathlib import Path

import click

from cnnc.cli.common import exists, say, write_text
from cnnc.cli.options import define, path_option
from cnnc.cli.streams import stdin
from cnnc.diagnostics import error
from cnnc.foreign import refuse
from cnnc.ir.graph import Graph
from cnnc.ir.text import LIMIT


def _read(path: str) -> str:
    """The text of a file, or of stdin for `-`."""
    if path != "-":
        refuse(exists(path, "IR"), "IR")
    with open(path, "rb") if path != "-" else nullcontext(stdin()) as stream:
        data = stream.read(4 * LIMIT + 1)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise error("E0501", f"{path} is not UTF-8 text (byte {e.start})") from None


@define(
    "opt",
    "cnnc opt net.ir --passes 'fold-batchnorm,fuse-epilogues{max=2}'",
    "cnnc ir M.cnn | cnnc opt - --passes fold-batchnorm",
)
@click.argument("path", metavar="F.ir", default="-", type=click.Path(allow_dash=True))
@click.option("--passes", default="", metavar="LIST", help="Passes in order, separated by commas; options in braces.")
@click.option("--list", "list_passes", is_flag=True, help="List the passes, their options and what they do.")
@path_option("-o", "--output", help="Where to write; stdout otherwise.")
@click.option("--diff", is_flag=True, help="Print what each pass changed instead of the result.")
@click.option("--positions", is_flag=True, help="Add where each node came from.")
@click.option("--verify-passes", is_flag=True, help="Run the reference before and after each pass, and compare.")
def command(
    path: str, passes: str, list_passes: bool, output: str | None, diff: bool, positions: bool, verify_passes: bool
) -> None:
    """Run passes over IR text; the result is IR text again."""
    import cnnc.passes  # noqa: F401  (registers the passes)
    from cnnc.backends import families
    from cnnc.ir.text import parse_graph, print_graph
    from cnnc.passes.check_results import CheckResults
    from cnnc.passes.manager import PASSES, PassManager, Stages, observers, parse_passes
    from cnnc.table import wrapped

    families()  # registers those of targets
    if list_passes:
        for name in sorted(PASSES):
            click.echo(name)
            for line in cleandoc(PASSES[name].__doc__ or "").splitlines():
                click.echo("\n".join(wrapped(f"    {line}", indent=" " * 8)))
        return
    chosen = parse_passes(passes)
    graph = parse_graph(_read(path), "<stdin>" if path == "-" else Path(path).name)
    stages = Stages(graph)
    manager = PassManager(chosen, observer=observers(stages, CheckResults() if verify_passes else None))
    result = manager.run(graph)
    for name, seconds in manager.seconds:
        say(f"{name}: {seconds * 1e3:.1f} ms", level=1)
    text = diffs(stages.stages) if diff else print_graph(result, positions)
    if output is None:
        click.echo(text, nl=False)
    else:
        write_text(output, text)


def diffs(stages: Sequence[tuple[str, Graph]]) -> str:
    """What each stage changed, as unified diffs."""
    from cnnc.passes.compare import diff

    return "".join(diff(a, b, before, after) for (before, a), (after, b) in pairwise(stages))
