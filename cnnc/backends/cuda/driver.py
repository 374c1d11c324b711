"""What is asked of a GPU's driver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cnnc.lowering.target import Array


class Function(Protocol):
    """A kernel that the driver has loaded."""


class Driver(Protocol):
    """A GPU: its memory, and kernels over it. Addresses are numbers of the GPU's own."""

    def chip(self) -> str:
        """What it executes: "sm_90"."""

    def free(self) -> int:
        """Bytes of its memory that are left."""

    def allocate(self, size: int) -> int:
        """The address of so many bytes, at a multiple of 256. Raises `MemoryError`."""

    def release(self, address: int) -> None: ...

    def write(self, address: int, array: Array) -> None:
        """Copy the bytes of a contiguous array there."""

    def read(self, address: int, array: Array) -> None:
        """Copy what lies there into a contiguous array."""

    def load(self, text: str, name: str) -> Function:
        """The kernel of that name in a text of PTX."""

    def launch(
        self, function: Function, grid: int, threads: int, shared: int, arguments: Sequence[tuple[int, int]]
    ) -> None:
        """Begin a kernel behind all that has begun. arguments: (bytes, number) of each."""

    def synchronize(self) -> None:
        """Wait for all that has begun."""
