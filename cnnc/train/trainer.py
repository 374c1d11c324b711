"""The Trainer: a network, its compiled training step, and epochs of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc import driver
from cnnc.arguments import as_path, flag, of_kind, seed_of, wrong
from cnnc.data.augment import Augmentation
from cnnc.data.dataset import Dataset
from cnnc.diagnostics import error
from cnnc.ir.graph import Graph
from cnnc.ir.interpret import run
from cnnc.ir.objective import Wanted, losses_of
from cnnc.network import Network
from cnnc.passes.losses import loss_graph, targets
from cnnc.passes.optimizer import Optimizer
from cnnc.runtime.executable import Executable
from cnnc.runtime.inputs import convert, whole
from cnnc.streams import say
from cnnc.train.doubts import Watch, check_norms, doubts, guessing, norms
from cnnc.train.optimizers import sgd
from cnnc.train.progress import Progress
from cnnc.train.schedules import Schedule
from cnnc.train.targets import checked, form_of

Array = NDArray[Any]
Record = dict[str, Any]  # epoch, loss, accuracy, val_loss, val_accuracy, seconds
CHECK_FAILED = 4  # exit code
TEST_BATCH = 64


class Sums:
    """Loss, right answers and images of an epoch so far."""

    def __init__(self, loss: float = 0.0, right: float = 0.0, images: int = 0) -> None:
        self.loss, self.right, self.images, self.classes = loss, right, images, True

    def add(self, loss: float, accuracy: float | None, images: int) -> None:
        self.loss += loss * images
        self.right += (accuracy or 0.0) * images
        self.images += images
        self.classes = accuracy is not None

    @property
    def means(self) -> tuple[float, float | None]:
        """Of the loss, and of the accuracy where there are classes."""
        count = max(self.images, 1)
        return self.loss / count, self.right / count if self.classes else None


@dataclass(frozen=True)
class Course:
    """What the epochs of a run share. batch: images of a step; augment: what is done to training images."""

    data: Dataset
    epochs: int
    batch: int
    schedule: Schedule
    augment: Sequence[Augmentation] = ()


class Trainer:
    """Trains a network: forward, backward and update are one compiled call.

    seed: dropout, shuffling and augmentation follow from it; the same seed gives the same weights to the bit, with any
    number of threads. loss: as in `value_and_grad`. learning_rate: of the next step; `fit` sets it from its schedule, and
    it may be changed at any time. steps: how many have been made. classes: how many the labels tell apart, None where the
    losses read none. `network.weights` always shows the state of the training. Raises `CnncError` (E0641, E0806, E0808)
    where the network cannot be trained.
    """

    def __init__(
        self,
        network: Network,
        optimizer: Optimizer | None = None,
        loss: Wanted = "cross_entropy",
        seed: int = 0,
        threads: int | None = None,
        target: str = "cpu",
    ) -> None:
        seed_of(seed)
        if not isinstance(optimizer, Optimizer | None):
            raise error(
                "E0640",
                f"optimizer is {optimizer!r}",
                help="give cnnc.sgd(...), cnnc.adam(...) or another of cnnc.train.optimizers",
            )
        self.network, self.losses, self.seed = network, losses_of(loss), seed
        self.optimizer = optimizer if optimizer is not None else sgd(lr=0.01)
        self.threads, self.target = threads, target
        self.learning_rate = self.optimizer.lr
        self.steps = 0
        self.executable = driver.compile_training(network, self.losses, self.optimizer, threads, target=target)
        self._inputs = {n.name: n for n in self.executable.graph.inputs}
        self._images = tuple(n.name for n in network.graph.inputs)
        self.targets = targets(network.graph, self.losses)
        of_classes = [t.classes for t in self.targets.values() if t.classes is not None]
        if of_classes and min(of_classes) < 2:
            raise error(
                "E0641",
                f"the network has {min(of_classes)} output, and {self.losses[0].name} over one class is always 0",
                help="end the network in linear(2) for two classes",
            )
        self.classes = of_classes[0] if of_classes else None
        self._loss_graph: Graph | None = None
        self._evaluation: Executable | None = None
        self._mirrored = Mirror(network, self.executable)
        self._norms = norms(network, self.optimizer)
        self._watch = Watch(self.classes or 2)

    def __getstate__(self) -> dict[str, Any]:
        self._mirrored.adopt()
        return {**self.__dict__, "_mirrored": None, "_evaluation": None}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._mirrored = Mirror(self.network, self.executable)

    @property
    def values(self) -> Mapping[str, Array]:
        """The live storage: params, running statistics, and optimizer states by name."""
        return self.executable.values

    def step(self, x: Any, labels: Any = None) -> float:
        """One step on a batch: x [n, ...] (of several inputs, a mapping by name), labels [n] of whole numbers, or the
        target of another loss (of several, a mapping by name; None where it reads none). Gives the loss.

        Raises `CnncError` (E0629 for a label that is no class, E0630 for an empty batch, E07xx for arrays that do not
        fit).
        """
        return self.measured_step(x, labels)[0]

    def measured_step(self, x: Any, labels: Any = None) -> tuple[float, float | None]:
        """`step`, giving the loss and the accuracy of the batch, both before the update; None where there are no classes."""
        inputs = self._checked(x, labels)
        self._mirrored.adopt()
        self._mirrored.release()  # no second copy of the weights while the step has its memory
        if isinstance(self.learning_rate, bool) or not isinstance(self.learning_rate, int | float | np.floating):
            raise wrong("learning_rate", self.learning_rate, "a number")
        scalars = self.optimizer.scalars(self.steps + 1, self.learning_rate)
        with np.errstate(over="ignore"):  # a rate beyond float32 is infinite, and the loss says so
            inputs |= {name: np.asarray(value, np.float32) for name, value in scalars.items() if name in self._inputs}
        if "seed" in self._inputs:
            inputs["seed"] = np.array([self.seed, self.steps], np.int64)
        outputs = self.executable.run(inputs)
        self.steps += 1
        self._mirrored.release()
        return float(outputs["loss"]), float(outputs["accuracy"]) if "accuracy" in outputs else None

    def _checked(self, x: Any, labels: Any) -> dict[str, Array]:
        given: Mapping[str, Any] = x if isinstance(x, Mapping) else {self._images[0]: x}
        missing = [n for n in self._images if n not in given]
        if missing:
            raise error(
                "E0703",
                f"input {', '.join(missing)} is missing",
                help=f"give x as a mapping: {', '.join(self._images)}",
                exit_code=3,
            )
        inputs = {name: convert(given[name], self._inputs[name]) for name in self._images}
        images = len(inputs[self._images[0]])
        if images == 0:
            raise error("E0630", "the batch is empty", exit_code=3)
        check_norms(self._norms, images, "take larger batches")
        return inputs | checked(self.targets, labels, images)

    def fit(
        self,
        dataset: Any,
        epochs: int = 1,
        batch: int = 32,
        schedule: Schedule | None = None,
        augment: Sequence[Augmentation] = (),
        quiet: bool = False,
    ) -> list[Record]:
        """Train for some epochs; a record of each: epoch, loss, accuracy, val_loss, val_accuracy, seconds.

        dataset: a `Dataset`, a pair (x, labels), or the path of one. The test part, where there is one, is evaluated
        after each epoch.
        """
        whole("epochs", epochs)
        whole("batch", batch)
        of_kind("schedule", schedule, (Schedule, type(None)), "a schedule of cnnc.train.schedules")
        if not isinstance(augment, tuple | list) or not all(isinstance(a, Augmentation) for a in augment):
            raise wrong("augment", augment, "a list of augmentations of cnnc.data.augment")
        flag("quiet", quiet)
        data = self.dataset(dataset)
        if data.classes is not None:
            self.network.classes = data.classes
        if not quiet:
            tell(data)
        records: list[Record] = []
        with Progress(epochs, steps_of(data, batch), quiet=quiet) as progress:
            for doubt in doubts(self.network, data, batch, self.optimizer, self.classes):
                progress.say(str(doubt))
            course = Course(data, epochs, batch, schedule or Schedule(), augment)
            for epoch in range(epochs):
                records.append(self.epoch(course, epoch, progress=progress))
                progress.epoch(records[-1])
            self.conclude(data, records, progress)
        return records

    def conclude(self, data: Dataset, records: Sequence[Record], progress: Progress) -> None:
        """What is to be said at the end of a run."""
        if records:
            part, accuracy = ("test", "val_accuracy") if len(data.test) else ("training", "accuracy")
            doubt = guessing(data.test if len(data.test) else data.train, records[-1][accuracy], part)
            if doubt is not None:
                progress.say(str(doubt))

    def epoch(
        self,
        course: Course,
        epoch: int,
        skip: int = 0,
        sums: Sums | None = None,
        progress: Progress | None = None,
        after: Callable[[int, Sums], None] | None = None,
    ) -> Record:
        """One epoch, counted from 0, from step `skip` on. `after(steps of the epoch, sums)` is called after each step.

        Raises `CnncError` (E0642, exit code 4) when the loss is no number any more, or has grown beyond all hope.
        """
        data, batch = course.data, course.batch
        start, count, sums = time.monotonic(), steps_of(data, batch), sums or Sums()
        batches = data.batches(batch, self.seed, epoch, course.augment, skip)
        try:
            for i, (x, labels) in enumerate(batches, skip):
                self.learning_rate = self.optimizer.lr * course.schedule.at(epoch + (i + 0.5) / count, course.epochs)
                loss, accuracy = self.measured_step(x, labels)
                if not math.isfinite(loss) or self._watch.step(loss):
                    raise self._diverged(loss, epoch, i)
                sums.add(loss, accuracy, len(labels))
                if progress is not None:
                    progress.step(epoch, i, *sums.means)
                if after is not None:
                    after(i + 1, sums)
        finally:
            batches.close()
        if self._watch.epoch():
            raise self._diverged(loss, epoch, i)
        growing = self._watch.growing(self.optimizer.lr)
        if growing is not None and progress is not None:
            progress.say(str(growing))
        mean, accuracy = sums.means
        val_loss, val_accuracy = self.evaluate(data, batch) if len(data.test) else (None, None)
        return {
            "epoch": epoch + 1,
            "loss": mean,
            "accuracy": accuracy,
            "val_loss": finite(val_loss),
            "val_accuracy": val_accuracy,
            "seconds": round(time.monotonic() - start, 3),
        }

    def _diverged(self, loss: float, epoch: int, step: int) -> Exception:
        return error(
            "E0642",
            f"the loss is {loss:.4g} at step {step + 1} of epoch {epoch + 1}",
            *([f"guessing gives {math.log(self.classes):.4g}"] if self.classes is not None else []),
            f"the learning rate is {self.learning_rate:g}",
            help=f"lower it: --set optimizer.lr={self.optimizer.lr / 10:g}; or look for NaN in the data",
            exit_code=CHECK_FAILED,
        )

    def evaluate(self, dataset: Any, batch: int = TEST_BATCH) -> tuple[float, float | None]:
        """The loss and the accuracy on the test part of a data set, in prediction mode: running statistics, no dropout. The
        loss is computed in float64, of what the network gives; without classes the accuracy is None.
        """
        whole("batch", batch)
        data = self.dataset(dataset, test=True)
        executable = self._inference()
        if self._loss_graph is None:
            self._loss_graph = loss_graph(self.network.graph, self.losses)
        weights = {n.name: self.network.weights[n.name] for n in self._loss_graph.parameters}
        sums = Sums()
        for x, labels in data.test_batches(batch):
            outputs = executable.run({self._images[0]: x})
            given = {f"output:{label}": np.asarray(value, np.float64) for label, value in outputs.items()}
            found = run(self._loss_graph, {**given, **checked(self.targets, labels, len(x))}, weights)
            sums.add(float(found["loss"]), float(found["accuracy"]) if "accuracy" in found else None, len(x))
        return sums.means

    def _inference(self) -> Executable:
        """The network compiled for prediction, with the weights of now."""
        self._mirrored.adopt()
        if self._evaluation is None:
            self._evaluation = driver.compile(self.network, self.target, self.threads)
        else:
            self._evaluation.refresh(self.network.weights)
        return self._evaluation

    def dataset(self, given: Any, test: bool = False) -> Dataset:
        """Data in any form that `fit` takes, checked against the network. Raises `CnncError` (E062x, E0630, E0641)."""
        preprocess, shape = single_input(self.network)
        if isinstance(given, Dataset):
            data = given
        elif isinstance(given, tuple | list) and len(given) in (2, 4):
            pair = tuple(given) * 2 if test and len(given) == 2 else tuple(given)
            data = Dataset.as_given(pair, preprocess, shape, form_of(self.targets))
        else:
            data = Dataset.open(as_path("data", given), preprocess, shape, seed=self.seed, form=form_of(self.targets))
        if data.shape != shape:
            raise error(
                "E0628", f"the data set's images are {list(data.shape)}, the network takes {list(shape)}", exit_code=3
            )
        form = form_of(self.targets)
        if form is not None and data.form != form:
            raise error("E0628", f"the data has {data.form}; the loss reads {form}", exit_code=3)
        for target in self.targets.values():
            data.check_labels(target.classes, target.ignored)
        return data

    def restore(self, values: Mapping[str, Array], steps: int) -> None:
        """Go on from a checkpoint's values. The caller has checked their names and shapes."""
        self.executable.refresh(values)
        self.steps = steps
        self._mirrored.release()


class Mirror:
    """Keeps `network.weights` and the storage that training updates the same, without a copy for each step."""

    def __init__(self, network: Network, executable: Executable) -> None:
        self.weights, self.executable = network.weights, executable
        self.updated = {name for name, _ in executable.graph.updates}
        self.shown: dict[str, Array] = {n: self.weights[n] for n in network.weights if n in executable.values}
        self._sources = {n: self._source(n) for n in self.shown}

    def _source(self, name: str) -> Callable[[], Array]:
        def fetch() -> Array:
            self.shown[name] = np.array(self.executable.values[name], np.float32)
            self.shown[name].flags.writeable = False
            return self.shown[name]

        return fetch

    def adopt(self) -> None:
        """Take what has been assigned to the network's weights since the last step."""
        changed = {
            n: self.weights[n]
            for n in self._sources
            if self.weights.changed(n) and self.weights[n] is not self.shown.get(n)
        }
        if changed.keys() <= self.updated:
            for name, value in changed.items():
                self.executable.runner.assign(name, value)
        else:  # what no step updates may have been packed
            self.executable.refresh({**self.executable.values, **changed})
        self.shown |= changed

    def release(self) -> None:
        """Before and after a step: weights are fetched when they are read."""
        self.shown.clear()
        self.weights.defer(self._sources)


def finite(value: float | None) -> float | None:
    """The value, or None where JSON has no number for it."""
    return value if value is not None and math.isfinite(value) else None


def tell(data: Dataset) -> None:
    """Say what there is to know of a data set."""
    for warning in data.warnings:
        say(str(warning))


def steps_of(data: Dataset, batch: int) -> int:
    return -(-len(data.train) // batch)


def single_input(network: Network) -> tuple[Any, tuple[int, ...]]:
    """The settings and the shape (without the batch) of a network's one input. Raises `CnncError` (E0641)."""
    inputs = network.graph.inputs
    if len(inputs) != 1:
        raise error(
            "E0641",
            f"the network has {len(inputs)} inputs: {', '.join(n.name for n in inputs)}",
            "a data set has one",
            help="train it in Python: cnnc.Trainer(net).step({name: array, ...}, labels)",
        )
    return network.program.inputs[inputs[0].name], tuple(int(d) for d in inputs[0].type.shape[1:])
