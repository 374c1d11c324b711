"""`cnnc graph M.cnn -o out.svg`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cnnc.cli.common import say, write_text
from cnnc.cli.compiling import mode_option, optimized, sources, target_option
from cnnc.cli.options import Chosen, Weights, define, load, model_options, path_option, weights_option
from cnnc.diagnostics import did_you_mean, error

if TYPE_CHECKING:
    from cnnc.drawing.cards import Numbers
    from cnnc.network import Network

FEW = 4  # numbers that are written one by one


@define(
    "graph",
    "cnnc graph examples/resnet.cnn -p depth=18 -o resnet18.svg",
    "cnnc graph examples/resnet.cnn --after fuse-epilogues -o fused.svg",
    "cnnc graph examples/lenet5.cnn --mode train --dark -o step.svg",
    "cnnc graph examples/expression.cnn --values --gradients -i x0=1 -i x1=-1 -i y0=1 -i y1=-2 -o f.svg",
)
@model_options
@path_option(
    "-o",
    "--output",
    required=True,
    metavar="OUT.svg|.dot|.mmd",
    help="Where to draw; the ending is the form.",
)
@mode_option
@click.option("--after", metavar="PASS", help="The graph after this pass; before any otherwise.")
@click.option(
    "--dark/--light", default=None, help="Colors of an SVG for such a page; as the reader's page is otherwise."
)
@click.option("--values", is_flag=True, help="Write on every card the value of its node, in float64.")
@click.option("--gradients", is_flag=True, help="Write on every card the gradient of the output by its node.")
@click.option(
    "--of", metavar="NAME", help="The output, or the value, whose gradients they are; the first output otherwise."
)
@click.option(
    "-i",
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=X",
    help="What an input is: a number, a list [1, 2], or a file as `cnnc run` takes it. Random, N(0, 1), if none is given.",
)
@weights_option
@target_option
def command(
    chosen: Chosen,
    output: str,
    mode: str,
    after: str | None,
    dark: bool | None,
    values: bool,
    gradients: bool,
    of: str | None,
    inputs: tuple[str, ...],
    weights: Weights | None,
    target: str,
) -> None:
    """Draw the network as SVG, as Graphviz DOT or as a Mermaid flow chart.

    Cards have kernel, stride, channels, sizes and parameters; blocks that repeat are drawn once. In an SVG the pointer
    shows the rest.

    With --values and --gradients it is a computational graph: each node has a card, with what it is for the inputs given
    and how fast the output changes with it; large tensors have their mean and deviation.
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
    said = values or gradients
    if not said and (inputs or of or weights):
        raise click.UsageError("--input, --of and --weights go with --values and --gradients.")
    if said and (suffix != ".svg" or mode != "infer" or after is not None):
        raise click.UsageError("Values and gradients are drawn as SVG, of the network as it is written.")
    network = load(chosen, weights)
    graph = sources(network, mode)[-1][1]
    if after is not None:
        graph = optimized(network, mode, target)[1].after(after)
    title = chosen.title(network)
    title += (", a training step" if mode == "train" else "") + (f", after {after}" if after else "")
    if said:
        numbers = numbers_of(network, inputs, values, gradients, of)
        write_text(output, svg(graph, title, dark, numbers))
    else:
        write_text(output, svg(graph, title, dark) if suffix == ".svg" else WRITERS[suffix](graph))
    say(f"wrote {output}")


def numbers_of(
    network: Network, given: Sequence[str], values: bool, gradients: bool, of: str | None
) -> dict[str, Numbers]:
    """What is written of each value, and of each parameter: by the reference, in float64."""
    from cnnc.cli.given import arrays_of
    from cnnc.drawing.cards import Numbers
    from cnnc.driver import value_and_grad
    from cnnc.passes.named import differentiable

    inputs = [*arrays_of(network, given).values()]
    found: Mapping[str, Any] = {}
    slopes: Mapping[str, Any] = {}
    if values:
        found = {**network.trace(*inputs, target="reference"), **network.weights}
    if gradients:
        label = of if of is not None else network.graph.outputs[0][0]
        everything = differentiable(network.graph)
        _, slopes = value_and_grad(network, of=label, wrt=everything, target="reference")(*inputs)
    return {name: Numbers(brief(found.get(name)), brief(slopes.get(name))) for name in {*found, *slopes}}


def brief(array: Any) -> str:
    """An array in a few letters: its numbers where they are few, their mean and deviation otherwise; nothing for none."""
    if array is None:
        return ""
    if array.size > FEW:
        return f"{array.mean():.3g} \u00b1 {array.std():.3g}"
    numbers = [f"{x:.4g}" for x in array.ravel()]
    return numbers[0] if len(numbers) == 1 else f"[{', '.join(numbers)}]"
