"""Memory of large results, which kernels write where the caller reads them. What the caller lets go of is used again: new
memory costs more than most layers, since the system clears it page by page.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from cnnc.lowering.target import Array
from cnnc.runtime.device import aligned_empty


class Results:
    """Arrays of one size for one result after the other. One that is free is kept: a caller who puts a result into the name of
    the last one has two of them in turn.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._free: list[Array] = []
        self._held: dict[int, tuple[weakref.ref[Array], Array]] = {}

    def take(self) -> Array:
        """uint8[size], whatever it holds. It comes back when neither it nor a view of it is left."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = aligned_empty(self._size, asked=True)
        # views of an array on a buffer keep that array, not what lies behind the buffer
        array: Array = np.frombuffer(memory.data, np.uint8)
        held = weakref.ref(array, self._back)
        self._held[id(held)] = held, memory
        return array

    def _back(self, gone: weakref.ref[Any]) -> None:
        _, memory = self._held.pop(id(gone))
        if not self._free:
            self._free.append(memory)
