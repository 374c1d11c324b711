"""What a run is warned of: settings and data with which training works and is of little use."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc.data.dataset import ArraySamples, Dataset, Split
from cnnc.data.unlikely import PEEK, same, unlikely
from cnnc.diagnostics import Diagnostic, error
from cnnc.network import Network
from cnnc.passes.optimizer import Optimizer

SHOWN = 6
RECENT = 20  # steps
GROWN, RUNAWAY, ENDLESS = 2, 100, 1000  # times the loss of guessing: a warning; the end after an epoch; the end at once


def warning(code: str, message: str, *notes: str, help: str | None = None) -> Diagnostic:
    return Diagnostic(code, message, None, notes, help, "warning")


def doubts(
    network: Network, data: Dataset, batch: int, optimizer: Optimizer, classes: int | None = None
) -> Iterator[Diagnostic]:
    """Warnings that can be given before the first step. Raises `CnncError` (E0641) where a batch norm meets one value."""
    if classes is not None and data.train.labels.ndim == 1:
        yield from _classes(network, data, classes)
    yield from _values(data)
    yield from _frozen(network, optimizer)
    yield from _batches(norms(network, optimizer), len(data.train), batch)


def _classes(network: Network, data: Dataset, outputs: int) -> Iterator[Diagnostic]:
    """Classes that the network has and no image is of."""
    used = np.unique(data.train.labels[data.train.numbers])
    if len(used) == 1:
        yield warning(
            "W0642",
            f"every image that is trained on is of the class {_class(int(used[0]), data)}",
            "the network will answer that whatever it is shown",
            help="are the labels the right array?",
        )
    elif len(used) < outputs:
        missing = np.setdiff1d(np.arange(outputs), used)
        notes = [f"no image is of {_listed(missing, data)}: the network learns never to answer them"]
        wanted = int(used.max()) + 1
        if len(missing) == 1 and missing[0] == 0:
            help = "do the labels count from 1? then save labels - 1"
        elif wanted < outputs:
            name = next((k for k, v in network.program.arguments.items() if v == outputs and type(v) is int), None)
            help = f"-p {name}={wanted}" if name else f"end the network in linear({wanted})"
        else:
            help = "add images of them, or leave the classes out and number the others from 0"
        yield warning(
            "W0641", f"the network tells {outputs} classes apart, the data has {len(used)}", *notes, help=help
        )


def _class(number: int, data: Dataset) -> str:
    return (
        f"{number} ({data.classes[number]})" if data.classes is not None and number < len(data.classes) else str(number)
    )


def _listed(numbers: NDArray[Any], data: Dataset) -> str:
    if len(numbers) > SHOWN and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]} to {numbers[-1]}"
    shown = ", ".join(_class(int(n), data) for n in numbers[:SHOWN])
    return shown + (f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else "")


def _values(data: Dataset) -> Iterator[Diagnostic]:
    """Arrays whose values are not of the size that they seem meant to be."""
    if not isinstance(data.train.samples, ArraySamples) or not len(data.train):
        return
    array = data.train.samples.take(data.train.numbers[:PEEK])
    found = same(array) or unlikely(array)
    if found is not None:
        yield found


def _frozen(network: Network, optimizer: Optimizer) -> Iterator[Diagnostic]:
    """Everything frozen, and batch norms of which a part is."""
    graph = network.graph
    if not optimizer.trained([n.name for n in graph.parameters]):
        yield warning("W0648", "no parameter is trained", help="all are frozen: name fewer with `freeze`")
        return
    moving = [
        n for n in norms(network, optimizer) if any(fnmatchcase(graph.node(n).inputs[1], p) for p in optimizer.frozen)
    ]
    if moving:
        yield warning(
            "W0649",
            f"{len(moving)} batch norms are frozen, and their running statistics still follow the batches",
            f"the first is '{moving[0]}'",
            help="to keep them, and normalize by them: freeze_statistics, with the patterns of `freeze`",
        )


def norms(network: Network, optimizer: Optimizer) -> dict[str, int]:
    """The batch norms that follow the batch's statistics, and how many values of a channel they see in an image."""
    graph = network.graph
    still = optimizer.frozen_statistics
    states = {n.name for n in graph.states if not any(fnmatchcase(n.name, p) for p in still)}
    return {
        n.name: math.prod(int(d) for d in graph.type(n.inputs[0]).shape[2:])
        for n in graph.of("batchnorm")
        if states.issuperset(n.inputs[3:])
    }


def check_norms(found: Mapping[str, int], images: int, advice: str) -> None:
    """Raises `CnncError` (E0641) where a batch norm would see one value a channel: its variance is 0 and its result the
    bias, whatever the image."""
    lone = next((name for name, pixels in found.items() if pixels * images == 1), None)
    if lone is not None:
        raise error(
            "E0641",
            f"the batch norm '{lone}' sees one value a channel in a batch of one image",
            "normalized by itself every value is 0, whatever the image",
            help=advice,
            exit_code=3,
        )


def _batches(found: Mapping[str, int], images: int, batch: int) -> Iterator[Diagnostic]:
    last = images % batch or min(batch, images)
    size = batch + 1 if batch < images else batch - 1
    while size > 1 and images % size == 1:
        size += 1 if batch < images else -1
    advice = f"take another size: --set batch={max(size, 2)}"
    if last == 1 and images > 1:
        check_norms(found, 1, advice)
    if found and batch == 1:
        yield warning(
            "W0644",
            "batch norms follow the statistics of one image at a time, and predict by those of all",
            f"there are {len(found)}, the first '{next(iter(found))}'",
            help="take larger batches: --set batch=16",
        )
    elif found and last == 1:
        yield warning(
            "W0644", "the last batch of an epoch is one image, and batch norms follow its statistics alone", help=advice
        )
    if images <= batch and images > 1:
        yield warning(
            "W0645",
            f"a batch of {batch} holds all {images} images: an epoch is one step",
            help=f"--set batch={max(1, images // 8)} makes more steps",
        )


class Watch:
    """The losses of a run beside what guessing gives, the logarithm of the number of classes, or the first loss where that
    is more."""

    def __init__(self, classes: int) -> None:
        self.least = max(math.log(classes), 0.1)
        self.recent: list[float] = []
        self.warned = False

    @property
    def mean(self) -> float:
        return sum(self.recent) / len(self.recent)

    def step(self, loss: float) -> bool:
        """Whether the losses of the last steps have grown beyond all hope."""
        if not self.recent:
            self.least = max(self.least, loss)
        self.recent = [*self.recent[1 - RECENT :], loss]
        return len(self.recent) == RECENT and self.mean > ENDLESS * self.least

    def epoch(self) -> bool:
        """Likewise, after an epoch."""
        return bool(self.recent) and self.mean > RUNAWAY * self.least

    def growing(self, rate: float) -> Diagnostic | None:
        """A warning after an epoch, once, where the loss is far above guessing."""
        if self.warned or not self.recent or self.mean <= GROWN * self.least:
            return None
        self.warned = True
        return warning(
            "W0646",
            f"the loss grows: it is {self.mean:.4g} now, and {self.least:.4g} by guessing",
            f"the learning rate is {rate:g}",
            help=f"lower it: --set optimizer.lr={rate / 10:g}",
        )


def guessing(part: Split, accuracy: float | None, name: str) -> Diagnostic | None:
    """A warning at the end of a run where a network is right no more often than one that always says the same."""
    labels = part.labels[part.numbers]
    if accuracy is None or labels.ndim > 1 or len(labels) < RECENT or len(np.unique(labels)) < 2:
        return None
    share = float(np.bincount(labels).max()) / len(labels)
    if accuracy > share + 1e-6:
        return None
    return warning(
        "W0647",
        f"the network has learned nothing that shows: it is right in {accuracy:.1%} of the {name} images",
        f"always answering the most frequent class is right in {share:.1%}",
        help="try another learning rate (a tenth, or ten times), more epochs, or look at images and labels",
    )
