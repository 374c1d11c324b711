"""One network in many settings, each against the float64 reference of the graph as written."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

import cnnc.ops  # noqa: F401
from cnnc.backends import backend
from cnnc.backends.cpu import choice
from cnnc.backends.cpu.pipeline import layouts
from cnnc.ir import interpret
from cnnc.ir.graph import Graph
from cnnc.ir.text import parse_graph, print_graph
from cnnc.ir.verify import verify
from cnnc.kernels.cpu import target as targets
from cnnc.kernels.cpu.winograd import gradient_plan as winograd_gradient_plans
from cnnc.kernels.cpu.winograd import scheme as winograd_scheme
from cnnc.lowering import chain, memory
from cnnc.lowering.place import lives_of
from cnnc.passes.manager import PassManager, Stages
from cnnc.passes.pipelines import inference_pipeline, training_pipeline
from cnnc.runtime.executable import Executable
from tests.random_networks.reference import Array, Mismatch, Reference, data
from tests.random_networks.training import graph_of

TARGETS = [f"cpu-{t.name}" for t in targets.runnable()]
MODES = ("inference", "gradients", "step")


@dataclass(frozen=True)
class Setting:
    """mode: "inference", "gradients" (of the outputs times random tensors), or "step" (of training, with its updates).
    without: the number of the pass that is left out. fast: convolutions by Winograd's algorithms wherever one exists,
    whatever it gains.
    """

    mode: str
    target: str
    without: int | None = None
    fast: bool = False

    def __str__(self) -> str:
        without = "all" if self.without is None else f"without:{self.without}"
        return f"{self.mode} {self.target} {without} {'fast' if self.fast else 'exact'}"

    @classmethod
    def parse(cls, text: str) -> Setting:
        mode, target, without, fast = text.split()
        number = without.partition(":")[2]
        return cls(mode, target, int(number) if number else None, fast == "fast")


def passes(mode: str, lanes: int = 16) -> list[Any]:
    return inference_pipeline(layouts(lanes)) if mode == "inference" else training_pipeline(layouts(lanes))


def settings(thorough: bool = True, turn: int = 0) -> Iterator[Setting]:
    """All settings; or one or two of them, others at each turn: training in one of two ways or inference, and for some
    networks any of the three by Winograd's algorithms, on another target, or without a pass.
    """
    if thorough:
        for mode in MODES:
            for target in TARGETS:
                yield Setting(mode, target)
                yield Setting(mode, target, fast=True)
            for i in range(len(passes(mode))):
                yield Setting(mode, TARGETS[0], i)
        return
    turn //= 2  # networks of whole numbers and others alternate, and both meet every setting
    training = Setting(MODES[1 + turn % 2], TARGETS[0])
    if turn // 2 % 2 == 0:
        yield training if turn % 2 else Setting("inference", TARGETS[0])
        return
    yield training
    mode, kind, turn = MODES[turn // 5 % 3], turn % 5, turn // 15
    if kind == 0:
        yield Setting(mode, TARGETS[turn % len(TARGETS)], fast=True)
    elif kind == 1:
        yield Setting(mode, TARGETS[-1 - turn % max(len(TARGETS) - 1, 1)])
    elif kind == 2:
        yield Setting(mode, TARGETS[0], turn % len(passes(mode)))


# ------------------------------------------------------------------------------------------------ running


def poison(executable: Executable, batch: int) -> None:
    """NaN wherever a call may write."""
    for frame in executable.runner.program(batch)._frames:  # type: ignore[attr-defined]
        frame.arena.array[:] = 0xFF
        for result in frame.results.values():
            result.take()[:] = 0xFF  # what the next call gets
        for scratch in frame.runner._scratch:
            scratch[:] = 0xFF


def executables(graph: Graph, setting: Setting, values: Mapping[str, Array]) -> tuple[Executable, Executable]:
    """Of one thread and of two."""
    machine: Any = backend(setting.target, exact=not setting.fast)
    pipeline = passes(setting.mode, machine.lanes)
    if setting.without is not None:
        del pipeline[setting.without]
    optimized = PassManager(pipeline).run(graph)
    if parse_graph(print_graph(optimized)) != optimized:
        raise Mismatch("the optimized graph does not print and parse back")
    one, two = (Executable(machine.prepare(optimized, values, threads), Stages()) for threads in (1, 2))
    return one, two


@contextmanager
def winograd_everywhere() -> Iterator[None]:
    """Fast convolution also where it gains nothing: networks as small as these would hardly meet it."""
    schemes, gradient = winograd_scheme, winograd_gradient_plans
    before = choice.WORTH, schemes.FEWEST, schemes.SMALLEST, gradient.FEWEST_PIXELS
    choice.WORTH, schemes.FEWEST, schemes.SMALLEST = 0.0, 1, 1
    gradient.FEWEST_PIXELS = dict.fromkeys(before[3], 0)
    try:
        yield
    finally:
        choice.WORTH, schemes.FEWEST, schemes.SMALLEST, gradient.FEWEST_PIXELS = before


@contextmanager
def chains_everywhere() -> Iterator[None]:
    """Chains for any number of images, not only for those that eight workers share about equally."""
    before = chain.UNEVEN
    chain.UNEVEN = float("inf")
    try:
        yield
    finally:
        chain.UNEVEN = before


class Checker:
    """The checks of one network; references are shared by the settings."""

    def __init__(self, graph: Graph) -> None:
        verify(graph)
        assert parse_graph(print_graph(graph)) == graph
        self.network = graph
        self.graph = lru_cache(maxsize=None)(lambda mode: graph_of(graph, mode))
        self.reference = lru_cache(maxsize=None)(
            lambda mode, batch, whole, fast=False: Reference(self.graph(mode), batch, whole, fast)
        )

    def check(self, setting: Setting) -> None:
        """Raises `Mismatch`, or whatever the compiler raises."""
        with chains_everywhere(), winograd_everywhere() if setting.fast else nullcontext():
            self._check(setting)

    def _check(self, setting: Setting) -> None:
        graph = self.graph(setting.mode)
        if graph is None:  # nothing to train
            return
        first = self.reference(setting.mode, 3, True, setting.fast)
        exe, both = executables(graph, setting, first.values)
        for batch in (3, 1):
            plan: Any = exe.runner.plan(batch)  # type: ignore[attr-defined]
            chain.check(plan)
            for place, size in (("arena", plan.arena), ("own", plan.own)):
                offsets = {b.name: b.offset for b in plan.buffers if b.place == place}
                memory.check(lives_of(plan, place), offsets, size)
            for whole in (True, False):
                reference = self.reference(setting.mode, batch, whole, setting.fast)
                where = f"batch {batch}, {'whole' if whole else 'real'} numbers"
                got = self.call(exe, reference, batch)
                for name, value in (*graph.outputs, *graph.updates):
                    reference.compare(f"{name} ({where})", value, got[name])
                other = self.call(both, reference, batch)
                for name in got:
                    if got[name].tobytes() != other[name].tobytes():
                        raise Mismatch(f"{name} has other bits with 2 threads ({where})")
        if setting.mode == "inference":
            self._check_nothing(exe, graph)

    def _check_nothing(self, exe: Executable, graph: Graph) -> None:
        """No images: outputs of no rows, and sums over none."""
        inputs, values = data(graph, 0, True)
        exe.refresh(values)
        got = exe.run(inputs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the mean of nothing
            want = interpret.run(graph, inputs, values)
        for label in want:
            if not np.array_equal(got[label], want[label].astype(got[label].dtype), equal_nan=True):
                raise Mismatch(f"{label} of no images is {got[label]}, not {want[label]}")

    def call(self, exe: Executable, reference: Reference, batch: int) -> dict[str, Array]:
        """Outputs and updates by name."""
        exe.refresh(reference.values)
        poison(exe, batch)
        before = {k: v.tobytes() for k, v in reference.inputs.items()}
        got = dict(exe.run(reference.inputs))
        got |= {name: np.array(exe.values[name]) for name, _ in exe.graph.updates}
        if any(v.tobytes() != before[k] for k, v in reference.inputs.items()):
            raise Mismatch("an input was written to")
        for name, a in (*reference.inputs.items(), *reference.values.items()):
            if a.dtype == np.float32 and a.base is not None and np.isfinite(a.base).sum() != np.isfinite(a).sum():
                raise Mismatch(f"memory around {name} was written to")
        return got


def check(graph: Graph, thorough: bool = True, turn: int = 0, report: Callable[[Setting], None] | None = None) -> None:
    """All settings (or a few). `report` is told each before it is tried."""
    checker = Checker(graph)
    tried = [s for s in settings(thorough, turn) if checker.graph(s.mode) is not None]
    for setting in tried or [Setting("inference", TARGETS[0])]:
        if report is not None:
            report(setting)
        try:
            checker.check(setting)
        except Mismatch as e:
            raise Mismatch(f"{setting}: {e}\n{graph}") from None
