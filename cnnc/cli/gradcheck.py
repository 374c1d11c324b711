"""`cnnc gradcheck M.cnn`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cnnc.cli.common import print_json, say
from cnnc.cli.options import LARGEST, Chosen, Weights, define, json_option, load, model_options, weights_option
from cnnc.table import Column, Table, columns

if TYPE_CHECKING:
    from cnnc.train.gradcheck import Row

COLUMNS = (
    Column(""),
    Column("parameter"),
    Column("numbers", True, leaves=2),
    Column("norm", True, leaves=1),
    Column("differences", True),
    Column("compiled", True),
)


def cells(row: Row) -> tuple[str, ...]:
    compiled = "" if row.compiled is None else f"{row.compiled:.1e}"
    return ("ok" if row.ok else "FAIL", row.name, f"{row.size:,}", f"{row.norm:.2e}", f"{row.error:.1e}", compiled)


@define(
    "gradcheck",
    "cnnc gradcheck examples/lenet5.cnn",
    "cnnc gradcheck examples/resnet.cnn --parameter fc.weight --batch 4",
)
@model_options
@weights_option
@click.option("-b", "--batch", type=click.IntRange(1, LARGEST), default=2, show_default=True, help="Random images.")
@click.option(
    "--directions",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Random directions for each parameter.",
)
@click.option("--parameter", "names", multiple=True, metavar="NAME", help="Only this parameter; may be repeated.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option("--compiled/--reference-only", default=True, help="Whether to compare the compiled float32 gradient too.")
@json_option
def command(
    chosen: Chosen,
    weights: Weights | None,
    batch: int,
    directions: int,
    names: tuple[str, ...],
    seed: int,
    compiled: bool,
    as_json: bool,
) -> int:
    """Compare every parameter's gradient with central differences in float64, and the compiled gradient with the
    reference's."""
    from cnnc.ir.types import product
    from cnnc.train.gradcheck import COMPILED_TOLERANCE, TOLERANCE, check

    network = load(chosen, weights)
    recipe = network.program.recipe
    rows: list[Row] = []
    sizes = {n.name: product(n.type.concrete(1)) for n in network.graph.parameters}
    # the widest that there may be: rows are printed one by one
    table = Table(COLUMNS, [("FAIL", name, f"{size:,}", *("1.23e-100",) * 3) for name, size in sizes.items()])
    widths = table.fit(columns())
    for row in check(network, batch, directions, seed, recipe.losses if recipe else "cross_entropy", names, compiled):
        rows.append(row)
        if not as_json:
            if len(rows) == 1:
                click.echo("\n".join(table.head(widths)))
            click.echo("\n".join(table.body([cells(row)], widths)))
    wrong = [row.name for row in rows if not row.ok]
    if as_json:
        print_json(
            {
                "ok": not wrong,
                "tolerance": TOLERANCE,
                "compiled_tolerance": COMPILED_TOLERANCE,
                "parameters": [
                    {
                        "name": r.name,
                        "size": r.size,
                        "norm": r.norm,
                        "error": r.error,
                        "compiled_error": r.compiled,
                        "ok": r.ok,
                    }
                    for r in rows
                ],
            }
        )
    say(f"{len(wrong)} of {len(rows)} gradients differ" if wrong else f"all {len(rows)} gradients agree")
    return 4 if wrong else 0
