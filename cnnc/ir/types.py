"""The type of a value: element type, shape with a symbolic batch, and memory layout."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Dim = int | str  # the one symbol is BATCH
BATCH = "N"
DTYPES: dict[str, np.dtype[Any]] = {
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
}
ELEMENTS = 2**45  # of one image's tensor, below: the bytes that a process can address are fewer
PLAIN = {3: "ncw", 4: "nchw", 5: "ncdhw"}  # rank -> row-major layout of an activation
WEIGHTS = {3: "oiw", 4: "oihw", 5: "oidhw"}  # rank -> row-major layout of a convolution's weights
_BLOCKED = re.compile(r"(ncw|nchw|ncdhw)(2|4|8|16|32|64)c")


@dataclass(frozen=True, slots=True)
class TensorType:
    """`f32[N,64,56,56] nchw16c`. The shape is the logical one whatever the layout: a blocked layout pads channels in
    memory only.
    """

    dtype: str
    shape: tuple[Dim, ...]
    layout: str | None = None

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]" + (f" {self.layout}" if self.layout else "")

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape of a type whose batch is bound."""
        return tuple(int(d) for d in self.shape)

    @property
    def elements(self) -> int:
        """How many numbers a tensor of one image holds."""
        return product(self.concrete(1))

    @property
    def block(self) -> int:
        """Channels to a block in memory; 1 when the layout is plain, or no layout of this rank."""
        match = _BLOCKED.fullmatch(self.layout or "")
        return int(match[2]) if match and match[1] == PLAIN.get(self.rank) else 1

    def with_layout(self, layout: str | None) -> TensorType:
        return replace(self, layout=layout)

    def concrete(self, batch: int) -> tuple[int, ...]:
        """The logical shape at a batch size."""
        return tuple(batch if d == BATCH else int(d) for d in self.shape)

    def memory_shape(self, batch: int) -> tuple[int, ...]:
        """The shape in memory at a batch size: channel blocks and lanes are axes of their own."""
        shape = self.concrete(batch)
        if self.block == 1:
            return shape
        return (shape[0], -(-shape[1] // self.block), *shape[2:], self.block)

    def bytes(self, batch: int) -> int:
        size = DTYPES[self.dtype].itemsize
        for d in self.memory_shape(batch):
            size *= d
        return size


def activation(shape: tuple[Dim, ...], dtype: str = "f32", layout: str | None = None) -> TensorType:
    """The type of an activation: plain layout unless another is given."""
    return TensorType(dtype, shape, layout or PLAIN.get(len(shape)))


def blocked(type: TensorType, lanes: int) -> str:
    """The name of the blocked layout of an activation's rank: `nchw16c`."""
    return f"{PLAIN[type.rank]}{lanes}c"


def product(dims: tuple[int, ...]) -> int:
    result = 1
    for d in dims:
        result *= d
    return result
