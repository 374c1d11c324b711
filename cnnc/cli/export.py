"""`cnnc export M.cnn -o X.onnx`."""

from __future__ import annotations

from pathlib import Path

import click

from cnnc.cli.common import replacing, say
from cnnc.cli.options import LARGEST, Chosen, Weights, define, load, model_options, path_option, weights_option
from cnnc.diagnostics import error


@define("export", "cnnc export examples/resnet.cnn -p depth=18 --weights resnet18.safetensors -o resnet18.onnx")
@model_options
@path_option("-o", "--output", required=True, metavar="X.onnx", help="The ONNX file.")
@weights_option
@click.option("-b", "--batch", type=click.IntRange(1, LARGEST), help="Fix the batch; it is symbolic otherwise.")
def command(
    chosen: Chosen,
    output: str,
    weights: Weights | None,
    batch: int | None,
) -> None:
    """Write a model and its weights as ONNX, for other programs to run. Needs `pip install 'cnnc[onnx]'`."""
    from cnnc.cli.run import names_of
    from cnnc.interop import onnx

    if Path(output).suffix.lower() != ".onnx":
        raise error("E0603", f"ONNX is written as .onnx, not to '{output}'", exit_code=2)
    onnx.package()
    network = load(chosen, weights)
    if weights is None and network.weights.drawn:
        say("no --weights given: the file holds the network as it was initialized")
    content = onnx.model(network.graph, network.weights, batch, names_of(network, chosen.path)).SerializeToString()
    with replacing(output) as temporary:
        temporary.write_bytes(content)
    say(f"wrote {output}, {len(content) / 2**20:.1f} MiB")
