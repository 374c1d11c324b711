"""The instruction sets that the kernels are compiled for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import llvmlite.binding as llvm


@dataclass(frozen=True)
class Target:
    """An instruction set: what LLVM is told, and what a kernel's author has to know of it.

    `lanes` is the number of float32 in a vector register, `registers` the number of vector registers, and `fma` tells
    whether multiply and add round once. `near` and `cache` are the bytes of a core's first and second level cache that
    plans count on.
    """

    name: str
    triple: str
    cpu: str
    features: str
    lanes: int
    registers: int
    fma: bool
    near: int
    cache: int

    def __str__(self) -> str:
        return self.name


def _triple(architecture: str) -> str:
    """This process's triple where the architecture is its own: the object format and the ABI follow the system."""
    here = llvm.get_process_triple()
    return (
        here if here.split("-")[0].replace("arm64", "aarch64") == architecture else f"{architecture}-unknown-linux-gnu"
    )


KIB = 1024
_X86, _ARM = _triple("x86_64"), _triple("aarch64")
TARGETS = {
    target.name: target
    for target in (
        Target("avx512", _X86, "x86-64-v4", "", 16, 32, True, 32 * KIB, 1024 * KIB),
        Target("avx2", _X86, "x86-64-v3", "", 8, 16, True, 32 * KIB, 512 * KIB),
        Target("sse2", _X86, "x86-64", "", 4, 16, False, 32 * KIB, 256 * KIB),
        Target("neon", _ARM, "generic", "+neon", 4, 32, True, 32 * KIB, 512 * KIB),
    )
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
    architecture = llvm.get_process_triple().split("-")[0].replace("arm64", "aarch64")
    features = llvm.get_host_cpu_features()
    if architecture == "aarch64":
        features.setdefault("neon", True)
    native = [
        target for target in TARGETS.values() if target.triple.split("-")[0].replace("arm64", "aarch64") == architecture
    ]
    return tuple(target for target in native if all(features.get(need, False) for need in _NEEDS[target.name]))


def host() -> Target:
    """The best target of this machine; RuntimeError where there is none."""
    if not runnable():
        raise RuntimeError(f"no CPU kernels for {llvm.get_process_triple()}")
    return runnable()[0]
