"""`cnnc summary M.cnn`."""

from __future__ import annotations

import click

from cnnc.cli.common import print_json
from cnnc.cli.options import Chosen, batch_option, define, json_option, load, model_options


@define(
    "summary",
    "cnnc summary examples/alexnet.cnn -p size=227",
    "cnnc summary examples/resnet.cnn -p depth=50 --batch 16 --json",
)
@model_options
@batch_option
@json_option
def command(chosen: Chosen, batch: int, as_json: bool) -> None:
    """Print a row per layer, totals, and the planned peak memory of inference and of a training step.

    Where the width is short (COLUMNS, the terminal's, or 80), columns go in this order: weight, padding,
    receptive field, output KiB, stride, kernel, multiply-adds, op, output. Numbers are never cut.
    """
    summary = load(chosen).summary(batch)
    if as_json:
        print_json(summary.to_json())
    else:
        click.echo(str(summary.table()), nl=False)
