"""`cnnc stats M.cnn`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cnnc.cli.common import exists, print_json, say, write_text
from cnnc.cli.compiling import target_option
from cnnc.cli.options import (
    LARGEST,
    Chosen,
    Weights,
    define,
    json_option,
    load,
    model_options,
    path_option,
    weights_option,
)
from cnnc.diagnostics import error

if TYPE_CHECKING:
    from cnnc.ir.objective import Losses
    from cnnc.network import Network
    from cnnc.stats import Statistics


@define(
    "stats",
    'cnnc stats examples/deep_mlp.cnn -p act=tanh -p init="normal(std=0.05)" -o spread.svg',
    "cnnc stats examples/lenet5_relu.cnn --data examples/data/digits.npz --weights runs/digits/weights.safetensors",
)
@model_options
@weights_option
@path_option("-d", "--data", metavar="D", help="Data as `cnnc train` takes it; random otherwise.")
@click.option(
    "-b", "--batch", type=click.IntRange(1, LARGEST), default=16, show_default=True, help="Images in a batch."
)
@path_option("-o", "--output", metavar="OUT.svg", help="Draw the histograms too.")
@click.option("--dark/--light", default=None, help="Colors of the drawing; as the reader's page is otherwise.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of what is random.")
@target_option
@json_option
def command(
    chosen: Chosen,
    weights: Weights | None,
    data: str | None,
    batch: int,
    output: str | None,
    dark: bool | None,
    seed: int,
    target: str,
    as_json: bool,
) -> None:
    """Say how values and gradients are spread in every layer: mean, deviation, dead and saturated share, histogram.

    It is one training step of a batch, forward and backward, with the weights as they start or as they are given. Without
    data, inputs are of N(0, 1) and labels of any class; where there is neither data nor a recipe, the gradients are those of
    the first output, each number of which counts as much as one of N(0, 1) says.
    """
    if output is not None and not output.lower().endswith(".svg"):
        raise error("E0603", f"cannot draw to '{output}'", help="end the name in .svg", exit_code=2)
    network = load(chosen, weights)
    from cnnc.ir.objective import CROSS_ENTROPY
    from cnnc.stats import statistics

    recipe = network.program.recipe
    losses = recipe.losses if recipe else CROSS_ENTROPY if data is not None else None
    given = None if data is None or losses is None else a_batch(network, data, batch, seed, losses)
    found = statistics(
        network,
        batch if given is None else len(next(iter(given.values()))),
        seed,
        given,
        losses,
        target,
    )
    if as_json:
        print_json(found.to_json())
    else:
        click.echo("\n".join(str(table) for table in found.tables()), nl=False)
    if output is not None:
        title = chosen.title(network)
        write_text(output, drawn(found, title, dark))
        say(f"wrote {output}")


def a_batch(network: Network, data: str, batch: int, seed: int, losses: Losses) -> dict[str, Any]:
    """The first batch of an epoch, and what the losses read of it. Raises `CnncError` (E0620 to E0630)."""
    from cnnc.data.dataset import Dataset
    from cnnc.frontend.inputs import Preprocess
    from cnnc.passes.losses import targets
    from cnnc.train.targets import checked, form_of

    exists(data, "data", folder=True)
    nodes = network.graph.inputs
    if len(nodes) != 1:
        raise error("E0820", f"data are for networks of one input, and this one has {len(nodes)}", exit_code=2)
    settings = network.program.inputs.get(nodes[0].name, Preprocess())
    read = targets(network.graph, losses)
    dataset = Dataset.open(data, settings, nodes[0].type.concrete(1)[1:], form=form_of(read))
    x, labels = next(iter(dataset.batches(min(batch, len(dataset.train)), 1, seed)))
    return {nodes[0].name: x, **checked(read, labels, len(x))}


def drawn(found: Statistics, title: str, dark: bool | None) -> str:
    """The histograms as SVG."""
    from cnnc.drawing.histograms import Row, Section, histograms
    from cnnc.stats import ratio, share

    def remark(dead: float | None, saturated: float | None) -> str:
        named = {"dead": dead, "saturated": saturated}
        return ", ".join(f"{share(value)} {name}" for name, value in named.items() if value)

    layers = [Row(r.name, r.op, r.words, r.forward, r.backward, remark(r.dead, r.saturated)) for r in found.layers]
    weights = [
        Row(r.name, "param", f"ratio {ratio(r)}" if ratio(r) else "", r.forward, r.backward) for r in found.parameters
    ]
    sections = [Section("values", "gradients of the loss by them", layers)]
    if weights:
        sections.append(Section("parameters", "gradients of the loss by them", weights))
    return histograms(title, found.about, sections, dark)
