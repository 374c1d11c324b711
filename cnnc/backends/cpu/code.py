"""The object code of kernels for one instruction set: compiled where it is not known, kept on disk, loaded."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial

from cnnc import forks
from cnnc.diagnostics import error
from cnnc.kernels.cpu import Kernel
from cnnc.kernels.cpu import target as targets
from cnnc.kernels.cpu.code import compile, sources
from cnnc.kernels.cpu.steps import driver, threads
from cnnc.locks import Claims
from cnnc.lowering.plan import KernelName
from cnnc.runtime import cache
from cnnc.runtime.threads import cores

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


def effort() -> int:
    """How much LLVM optimizes kernels: nothing where CNNC_OPTIMIZE is 0, else all it can."""
    return 0 if os.environ.get("CNNC_OPTIMIZE") == "0" else 3


@dataclass(frozen=True)
class Code:
    """Kernels for an instruction set, the step driver, and the parts of the thread pool. effort: LLVM's for kernels."""

    target: targets.Target
    effort: int = field(default_factory=effort)

    @property
    def name(self) -> str:
        return str(self.target.name)

    @property
    def _whose(self) -> str:
        return f"{self.name} {self.target.features}{'' if self.effort == 3 else f' effort {self.effort}'}"

    def version(self, *families: str) -> str:
        """What decides the code of kernels of some families besides their names."""
        return f"{self._whose} {identity(*families)}"

    def _address(self, name: str, build: Callable[[], bytes]) -> int:
        key = (self._whose, name)
        if key not in _loaded:
            with _claims.turn(key):
                if key not in _loaded:
                    code = cache.object_code(name, self._whose, identity(family_of(name)), build)
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
        while wanted := {(self._whose, str(k)): k for k in self.missing(kernels)}:
            with _claims.some(wanted) as mine:
                todo = {Kernel(k.family, k.parameters): k for k in self.missing(wanted[key] for key in mine)}
                if todo:
                    self._load(todo, progress)
                kernels = wanted.values()

    def _load(self, kernels: Mapping[Kernel, KernelName], progress: Callable[[KernelName], None] | None) -> None:
        """Compile kernels, keep them on disk and load them."""
        codes: dict[KernelName, bytes] = {}

        def done(name: KernelName, code: bytes) -> None:
            cache.keep(str(name), self._whose, identity(name.family), code)
            codes[name] = code
            if progress is not None:
                progress(name)

        self._build(kernels, done)
        for name, code in codes.items():
            _loaded[self._whose, str(name)] = compile.load(code)

    def _build(self, kernels: Mapping[Kernel, KernelName], done: Callable[[KernelName, bytes], None]) -> None:
        """Compile kernels: in other processes alone, where Numba is kept from its usual work in this one."""
        from cnnc.kernels.cpu.code import builder

        hindrances = compile.hindrances()
        goal = replace(self.target, effort=self.effort)
        try:
            builder.build_all(list(kernels), goal, jobs(), lambda k, code: done(kernels[k], code), not hindrances)
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
        if not threads.available(self.target):
            return None
        return {part: self._address(part, partial(threads.build, part, self.target)) for part in threads.PARTS}

    def missing(self, kernels: Iterable[KernelName]) -> list[KernelName]:
        """The kernels that would have to be compiled."""
        return [
            k
            for k in dict.fromkeys(kernels)
            if (self._whose, str(k)) not in _loaded and not cache.known(str(k), self._whose, identity(k.family))
        ]
