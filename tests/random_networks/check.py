"""One network in many settings, each against the float64 reference of the graph as written.

Two sets of data: whole numbers and normally distributed ones. What must be equal to the bit is found for each value of
the graph: ops that only add, multiply, compare and move whole numbers are exact in float32, in any order, while the sum
of the magnitudes stays below 2^24 (`exact_values`). This also holds through the kinks of ReLU and max pooling, ties
included.

For all other values the tolerance is measured, not guessed: the reference is evaluated again with random relative
errors of a few float32 roundings put on all operands and results of every op, and the result may be off by a few times
what that does (`tolerances`). An ill-conditioned value, or a gradient that such an error takes over a kink to the other
side, so tolerates much; a value well within its branch does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

import cnnc.ops  # noqa: F401
from cnnc.backends import backend
from cnnc.backends.cpu import choice
from cnnc.ir import expression as ex
from cnnc.ir.graph import Builder, Graph, Node
from cnnc.ir.interpret import bind, random_values
from cnnc.ir.op import OPS
from cnnc.ir.text import parse_graph, print_graph
from cnnc.ir.types import activation
from cnnc.ir.verify import verify
from cnnc.kernels.cpu import target as targets
from cnnc.kernels.cpu import winograd_shapes, winograd_shapes_gradient
from cnnc.lowering import chain, memory
from cnnc.lowering.house import lives_of
from cnnc.ops import pointwise
from cnnc.passes.autodiff import differentiate
from cnnc.passes.manager import PassManager, Stages
from cnnc.passes.optimizer import SGD
from cnnc.passes.pipelines import inference_pipeline, training_pipeline
from cnnc.passes.training import training_graph, training_mode
from cnnc.runtime.executable import Executable

Array = np.ndarray[Any, Any]
UNIT = 2.0**-24
ERRORS = 4  # units of each error that is put in
SAMPLES = 4
WINOGRAD = 16  # units of a tile's largest sum of magnitudes
FACTOR = 8  # times what the errors did
TARGETS = [f"cpu-{t.name}" for t in targets.runnable()]
MODES = ("inference", "gradients", "step")


class Mismatch(Exception):
    """A setting that gives another result."""


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
    return inference_pipeline(lanes) if mode == "inference" else training_pipeline(lanes)


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


# ------------------------------------------------------------------------------------------------ what is compared


def graph_of(graph: Graph, mode: str) -> Graph | None:
    """The graph of a mode, as written; None where the network has none."""
    if mode == "inference":
        return graph
    if mode == "step":
        t = graph.type(graph.outputs[0][1])
        if t.rank != 2 or t.shape[0] != "N" or graph.node(graph.outputs[0][1]).op == "softmax":
            return None
        return training_graph(graph, optimizer=SGD(momentum=0.9, weight_decay=0.01), gradients=True)
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


def data(graph: Graph, batch: int, whole: bool) -> tuple[dict[str, Array], dict[str, Array]]:
    """Inputs and values of the graph's own element types, with NaN before and behind each, at odd addresses."""
    inputs, values = random_values(graph, batch, 0, integers=whole)
    if whole:
        values = {k: np.sign(v) * np.minimum(np.abs(v), 2) if v.ndim > 1 else v for k, v in values.items()}

    def guarded(name: str, array: Array) -> Array:
        if graph.type(name).dtype != "f32":
            return np.asarray(array, np.int64)
        room = np.full(array.size + 64, np.nan, np.float32)
        view = room[33 : 33 + array.size].reshape(array.shape)
        view[...] = array
        return view

    return {k: guarded(k, v) for k, v in inputs.items()}, {k: guarded(k, v) for k, v in values.items()}


# ------------------------------------------------------------------------------------------------ the reference


def evaluate(
    graph: Graph,
    inputs: Mapping[str, Array],
    values: Mapping[str, Array],
    batch: int,
    rng: Any = None,
    fast: bool = False,
) -> dict[str, Array]:
    """All values of a graph in float64. With `rng`, each op rounds its operands and results at random; with `fast`,
    Winograd's convolutions as they do: their errors are relative to a whole tile.
    """
    live: dict[str, Array] = {}

    def rounded(a: Any) -> Any:
        if a is None or np.asarray(a).dtype.kind in "iu":
            return a
        return np.asarray(a) * (1 + ERRORS * UNIT * rng.uniform(-1, 1, np.shape(a)))

    for node in graph.nodes:
        if node.op in ("input", "param", "state"):
            a = (inputs if node.op == "input" else values)[node.name]
            live[node.name] = a if a.dtype.kind in "iu" else a.astype(np.float64)
            continue
        operands = [None if o is None else live[o] for o in node.operands]
        loose = rng is not None and not _only_chooses(node)
        if loose:
            operands = [rounded(a) for a in operands]
        with np.errstate(all="ignore"):
            results = OPS[node.op].reference(operands, node.attributes, [bind(t, batch) for t in node.types])
            if rng is not None and fast and _by_winograd(node):
                sizes = [None if a is None else np.abs(a) for a in operands[:2]]
                attributes = node.attributes.with_(epilogue=None)
                (whole,) = OPS[node.op].reference(sizes, attributes, [bind(t, batch) for t in node.types])
                error = WINOGRAD * UNIT * np.max(whole, initial=0)
                results = (results[0] + error * rng.uniform(-1, 1, np.shape(results[0])),)
        if rng is not None and node.op in _OF_PROBABILITIES:  # 1 - p and log(p) where p is nearly 1
            results = tuple(r + ERRORS * UNIT * rng.uniform(-1, 1, np.shape(r)) for r in results)
        live.update(zip(node.results, map(rounded, results) if loose else results, strict=True))
    return live


def _by_winograd(node: Node) -> bool:
    """Whether a fast algorithm may compute it."""
    convolutions = ("conv", "conv_data_gradient", "conv_weight_gradient")
    return node.op in convolutions and node.type.rank == 4 and node.attributes.get("groups", 1) == 1


_OF_PROBABILITIES = {"cross_entropy", "cross_entropy_gradient"}
_CHOOSING = {"gt", "where", "neg", "abs", "max", "min"}
_MOVING = {"concat", "slice", "flatten", "reshape", "to_layout", "expand", "maxpool", "constant", "count", "batch_size"}


def _functions(e: ex.Expression) -> set[str]:
    return set() if e[0] in ("var", "const") else {e[0]}.union(*map(_functions, e[1:]))


def _expressions(node: Node) -> tuple[ex.Expression, ...]:
    if node.op == "reduce_channels":
        return tuple(ex.parse(t) for t in node.attributes["expressions"])
    return pointwise.expressions(node) if pointwise.is_pointwise(node) else ()


def _only_chooses(node: Node) -> bool:
    """Whether each result is one of the operands' values, or its negation: nothing is rounded."""
    if node.op in _MOVING:
        return True
    found = _expressions(node)
    return bool(found) and node.op != "reduce_channels" and all(_functions(e) <= _CHOOSING for e in found)


_EXACT = _MOVING | {
    "conv",
    "conv_data_gradient",
    "conv_weight_gradient",
    "linear",
    "linear_data_gradient",
    "linear_weight_gradient",
    "maxpool_gradient",
    "sum",
}


def exact_values(graph: Graph, found: Mapping[str, Array], batch: int, fast: bool = False) -> set[str]:
    """The values that float32 computes without rounding, in whatever order it adds."""
    exact: set[str] = set()
    for node in graph.nodes:
        if fast and _by_winograd(node):
            continue
        if all(o in exact for o in node.inputs) and _is_exact(node, found, batch):
            exact.update(node.results)
    return exact


def _is_exact(node: Node, found: Mapping[str, Array], batch: int) -> bool:
    operands = [None if o is None else found[o] for o in node.operands]
    sizes = [None if a is None else np.abs(a) for a in operands]
    results = [found[r] for r in node.results]
    if any(not np.isfinite(r).all() or (r != np.rint(r)).any() for r in results):
        return False
    es = _expressions(node)
    if node.op in ("input", "param", "state"):
        magnitudes = results
    elif node.op == "dropout":
        if len(operands) > 1 and node.attributes.get("p", 0.5) not in (0.0, 0.5):
            return False
        magnitudes = [2 * np.abs(r) for r in results]
    elif es:
        if any(not _functions(e) <= _CHOOSING | {"add", "sub", "mul"} for e in es):
            return False
        rank = max((np.ndim(a) for a in sizes), default=0)
        names = {f"a{i}": pointwise.align(a, rank) for i, a in enumerate(sizes)}
        with np.errstate(invalid="ignore"):
            magnitudes = [_magnitude(e, names) for e in es]
        if node.op == "reduce_channels":
            shape = np.broadcast_shapes(*map(np.shape, names.values()))
            magnitudes = [np.broadcast_to(m, shape).sum((0, *range(2, rank))) for m in magnitudes]
    elif node.op in _EXACT:
        if node.op == "maxpool_gradient":
            sizes[0] = operands[0]
        with np.errstate(all="ignore"):
            magnitudes = list(OPS[node.op].reference(sizes, node.attributes, [bind(t, batch) for t in node.types]))
    else:
        return False
    return all(np.max(np.abs(m), initial=0) < 2**24 for m in magnitudes)


def _magnitude(e: ex.Expression, values: Mapping[str, Any]) -> Any:
    """A bound on every intermediate of an expression, from the magnitudes of its variables."""
    if e[0] == "var":
        return values[e[1]]
    if e[0] == "const":
        return abs(e[1]) if e[1] == round(e[1]) else np.inf
    parts = [_magnitude(a, values) for a in e[1:]]
    match e[0]:
        case "mul":
            return parts[0] * parts[1]
        case "add" | "sub":
            return parts[0] + parts[1]
        case "where":
            return np.maximum(np.maximum(parts[0], parts[1]), parts[2])
        case "max" | "min":
            return np.maximum(parts[0], parts[1])
        case "gt":
            return np.maximum(np.maximum(parts[0], parts[1]), 1)
    return parts[0]


class Reference:
    """What one set of data must give: values by name, those to be met to the bit, and tolerances of the others."""

    def __init__(self, graph: Graph, batch: int, whole: bool, fast: bool = False) -> None:
        self.graph, self.batch, self.fast = graph, batch, fast
        self.inputs, self.values = data(graph, batch, whole)
        self.found = evaluate(graph, self.inputs, self.values, batch)
        self.exact = exact_values(graph, self.found, batch, fast) if whole else set()
        self.wanted = dict.fromkeys(v for _, v in (*graph.outputs, *graph.updates))
        self.large = _overflowing(graph, self.found)
        self._spread: dict[str, float] = dict.fromkeys(self.wanted, 0.0)
        self._samples = 0

    def tolerance(self, value: str, samples: int = SAMPLES) -> float:
        while self._samples < samples:
            self._samples += 1
            rng = np.random.default_rng(self._samples)
            other = evaluate(self.graph, self.inputs, self.values, self.batch, rng, self.fast)
            for v in self.wanted:
                difference = np.abs(other[v] - self.found[v]).max(initial=0)
                self._spread[v] = max(self._spread[v], np.inf if np.isnan(difference) else float(difference))
        largest = float(np.abs(self.found[value]).max(initial=0))
        return FACTOR * self._spread[value] + 16 * UNIT * largest + 1e-30

    def compare(self, what: str, value: str, got: Array) -> None:
        """Raises `Mismatch`."""
        want = self.found[value]
        if got.shape != want.shape:
            raise Mismatch(f"{what} is {got.shape}, not {want.shape}")
        if value in self.exact:
            if not np.array_equal(got, want):
                raise Mismatch(f"{what} must be equal to the bit: {_worst(got, want)}")
            return
        if value in self.large:
            return
        off = np.abs(got - want).max(initial=0)
        # a kink that the few samples missed is met by many
        if not off <= self.tolerance(value) and not off <= self.tolerance(value, 40):
            raise Mismatch(f"{what} is off by more than {self.tolerance(value):.3g}: {_worst(got, want)}")


def _overflowing(graph: Graph, found: Mapping[str, Array]) -> set[str]:
    """Values that float32 need not represent, and those that depend on them."""
    large: set[str] = set()
    for node in graph.nodes:
        for r in node.results:
            a = np.asarray(found[r])
            if any(o in large for o in node.inputs) or not np.isfinite(a).all() or np.abs(a).max(initial=0) > 1e15:
                if a.dtype.kind == "f":
                    large.add(r)
    return large


def _worst(got: Array, want: Array) -> str:
    with np.errstate(all="ignore"):
        difference = np.where(np.isnan(got), np.inf, np.abs(got - want))
    at = np.unravel_index(int(difference.argmax()), difference.shape) if difference.ndim else ()
    return f"{got[at]!r} instead of {want[at]!r} at {tuple(map(int, at))} of {want.shape}, {int((got != want).sum())} differ"


# ------------------------------------------------------------------------------------------------ running


def poison(executable: Executable, batch: int) -> None:
    """NaN wherever a call may write."""
    for frame in executable.runner.program(batch)._frames:  # type: ignore[attr-defined]
        frame.arena[:] = 0xFF
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
    before = choice.WORTH, winograd_shapes.FEWEST, winograd_shapes_gradient.FEWEST_PIXELS
    choice.WORTH, winograd_shapes.FEWEST = 0.0, 1
    winograd_shapes_gradient.FEWEST_PIXELS = dict.fromkeys(before[2], 0)
    try:
        yield
    finally:
        choice.WORTH, winograd_shapes.FEWEST, winograd_shapes_gradient.FEWEST_PIXELS = before


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
