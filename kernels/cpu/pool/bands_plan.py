"""From sums over neighboring values, whose weights are tables, to launches. Nothing here imports Numba."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import Kernel
from ..launches import Launch, Shape, blocks, divide, divisor, split
from ..target import Target

BANDS_ARGUMENTS = (
    "rows", "per_chunk", "depth", "height", "width", "out_depth", "out_height", "out_width", "groups", "most",
    "depth_places", "depth_weights", "height_places", "height_weights", "width_places", "width_weights", "x", "y",
)  # fmt: skip
NEAR = 4  # vectors of a row at most that a vector of results is picked from


@dataclass(frozen=True)
class Band:
    """y[o] = sum over t < count[o] of weight[o, t] * x[first[o] + t] of `size` values x; weight is [len(first), most]."""

    size: int
    first: Any
    count: Any
    weight: Any

    @property
    def results(self) -> int:
        return len(self.first)

    @property
    def most(self) -> int:
        return int(self.weight.shape[1])

    @property
    def taps(self) -> int:
        """How many values every result is made of, 0 where they differ or are many."""
        return self.most if self.most in (1, 2, 4) and bool((self.count == self.most).all()) else 0

    @property
    def chosen(self) -> bool:
        """Whether each result is one of the values."""
        return self.taps == 1 and bool((self.weight == 1).all())


WHOLE = Band(1, np.zeros(1, np.int64), np.ones(1, np.int64), np.ones((1, 1)))  # a missing axis


def floats(values: Any) -> Any:
    """float32 numbers as a table of int64, two in each."""
    flat = np.asarray(values, np.float32).ravel()
    return np.append(flat, np.zeros(len(flat) % 2, np.float32)).view(np.int64)


def _along(band: Band) -> tuple[Any, Any]:
    """The tables of an axis: for each result the first value and the first weight, and behind the last one their number."""
    inside = np.arange(band.most) < np.asarray(band.count)[:, None]
    starts = np.concatenate([[0], np.cumsum(band.count)])
    places = np.stack([np.append(band.first, 0), starts], 1)
    return places.ravel().astype(np.int64), floats(np.asarray(band.weight)[inside])


def picks(at: Any, size: int, lanes: int) -> tuple[Any, Any, int]:
    """For vectors of results, each made of the values `at` [results, taps] of `size` (-1: none): where the first vector of
    values begins, the values' places from there [groups, taps, lanes], int32, and how many vectors hold them (0: more than
    `NEAR`).
    """
    groups = divide(len(at), lanes)
    at = np.asarray(at)[np.arange(groups * lanes).clip(max=len(at) - 1)].reshape(groups, lanes, -1)
    lowest = np.where(at >= 0, at, size).min((1, 2), initial=size)
    lowest = np.where(lowest == size, 0, lowest)
    reach = divide(int((at.max((1, 2), initial=-1) - lowest).max(initial=0)) + 1, lanes)
    near = reach if reach <= NEAR else 0
    base = lowest if near else np.zeros(groups, np.int64)
    return base, np.where(at >= 0, at - base[:, None, None], -1).transpose(0, 2, 1).astype(np.int32), near


def _lanes(band: Band, lanes: int) -> tuple[Any, Any, int]:
    """The tables of a row of plain results, a vector of them after the other, and how many vectors of the row hold what
    one is made of (0: more than `NEAR`). Places: where these vectors begin, then for each tap int32 from there, -1 where a
    result has no such tap.
    """
    there = np.arange(band.most) < np.asarray(band.count)[:, None]
    base, relative, near = picks(
        np.where(there, np.asarray(band.first)[:, None] + np.arange(band.most), -1), band.size, lanes
    )
    padded = np.arange(len(base) * lanes).clip(max=band.results - 1)
    weights = np.where(there, band.weight, 0)[padded].reshape(len(base), lanes, band.most).transpose(0, 2, 1)
    return np.concatenate([base, floats(relative.view(np.float32))]), floats(weights), near


def plan_bands(target: Target, shape: Shape, blocked: bool, bands: Sequence[Band]) -> Launch:
    """y [N, C, *out] of x [N, C, *size], both blocked or both plain, over one to three axes of space."""
    lanes = target.lanes
    deep, tall, wide = (*[WHOLE] * (3 - len(bands)), *bands)
    images, planes = shape[0], shape[0] * (blocks(shape[1], target) if blocked else shape[1])
    rows, unit = planes * deep.results * tall.results, lanes if blocked else 1
    parameters: dict[str, object] = {"blocked": blocked, "rows": "chosen" if deep.chosen and tall.chosen else "sums"}
    tables = dict(zip(("depth_places", "depth_weights"), _along(deep), strict=True))
    tables |= dict(zip(("height_places", "height_weights"), _along(tall), strict=True))
    if blocked:
        tables |= dict(zip(("width_places", "width_weights"), _along(wide), strict=True))
        parameters |= {"taps": wide.taps, "near": 0}
    else:
        places, weights, near = _lanes(wide, lanes)
        tables |= {"width_places": places, "width_weights": weights}
        near = near if target.name in ("avx512", "avx2") else 0
        parameters |= {"taps": wide.taps, "near": near}
    parameters["chosen"] = wide.chosen
    work = unit * max(wide.results * max(wide.most, 1), wide.size * deep.most * tall.most)
    per_image = rows // max(1, images)
    per_chunk = divisor(per_image, max(1, divide(rows, split(rows * work, 8192, 128)))) if rows else 1
    numbers = {
        "rows": rows, "per_chunk": per_chunk, "depth": deep.size, "height": tall.size, "width": wide.size,
        "out_depth": deep.results, "out_height": tall.results, "out_width": wide.results,
        "groups": divide(wide.results, lanes), "most": wide.most,
    }  # fmt: skip
    launch = Launch.of(Kernel("bands", tuple(parameters.items())), BANDS_ARGUMENTS, numbers, tables)
    chunks = divide(rows, per_chunk) if math.prod(shape) * rows else 0
    return launch.cut(chunks, scratch=(wide.size * unit + NEAR * lanes), links=images)
