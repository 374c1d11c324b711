"""A GPU as a target (`lowering/target.py`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from cnnc.backends.cuda.code import Code
from cnnc.backends.cuda.context import Lowering
from cnnc.backends.cuda.device import CudaDevice
from cnnc.backends.cuda.driver import Driver
from cnnc.ir.graph import Graph
from cnnc.kernels.cuda.target import LANES, Chip
from cnnc.lowering.arrange import in_order
from cnnc.lowering.figures import Figures
from cnnc.lowering.place import Placed, Work
from cnnc.lowering.plan import KernelName
from cnnc.passes.manager import Pass
from cnnc.passes.select_layout import SelectLayout
from cnnc.runtime.compiled import Compiled
from cnnc.untrusted import Field


class CudaBackend:
    """Code for a chip, over a driver. Products are summed in strict float32, so that it is exact always."""

    exact, lanes = True, LANES

    def __init__(self, chip: Chip, driver: Driver) -> None:
        self.chip, self.name = chip, str(chip.name)
        self._code = Code()
        self._device = CudaDevice(driver, self._code)

    @property
    def compiler(self) -> CudaBackend:
        return self

    def unavailable(self) -> str | None:
        return None

    def layouts(self) -> Sequence[Pass]:
        return (SelectLayout(LANES),)

    def lowering(self, graph: Graph, batch: int, workers: int) -> Lowering:
        return Lowering(graph, batch, workers, chip=self.chip)

    def rule(self, op: str) -> Callable[..., None]:
        from cnnc.backends.cuda.rules import RULES

        return RULES[op]

    def arrange(self, work: Work) -> Placed:
        return in_order(work)

    def missing(self, kernels: Iterable[KernelName]) -> Collection[KernelName]:
        return self._code.missing(kernels)

    def ready(self, kernels: Iterable[KernelName], progress: Callable[[KernelName], None] | None = None) -> None:
        self._code.ready(kernels, progress)

    def device(self) -> CudaDevice:
        return self._device

    def prepare(self, graph: Graph, values: Mapping[str, Any], threads: int | None = None) -> Compiled:
        return Compiled(graph, values, self, threads)

    def tune(self, graph: Graph, batch: int) -> None:
        """Nothing: estimates decide."""

    def record(self, graph: Graph, batch: int) -> dict[str, Any]:
        return {}

    def tuned(self, record: Field) -> CudaBackend:
        return self

    def speed(self, threads: int | None = None, again: bool = False) -> Figures:
        """What the chip is said to do: multiply-adds of all of its lanes."""
        peak = 2.0 * 128 * self.chip.multiprocessors * self.chip.megahertz / 1000
        return Figures(f"{self.chip.name}, as its maker says", self.name, 1, peak, peak, ())
