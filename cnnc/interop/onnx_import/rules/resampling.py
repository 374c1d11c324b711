"""Resizing as products of matrices: each axis by itself, for the forms of Resize that no layer has. A row of a matrix has what
its pixel takes of the pixels before (https://onnx.ai/onnx/operators/onnx__Resize.html).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Axis:
    """An axis that is resized: its sizes before and after, the exact factor, and begin and end of its box, in shares."""

    size: int
    out: int
    factor: float
    begin: float = 0.0
    end: float = 1.0


@dataclass(frozen=True)
class Form:
    """How pixels are found and what they are made of, in ONNX's words. cubic: the coefficient a of cubics."""

    mode: str
    coordinates: str
    rounding: str = "round_prefer_floor"
    cubic: float = -0.75
    antialias: bool = False
    exclude_outside: bool = False


def _symmetric(a: Axis, at: Array) -> Array:
    """Half pixels, moved so that what the sizes' rounding cuts off is cut on both sides."""
    middle = a.size / 2 * (1 - a.out / (a.factor * a.size))
    return middle + (at + 0.5) / a.factor - 0.5


def _box(a: Axis, at: Array) -> Array:
    if a.out == 1:
        return np.array([(a.begin + a.end) / 2 * (a.size - 1)])
    return a.begin * (a.size - 1) + at * (a.end - a.begin) * (a.size - 1) / (a.out - 1)


COORDINATES: dict[str, Callable[[Axis, Array], Array]] = {
    "half_pixel": lambda a, at: (at + 0.5) / a.factor - 0.5,
    "half_pixel_symmetric": _symmetric,
    "pytorch_half_pixel": lambda a, at: (at + 0.5) / a.factor - 0.5 if a.out > 1 else 0 * at,
    "align_corners": lambda a, at: at * (a.size - 1) / max(1, a.out - 1),
    "asymmetric": lambda a, at: at / a.factor,
    "tf_crop_and_resize": _box,
}
ROUNDED: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _linear(distance: Array, a: float) -> Array:
    result: Array = np.maximum(0, 1 - distance)
    return result


def _cubic(d: Array, a: float) -> Array:
    """Keys, "Cubic convolution interpolation for digital image processing" (1981), with the coefficient a."""
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    result: Array = np.where(d <= 1, near, np.where(d < 2, far, 0))
    return result


def matrix(axis: Axis, form: Form) -> Array:
    """[out, size], float64."""
    at = COORDINATES[form.coordinates](axis, np.arange(axis.out, dtype=np.float64))
    result = np.zeros((axis.out, axis.size))
    rows = np.arange(axis.out)
    if form.mode == "nearest":
        result[rows, np.clip(ROUNDED[form.rounding](at), 0, axis.size - 1).astype(int)] = 1
        return result
    kernel, reach = (_cubic, 2) if form.mode == "cubic" else (_linear, 1)
    shrink = min(1.0, axis.factor) if form.antialias else 1.0
    wide = math.ceil(reach / shrink)
    taps = np.floor(at)[:, None] + np.arange(1 - wide, 1 + wide)
    shares = kernel(np.abs(at[:, None] - taps) * shrink, form.cubic)
    if form.exclude_outside:
        shares = np.where((taps >= 0) & (taps < axis.size), shares, 0)
    shares /= shares.sum(1, keepdims=True)
    np.add.at(result, (rows[:, None], np.clip(taps, 0, axis.size - 1).astype(int)), shares)
    return result


def outside(axis: Axis) -> Array:
    """Which pixels of a box lie outside of the image."""
    at = _box(axis, np.arange(axis.out, dtype=np.float64))
    return (at < 0) | (at > axis.size - 1)
