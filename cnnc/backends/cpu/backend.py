"""The processor as a target (`lowering/target.py`), whose estimates alone decide."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from cnnc.backends.cpu import decisions, machine
from cnnc.backends.cpu.choice import choose
from cnnc.backends.cpu.code import Code
from cnnc.backends.cpu.context import Lowering
from cnnc.backends.cpu.decisions import Decision, Tuning
from cnnc.backends.cpu.parts import place_parts
from cnnc.backends.cpu.pipeline import layouts
from cnnc.backends.cpu.problem import OPS
from cnnc.backends.cpu.run.launch import CpuDevice
from cnnc.ir.graph import Graph
from cnnc.kernels.cpu import target as targets
from cnnc.lowering import chain
from cnnc.lowering.arrange import chained
from cnnc.lowering.figures import Figures
from cnnc.lowering.place import Placed, Work
from cnnc.lowering.plan import KernelName
from cnnc.passes.manager import Pass
from cnnc.runtime.compiled import Compiled
from cnnc.untrusted import Field


class CpuBackend:
    """Code for one instruction set; the machine's best unless another is named. `exact`: only algorithms that round
    like the direct ones. `tuning`: what was measured and decided elsewhere.
    """

    def __init__(self, target: str | None = None, exact: bool = False, tuning: Tuning | None = None) -> None:
        self._name, self.exact = target, exact
        self._tuning = tuning or Tuning()

    @property
    def _set(self) -> targets.Target:
        """The instruction set, whatever the machine's pace."""
        return targets.named(self._name) if self._name else targets.host()

    @property
    def tuning(self) -> Tuning:
        """What was measured and decided."""
        return self._tuning

    @property
    def target(self) -> targets.Target:
        """The instruction set at the machine's pace."""
        pace = self.tuning.pace
        return self._set if pace is None else self._set.at(pace)

    @property
    def code(self) -> Code:
        return Code(self._set)

    @property
    def name(self) -> str:
        return str(self._set.name)

    @property
    def lanes(self) -> int:
        return int(self._set.lanes)

    @property
    def compiler(self) -> CpuBackend:
        return self

    def unavailable(self) -> str | None:
        if not targets.runnable():
            return "there are no kernels for this processor"
        if self._name and self._set not in targets.runnable():
            return f"this processor does not execute {self._name}"
        return None

    def layouts(self) -> Sequence[Pass]:
        return layouts(self.lanes)

    # ------------------------------------------------------------------------------------------------ nodes to steps

    def lowering(self, graph: Graph, batch: int, workers: int) -> Lowering:
        low = Lowering(graph, batch, workers, target=self.target, exact=self.exact, decisions=self.tuning.decisions)
        if not graph.updates:
            place_parts(low)
        return low

    def rule(self, op: str) -> Callable[..., None]:
        from cnnc.backends.cpu.rules import RULES

        return RULES[op]

    def arrange(self, work: Work) -> Placed:
        return chained(work, self.target.cache)

    # ------------------------------------------------------------------------------------------------ code and running

    def missing(self, kernels: Iterable[KernelName]) -> Collection[KernelName]:
        return self.code.missing(kernels)

    def ready(self, kernels: Iterable[KernelName], progress: Callable[[KernelName], None] | None = None) -> None:
        self.code.ready(kernels, progress)

    def device(self) -> CpuDevice:
        return CpuDevice(self.code)

    def prepare(self, graph: Graph, values: Mapping[str, Any], threads: int | None = None) -> Compiled:
        return Compiled(graph, values, self, threads)

    # ------------------------------------------------------------------------------------------------ what is measured

    def tune(self, graph: Graph, batch: int) -> None:
        """Nothing: estimates decide, or what was decided elsewhere."""

    def record(self, graph: Graph, batch: int) -> dict[str, Any]:
        """What lowering the graph meets, at this batch size and at all others for which something has been decided."""
        others = (key.split()[1:2] for key in self.tuning.decisions)
        sizes = {batch, *(int(size[0]) for size in others if size and size[0].isdecimal())}
        met: dict[str, Decision] = {}
        for size in sorted(sizes):
            low = self.lowering(graph, size, chain.WORKERS)
            choices = [choose(low, node) for node in graph.nodes if node.op in OPS]
            met |= {c.key: c.decision for c in choices if c is not None and c.decision is not None}
        return Tuning(self.target.pace, met).to_json()

    def tuned(self, record: Field) -> CpuBackend:
        return CpuBackend(self._name, self.exact, decisions.parse(record))

    def deciding(self, given: Mapping[str, Decision]) -> CpuBackend:
        """This backend with other decisions, and no timed runs."""
        return CpuBackend(self._name, self.exact, Tuning(self.tuning.pace, dict(given)))

    def speed(self, threads: int | None = None, again: bool = False) -> Figures:
        return (machine.measure if again else machine.figures)(self.code, threads)
