"""The instruction sets that the kernels are compiled for."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True)
class Pace:
    """What planners assume of a machine, over the one that their constants were measured on: the bytes of a core's own
    cache, and for as many multiply-adds the bytes that come from the caches behind it (`shared`) and from memory.
    """

    own: float = 1.0
    shared: float = 1.0
    memory: float = 1.0


@dataclass(frozen=True)
class Tiles:
    """How much of the vector registers the kernels' tiles take.

    sums: accumulators of a convolution's tile. spread: where lanes meet channels of their own, registers for sums and
    neighboring taps together, and sums at most. gradient: of Winograd's weight gradient, input channels and vectors of
    output channels. Of linear layers, dots: rows and columns whose sums are vectors; products: rows, and vectors of columns;
    batch: rows, the most first.
    """

    sums: int
    spread: tuple[int, int]
    gradient: tuple[int, int]
    dots: tuple[int, int]
    products: tuple[int, int]
    batch: tuple[int, ...]


@dataclass(frozen=True)
class Target:
    """An instruction set: what LLVM is told, and what a kernel's author has to know of it.

    `lanes` is the number of float32 in a vector register, `registers` the number of vector registers, and `fma` tells
    whether multiply and add round once. `near` and `cache` are the bytes of a core's first and second level cache that
    plans count on, `pace` what they assume of the machine, `workers` over which numbers of these they sum the time of a cut of
    the work into chunks, where any cut gives the same bits. `effort` is LLVM's level of optimization; at 0 kernels are compiled
    in a quarter of the time, run slower and give the same bits.
    """

    name: str
    architecture: str
    cpu: str
    features: str
    lanes: int
    registers: int
    fma: bool
    near: int
    cache: int
    pace: Pace = Pace()
    workers: tuple[int, ...] = (2, 2, 8)
    effort: int = 3

    def __str__(self) -> str:
        return self.name

    @property
    def slowness(self) -> float:
        """How much longer than with AVX-512 a core takes for as many multiply-adds."""
        return 16 / self.lanes * (1 if self.fma else 2)

    @property
    def tiles(self) -> Tiles:
        return TILES[self.name]

    def at(self, pace: Pace) -> Target:
        """The same for a machine of that pace."""
        return replace(self, pace=pace, cache=int(self.cache * pace.own))

    def shared_by(self, workers: int) -> Target:
        """The same for a number of workers. Twice as many count too: smaller chunks, with which a slow worker is helped."""
        return replace(self, workers=(workers, workers, 2 * workers))

    @property
    def triple(self) -> str:
        """This process's triple where the architecture is its own: the object format and the ABI follow the system."""
        here = _process_triple()
        return here if _architecture(here) == self.architecture else f"{self.architecture}-unknown-linux-gnu"


@lru_cache(maxsize=1)
def _process_triple() -> str:
    import llvmlite.binding as llvm

    return str(llvm.get_process_triple())


def _architecture(triple: str) -> str:
    return triple.split("-")[0].replace("arm64", "aarch64")


KIB = 1024
_X86, _ARM = "x86_64", "aarch64"
TARGETS = {
    target.name: target
    for target in (
        Target("avx512", _X86, "x86-64-v4", "", 16, 32, True, 32 * KIB, 1024 * KIB),
        Target("avx2", _X86, "x86-64-v3", "", 8, 16, True, 32 * KIB, 512 * KIB),
        Target("sse2", _X86, "x86-64", "", 4, 16, False, 32 * KIB, 256 * KIB),
        Target("neon", _ARM, "generic", "+neon", 4, 32, True, 32 * KIB, 512 * KIB),
    )
}

TILES = {
    "avx512": Tiles(28, (23, 20), (8, 2), (4, 6), (6, 4), (10, 9, 8, 6)),
    "avx2": Tiles(12, (14, 12), (4, 2), (3, 4), (6, 2), (8, 6)),
    "sse2": Tiles(8, (11, 8), (4, 2), (2, 4), (5, 2), (6, 5)),
    "neon": Tiles(24, (24, 20), (4, 4), (5, 4), (6, 4), (12, 10, 8, 6)),
}

# What the processor must have before code for the target may run on it.
_NEEDS = {
    "avx512": ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx2", "fma", "bmi2"),
    "avx2": ("avx2", "fma", "bmi", "bmi2", "f16c", "lzcnt", "movbe"),
    "sse2": ("sse2",),
    "neon": ("neon",),
}


def named(name: str) -> Target:
    """The target of that name; KeyError when there is none."""
    return TARGETS[name]


@lru_cache(maxsize=1)
def runnable() -> tuple[Target, ...]:
    """The targets whose code this machine can execute, the widest vectors first."""
    architecture, features = processor()
    native = [target for target in TARGETS.values() if target.architecture == architecture]
    return tuple(target for target in native if features.issuperset(_NEEDS[target.name]))


# What Linux calls otherwise than LLVM.
_LINUX = {"abm": "lzcnt", "bmi1": "bmi"}


def processor() -> tuple[str, frozenset[str]]:
    """The architecture of this process, and the features of its processor: from Linux where it tells them, since LLVM takes
    its time and memory to come.
    """
    if sys.platform == "linux" and os.uname().machine == _X86 and sys.maxsize > 2**32:
        try:
            lines = Path("/proc/cpuinfo").read_text().splitlines()
            flags = next(line for line in lines if line.startswith("flags")).partition(":")[2].split()
            return _X86, frozenset(_LINUX.get(flag, flag) for flag in flags)
        except (OSError, StopIteration):
            pass
    import llvmlite.binding as llvm

    architecture, features = _architecture(_process_triple()), llvm.get_host_cpu_features()
    always = {"neon"} if architecture == _ARM else set()
    return architecture, frozenset(always | {name for name, has in features.items() if has})


def host() -> Target:
    """The best target of this machine; RuntimeError where there is none."""
    if not runnable():
        raise RuntimeError(f"no CPU kernels for {processor()[0]}")
    return runnable()[0]
