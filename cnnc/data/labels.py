"""What there is to learn of each sample of a data set: its class, the class of each place, or numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc.diagnostics import error

Labels = NDArray[Any]  # int64 class indices, or float32 numbers


@dataclass(frozen=True)
class Form:
    """What there is to learn of each sample: class indices ("i64"), one or one for each place, or numbers ("f32")."""

    shape: tuple[int, ...] = ()
    dtype: str = "i64"

    def __str__(self) -> str:
        what = "class indices" if self.dtype == "i64" else "numbers"
        return f"{what} [{', '.join(map(str, ('n', *self.shape)))}]"


INDICES = Form()


def labels_of(y: NDArray[Any], count: int, name: str, form: Form) -> Labels:
    """Class indices or numbers, as a form has them. Raises `CnncError` (E0628, E0629)."""
    if y.ndim == len(form.shape) + 2 and y.shape[-1] == 1:
        y = y[..., 0]
    if form.shape == (1,) and y.ndim == 1:
        y = y[:, None]
    if form == INDICES and y.ndim == 2 and y.shape[1] > 1 and len(y) == count:
        raise error(
            "E0628",
            f"{name} is {list(y.shape)}; labels are class indices [n]",
            exit_code=3,
            help="for one-hot labels save y.argmax(1), or train with cross_entropy(soft=true)",
        )
    if y.shape != (count, *form.shape):
        wanted = "" if form == INDICES else f"; the loss reads {form}"
        raise error("E0628", f"{name} is {list(y.shape)} for {count} samples{wanted}", exit_code=3)
    if form.dtype == "f32":
        with np.errstate(over="ignore"):
            numbers = np.ascontiguousarray(y, np.float32)
        if not np.isfinite(numbers).all():
            raise error("E0629", f"{name} has numbers that are not finite in float32", exit_code=3)
        return numbers
    if y.dtype.kind == "f" and not (np.all(np.isfinite(y)) and np.array_equal(y, np.rint(y))):
        raise error("E0629", f"{name} has labels that are not whole numbers", exit_code=3)
    if y.dtype.kind == "u" and len(y) and int(y.max()) > 2**31:
        raise error("E0629", f"{name} has the label {int(y.max())}", exit_code=3)
    return y.astype(np.int64)
