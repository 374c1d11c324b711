"""Kernels for NVIDIA's GPUs, as PTX.

A kernel is `kernel(addresses: u64..., sizes: s32...)` over a grid of one dimension; its blocks are the chunks of a step. How many
threads a block has and how much shared memory follow from its parameters. Blocks write disjoint memory and may run in any
order; no result depends on how many run at once. Nothing is added up by atomic operations: sums have a fixed order.

Activations are blocked by 8 channels, [N][ceil(C / 8)][H][W][8] float32: 8 channels are a sector of 32 bytes, and pixels
of a row adjoin. The padded channels of a last block are zero, always. Plain ones are [N][C][H][W].

They are written as the processor's are (`kernels/cpu`): Python functions that Numba types and lowers, with what must come out
exactly emitted by llvmlite's builder. LLVM, as llvmlite brings it, makes PTX of them on any machine. Importing this package and
the planners needs neither Numba nor LLVM.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..cpu import Kernel
from ..families import collected

__all__ = ["FAMILIES", "Family", "Kernel"]


@dataclass(frozen=True)
class Family:
    """A family of kernels: `make(**parameters)` returns the `Program` (`code/program.py`) of one."""

    name: str
    make: Callable[..., Any]
    doc: str = ""


def __getattr__(name: str) -> Any:
    """`FAMILIES: dict[str, Family]`, collected from this package's modules when it is first asked for."""
    globals()["FAMILIES"] = found = collected(__name__, __path__, name)
    return found
