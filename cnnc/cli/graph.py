"""`cnnc graph M.cnn -o out.svg`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cnnc.cli.common import define, load, model_options, say, write_text
from cnnc.diagnostics import did_you_mean, error


@define("graph", "cnnc graph examples/resnet.cnn -p depth=18 -o resnet18.svg")
@model_options
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(),
    metavar="OUT.svg|.dot|.mmd",
    help="Where to draw; the ending is the form.",
)
def command(path: str, model: str | None, parameters: dict[str, Any], output: str) -> None:
    """Draw the network as SVG, as Graphviz DOT or as a Mermaid flow chart."""
    from cnnc.drawing import WRITERS

    suffix = Path(output).suffix.lower()
    if suffix not in WRITERS:
        raise error(
            "E0603",
            f"cannot draw to '{output}'",
            help=did_you_mean(suffix, WRITERS) or f"end the name in {', '.join(WRITERS)}",
            exit_code=2,
        )
    graph = load(path, model, parameters).graph
    write_text(output, WRITERS[suffix](graph))
    say(f"wrote {output}")
