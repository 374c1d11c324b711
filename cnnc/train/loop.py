"""A whole training run: recipe, epochs, metrics, checkpoints, and the folder that they are written to."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np

from cnnc.arguments import as_path, flag, of_kind, seed_of, wrong
from cnnc.data import augment as augmentations
from cnnc.data.augment import RandomCrop
from cnnc.data.dataset import Dataset
from cnnc.diagnostics import CnncError, error
from cnnc.frontend.recipes import Recipe
from cnnc.network import Network
from cnnc.passes.losses import targets
from cnnc.streams import say
from cnnc.train import checkpoint, optimizers, schedules
from cnnc.train.checkpoint import Checkpoint
from cnnc.train.doubts import doubts
from cnnc.train.folder import WEIGHTS, Keeper, check_unused, make_folder, run_folder
from cnnc.train.overrides import override
from cnnc.train.progress import Progress
from cnnc.train.provenance import differences, provenance
from cnnc.train.starts import lsuv
from cnnc.train.targets import form_of
from cnnc.train.trainer import Course, Record, Sums, Trainer, single_input, steps_of, tell


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM: the run stopped between two steps, and its checkpoint is written. `result` is what there is."""

    def __init__(self, result: Result) -> None:
        super().__init__(f"interrupted; go on with --resume --out {result.folder}")
        self.result = result

    def __reduce__(self) -> tuple[Any, ...]:
        return Interrupted, (self.result,)


@dataclass(frozen=True)
class Result:
    """history: a record an epoch, as in metrics.jsonl."""

    folder: Path
    history: tuple[Record, ...]
    weights: Path

    @property
    def accuracy(self) -> float | None:
        """Of the last epoch: on the test part where there is one."""
        last = self.history[-1] if self.history else {}
        return last.get("val_accuracy") if last.get("val_accuracy") is not None else last.get("accuracy")


class Options(TypedDict, total=False):
    """How a run is made.

    epochs: the recipe's unless given. overrides: settings of the recipe, such as "optimizer.lr=0.01". weights: what to start
    from; those that do not fit (a replaced last layer) are drawn anew. map: how names begin there and in the network, as
    `Network.load_weights` takes it. resume: go on from the folder's checkpoint, where
    there is one; the end is the same to the bit as without a stop. force: a run that is in the folder is replaced. seed: of
    initialization, order, augmentation and dropout. checkpoint_seconds: between checkpoints at the ends of epochs, at least.
    """

    epochs: int | None
    overrides: Sequence[str]
    weights: str | Path | None
    map: Mapping[str, str]
    resume: bool
    force: bool
    seed: int
    threads: int | None
    target: str
    quiet: bool
    checkpoint_seconds: float


DEFAULTS = Options(
    epochs=None, overrides=(), weights=None, map={}, resume=False, force=False, seed=0, threads=None, target="cpu", quiet=False,
    checkpoint_seconds=10.0,
)  # fmt: skip


def train(
    network: Network,
    data: str | Path | Dataset,
    out: str | Path | None = None,
    **options: Unpack[Options],
) -> Result:
    """Train a network by its recipe and write weights.safetensors, metrics.jsonl, recipe.json and
    checkpoint.safetensors to a folder.

    out: runs/<model> unless given (or runs/<model>-2, ... where there is a run already). options: see `Options`. Raises
    `CnncError`: exit code 2 for settings and a folder that is taken, 3 for data, weights and checkpoints, 4 when the loss
    diverges; `Interrupted` at Ctrl-C.
    """
    for unknown in options.keys() - DEFAULTS.keys():
        raise TypeError(f"train() got an unexpected keyword argument '{unknown}'")
    given: Options = {**DEFAULTS, **options}
    of_kind("network", network, Network, "a network", "cnnc.load gives one")
    _check(given)
    seed, quiet, weights = given["seed"], given["quiet"], given["weights"]
    data = data if isinstance(data, Dataset) else as_path("data", data)
    out = None if out is None else as_path("out", out)
    weights = None if weights is None else as_path("weights", weights)
    recipe = _recipe(network, given)
    folder = run_folder(out, network.name, given["resume"])
    if not given["resume"] and not given["force"]:
        check_unused(folder)
    preprocess, shape = single_input(network)
    augment = augmentation(recipe, shape)
    kept = canvas(augment, preprocess, shape)
    form = form_of(targets(network.graph, recipe.losses))
    dataset = data if isinstance(data, Dataset) else Dataset.open(data, preprocess, shape, kept, seed, form)
    if not quiet:
        tell(dataset)
    network.initialize(seed, recipe.init, recipe.bias_init)
    taken = start_from(network, weights, given["map"], quiet) if weights is not None else set()
    if dataset.classes is not None:
        network.classes = dataset.classes
    if recipe.init is not None and recipe.init.name == "lsuv":
        # the weights that no file gave are scaled on the first batch
        batches = dataset.batches(recipe.batch, seed, 0, augment)
        x, _ = next(batches)
        batches.close()
        tolerance, iterations = map(recipe.init.argument, ("tolerance", "iterations"))
        lsuv(network, x, tolerance, iterations, taken, given["threads"], given["target"])
    run = _Run(network, recipe, dataset, folder, given)
    begun = None if weights is None else (weights, given["map"])
    run.record = provenance(
        network, recipe, dataset, data, seed, begun, run.trainer.optimizer, given["target"], dataset.classes
    )
    make_folder(folder)
    first = run.resume(quiet) if given["resume"] else Checkpoint({}, 0, 0, 0, (0.0, 0.0, 0), (), {})
    return run.go(first, augment, quiet, given["checkpoint_seconds"])


def _check(given: Options) -> None:
    """Raises `CnncError` (exit code 2) where an option is not of its kind."""
    overrides = given["overrides"]
    if not isinstance(overrides, tuple | list) or not all(isinstance(o, str) for o in overrides):
        raise wrong("overrides", overrides, 'a list of texts such as "optimizer.lr=0.01"')
    for name, switch in (("resume", given["resume"]), ("force", given["force"]), ("quiet", given["quiet"])):
        flag(name, switch)
    if given["map"] and given["weights"] is None:
        raise wrong("map", given["map"], "a file of weights, whose names it maps,")
    of_kind("checkpoint_seconds", given["checkpoint_seconds"], (int, float), "a number of seconds")
    seed_of(given["seed"])


def _recipe(network: Network, given: Options) -> Recipe:
    """The network's recipe with what replaces its settings."""
    names = [n.name for n in (*network.graph.parameters, *network.graph.states)]
    recipe = override(network.program.recipe or Recipe(), given["overrides"], names)
    return recipe if given["epochs"] is None else override(recipe, [f"epochs={given['epochs']}"])


def augmentation(recipe: Recipe, shape: tuple[int, ...]) -> tuple[augmentations.Augmentation, ...]:
    """What the recipe does to images of a shape. Raises `CnncError` (E0631) where the input is none."""
    size = (shape[1], shape[2]) if len(shape) == 3 else None
    if recipe.augment and size is None:
        raise error("E0631", f"augmentation is for images; the network takes [N, {', '.join(map(str, shape))}]")
    return tuple(augmentations.build(c.name, c.arguments, size, c.span) for c in recipe.augment if size is not None)


def start_from(network: Network, weights: Path, map: Mapping[str, str], quiet: bool) -> set[str]:
    """Take what fits of a file of weights, and give its names. Raises `CnncError` (exit code 3) where nothing does."""
    report = network.load_weights(weights, strict=False, map=map)
    diagnostic = report.diagnostic(weights, len(network.weights))
    if len(report.missing) + len(report.mismatched) == len(network.weights):
        raise CnncError(diagnostic, exit_code=3)
    if report and not quiet:
        say("\n".join([diagnostic.message, *(f"  {n}" for n in diagnostic.notes), "  these are drawn anew"]))
    return set(network.weights) - {*report.missing, *report.mismatched}


def canvas(augment: Sequence[Any], preprocess: Any, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The size that training images are kept at for an unpadded random crop: what `resize` makes, where that is more
    than the input.
    """
    if not any(isinstance(a, RandomCrop) and not a.padding for a in augment) or preprocess.resize is None:
        return None
    r = preprocess.resize
    size = (r, r) if isinstance(r, int) else (int(r[0]), int(r[1]))
    return size if size[0] >= shape[1] and size[1] >= shape[2] and size != shape[1:] else None


class _Run:
    """One run: the trainer, the folder, and what was done so far."""

    record: Mapping[str, Any]

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        dataset: Dataset,
        folder: Path,
        given: Options,
    ) -> None:
        self.network, self.recipe, self.data, self.folder = network, recipe, dataset, folder
        self.schedule = schedules.build(recipe.schedule.name, recipe.schedule.arguments, recipe.schedule.span)
        optimizer = optimizers.from_recipe(recipe)
        self.trainer = Trainer(network, optimizer, recipe.losses, given["seed"], given["threads"], given["target"])
        self.trainer.dataset(dataset)
        self.doubts = list(doubts(network, dataset, recipe.batch, optimizer, self.trainer.classes))
        self.history: list[Record] = []

    def resume(self, quiet: bool) -> Checkpoint:
        """The folder's checkpoint, its values in place. Raises `CnncError` (E0643) where it is of another run."""
        path = self.folder / checkpoint.NAME
        if not path.exists():
            if not quiet:
                say(f"{self.folder} has no checkpoint; training starts anew")
            return Checkpoint({}, 0, 0, 0, (0.0, 0.0, 0), (), {})
        found = checkpoint.load(path)
        changed = differences(found.recipe, self.record)
        if changed:
            raise error(
                "E0643",
                f"{path} is of a run with other settings",
                *changed,
                exit_code=3,
                help="resume with the same settings, or start anew without --resume",
            )
        live = self.trainer.values
        if {n: (v.shape, v.dtype) for n, v in live.items()} != {n: (v.shape, v.dtype) for n, v in found.values.items()}:
            raise checkpoint.damaged(path, "its values are not those of this network")
        steps = steps_of(self.data, self.recipe.batch)
        if found.step > steps or found.total != found.epoch * steps + found.step:
            raise checkpoint.damaged(path, "its counts do not fit the data")
        self.trainer.restore(found.values, found.total)
        return found

    def go(self, first: Checkpoint, augment: Sequence[Any], quiet: bool, checkpoint_seconds: float) -> Result:
        recipe, trainer = self.recipe, self.trainer
        course = Course(self.data, recipe.epochs, recipe.batch, self.schedule, augment)
        keeper = Keeper(self.folder, self.network, self.record)
        self.history = list(first.history)
        if first.values:
            keeper.describe(self.history)
        skip, sums = first.step, Sums(*first.sums)
        with (
            _interrupts() as interrupted,
            Progress(recipe.epochs, steps_of(self.data, recipe.batch), first.epoch, quiet) as progress,
        ):
            for doubt in self.doubts:
                progress.say(str(doubt))
            if first.epoch == recipe.epochs:
                progress.say(f"{self.folder} has all {recipe.epochs} epochs; nothing is left to do")
            for epoch in range(first.epoch, recipe.epochs):

                def after(step: int, sums: Sums, epoch: int = epoch) -> None:
                    if interrupted():
                        keeper.finish(self._point(epoch, step, sums), seconds=0)
                        raise Interrupted(self.result())
                    if keeper.due():
                        keeper.save(self._point(epoch, step, sums))

                record = trainer.epoch(course, epoch, skip, sums, progress, after)
                self.history.append(record)
                progress.epoch(record)
                skip, sums = 0, Sums()
                if epoch + 1 < recipe.epochs and (keeper.since() >= checkpoint_seconds or epoch == first.epoch):
                    keeper.save(self._point(epoch + 1, 0, sums))
                else:
                    keeper.add(self.history)
            trainer.conclude(self.data, self.history, progress)
        keeper.finish(self._point(max(first.epoch, recipe.epochs), skip, sums))
        return self.result()

    def result(self) -> Result:
        return Result(self.folder, tuple(self.history), self.folder / WEIGHTS)

    def _point(self, epoch: int, step: int, sums: Sums) -> Checkpoint:
        """The run as it is now."""
        values = {n: np.asarray(v) for n, v in self.trainer.values.items()}
        done = (sums.loss, sums.right, sums.images)
        return Checkpoint(values, epoch, step, self.trainer.steps, done, tuple(self.history), self.record)


@contextmanager
def _interrupts() -> Iterator[Any]:
    """Ctrl-C, or SIGTERM as containers and schedulers send it, is noted, and a step is finished first; a second one
    stops at once. Gives a function that tells whether there was one.
    """
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def note(number: int, frame: Any) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(noted)
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None is one that Python did not set


__all__ = ["Interrupted", "Result", "train"]
