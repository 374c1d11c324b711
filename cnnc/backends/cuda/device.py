"""A GPU's memory, and launches over it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnc.backends.cuda.code import Code
from cnnc.backends.cuda.driver import Driver, Function
from cnnc.diagnostics import error
from cnnc.lowering.plan import KernelName, Ref, Step
from cnnc.lowering.target import Array, Job


class Allocation:
    """Memory that is given back when nobody has it any more."""

    def __init__(self, driver: Driver, size: int) -> None:
        try:
            self.address = driver.allocate(size)
        except MemoryError:
            raise error(
                "E0410",
                f"{size / 2**20:,.0f} MiB of the GPU's memory are needed and not there",
                f"{driver.free() / 2**20:,.0f} MiB are left",
                help="use a smaller batch, or end other programs that use the GPU",
                exit_code=5,
            ) from None
        weakref.finalize(self, driver.release, self.address)


@dataclass(frozen=True)
class CudaBlock:
    """A piece of an allocation."""

    driver: Driver
    whole: Allocation
    address: int
    nbytes: int

    def part(self, offset: int, size: int) -> CudaBlock:
        assert 0 <= offset <= offset + size <= self.nbytes
        return CudaBlock(self.driver, self.whole, self.address + offset, size)

    def write(self, array: Array) -> None:
        if array.nbytes:
            self.driver.write(self.address, np.ascontiguousarray(array))

    def read(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        found: Array = np.empty(shape, dtype)
        if found.nbytes:
            self.driver.read(self.address, found)
        return found

    def reader(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Callable[[], Array]:
        return lambda: self.read(dtype, shape)


class CudaDevice:
    """One GPU."""

    hosted = False

    def __init__(self, driver: Driver, code: Code) -> None:
        self.driver, self.code = driver, code
        self._loaded: dict[KernelName, Function] = {}

    def ready(self) -> None:
        """Nothing but kernels is compiled."""

    def block(self, size: int) -> CudaBlock:
        whole = Allocation(self.driver, max(size, 1))
        return CudaBlock(self.driver, whole, whole.address, size)

    def put(self, array: Array) -> CudaBlock:
        block = self.block(array.nbytes)
        block.write(array)
        return block

    def runner(self, job: Job) -> CudaRunner:
        assert not job.own.buffers, "a GPU's steps are not in chains"
        return CudaRunner(self, job)

    def function(self, name: KernelName) -> Function:
        if name not in self._loaded:
            self._loaded[name] = self.driver.load(self.code.image(name).text, "kernel")
        return self._loaded[name]


@dataclass(frozen=True)
class Launch:
    """A step, ready to begin. bound: which arguments are addresses in what is bound: (argument, buffer, offset)."""

    function: Function
    grid: int
    threads: int
    shared: int
    arguments: list[tuple[int, int]]
    bound: tuple[tuple[int, str, int], ...]


class CudaRunner:
    """Steps that begin one after the other."""

    def __init__(self, device: CudaDevice, job: Job) -> None:
        self._device = device
        self._given: dict[str, CudaBlock] = {}
        self._launches = [self._launch(step, job) for step in job.steps]

    def _launch(self, step: Step, job: Job) -> Launch:
        image = self._device.code.image(step.kernel)
        values, bound = [], []
        for i, (_, value) in enumerate(step.arguments):
            size = 8 if i < image.addresses else 4
            assert size == 8 or isinstance(value, int), f"{step.kernel.family}: an address where a size is meant"
            if isinstance(value, Ref) and value.buffer in job.bound:
                bound.append((i, value.buffer, value.offset))
                values.append((size, 0))
            else:
                values.append((size, job.where(value) if isinstance(value, Ref) else value))
        function = self._device.function(step.kernel)
        return Launch(function, step.chunks, image.threads, image.shared, values, tuple(bound))

    def bind(self, arrays: Mapping[str, Array]) -> None:
        """Copy the inputs: to memory that stays, so that addresses do."""
        moved = False
        for name, array in arrays.items():
            block = self._given.get(name)
            if block is None or block.nbytes != array.nbytes:
                self._given[name] = block = self._device.block(array.nbytes)
                moved = True
            block.write(array)
        if moved:
            for launch in self._launches:
                for i, name, offset in launch.bound:
                    launch.arguments[i] = (8, self._given[name].address + offset)

    def __call__(self) -> None:
        driver = self._device.driver
        for launch in self._launches:
            driver.launch(launch.function, launch.grid, launch.threads, launch.shared, launch.arguments)
        driver.synchronize()
