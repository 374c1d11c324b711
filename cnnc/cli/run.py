"""`cnnc run M.cnn|M.cnnx --input X`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cnnc.cli.common import (
    LARGEST,
    define,
    exists,
    json_option,
    load,
    model_options,
    print_json,
    replacing,
    say,
    weights_option,
)
from cnnc.diagnostics import did_you_mean, error
from cnnc.foreign import ARTIFACT, recognize, refuse

if TYPE_CHECKING:
    from cnnc.frontend.inputs import Preprocess
    from cnnc.ir.graph import Graph
    from cnnc.network import Network
    from cnnc.runtime.executable import Executable

DATA = 3


@define(
    "run",
    "cnnc run examples/lenet5_relu.cnn --weights runs/digits/weights.safetensors --input examples/data/3.png",
    "cnnc run resnet18.cnnx --input photos/ --top 3 --json",
)
@model_options
@click.option(
    "-i",
    "--input",
    "inputs",
    multiple=True,
    required=True,
    metavar="X",
    help="An image, a folder of images, a .npy or a .npz; NAME=X where the network has several inputs.",
)
@weights_option
@click.option("-o", "--output", type=click.Path(), metavar="Y.npz", help="Write the outputs by name.")
@click.option("-k", "--top", type=click.IntRange(min=1), default=5, show_default=True, help="Classes to print.")
@click.option(
    "-b", "--batch", type=click.IntRange(1, LARGEST), default=16, show_default=True, help="Images in one call."
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads; as many as there are cores otherwise.")
@json_option
def command(
    path: str,
    model: str | None,
    parameters: dict[str, Any],
    inputs: tuple[str, ...],
    weights: str | None,
    output: str | None,
    top: int,
    batch: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Classify images or arrays; print the top classes with their names where there are any."""
    exists(path, "model")
    if Path(path).suffix.lower() == ".cnnx" or recognize(path) is ARTIFACT:
        if parameters or model or weights:
            raise click.UsageError(
                "An artifact has its parameters and weights inside; -p, -m and --weights do not go with it."
            )
        from cnnc import artifact

        exists(path, "model")
        opened = artifact.read(path, threads)
        executable, settings, labels = opened.executable, opened.inputs, opened.labels
    else:
        from cnnc import driver

        network = load(path, model, parameters, weights)
        if weights is None and len(network.weights):
            say("no --weights given: the network is as it was initialized, and what it prints means nothing")
        settings, labels = network.program.inputs, names_of(network, path)
        executable = driver.compile(network, threads=threads)
    check_outputs(executable.graph)
    names, arrays = read(executable.graph, settings, inputs)
    results = call(executable, arrays, batch)
    if output is not None:
        save(output, results)
    images = [
        {label: shown(executable.graph, label, y[i], top, labels) for label, y in results.items()}
        for i in range(len(names))
    ]
    if as_json:
        records = [
            {"input": name, "outputs": image} if len(images) > 1 else {"outputs": image}
            for name, image in zip(names, images, strict=True)
        ]
        print_json(records[0] if len(records) == 1 else records)
        return
    for name, image in zip(names, images, strict=True):
        if len(images) > 1:
            click.echo(f"{name}:")
        click.echo("\n".join(lines(image)))


def check_outputs(graph: Graph) -> None:
    """Raises `CnncError` (E0705) for an output that is not of each image."""
    from cnnc.ir.types import BATCH

    for label, value in graph.outputs:
        kind = graph.type(value)
        if kind.shape[:1] != (BATCH,):
            raise error(
                "E0705",
                f"the output '{label}' is {kind}: it is of the whole batch, not of each image",
                help="call the network in Python: cnnc.compile(net)(x)",
                exit_code=DATA,
            )


def names_of(network: Network, path: str) -> tuple[str, ...] | None:
    """The label names of the first input that has any."""
    from cnnc.data.images import label_names

    for settings in network.program.inputs.values():
        names = label_names(settings, path)
        if names is not None:
            return tuple(names)
    return None


def read(graph: Graph, settings: Mapping[str, Preprocess], given: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """The names of the images, and an array [n, ...] for each input of the network."""
    from cnnc.data.images import load_input
    from cnnc.frontend.inputs import Preprocess

    nodes = graph.inputs
    paths: dict[str, str] = {}
    for item in given:
        name, equal, path = item.partition("=")
        if not equal or (not any(n.name == name for n in nodes) and Path(item).exists()):
            name, path = next((n.name for n in nodes if n.name not in paths), nodes[0].name), item
        if not any(n.name == name for n in nodes):
            raise error(
                "E0701",
                f"the network has no input '{name}'",
                f"its inputs are {', '.join(n.name for n in nodes)}",
                help=did_you_mean(name, [n.name for n in nodes]),
                exit_code=DATA,
            )
        if name in paths:
            raise error(
                "E0701",
                f"'{name}' is given twice, as {paths[name]} and {path}",
                exit_code=DATA,
                help="put the images into one folder to run them all",
            )
        paths[name] = path
    missing = [n.name for n in nodes if n.name not in paths]
    if missing:
        raise error(
            "E0701", f"nothing is given for the input '{missing[0]}'", help=f"--input {missing[0]}=FILE", exit_code=DATA
        )
    arrays: dict[str, Any] = {}
    names: list[str] = []
    for node in nodes:
        refuse(exists(paths[node.name], "input", folder=True), "input")
        found, arrays[node.name] = load_input(
            paths[node.name], settings.get(node.name, Preprocess()), node.type.concrete(1)[1:]
        )
        if names and len(found) != len(names):
            raise error(
                "E0701",
                f"{paths[node.name]} has {len(found)} images, {paths[nodes[0].name]} has {len(names)}",
                exit_code=DATA,
            )
        names = names or found
    return names, arrays


def call(executable: Executable, arrays: Mapping[str, Any], batch: int) -> dict[str, Any]:
    """The outputs by label, over all images, `batch` of them at a time."""
    import numpy as np

    count = len(next(iter(arrays.values())))
    parts = [
        executable.run({name: a[at : at + batch] for name, a in arrays.items()})
        for at in range(0, max(count, 1), batch)
    ]
    return {label: np.concatenate([p[label] for p in parts]) for label in parts[0]}


def save(path: str, results: Mapping[str, Any]) -> None:
    import numpy as np

    if Path(path).suffix.lower() != ".npz":
        raise error("E0603", f"outputs are written as .npz, not to '{path}'", exit_code=2)
    with replacing(path) as temporary, open(temporary, "wb") as f:
        np.savez(f, **dict(results))
    say(f"wrote {path}")


def shown(graph: Graph, label: str, y: Any, top: int, labels: Sequence[str] | None) -> dict[str, Any]:
    """One image's output: its best classes, or its values where it is no row of logits."""
    import numpy as np

    if y.ndim != 1:
        return {"shape": list(y.shape), "values": y.item() if y.ndim == 0 and math.isfinite(y) else None}
    y = y.astype(np.float64)
    if graph.node(dict(graph.outputs)[label]).op != "softmax" and not np.isnan(y).any():
        e = np.exp(y - np.max(y)) if np.isfinite(np.max(y)) else (y == np.max(y)).astype(np.float64)
        y = e / e.sum()
    order = np.argsort(-y, kind="stable")[:top]
    return {
        "top": [
            {
                "index": int(i),
                "label": labels[i] if labels is not None and i < len(labels) else None,
                "probability": float(y[i]) if math.isfinite(y[i]) else None,
            }
            for i in order
        ]
    }


def lines(image: Mapping[str, Any]) -> list[str]:
    result = []
    for label, record in image.items():
        if len(image) > 1:
            result.append(f"{label}:")
        if "top" not in record:
            value = record["values"]
            result.append(f"  {record['shape']}" if value is None else f"  {value:g}")
        for entry in record.get("top", ()):
            share = "   nan" if entry["probability"] is None else f"{100 * entry['probability']:5.1f}%"
            result.append(f"  {share}  {entry['index']:>4}  {entry['label'] or ''}".rstrip())
    return result
