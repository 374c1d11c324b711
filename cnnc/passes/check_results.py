"""`--verify-passes`: the reference runs before and after every pass on the same random tensors, and must find the same
results.
"""

from __future__ import annotations

import numpy as np

from cnnc.diagnostics import CnncError, Diagnostic
from cnnc.ir.graph import Graph
from cnnc.ir.interpret import Array, Run, random_values, run
from cnnc.passes.manager import REPORT, Pass


def difference(a: Array, b: Array, floor: float = 0.0) -> float:
    """The largest difference relative to the largest finite value of either, or to `floor`; infinite where shapes, NaN
    or infinities differ.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
        return float("inf")
    infinite = np.isinf(a) | np.isinf(b)
    if not np.array_equal(a[infinite], b[infinite]):
        return float("inf")
    finite = np.isfinite(a)
    a, b = a[finite], b[finite]
    if not a.size:
        return 0.0
    scale = max(float(np.abs(a).max()), float(np.abs(b).max()), floor)
    return float(np.abs(a - b).max()) / scale if scale else 0.0


def _largest(a: Array) -> float:
    finite = np.asarray(a)[np.isfinite(a)]
    return float(np.abs(finite).max()) if finite.size else 0.0


def compare(before: Run, after: Run) -> dict[str, float]:
    """The difference of every output and update, by name; infinite where one side has no such result.

    A result below 1e-6 of the largest of all is measured against that: the gradient of a bias before a batch norm is 0
    and rounding.
    """
    found: dict[str, float] = {}
    floor = 1e-6 * max((_largest(v) for r in (before, before.updates) for v in r.values()), default=0.0)
    for kind, a, b in (("output", before, after), ("update", before.updates, after.updates)):
        for name in dict.fromkeys((*a, *b)):
            found[f"{kind} '{name}'"] = difference(a[name], b[name], floor) if name in a and name in b else float("inf")
    return found


class CheckResults:
    """An observer. Raises `CnncError` (E0804, exit code 4) at the first pass that changes a result by more than the
    tolerance.

    tolerance: relative to the largest value of the result. `worst` keeps the largest difference seen, by pass.
    """

    def __init__(self, batch: int = 2, seed: int = 0, tolerance: float = 1e-9) -> None:
        self.batch, self.seed, self.tolerance = batch, seed, tolerance
        self.worst: dict[str, float] = {}
        self._last: tuple[Graph, Run] | None = None

    def __call__(self, before: Graph, p: Pass, after: Graph, seconds: float) -> None:
        if after is before:
            self.worst[str(p)] = 0.0
            return
        differences = compare(self.result(before), self.result(after))
        self.worst[str(p)] = max(differences.values(), default=0.0)
        wrong = [
            f"{name} differs by {d:.3g} of its largest value"
            for name, d in differences.items()
            if not d <= self.tolerance
        ]
        if wrong:
            raise CnncError(
                Diagnostic("E0804", f"{p} changes what the graph computes", notes=tuple(wrong[:10]), help=REPORT),
                exit_code=4,
            )

    def result(self, graph: Graph) -> Run:
        """Kept for the next pass, which begins with the graph that this one ended with."""
        if self._last is None or self._last[0] is not graph:
            inputs, values = random_values(graph, self.batch, self.seed)
            self._last = graph, run(graph, inputs, values)
        return self._last[1]
