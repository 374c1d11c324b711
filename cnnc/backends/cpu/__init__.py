"""The CPU: Numba kernels with LLVM vector tiles, run by one step driver on a thread pool of our own."""

from __future__ import annotations

from cnnc.backends.cpu import decisions, trials
from cnnc.backends.cpu.backend import CpuBackend
from cnnc.backends.cpu.decisions import Tuning
from cnnc.ir.graph import Graph


class TunedBackend(CpuBackend):
    """The machine's best instruction set: plans follow its measured pace, and timed runs decide where estimates are close."""

    @property
    def tuning(self) -> Tuning:
        return decisions.remembered(self.code)

    def tune(self, graph: Graph, batch: int) -> None:
        trials.tune(self, graph, batch)


BACKEND = CpuBackend()
TUNED = TunedBackend()


def backend(variant: str, exact: bool, tune: bool) -> CpuBackend:
    """For an instruction set, the machine's best where the variant is empty."""
    if variant or exact:
        return CpuBackend(variant or None, exact)
    return TUNED if tune else BACKEND


__all__ = ["BACKEND", "TUNED", "CpuBackend", "TunedBackend", "backend"]
