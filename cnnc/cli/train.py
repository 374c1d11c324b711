"""`cnnc train M.cnn --data D`."""

from __future__ import annotations

import click

from cnnc.cli.common import exists, print_json, say, verbosity
from cnnc.cli.options import Chosen, Weights, define, json_option, load, model_options, path_option, weights_option


@define(
    "train",
    "cnnc train examples/lenet5_relu.cnn --data examples/data/digits.npz --out runs/digits",
    "cnnc train examples/resnet.cnn -p classes=10 --data photos/ --set optimizer.lr=0.01 --epochs 30",
    "cnnc train examples/lenet5_relu.cnn --data examples/data/digits.npz --out runs/digits --resume",
)
@model_options
@path_option(
    "-d",
    "--data",
    required=True,
    metavar="D",
    help="A .npz, a folder of class folders, MNIST or CIFAR files.",
)
@path_option("--out", metavar="DIR", help="The run folder; runs/<model> otherwise.")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the data; the recipe's otherwise.")
@click.option(
    "--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Replace a setting of the recipe; may be repeated."
)
@weights_option
@click.option("--resume", is_flag=True, help="Go on from the run folder's checkpoint.")
@click.option("--force", is_flag=True, help="Replace the run that is in the run folder.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Of initialization, order, augmentation and dropout.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads; as many as there are cores for it otherwise.")
@click.option(
    "--target", default="cpu", show_default=True, metavar="cpu|reference", help="Compiled, or interpreted in float64."
)
@json_option
def command(
    chosen: Chosen,
    data: str,
    out: str | None,
    epochs: int | None,
    overrides: tuple[str, ...],
    weights: Weights | None,
    resume: bool,
    force: bool,
    seed: int,
    threads: int | None,
    target: str,
    as_json: bool,
) -> int:
    """Train a model; write weights, metrics and the exact recipe to the run folder."""
    if resume and force:
        raise click.UsageError("--resume goes on with a run, --force replaces it: give one of them.")
    network = load(chosen)
    exists(data, "data", folder=True)
    from cnnc.train import Interrupted, train

    try:
        result = train(
            network,
            data,
            out,
            epochs=epochs,
            overrides=overrides,
            weights=None if weights is None else weights.path,
            map={} if weights is None else weights.map,
            resume=resume,
            force=force,
            seed=seed,
            threads=threads,
            target=target,
            quiet=verbosity.level < 0,
        )
        code = 0
    except Interrupted as e:
        say(str(e))
        result, code = e.result, 130
    if as_json:
        print_json({"folder": str(result.folder), "weights": str(result.weights), "epochs": list(result.history)})
    elif code == 0:
        click.echo(str(result.weights))
    return code
