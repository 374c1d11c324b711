"""Memory that is the host's own: arrays, which kernels are told the addresses of."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnc.lowering.target import Array
from cnnc.runtime import room

LARGE = 2 << 20  # bytes of a large page


def aligned_empty(size: int, asked: bool = False) -> Array:
    """uint8[size] at the start of a cache line, or of a large page where it fills some: NumPy asks for those. Raises
    `CnncError` (E0410, exit code 5) where there is no memory for it. asked: whether that was seen before.
    """
    if not asked:
        room.check(size)
    alignment = LARGE if size >= 2 * LARGE else 64
    try:
        raw = np.empty(size + alignment, np.uint8)
    except (MemoryError, ValueError):
        raise room.refused(size) from None
    start = -raw.ctypes.data % alignment
    return raw[start : start + size]


_BYTE: Any = ctypes.c_char.from_buffer


def address(array: Array) -> int:
    """Where the numbers of a contiguous array lie: `array.ctypes.data` in a fifth of its time, where they may be written."""
    try:
        return ctypes.addressof(_BYTE(array))
    except (TypeError, ValueError):  # read-only, or empty
        return int(array.ctypes.data)


class HostBlock:
    """Memory of a contiguous array. Pickled, it is a copy of its own, at a cache line's start again."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self.address, self.nbytes = address(array), array.nbytes

    @property
    def _bytes(self) -> Array:
        return self.array.reshape(-1).view(np.uint8)

    def part(self, offset: int, size: int) -> HostBlock:
        return HostBlock(self._bytes[offset : offset + size])

    def write(self, array: Array) -> None:
        self.read(array.dtype, array.shape)[...] = array

    def read(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        """The memory itself as an array."""
        size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        return self._bytes[:size].view(dtype).reshape(shape)

    def reader(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Callable[[], Array]:
        return self.read(dtype, shape).copy

    def __reduce__(self) -> tuple[Callable[[Array], HostBlock], tuple[Array]]:
        return _again, (self._bytes,)


def _again(content: Array) -> HostBlock:
    block = HostBlock(aligned_empty(max(content.nbytes, 1)))
    block.write(content)
    return block


class HostMemory:
    """The memory of a device that runs in the host's: what `lowering/target.py`'s Device says of it."""

    hosted = True

    def block(self, size: int) -> HostBlock:
        return HostBlock(aligned_empty(size))

    def put(self, array: Array) -> HostBlock:
        """The array itself."""
        return HostBlock(array)
