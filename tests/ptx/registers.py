"""Types of PTX, and registers: an array over all threads of the blocks that run together, or of one number where all have the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tests.ptx.machine import Run

Array = np.ndarray[Any, Any]
Active = Array | None  # which threads take part; None: all
Reader = Callable[["Run"], Array]
Writer = Callable[["Run", Array, Active], None]
Step = Callable[["Run", Active], None]

DTYPES: dict[str, Any] = {"pred": np.bool_, "f16": np.float16, "f32": np.float32, "f64": np.float64}
DTYPES |= {
    f"{letter}{8 * size}": np.dtype(f"{'i' if letter == 's' else 'u'}{size}")
    for letter in "bus"
    for size in (1, 2, 4, 8)
}
DTYPES = {name: np.dtype(dtype) for name, dtype in DTYPES.items()}


def as_type(value: Array, wanted: np.dtype[Any]) -> Array:
    """The bits of a register as another type: of the same size, or the lowest of them."""
    if value.dtype == wanted:
        return value
    if value.dtype.itemsize == wanted.itemsize:
        return value.view(wanted)
    assert value.dtype.itemsize > wanted.itemsize, f"{value.dtype} has not the bits of {wanted}"
    return value.view(f"u{value.dtype.itemsize}").astype(f"u{wanted.itemsize}").view(wanted)
