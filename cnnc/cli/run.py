"""`cnnc run M.cnn|M.cnnx --input X`."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from cnnc.cli.common import exists, say, warn
from cnnc.cli.options import LARGEST, Chosen, Weights, define, json_option, load, model_options, weights_option
from cnnc.diagnostics import did_you_mean, error
from cnnc.foreign import ARTIFACT, recognize, refuse

if TYPE_CHECKING:
    from cnnc.cli.outputs import Rows
    from cnnc.data.inputs import Inputs
    from cnnc.frontend.inputs import Preprocess
    from cnnc.ir.graph import Graph
    from cnnc.ir.types import Dim
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
    help="An image, a folder of images or of class folders, a .npy or a .npz; NAME=X where the network has several inputs.",
)
@weights_option
@click.option("-o", "--output", type=click.Path(), metavar="Y.npz", help="Write the outputs by name.")
@click.option("-k", "--top", type=click.IntRange(min=1), default=5, show_default=True, help="Classes to print.")
@click.option(
    "-b", "--batch", type=click.IntRange(1, LARGEST), default=16, show_default=True, help="Images in one call."
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads; as many as there are cores for it otherwise.")
@json_option
def command(
    chosen: Chosen,
    inputs: tuple[str, ...],
    weights: Weights | None,
    output: str | None,
    top: int,
    batch: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Classify images or arrays; print the top classes with their names where there are any."""
    path = chosen.path
    exists(path, "model")
    if Path(path).suffix.lower() == ".cnnx" or recognize(path) is ARTIFACT:
        if chosen.parameters or chosen.model or weights:
            raise click.UsageError(
                "An artifact has its parameters and weights inside; -p, -m and --weights do not go with it."
            )
        from cnnc import artifact

        exists(path, "model")
        opened = artifact.read(path, threads)
        executable, settings, labels = opened.executable, opened.inputs, opened.labels
    else:
        from cnnc import driver

        network = load(chosen, weights)
        if weights is None and network.weights.drawn:
            say("no --weights given: the network is as it was initialized, and what it prints means nothing")
        if network.open_sizes or all(n.type.shape[:1] == (1,) for n in network.graph.inputs):
            batch = 1  # each picture has a size of its own
        settings, labels = network.representative.program.inputs, names_of(network.representative, path)
        executable = driver.compile(network, threads=threads)
    graph = executable.representative
    check_outputs(graph)
    inputs_by_name = read(executable.input_shapes, settings, inputs)
    warn(w for given in inputs_by_name.values() for w in given.warnings)
    few = classes_of(graph)
    asked = click.get_current_context().get_parameter_source("top") is ParameterSource.COMMANDLINE
    if asked and few is not None and top > few:
        say(f"--top {top}: the network tells {few} classes apart, and these are all of them")
    if output is None:
        go(executable, inputs_by_name, labels, batch, top, as_json, None)
        return
    from cnnc.cli.outputs import Rows

    with Rows(output) as rows:
        go(executable, inputs_by_name, labels, batch, top, as_json, rows)
        rows.save()
    say(f"wrote {output}")


def go(
    executable: Executable,
    inputs: Mapping[str, Inputs],
    labels: Sequence[str] | None,
    batch: int,
    top: int,
    as_json: bool,
    rows: Rows | None,
) -> None:
    """Run all images, `batch` of them at a time; print what each gives, and keep the outputs in `rows`."""
    from cnnc.cli.outputs import Records, progress

    graph, first = executable.representative, next(iter(inputs.values()))
    if first.count == 0:
        say("there are no images in the input")
    lost = 0
    right = Right(first, labels)
    records = Records() if as_json else None
    with progress(first.count, as_json or sys.stdout is None or not sys.stdout.isatty()) as done:
        for at in range(0, max(first.count, 1), batch):
            end = min(at + batch, first.count)
            results = executable.run({name: given.take(at, end) for name, given in inputs.items()})
            lost += not_finite(results, end - at)
            if rows is not None:
                rows.add(results)
            for i in range(at, end):
                image = {label: shown(graph, label, y[i - at], top, labels) for label, y in results.items()}
                expected = right.add(i, {label: y[i - at] for label, y in results.items()})
                if records is None:
                    text = "\n".join(lines(image))
                    click.echo(f"{first.name(i)}:\n{text}" if first.count > 1 else text)
                else:
                    name = {"input": first.name(i)} if first.count > 1 else {}
                    records.add({**name, "outputs": image, **expected})
            done(end - at)
    if records is not None:
        records.print()
    right.report()
    if lost:
        say(f"{lost} of {first.count} images give NaN or infinite values: are their inputs, and the weights, finite?")


def not_finite(results: Mapping[str, Any], images: int) -> int:
    """How many images of a batch give a value that is not finite."""
    import numpy as np

    bad = np.zeros(images, bool)
    for y in results.values() if images else ():
        bad |= ~np.isfinite(y.reshape(images, -1)).all(1)
    return int(bad.sum())


def classes_of(graph: Graph) -> int | None:
    """The most classes that an output has; None where no output is a row of them."""
    sizes = [int(t.shape[1]) for t in (graph.type(value) for _, value in graph.outputs) if len(t.shape) == 2]
    return max(sizes, default=None)


class Right:
    """How many images are of the class that they are known to be of."""

    def __init__(self, inputs: Inputs, names: Sequence[str] | None) -> None:
        self.inputs, self.names = inputs, names
        self.seen = self.right = 0
        self._index: list[int | None] | None = None

    def _classes(self, count: int) -> list[int | None]:
        """The network's index of each class of the data: by its name, or by its place where there are as many."""
        classes = self.inputs.classes
        if classes is None:
            return list(range(count))
        if self.names is not None and set(classes) & set(self.names):
            known = {name: i for i, name in enumerate(self.names)}
            return [known.get(name) for name in classes]
        if len(classes) == count:
            return list(range(count))
        if all(name.isdecimal() and int(name) < count for name in classes):
            return [int(name) for name in classes]
        return [None] * len(classes)

    def add(self, i: int, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Count image i; what is known of its class, for a record."""
        scores = next((y for y in outputs.values() if y.ndim == 1 and len(y) > 1), None)
        if self.inputs.labels is None or scores is None:
            return {}
        if self._index is None:
            self._index = self._classes(len(scores))
        label = int(self.inputs.labels[i])
        index = self._index[label] if 0 <= label < len(self._index) else None
        if index is not None:
            self.seen += 1
            self.right += int(scores.argmax()) == index
        name = None if self.inputs.classes is None else self.inputs.classes[label]
        if name is None and self.names is not None and index is not None and index < len(self.names):
            name = self.names[index]
        return {"expected": {"index": index, "label": name}}

    def report(self) -> None:
        if self.inputs.labels is None or self._index is None:
            return
        if self.seen:
            say(f"accuracy {self.right / self.seen:.2%}: {self.right} of {self.seen}")
        if self.seen < self.inputs.count:
            say(f"{self.inputs.count - self.seen} images are of classes that the network is not known to have")


def check_outputs(graph: Graph) -> None:
    """Raises `CnncError` (E0705) for an output that is not of each image."""
    from cnnc.ir.types import BATCH

    single = all(n.type.shape[:1] == (1,) for n in graph.inputs)  # one image at a time
    for label, value in graph.outputs:
        kind = graph.type(value)
        if kind.shape[:1] not in ((BATCH,), (1,) if single else (BATCH,)):
            raise error(
                "E0705",
                f"the output '{label}' is {kind}: it is of the whole batch, not of each image",
                help="call the network in Python: cnnc.compile(net)(x)",
                exit_code=DATA,
            )


def names_of(network: Network, path: str) -> tuple[str, ...] | None:
    """The names of the classes: those that came with the weights, or the label names of the first input that has any."""
    from cnnc.data.images import label_names

    if network.classes is not None:
        return network.classes
    for settings in network.program.inputs.values():
        names = label_names(settings, path)
        if names is not None:
            return tuple(names)
    return None


def read(
    shapes: Mapping[str, tuple[Dim, ...]], settings: Mapping[str, Preprocess], given: Sequence[str]
) -> dict[str, Inputs]:
    """The images, or arrays [n, ...], for each input of the network by its shape, as many for each."""
    from cnnc.data.inputs import open_input
    from cnnc.frontend.inputs import Preprocess

    names = list(shapes)
    paths: dict[str, str] = {}
    for item in given:
        name, equal, path = item.partition("=")
        if not equal or (name not in shapes and Path(item).exists()):
            name, path = next((n for n in names if n not in paths), names[0]), item
        if name not in shapes:
            raise error(
                "E0701",
                f"the network has no input '{name}'",
                f"its inputs are {', '.join(names)}",
                help=did_you_mean(name, names),
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
    missing = [n for n in names if n not in paths]
    if missing:
        raise error(
            "E0701", f"nothing is given for the input '{missing[0]}'", help=f"--input {missing[0]}=FILE", exit_code=DATA
        )
    opened: dict[str, Inputs] = {}
    for name, shape in shapes.items():
        refuse(exists(paths[name], "input", folder=True), "input")
        found = open_input(paths[name], settings.get(name, Preprocess()), shape[1:])
        first = opened.setdefault(names[0], found)
        if found.count != first.count:
            raise error(
                "E0701",
                f"{paths[name]} has {found.count} images, {paths[names[0]]} has {first.count}",
                exit_code=DATA,
            )
        opened[name] = found
    return opened


def shown(graph: Graph, label: str, y: Any, top: int, labels: Sequence[str] | None) -> dict[str, Any]:
    """One image's output: its best classes, by their own values where these are probabilities and by softmax where they
    are logits; or its value where it is but one that is no probability.
    """
    import numpy as np

    from cnnc.ops.bounds import are_probabilities

    probable = are_probabilities(graph, dict(graph.outputs)[label])
    if y.ndim != 1 or (y.size == 1 and not probable):
        return {"shape": list(y.shape), "values": y.item() if y.ndim <= 1 and y.size == 1 and np.isfinite(y) else None}
    y = y.astype(np.float64)
    if not probable and not np.isnan(y).any():
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
