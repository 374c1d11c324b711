"""What a network must give, from its float64 reference.

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

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import cnnc.ops  # noqa: F401
from cnnc.ir import expression as ex
from cnnc.ir.graph import Graph, Node
from cnnc.ir.interpret import bind, random_values
from cnnc.ir.op import OPS
from cnnc.ops import pointwise
from cnnc.ops.conv import TRANSPOSED

Array = np.ndarray[Any, Any]
UNIT = 2.0**-24
ERRORS = 4  # units of each error that is put in
SAMPLES = 4
WINOGRAD = 16  # units of a tile's largest sum of magnitudes
FACTOR = 8  # times what the errors did


class Mismatch(Exception):
    """A setting that gives another result."""


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

    def computed(node: Node, operands: list[Any]) -> tuple[Any, ...]:
        types = [bind(t, batch) for t in node.types]
        with np.errstate(all="ignore"):
            results = OPS[node.op].reference(operands, node.attributes, types)
            if rng is not None and fast and _by_winograd(graph, node):
                sizes = [None if a is None else np.abs(a) for a in operands[:2]]
                (whole,) = OPS[node.op].reference(sizes, node.attributes.with_(epilogue=None), types)
                error = WINOGRAD * UNIT * np.max(whole, initial=0)
                results = (results[0] + error * rng.uniform(-1, 1, np.shape(results[0])),)
        if rng is not None and node.op in _OF_PROBABILITIES:  # 1 - p and log(p) where p is nearly 1
            results = tuple(r + ERRORS * UNIT * rng.uniform(-1, 1, np.shape(r)) for r in results)
        return results

    for node in graph.nodes:
        if node.op in ("input", "param", "state"):
            a = (inputs if node.op == "input" else values)[node.name]
            live[node.name] = a if a.dtype.kind in "iu" else a.astype(np.float64)
            continue
        operands = [None if o is None else live[o] for o in node.operands]
        loose = rng is not None and not _only_chooses(node)
        results = computed(node, [rounded(a) for a in operands] if loose else operands)
        live.update(zip(node.results, map(rounded, results) if loose else results, strict=True))
    return live


def _by_winograd(graph: Graph, node: Node) -> bool:
    """Whether a fast algorithm may compute it: 3x3 or 5x5 kernels, groups of them and slices of volumes among them, and of
    lines, but for the gradient of their weights.
    """
    if node.op not in ("conv", "conv_weight_gradient", *TRANSPOSED):
        return False
    weights = node.type if node.op == "conv_weight_gradient" else graph.type(node.inputs[1])
    if (
        node.op != "conv_weight_gradient"
        and weights.rank <= 4
        and tuple(weights.shape[2:]) in ((3,), (5,), (1, 3), (1, 5))
    ):
        return True
    return weights.rank >= 4 and tuple(weights.shape[-2:]) in ((3, 3), (5, 5))


_OF_PROBABILITIES = {
    f"{op}{end}" for op in ("cross_entropy", "cross_entropy_terms", "cross_entropy_soft") for end in ("", "_gradient")
}
_CHOOSING = {"gt", "ge", "eq", "ne", "sign", "floor", "where", "neg", "abs", "max", "min"}
_MOVING = {"concat", "slice", "flatten", "reshape", "to_layout", "expand", "maxpool", "constant", "count", "batch_size"}
_MOVING |= {"gather", "flip", "repeat", "channel_shuffle", "pad", "transpose", "pixel_shuffle", "pixel_unshuffle"}
_PICKING = {"argmax", "argmin", "max", "min", "adaptive_maxpool", "unpool", "unpool_gradient"}  # by comparing values


def _functions(e: ex.Expression) -> set[str]:
    return set() if e[0] in ("var", "const") else {e[0]}.union(*map(_functions, e[1:]))


def _expressions(node: Node) -> tuple[ex.Expression, ...]:
    if node.op == "reduce_channels":
        return tuple(ex.parse(t) for t in node.attributes["expressions"])
    return pointwise.expressions(node) if pointwise.is_pointwise(node) else ()


def _only_chooses(node: Node) -> bool:
    """Whether each result is one of the operands' values, or its negation: nothing is rounded."""
    if node.op in _MOVING | _PICKING or (node.op == "upsample" and node.attribute("mode") == "nearest"):
        return True
    found = _expressions(node)
    return bool(found) and node.op != "reduce_channels" and all(_functions(e) <= _CHOOSING for e in found)


_EXACT = _MOVING | {
    "conv",
    *TRANSPOSED,
    "conv_weight_gradient",
    "linear",
    "matmul",
    "cumsum",
    "prod",
    "linear_data_gradient",
    "linear_weight_gradient",
    "maxpool_gradient",
    "gather_gradient",
    "repeat_gradient",
    "pad_gradient",
    "sum",
}


def exact_values(graph: Graph, found: Mapping[str, Array], batch: int, fast: bool = False) -> set[str]:
    """The values that float32 computes without rounding, in whatever order it adds."""
    exact: set[str] = set()
    for node in graph.nodes:
        if fast and _by_winograd(graph, node):
            continue
        if all(o in exact for o in node.inputs) and _is_exact(node, found, batch):
            exact.update(node.results)
    return exact


def _is_exact(node: Node, found: Mapping[str, Array], batch: int) -> bool:
    results = [found[r] for r in node.results]
    if any(not np.isfinite(r).all() or (r != np.rint(r)).any() for r in results):
        return False
    magnitudes = _magnitudes(node, found, batch)
    return magnitudes is not None and all(np.max(np.abs(m), initial=0) < 2**24 for m in magnitudes)


def _magnitudes(node: Node, found: Mapping[str, Array], batch: int) -> list[Any] | None:
    """Bounds on all that a node computes on its way; None where it rounds even whole numbers."""
    operands = [None if o is None else found[o] for o in node.operands]
    sizes = [None if a is None else np.abs(a) for a in operands]
    results = [found[r] for r in node.results]
    es = _expressions(node)
    if node.op in ("input", "param", "state"):
        return results
    if node.op == "dropout":
        halves = len(operands) < 2 or node.attribute("p") in (0.0, 0.5)
        return [2 * np.abs(r) for r in results] if halves else None
    if es:
        return _of_expressions(node, es, sizes)
    if node.op not in _MOVING and _only_chooses(node):
        return [np.abs(r) for r in results]
    if node.op not in _EXACT:
        return None
    if node.op == "maxpool_gradient":
        sizes[0] = operands[0]
    if node.op == "prod":  # 0 times a large product is none
        sizes[0] = np.maximum(sizes[0], 1)
    with np.errstate(all="ignore"):
        return list(OPS[node.op].reference(sizes, node.attributes, [bind(t, batch) for t in node.types]))


def _of_expressions(node: Node, es: Sequence[ex.Expression], sizes: Sequence[Any]) -> list[Any] | None:
    if any(not _functions(e) <= _CHOOSING | {"add", "sub", "mul"} for e in es):
        return None
    rank = max((np.ndim(a) for a in sizes), default=0)
    names = {f"a{i}": pointwise.align(a, rank) for i, a in enumerate(sizes)}
    with np.errstate(invalid="ignore"):
        magnitudes = [_magnitude(e, names) for e in es]
    if node.op != "reduce_channels":
        return magnitudes
    shape = np.broadcast_shapes(*map(np.shape, names.values()))
    return [np.broadcast_to(m, shape).sum((0, *range(2, rank))) for m in magnitudes]


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
        case "gt" | "ge" | "eq" | "ne":
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
