"""What commands are told: the options that several have, and the network that these name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import click

from cnnc.cli.common import exists, verbosity, warn

if TYPE_CHECKING:
    from cnnc.network import Network

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
Shapes = dict[str, tuple[int | None, ...]]
LARGEST = 2**31 - 1  # batch
path_option = partial(click.option, type=click.Path())


def define(name: str, *examples: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A command with -q, -v and its examples in the help."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        def run(quiet: bool, verbose: int, **options: Any) -> Any:
            group = click.get_current_context().parent
            before = {} if group is None else group.params  # `cnnc -q check` is `cnnc check -q`
            verbosity.level = -1 if quiet or before.get("quiet") else verbose + before.get("verbose", 0)
            return function(**options)

        epilog = "\b\n" + "\n".join(["Example:" if len(examples) == 1 else "Examples:", *(f"  {e}" for e in examples)])
        command = click.command(name, epilog=epilog)(function)
        command.callback = run
        command.params += [
            click.Option(["-q", "--quiet"], is_flag=True, help="No progress and no warnings."),
            click.Option(["-v", "--verbose"], count=True, help="Say more on stderr."),
        ]
        return command

    return decorate


def texts(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """`name=value` pairs as a dictionary; a click callback. The values stay texts: the language reads them."""
    result: dict[str, str] = {}
    for item in given:
        name, equal, value = item.partition("=")
        if not equal or not name.strip():
            raise click.BadParameter(f"'{item}' is not of the form name=value", ctx, option)
        if name.strip() in result:
            raise click.BadParameter(f"'{name.strip()}' is given twice", ctx, option)
        result[name.strip()] = value.strip()
    return result


model_option = click.option("-m", "--model", metavar="NAME", help="The model to take from a file that holds several.")
parameters_option = click.option(
    "-p",
    "--param",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    callback=texts,
    help="Set a parameter of the model; may be repeated.",
)


def shapes(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> Shapes:
    """`name=1,3,640,640` pairs as a dictionary; a click callback. `N` or `?` leaves the batch open."""
    result: Shapes = {}
    for name, value in texts(ctx, option, given).items():
        sizes = [part.strip() for part in value.replace("x", ",").split(",")]
        if not all(part.isdecimal() or part in ("N", "?") for part in sizes):
            raise click.BadParameter(f"'{value}' is no list of sizes such as 1,3,640,640", ctx, option)
        result[name] = tuple(int(part) if part.isdecimal() else None for part in sizes)
    return result


onnx_options = (
    click.option(
        "--input-shape",
        multiple=True,
        metavar="NAME=1,3,640,640",
        callback=shapes,
        help="Sizes of an .onnx file's input that it leaves open.",
    ),
    click.option(
        "--external-data",
        is_flag=True,
        help="Read tensors that an .onnx file keeps in other files of its folder.",
    ),
)


@dataclass(frozen=True)
class Chosen:
    """The model that a command is given, and what is said of it: input_shape and external_data are of ONNX files."""

    path: str
    model: str | None
    parameters: Mapping[str, Any]
    input_shape: Shapes = field(default_factory=dict)
    external_data: bool = False

    def title(self, network: Network) -> str:
        """The network's name, and the parameters that were given."""
        return " ".join([network.name, *(f"{k}={v}" for k, v in self.parameters.items())])


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The model file, `-p` and `-m`; what else an ONNX file may need. The command gets them as `chosen`."""

    @wraps(command)
    def function(**options: Any) -> Any:
        chosen = Chosen(**{f.name: options.pop(f.name) for f in fields(Chosen)})
        return command(chosen=chosen, **options)

    path = click.argument("path", metavar="MODEL", type=click.Path())
    for decorator in (*onnx_options, model_option, parameters_option, path):
        decorator(function)
    return function


@dataclass(frozen=True)
class Weights:
    """A file of weights, and how names that begin in one way there begin in the network."""

    path: str
    map: Mapping[str, str]


def prefixes(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """`before=after` pairs as a dictionary; a click callback. Either may be empty."""
    result: dict[str, str] = {}
    for item in given:
        before, equal, after = item.partition("=")
        if not equal or before in result:
            what = "is not of the form before=after" if not equal else "begins as another does"
            raise click.BadParameter(f"'{item}' {what}", ctx, option)
        result[before] = after
    return result


def weights_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--weights` and `--map`. The command gets them as `weights`, None where there are none."""

    @wraps(command)
    def function(weights: str | None, map: dict[str, str], **options: Any) -> Any:
        if map and weights is None:
            raise click.UsageError("--map goes with --weights.")
        return command(weights=None if weights is None else Weights(weights, map), **options)

    for decorator in (
        click.option(
            "--map",
            multiple=True,
            metavar="BEFORE=AFTER",
            callback=prefixes,
            help="Names of weights that begin with BEFORE begin with AFTER in the network; may be repeated.",
        ),
        path_option(
            "--weights",
            "-w",
            metavar="W.safetensors",
            help="Weights by parameter name, .safetensors or .npz.",
        ),
    ):
        decorator(function)
    return function


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
batch_option = click.option(
    "--batch", "-b", type=click.IntRange(1, LARGEST), default=1, show_default=True, help="Images in a batch."
)


def load(chosen: Chosen, weights: Weights | None = None) -> Network:
    """The network of a file, its warnings shown, its weights loaded."""
    from cnnc import driver

    exists(chosen.path, "model")
    network = driver.load_with(
        chosen.path, chosen.model, chosen.parameters, chosen.input_shape or None, chosen.external_data
    )
    warn(network.warnings)
    if weights is not None:
        network.load_weights(weights.path, map=weights.map)
    return network
