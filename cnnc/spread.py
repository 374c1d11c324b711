"""How numbers are spread: mean, deviation, range and histogram."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

BINS = 24
SAMPLE = 1 << 20  # numbers of which a histogram is made
BARS = " \u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"  # a line of text, from nothing to full


@dataclass(frozen=True)
class Spread:
    """How numbers are spread: `histogram` counts those of `bins` of one width from `least` to `greatest`, every so many of
    large arrays. The count of what is not finite is `lost`, which the other figures leave out.
    """

    mean: float
    deviation: float
    least: float
    greatest: float
    histogram: tuple[int, ...]
    lost: int = 0

    @staticmethod
    def of(array: np.ndarray[Any, Any]) -> Spread:
        flat = array.reshape(-1)
        finite = np.isfinite(flat)
        lost = int(flat.size - np.count_nonzero(finite))
        if lost:
            flat = flat[finite]
        if not flat.size:
            return Spread(np.nan, np.nan, np.nan, np.nan, (0,) * BINS, lost)
        mean, least, greatest = float(flat.mean(dtype=np.float64)), float(flat.min()), float(flat.max())
        some = flat[:: 1 + flat.size // SAMPLE].astype(np.float64)
        counts, _ = np.histogram(some, BINS, (least, greatest))
        deviation = float(flat.std(dtype=np.float64))
        return Spread(mean, deviation, least, greatest, tuple(int(c) for c in counts), lost)

    def heights(self) -> list[float]:
        """Of the histogram's bars, 0 to 1: roots of counts, so that few beside many are seen."""
        most = max(self.histogram)
        return [math.sqrt(c / most) if most else 0.0 for c in self.histogram]

    def line(self) -> str:
        """The histogram as a line of text, two bins a sign."""
        pairs = [max(pair) for pair in zip(self.heights()[::2], self.heights()[1::2], strict=True)]
        return "".join(BARS[math.ceil(h * (len(BARS) - 1))] for h in pairs)

    def to_json(self) -> dict[str, Any]:
        numbers = {k: getattr(self, k) for k in ("mean", "deviation", "least", "greatest")}
        finite = {k: v if math.isfinite(v) else None for k, v in numbers.items()}
        return {**finite, "histogram": list(self.histogram), "not_finite": self.lost}
