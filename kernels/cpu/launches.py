"""What a planner says of one step, and how work is cut. Nothing here imports Numba."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from . import Kernel
from .target import Target

Shape = tuple[int, ...]
OUTER = 4  # loops around a row, of maps and sums


@dataclass(frozen=True)
class Launch:
    """One step: a kernel, its arguments in order, the number of chunks, the floats of scratch that a worker needs, and
    `links`: the images, where chunks go through them one after the other, as many for each (else 0).

    The argument of a buffer is the number of bytes between the buffer's start and where the kernel begins: its address
    is to be added. `tables` are int64s, whose addresses are arguments too.
    """

    kernel: Kernel
    arguments: Mapping[str, int]
    buffers: tuple[str, ...]
    chunks: int
    scratch: int = 0
    links: int = 0
    tables: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(
        kernel: Kernel, names: Sequence[str], numbers: Mapping[str, int], tables: Mapping[str, Any] | None = None
    ) -> Launch:
        """A step of no chunks yet whose arguments are `names`: what has no number and no table is a buffer."""
        tables = tables or {}
        arguments = {name: numbers.get(name, 0) for name in names}
        assert arguments.keys() >= numbers.keys(), f"{kernel.family}: {sorted(numbers.keys() - arguments.keys())}"
        buffers = tuple(name for name in names if name not in numbers and name not in tables)
        return Launch(kernel, arguments, buffers, 0, tables=tables)

    def cut(self, chunks: int, scratch: int = 0, links: int = 0) -> Launch:
        """The same step in so many chunks."""
        return replace(self, chunks=chunks, scratch=scratch, links=links)


def bits(number: float) -> int:
    """The int64 with the bits of a float64."""
    return int(struct.unpack("<q", struct.pack("<d", number))[0])


def divide(count: int, parts: int) -> int:
    """The size of the largest of as many equal parts as that."""
    return -(-count // parts)


def round_up(count: int, unit: int) -> int:
    return divide(count, unit) * unit


def panels(blocks: int, size: int) -> int:
    """Panels of so many blocks, and those left over, each a panel of its own."""
    return blocks // size + blocks % size


def blocks(channels: int, target: Target) -> int:
    return divide(channels, target.lanes)


def blocked_size(shape: Shape, target: Target) -> int:
    """Floats in a blocked tensor of that logical shape."""
    return shape[0] * blocks(shape[1], target) * target.lanes * math.prod(shape[2:])


def divisor(count: int, most: int) -> int:
    """The largest divisor of `count` that is at most `most`."""
    return max((d for d in range(1, min(count, most) + 1) if count % d == 0), default=1)


def split(total: int, smallest: int, most: int = 64) -> int:
    """The number of chunks for `total` units of work: at most `most`, each at least `smallest`, at least one."""
    return max(1, min(most, total // max(1, smallest)))
