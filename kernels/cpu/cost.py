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


@dataclass(frozen=True)
class Winograd:
    """Of Winograd's convolution, measured with AVX-512.

    rate, direct: operations per microsecond of its register tile, and of the direct convolution. streamed, memory: bytes of
    weights per microsecond from the caches behind the second, and from memory, where the rest of a network has sent them by the
    next call. forward, backward: microseconds for the transforms of one tile and block of channels with 36 points, to V and from
    M; chunk: for a chunk. packed_direct, packed, packed_point: for packing 16 x 16 weights of 3 x 3 taps for the direct
    convolution, for transforming them, and that for each point. visible: the part of the shorter of computing and streaming that
    is not hidden behind the longer. uneven: at a step's end each worker waits for the others, for this part of a chunk.
    near_weights, near: bytes of weights, and of V and M, that stay in the second level cache. V is at most `most`, or as many
    bytes as one `part`-th of the weights.
    """

    rate: float = 155e3
    direct: float = 160e3
    streamed: float = 25e3
    memory: float = 18e3
    forward: float = 0.12
    backward: float = 0.07
    chunk: float = 0.5
    packed_direct: float = 4.0
    packed: float = 4.5
    packed_point: float = 0.15
    visible: float = 0.35
    uneven: float = 0.25
    near_weights: int = 1 << 20
    near: int = 5 << 18
    most: int = 4 << 20
    part: int = 8


WINOGRAD = Winograd()


@dataclass(frozen=True)
class WinogradGradient:
    """Of Winograd's weight gradient.

    rate, direct: operations per microsecond of the register tile, and of the direct gradient. near_rate, far_rate: bytes per
    microsecond that V, dM and dU move at when they are within `near` bytes, and when they are not. Microseconds for 36 points,
    forward: of a tile and block of channels to V; spread: to dM; inverse: of a vector of dU to dW.
    """

    rate: float
    direct: float
    near: int
    near_rate: float
    far_rate: float
    forward: float
    spread: float
    inverse: float


WINOGRAD_GRADIENT = {
    "avx512": WinogradGradient(150e3, 130e3, 5 << 18, 60e3, 20e3, 0.12, 0.1, 0.08),
    "avx2": WinogradGradient(90e3, 85e3, 3 << 17, 60e3, 20e3, 0.07, 0.06, 0.06),
    "sse2": WinogradGradient(24e3, 24e3, 3 << 17, 60e3, 30e3, 0.08, 0.07, 0.06),
    "neon": WinogradGradient(48e3, 48e3, 3 << 17, 40e3, 20e3, 0.08, 0.07, 0.06),
}
# Bytes per microsecond of the parts' dw, from whatever cache or memory they are in; of the dw that the direct gradient writes
# tap by tap. Microseconds for a chunk.
SHARED, SCATTERED, CHUNK = 10e3, 4.5e3, 0.5


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
