"""`cnnc graph M.cnn -o out.svg`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cnnc.cli.common import define, load, model_options, say, write_text
from cnnc.cli.compiling import mode_option, optimized, sources, target_option
from cnnc.diagnostics import did_you_mean, error


@define(
    "graph",
    "cnnc graph examples/resnet.cnn -p depth=18 -o resnet18.svg",
    "cnnc graph examples/resnet.cnn --after fuse-epilogues -o fused.svg",
    "cnnc graph examples/lenet5.cnn --mode train --dark -o step.svg",
)
@model_options
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(),
    metavar="OUT.svg|.dot|.mmd",
    help="Where to draw; the ending is the form.",
)
@mode_option
@click.option("--after", metavar="PASS", help="The graph after this pass; before any otherwise.")
@click.option(
    "--dark/--light", default=None, help="Colors of an SVG for such a page; as the reader's page is otherwise."
)
@target_option
def command(
    path: str,
    model: str | None,
    parameters: dict[str, Any],
    output: str,
    mode: str,
    after: str | None,
    dark: bool | None,
    target: str,
) -> None:
    """Draw the network as SVG, as Graphviz DOT or as a Mermaid flow chart.

    Cards have kernel, stride, channels, sizes and parameters; blocks that repeat are drawn once. In an SVG the pointer
    shows the rest.
    """
    from cnnc.drawing import WRITERS, svg

    suffix = Path(output).suffix.lower()
    if suffix not in WRITERS:
        raise error(
            "E0603",
            f"cannot draw to '{output}'",
            help=did_you_mean(suffix, WRITERS) or f"end the name in {', '.join(WRITERS)}",
            exit_code=2,
        )
    network = load(path, model, parameters)
    graph = sources(network, mode)[-1][1]
    if after is not None:
        graph = optimized(network, mode, target)[1].after(after)
    title = " ".join([network.name, *(f"{k}={v}" for k, v in parameters.items())])
    title += (", a training step" if mode == "train" else "") + (f", after {after}" if after else "")
    write_text(output, svg(graph, title, dark) if suffix == ".svg" else WRITERS[suffix](graph))
    say(f"wrote {output}")
