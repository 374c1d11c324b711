"""A GPU's driver (`cnnc/backends/cuda/driver.py`) whose GPU is the interpreter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.ptx.machine import Machine
from tests.ptx.memory import Global
from tests.ptx.registers import Array


@dataclass(frozen=True)
class Loaded:
    machine: Machine
    name: str


class EmulatedDriver:
    """Memory and kernels in NumPy. limit: bytes that may be allocated. count: whether figures are kept."""

    def __init__(self, limit: int = 1 << 30, count: bool = False) -> None:
        self.memory, self.count, self.limit = Global(), count, limit
        self.used: dict[int, int] = {}
        self.launches = 0

    def chip(self) -> str:
        return "sm_80"

    def free(self) -> int:
        return self.limit - sum(self.used.values())

    def allocate(self, size: int) -> int:
        if size > self.free():
            raise MemoryError
        address = self.memory.allocate(size)
        self.used[address] = size
        return address

    def release(self, address: int) -> None:
        self.memory.release(address)
        del self.used[address]

    def write(self, address: int, array: Array) -> None:
        self.memory.write(address, array)

    def read(self, address: int, array: Array) -> None:
        array[...] = self.memory.read(address, array.dtype, array.shape)

    def load(self, text: str, name: str) -> Loaded:
        return Loaded(Machine(text, self.memory, self.count), name)

    def launch(
        self, function: Loaded, grid: int, threads: int, shared: int, arguments: Sequence[tuple[int, int]]
    ) -> None:
        function.machine.launch(grid, threads, [number for _, number in arguments], shared, function.name)
        self.launches += 1

    def synchronize(self) -> None:
        """Every launch has ended when it returns."""
