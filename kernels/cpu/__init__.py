"""Kernels for CPUs.

Every kernel has the one signature `kernel(arguments: int64*, chunk: int64, scratch: float32*)`. `arguments` holds one
int64 per argument that the family names: a buffer's address, an integer, or the bits of a float64. `scratch` belongs to the
worker that runs the chunk: 64-byte aligned, of the size that the family's planner states, with undefined contents; an int64
in the cache line ahead of it is zero when the worker begins with a step, and kernels note there what their last chunk left in
scratch. The chunks of one step write disjoint memory, so that they may run in any order, at any time, on any worker.

Activations are blocked, [N][ceil(C / L)][H][W][L] float32 with L the target's lanes, or plain, [N][C][H][W]. The padded
lanes of a last block are zero, always.

Importing this package, `target`, the planners and `compile.load` needs neither Numba nor the families' modules, nor, on most
machines, LLVM.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..families import collected


@dataclass(frozen=True)
class Kernel:
    """A specialization of a family: `conv_direct{pixels=14,vectors=2}`. Parameters are hashable and decide the machine
    code.
    """

    family: str
    parameters: tuple[tuple[str, object], ...] = ()

    def __str__(self) -> str:
        text = ",".join(f"{name}={value}" for name, value in self.parameters)
        return f"{self.family}{{{text}}}"


@dataclass(frozen=True)
class Family:
    """A family of kernels.

    `make(target, **parameters)` returns the Python function that Numba compiles; `arguments` names the int64s that it
    reads.
    """

    name: str
    arguments: tuple[str, ...]
    make: Callable[..., Any]
    doc: str = ""


def __getattr__(name: str) -> Any:
    """`FAMILIES: dict[str, Family]`, collected from this package's modules when it is first asked for."""
    globals()["FAMILIES"] = found = collected(__name__, __path__, name)
    return found
