"""One network in many settings, each against the float64 reference of the graph as written."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

import cnnc.ops  # noqa: F401
from cnnc.backends import backend
from cnnc.backends.cpu import choice
from cnnc.backends.cpu.pipeline import layouts
from cnnc.ir import interpret, objective
from cnnc.ir.builder import Builder
from cnnc.ir.graph import Graph
from cnnc.ir.objective import Loss
from cnnc.ir.text import parse_graph, print_graph
from cnnc.ir.types import activation
from cnnc.ir.verify import verify
from cnnc.kernels.cpu import target as targets
from cnnc.kernels.cpu.winograd import gradient_plan as winograd_gradient_plans
from cnnc.kernels.cpu.winograd import scheme as winograd_scheme
from cnnc.lowering import chain, memory
from cnnc.lowering.place import lives_of
from cnnc.ops.bounds import are_probabilities
from cnnc.passes.autodiff import differentiate
from cnnc.passes.manager import PassManager, Stages
from cnnc.passes.optimizer import SGD
from cnnc.passes.pipelines import inference_pipeline, training_pipeline
from cnnc.passes.training import training_graph, training_mode
from cnnc.runtime.executable import Executable
from tests.random_networks.reference import Array, Mismatch, Reference, data

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
    """All settings; or a few of them, others at each turn."""
    if thorough:
        for mode in MODES:
            for target in TARGETS:
                yield Setting(mode, target)
                yield Setting(mode, target, fast=True)
            for i in range(len(passes(mode))):
                yield Setting(mode, TARGETS[0], i)
        return
    training = MODES[1 + turn % 2]
    yield Setting("inference", TARGETS[0])
    yield Setting(training, TARGETS[0])
    yield Setting(("inference", training)[turn % 2], TARGETS[turn % len(TARGETS)], fast=True)
    mode = ("inference", training)[turn // 2 % 2]
    yield Setting(mode, TARGETS[0], turn % len(passes(mode)))
    if len(TARGETS) > 1:
        yield Setting("inference" if turn % 3 else training, TARGETS[1 + turn % (len(TARGETS) - 1)])


def graph_of(graph: Graph, mode: str) -> Graph | None:
    """The graph of a mode, as written; None where the network has none."""
    if mode == "inference":
        return graph
    if mode == "step":
        loss = losses(graph)
        return training_graph(graph, loss, SGD(momentum=0.9, weight_decay=0.01), gradients=True)
    graph = training_mode(graph)
    b = Builder(graph.name, graph.nodes)
    loss = b.add("constant", [], {"value": 0.0}, "start")
    for i, (_, value) in enumerate(graph.outputs):
        t = b.type(value)
        weight = b.input(f"cotangent{i}", activation(t.shape))
        part = b.add("mul", [value, weight], {}, f"part{i}")
        if t.rank:
            part = b.add("sum", [part], {"axis": tuple(range(t.rank))}, f"total{i}")
        loss = b.add("add", [loss, part], {}, f"loss{i}")
    parameters = [n.name for n in graph.parameters]
    whole, found = differentiate(b.finish([*graph.outputs, ("loss", loss)], graph.updates), loss, parameters)
    return Graph(
        whole.name, whole.nodes, (*whole.outputs, *((f"grad:{p}", v) for p, v in found.items())), whole.updates
    )


OF_CLASSES = (
    Loss("cross_entropy"),
    Loss("cross_entropy"),
    objective.loss("cross_entropy", label_smoothing=0.25, ignore_index=0),
    objective.loss("cross_entropy", soft=True, label_smoothing=0.25),
    objective.loss("multiclass_hinge", margin=0.5, p=2),
    Loss("multiclass_hinge"),
)
OF_NUMBERS = (
    Loss("mse"),
    Loss("l1"),
    objective.loss("huber", delta=0.5),
    Loss("smooth_l1"),
    objective.loss("bce_with_logits", pos_weight=2),
    Loss("output"),
)


def losses(graph: Graph) -> tuple[Loss, ...]:
    """A loss of every output, others for another graph, each with a target of its own; and now and then penalties."""
    rng = np.random.default_rng(zlib.crc32(f"{graph.name} {len(graph.nodes)}".encode()))
    found: list[Loss] = []
    for i, (label, value) in enumerate(graph.outputs):
        t = graph.type(value)
        fixed = t.rank > 0 and t.shape[0] == "N" and "N" not in t.shape[1:]
        kinds: tuple[Loss, ...] = OF_NUMBERS if fixed else (Loss("output"),)
        logits = fixed and t.rank >= 2 and not are_probabilities(graph, value)
        if (
            logits
            and "N" not in t.shape[1:]
            and (t.rank == 2 or any(d != 1 for d in t.shape[2:]))
            and rng.random() < 0.6
        ):
            kinds = tuple(k for k in OF_CLASSES if t.rank == 2 or k.name == "cross_entropy")
        loss = kinds[int(rng.integers(len(kinds)))]
        if loss.name == "bce_with_logits" and not logits:
            loss = Loss("mse")
        name = {} if loss.target is None else {"target": f"target{i}"}
        loss = replace(loss, arguments=loss.arguments.with_(**name), output=label, weight=1.0 if i == 0 else 0.5)
        found.append(loss)
    if graph.parameters and any(len(n.type.shape) > 1 for n in graph.parameters) and rng.random() < 0.3:
        found.append(Loss("l2_penalty" if rng.random() < 0.5 else "l1_penalty", weight=0.125))
    return tuple(found)


# ------------------------------------------------------------------------------------------------ running


def poison(executable: Executable, batch: int) -> None:
    """NaN wherever a call may write."""
    for frame in executable.runner.program(batch)._frames:  # type: ignore[attr-defined]
        frame.arena.array[:] = 0xFF
        for result in frame.results.values():
            result.take()[:] = 0xFF  # what the next call gets
        for scratch in frame.runner._scratch:
            scratch[:] = 0xFF


def executable(graph: Graph, setting: Setting, values: Mapping[str, Array], threads: int) -> Executable:
    machine: Any = backend(setting.target, exact=not setting.fast)
    pipeline = passes(setting.mode, machine.lanes)
    if setting.without is not None:
        del pipeline[setting.without]
    optimized = PassManager(pipeline).run(graph)
    if parse_graph(print_graph(optimized)) != optimized:
        raise Mismatch("the optimized graph does not print and parse back")
    return Executable(machine.prepare(optimized, values, threads), Stages())


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
        if graph is None:
            return
        first = self.reference(setting.mode, 3, True, setting.fast)
        exe = executable(graph, setting, first.values, 1)
        both = executable(graph, setting, first.values, 2)
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
    for setting in settings(thorough, turn):
        if report is not None:
            report(setting)
        try:
            checker.check(setting)
        except Mismatch as e:
            raise Mismatch(f"{setting}: {e}\n{graph}") from None
