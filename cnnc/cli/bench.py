"""`cnnc bench M.cnn`."""

from __future__ import annotations

from pathlib import Path

import click

from cnnc.cli.common import print_json, say, write_text
from cnnc.cli.compiling import mode_option
from cnnc.cli.options import (
    Chosen,
    Weights,
    batch_option,
    define,
    json_option,
    load,
    model_options,
    path_option,
    weights_option,
)
from cnnc.diagnostics import error


@define(
    "bench",
    "cnnc bench examples/resnet.cnn -p depth=18 --against onnxruntime,openvino,torch",
    "cnnc bench examples/mobilenetv2.cnn --layers --roofline mobilenetv2.svg",
    "cnnc bench examples/vgg.cnn -p depth=11 --mode train --batch 8 --against torch,torch-compile",
)
@model_options
@weights_option
@mode_option
@batch_option
@click.option(
    "--against",
    default="",
    metavar="ENGINE,...",
    help="Peers: onnxruntime, openvino, torch, torch-compile (which takes a minute to compile).",
)
@click.option(
    "--layers", is_flag=True, help="Each layer: algorithm, time, GFLOP/s, share of the peak, GB/s; reasons with -v."
)
@path_option("--roofline", metavar="OUT.svg", help="Draw the layers below the machine's limits.")
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    help="Threads of every engine; as many as there are cores for it otherwise.",
)
@click.option("--isa", type=click.Choice(["avx512", "avx2", "sse2"]), help="Hold all engines to narrower vectors.")
@click.option("--exact", is_flag=True, help="Only algorithms that round like the direct one.")
@click.option("--rounds", type=click.IntRange(1, 1000), default=5, show_default=True, help="Blocks of each engine.")
@click.option(
    "--block",
    type=click.FloatRange(0, 600),
    default=0.5,
    show_default=True,
    help="Seconds of a block; 3 calls at least.",
)
@json_option
def command(
    chosen: Chosen,
    weights: Weights | None,
    mode: str,
    batch: int,
    against: str,
    layers: bool,
    roofline: str | None,
    threads: int | None,
    isa: str | None,
    exact: bool,
    rounds: int,
    block: float,
    as_json: bool,
) -> None:
    """Time a network, beside other programs and layer by layer.

    Engines take turns in blocks, each after a pause and two warm-up calls; their results are compared first. Times are
    medians of whole calls from Python. Training is a step of SGD with momentum, and no peer but PyTorch does it.
    """
    if roofline is not None and Path(roofline).suffix.lower() != ".svg":
        raise error("E0603", f"the roofline is drawn as .svg, not to '{roofline}'", exit_code=2)
    if exact and mode == "train":
        raise click.UsageError("--exact goes with --mode infer.")
    from cnnc.bench import engines
    from cnnc.runtime.threads import cores
    from cnnc.table import wrapped

    peers = engines.known([p.strip() for p in against.split(",") if p.strip()])
    if isa is not None:
        for line in hold(isa, peers):
            say(line)
    network = load(chosen, weights)
    from cnnc.bench.run import run

    target = f"cpu-{isa}" if isa else "cpu"
    setting = engines.Setting(network, mode, batch, threads or cores(), peers, target, exact)
    name = chosen.title(network)
    report = run(setting, name, layers or roofline is not None, rounds, block, say)
    for name, why in report.left_out.items():
        say(f"{name} is left out: {why}")
    if roofline is not None:
        from cnnc.bench.roofline import svg

        assert report.figures is not None
        write_text(roofline, svg(report.layers, report.figures, report.title, report.threads))
        say(f"wrote {roofline}")
    if as_json:
        print_json(report.to_json())
    else:
        click.echo(str(report.engines_table()), nl=False)
        if report.verdict:
            click.echo("\n".join(wrapped(report.verdict)))
        if layers:
            click.echo(f"\n{report.layers_table()}", nl=False)
            for reason in report.reasons():
                say("\n".join(wrapped(reason, indent="    ")), 1)


def hold(isa: str, peers: tuple[str, ...]) -> list[str]:
    """Set the peers' switches; what is to be said about those that have none. Raises `CnncError` (E0809) where this
    machine does not have the instruction set."""
    from cnnc.backends import backend, native
    from cnnc.bench.isa import force

    backend(f"cpu-{isa}")
    return force(isa, peers, native().name)
