"""The CPU: Numba kernels with LLVM vector tiles, run by one step driver on a thread pool of our own."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from typing import Any

from cnnc import forks
from cnnc.backends.cpu import timed
from cnnc.backends.cpu.choice import Decision
from cnnc.diagnostics import error
from cnnc.ir.graph import Graph
from cnnc.kernels.cpu import Kernel
from cnnc.kernels.cpu import target as targets
from cnnc.kernels.cpu.code import compile, sources
from cnnc.kernels.cpu.steps import driver, threads
from cnnc.locks import Claims
from cnnc.lowering import chain
from cnnc.lowering.plan import KernelName, Plan
from cnnc.lowering.select import lower
from cnnc.runtime import cache
from cnnc.runtime.compiled import Compiled, Memory, memory_of
from cnnc.runtime.threads import cores
from cnnc.untrusted import Field

_claims: Claims[tuple[str, str]] = Claims()  # kernels by target and name
forks.hold(compile.lock)
_loaded: dict[tuple[str, str], int] = {}


@lru_cache(maxsize=1)
def compilers() -> str:
    return " ".join([sys.version.split()[0], *(importlib.metadata.version(p) for p in ("numba", "llvmlite"))])


def identity(*families: str) -> str:
    """What decides the code of kernels of some families besides their names and the target: sources and compilers."""
    return f"{sources.digest(*families)} {compilers()}"


def family_of(name: str) -> str:
    """The family of a kernel, from its text."""
    return name.partition("{")[0]


def jobs() -> int:
    """Processes that compile kernels: CNNC_JOBS, or as many as there are cores, eight at most."""
    given = os.environ.get("CNNC_JOBS", "")
    return max(1, int(given[:4])) if given.isdecimal() else min(8, cores())


class CpuBackend:
    """Code for one instruction set; the machine's best unless another is named. `exact`: only algorithms that round
    like the direct ones. `tuned`: plans follow the machine's measured pace, and timed runs decide where estimates are
    close (`timed.py`). `decided`: what was decided elsewhere instead.
    """

    def __init__(
        self,
        target: str | None = None,
        exact: bool = False,
        tuned: bool = False,
        decided: timed.Decided | None = None,
    ) -> None:
        self._name = target
        self.exact, self.tuned = exact, tuned
        self._decided = decided or timed.Decided()

    @property
    def _set(self) -> targets.Target:
        """The instruction set, whatever the machine's pace."""
        return targets.named(self._name) if self._name else targets.host()

    @property
    def target(self) -> targets.Target:
        pace = self._all().pace
        return self._set if pace is None else self._set.at(pace)

    @property
    def name(self) -> str:
        return str(self._set.name)

    @property
    def lanes(self) -> int:
        return int(self._set.lanes)

    @property
    def registers(self) -> int:
        """Vector registers."""
        return int(self._set.registers)

    @property
    def cache(self) -> int:
        """Bytes of a core's own cache that plans count on."""
        return int(self.target.cache)

    step_words, run_words, most_queues = driver.STEP, driver.RUN, driver.QUEUES
    state_words, pool_words = staticmethod(driver.state_words), staticmethod(threads.words)

    def unavailable(self) -> str | None:
        """Why it cannot run here, or None."""
        if not targets.runnable():
            return "there are no kernels for this processor"
        if self._name and self._set not in targets.runnable():
            return f"this processor does not execute {self._name}"
        return None

    @property
    def version(self) -> str:
        """What decides the code of the kernels that timed runs compare, besides their names."""
        return f"{self.name} {self._set.features} {identity(*timed.FAMILIES)}"

    @property
    def decided(self) -> Mapping[str, Decision]:
        """What timed runs decided, by problem."""
        return self._all().decisions

    def _all(self) -> timed.Decided:
        return timed.known(self) if self.tuned else self._decided

    def deciding(self, decisions: Mapping[str, Decision]) -> CpuBackend:
        """This backend with other decisions, and no timed runs."""
        return CpuBackend(self._name, self.exact, decided=timed.Decided(self._all().pace, dict(decisions)))

    def decisions(self, graph: Graph, batch: int) -> dict[str, Any]:
        """What was decided for a graph, as JSON, for `with_decisions`."""
        return timed.used(self, graph, batch).to_json()

    def with_decisions(self, record: Field) -> CpuBackend:
        """This backend as another decided. Raises `Malformed` for what is no record."""
        return CpuBackend(self._name, self.exact, decided=timed.parse(record))

    def settle(self, graph: Graph, batch: int) -> None:
        """Measure and time what has to be decided before a graph is lowered to what runs."""
        if self.tuned:
            timed.settle(self, graph, batch)

    def rule(self, op: str) -> Callable[..., None]:
        """How a node of an op becomes steps."""
        from cnnc.backends.cpu.rules import RULES

        return RULES[op]

    def _address(self, name: str, build: Callable[[], bytes]) -> int:
        key = (self.name, name)
        if key not in _loaded:
            with _claims.turn(key):
                if key not in _loaded:
                    code = cache.object_code(
                        name, f"{self.name} {self._set.features}", identity(family_of(name)), build
                    )
                    _loaded[key] = compile.load(code)
        return _loaded[key]

    def address(self, kernel: KernelName) -> int:
        """The address of a kernel's machine code, compiled where it is not yet known. Raises `CnncError` (E0812)."""

        def build() -> bytes:
            found: list[bytes] = []
            self._build({Kernel(kernel.family, kernel.parameters): kernel}, lambda _, code: found.append(code))
            return found[0]

        return self._address(str(kernel), build)

    def ready(self, kernels: Iterable[KernelName], progress: Callable[[KernelName], None] | None = None) -> None:
        """Compile what is not known yet, several at a time where they are many. progress: called for each of them. Raises
        `CnncError` (E0812).
        """
        while wanted := {(self.name, str(k)): k for k in self.missing(kernels)}:
            with _claims.some(wanted) as mine:
                todo = {Kernel(k.family, k.parameters): k for k in self.missing(wanted[key] for key in mine)}
                if todo:
                    self._load(todo, progress)
                kernels = wanted.values()

    def _load(self, kernels: Mapping[Kernel, KernelName], progress: Callable[[KernelName], None] | None) -> None:
        """Compile kernels, keep them on disk and load them."""
        codes: dict[KernelName, bytes] = {}

        def done(name: KernelName, code: bytes) -> None:
            cache.keep(str(name), f"{self.name} {self._set.features}", identity(name.family), code)
            codes[name] = code
            if progress is not None:
                progress(name)

        self._build(kernels, done)
        for name, code in codes.items():
            _loaded[self.name, str(name)] = compile.load(code)

    def _build(self, kernels: Mapping[Kernel, KernelName], done: Callable[[KernelName, bytes], None]) -> None:
        """Compile kernels: in other processes alone, where Numba is kept from its usual work in this one."""
        from cnnc.kernels.cpu.code import builder

        hindrances = compile.hindrances()
        try:
            builder.build_all(
                list(kernels), self.target, jobs(), lambda k, code: done(kernels[k], code), not hindrances
            )
        except compile.CannotCompileError as e:
            raise error(
                "E0812",
                "kernels cannot be compiled in this process, and no other could be started for it",
                str(e),
                *([f"found: {', '.join(hindrances[:8])}"] if hindrances else []),
                help="leave settings of Numba out, or compile with `cnnc cache warm` where they are not set",
                exit_code=1,
            ) from None

    def driver(self) -> int:
        """The address of the step driver."""
        return self._address("driver", lambda: driver.build(self.target))

    def threads(self) -> dict[str, int] | None:
        """The addresses of the thread pool's parts; None where this system has no pool of ours."""
        if not threads.available(self._set):
            return None
        return {part: self._address(part, partial(threads.build, part, self.target)) for part in threads.PARTS}

    def missing(self, kernels: Iterable[KernelName]) -> list[KernelName]:
        """The kernels that would have to be compiled."""
        return [
            k
            for k in dict.fromkeys(kernels)
            if (self.name, str(k)) not in _loaded
            and not cache.known(str(k), f"{self.name} {self._set.features}", identity(k.family))
        ]

    def plan(self, graph: Graph, batch: int, threads: int = chain.WORKERS) -> Plan:
        """The Plan of a graph of this backend's layouts."""
        return lower(graph, batch, self, threads)

    def memory(self, graph: Graph, batch: int, threads: int | None = None) -> Memory:
        """The memory of one call, without allocating it."""
        return memory_of(self.plan(graph, batch, threads or cores()), threads or cores())

    def prepare(self, graph: Graph, values: Mapping[str, Any], threads: int | None = None) -> Compiled:
        """A graph of this backend's layouts, ready to run."""
        return Compiled(graph, values, self, threads)


BACKEND = CpuBackend()
TUNED = CpuBackend(tuned=True)
__all__ = ["BACKEND", "TUNED", "CpuBackend"]
