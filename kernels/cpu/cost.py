"""What the cost models assume of a core, and the search for the cut of the least time.

Times are in microseconds. The rates were measured on two cores with AVX-512; only their ratios matter, and the target's pace says
how bytes move elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from .launches import divide

T = TypeVar("T")


@dataclass(frozen=True)
class Speeds:
    """Per microsecond: operations, or multiply-adds of a lane where a planner counts those; bytes that are copied; bytes of
    weights, and of what does not stay near. And the microseconds of a chunk.
    """

    compute: float
    copied: float
    streamed: float
    chunk: float = 0.5


# Of the forms of the direct convolution and its gradients.
ROWS = Speeds(200e3, 10e3, 30e3)
BANDS = Speeds(180e3, 10e3, 30e3)
MATRIX = Speeds(6e3, 10e3, 30e3)
PIXEL_GRADIENT = Speeds(90e3, 10e3, 10e3, 2)
# Of a 1x1 convolution with the depthwise one behind it: bytes that another core wrote come in place of those copied.
EXPANDED = Speeds(6e3, 25e3, 30e3)


def total(chunks: int, time: float, workers: Sequence[int]) -> float:
    """The core time of so many chunks that take a time each, summed over numbers of workers."""
    return sum(divide(chunks, count) * count * time for count in workers)


def parts(count: int, most: int = 64) -> list[int]:
    """The sizes of the parts that `count` is cut into, the largest first."""
    return sorted({divide(count, n) for n in range(1, min(count, most) + 1)}, reverse=True)


def least(cuts: Iterable[T], time: Callable[[T], float], otherwise: T) -> T:
    """The first cut of the least time; `otherwise` where none has any."""
    best, choice = math.inf, otherwise
    for cut in cuts:
        estimate = time(cut)
        if estimate < best:
            best, choice = estimate, cut
    return choice
