"""Results along an axis that are weighted sums of neighboring values: interpolation, averages over uneven windows, and the
transposed of each, which is its gradient. Over several axes they are taken one axis after the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

CUBIC = -0.75  # Keys' parameter, as PyTorch and ONNX have it
TAPS = {"nearest": 1, "bilinear": 2, "bicubic": 4}


@dataclass(frozen=True)
class Bands:
    """y[o] = sum over t < count[o] of weight[o, t] * x[first[o] + t], of `size` values x; weights [len(y), most]."""

    size: int
    first: Integers
    count: Integers
    weight: Floats

    @staticmethod
    def of(size: int, results: int, result: Integers, value: Integers, weight: Floats, least: int = 0) -> Bands:
        """From triples of a result, a value that it reads and by what weight; weights of one pair are added up. Each reads
        `least` values, if there are as many: those of weight 0 too.
        """
        first, last = np.full(results, size), np.full(results, -1)
        np.minimum.at(first, result, value)
        np.maximum.at(last, result, value)
        count = np.maximum(last - first + 1, min(least, size))
        first = np.minimum(first, size - count)
        weights = np.zeros((results, int(count.max(initial=0))))
        np.add.at(weights, (result, value - first[result]), weight)
        return Bands(size, np.where(count > 0, first, 0), count, weights)

    @property
    def transposed(self) -> Bands:
        """x[i] = sum over o of weight[o, i] * y[o]."""
        result, tap = np.nonzero(self.weight)
        return Bands.of(len(self.first), self.size, self.first[result] + tap, result, self.weight[result, tap])

    def apply(self, x: Any, axis: int) -> Any:
        """The results along an axis of x."""
        shape = [1] * x.ndim
        shape[axis] = len(self.first)
        y: Any = np.zeros([len(self.first) if i == axis else n for i, n in enumerate(x.shape)])
        for t in range(self.weight.shape[1]):
            there = (t < self.count).reshape(shape)
            values = x.take(np.where(t < self.count, self.first + t, 0), axis)
            y += np.where(there, self.weight[:, t].reshape(shape) * np.where(there, values, 0), 0)
        return y


def apply(bands: Sequence[Bands], x: Any) -> Any:
    """Over the axes of space of x [N, C, ...]."""
    x = np.asarray(x, np.float64)
    for axis, one in enumerate(bands):
        x = one.apply(x, axis + 2)
    return x


def averages(size: int, results: int) -> Bands:
    """Windows from floor(o * size / results) to ceil((o + 1) * size / results): they cover all values, and may overlap."""
    o = np.arange(results)
    first, last = o * size // results, -(-(o + 1) * size // results)
    count = last - first
    inside = np.arange(int(count.max(initial=0))) < count[:, None]
    return Bands(size, first, count, np.where(inside, 1 / count[:, None], 0.0))


# ------------------------------------------------------------------------------------------------ interpolation

Coordinate = Callable[[Floats, float, int, int], Floats]  # of results, values to a result, how many there are of both
COORDINATES: dict[str, Coordinate] = {
    "asymmetric": lambda o, scale, size, results: o * scale,
    "half_pixel": lambda o, scale, size, results: (o + 0.5) * scale - 0.5,
    "pytorch_half_pixel": lambda o, scale, size, results: (o + 0.5) * scale - 0.5 if results > 1 else o * 0,
    "align_corners": lambda o, scale, size, results: o * ((size - 1) / (results - 1) if results > 1 else 0),
}
ROUNDINGS: dict[str, Callable[[Any], Any]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
}


def _cubic(distance: Floats) -> Floats:
    """Keys, "Cubic convolution interpolation for digital image processing" (1981), equation 15."""
    d, a = np.abs(distance), CUBIC
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def interpolation(size: int, results: int, mode: str, corners: str, rounding: str, factor: float | None) -> Bands:
    """The values that each result lies between, and their weights. Values beyond the ends are those at the ends.

    mode: of `TAPS`; corners: where results lie, of `COORDINATES`; rounding: of the nearest, of `ROUNDINGS`; factor: results
    to a value where that is not their number over the values'. PyTorch's two kinds of nearest are found in float32, as there.
    """
    o, scale = np.arange(results, dtype=np.float64), size / results if factor is None else 1 / factor
    if mode == "nearest":
        shift = {("asymmetric", "floor"): 0, ("half_pixel", "round_prefer_ceil"): 0.5}.get((corners, rounding))
        if shift is not None:  # PyTorch's two
            nearest = np.floor((np.float32(o) + np.float32(shift)) * np.float32(scale))
        else:
            nearest = ROUNDINGS[rounding](COORDINATES[corners](o, scale, size, results))
        first = np.clip(nearest, 0, size - 1).astype(np.int64)
        return Bands(size, first, np.ones(results, np.int64), np.ones((results, 1)))
    at, taps = COORDINATES[corners](o, scale, size, results), TAPS[mode]
    below = np.floor(at)
    result = np.repeat(np.arange(results), taps)
    value = np.repeat(below, taps) + np.tile(np.arange(taps) - (taps // 2 - 1), results)
    distance = np.repeat(at, taps) - value
    weight = _cubic(distance) if mode == "bicubic" else 1 - np.abs(distance)
    return Bands.of(size, results, result, np.clip(value, 0, size - 1).astype(np.int64), weight, taps)


def shrunk(jump: int, size: int, results: int) -> int:
    """Pixels of the input between neighbors, where `size` values with `jump` between them become `results`."""
    return max(1, math.ceil(jump * size / results))
