"""From windows of plain tensors to launches that take a vector of windows at a time. Nothing here imports Numba."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import Kernel
from ..launches import Launch, Shape, divide, divisor, split
from ..target import Target
from .bands_plan import NEAR, floats, picks
from .uneven_plan import FAR, WHOLE, Windows

ACROSS_ARGUMENTS = (
    "rows", "per_chunk", "depth", "height", "width", "out_depth", "out_height", "out_width", "groups", "most",
    "spread_groups", "options", "depth_windows", "height_windows", "width_places", "spread_places", "spread_taps",
    "x", "dy", "y",
)  # fmt: skip
UNROLLED = 4  # taps of a row of a window, or windows around a pixel, at most


def _places(base: np.ndarray, relative: np.ndarray) -> np.ndarray:
    return np.concatenate([base, floats(relative.view(np.float32))])


def _holding(size: int, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """For each of `size` pixels the windows that hold it, and which of their taps it is, from 1 on; -2 FAR where there are fewer."""
    first, count = windows
    some = [np.flatnonzero((first <= i) & (i < first + count)) for i in range(size)]
    options = max([1, *map(len, some)])
    holding, tap = np.zeros((size, options), np.int64), np.full((size, options), -2 * FAR)
    for i, own in enumerate(some):
        holding[i, : len(own)], tap[i, : len(own)] = own, i - first[own] + 1
        holding[i, len(own) :] = own[0] if len(own) else 0
    return holding, tap


def _fits(out: int, taps: Sequence[int], lanes: int) -> bool:
    """Whether a row of so many windows rather takes a vector of them than one window at a time, a vector of its pixels."""
    alone = math.prod(taps[:2]) * divide(taps[2], lanes) * 5 + 60
    return math.prod(taps) < FAR and divide(out, lanes) * math.prod(taps) * 8 <= out * alone


def plan_across(target: Target, shape: Shape, windows: Sequence[Windows], what: str) -> Launch | None:
    """As `plan_uneven` of plain tensors; None where windows are empty or wide, and where those of a vector lie far apart."""
    lanes, gradient = target.lanes, what == "gradient"
    size, axes = [1] * (5 - len(shape)) + list(shape[2:]), [WHOLE] * (3 - len(windows)) + list(windows)
    out = [len(first) for first, _ in axes]
    taps = [int(np.max(count, initial=1)) for _, count in axes]
    empty = math.prod(shape) == 0 or any(np.min(count, initial=1) < 1 for _, count in axes)
    if empty or not _fits(out[2], taps, lanes):
        return None
    first, count = axes[2]
    # A tap that a smaller window lacks is its last once more, which changes no maximum and not where it was first.
    base, relative, near = picks(first[:, None] + np.minimum(np.arange(taps[2]), count[:, None] - 1), size[2], lanes)
    holding, tap = _holding(size[2] if gradient else 1, axes[2])
    spread, spread_relative, back = picks(holding, out[2], lanes)
    shuffles = target.name in ("avx512", "avx2")
    if shuffles and 0 in (near, back):
        return None
    options = tap.shape[1]
    padded = np.arange(len(spread) * lanes).clip(max=len(tap) - 1)
    tables = {
        "depth_windows": np.stack(axes[0], 1).ravel(), "height_windows": np.stack(axes[1], 1).ravel(),
        "width_places": _places(base, relative), "spread_places": _places(spread, spread_relative),
        "spread_taps": floats(tap[padded].reshape(len(spread), lanes, options).transpose(0, 2, 1)),
    }  # fmt: skip
    rows = shape[0] * shape[1] * (1 if gradient else out[0] * out[1])
    work = out[2] * math.prod(taps) * 2 * (out[0] * out[1] if gradient else 1)
    per_chunk = divisor(rows // shape[0], max(1, divide(rows, split(rows * work, 8192, 128))))
    numbers = {
        "rows": rows, "per_chunk": per_chunk, "depth": size[0], "height": size[1], "width": size[2],
        "out_depth": out[0], "out_height": out[1], "out_width": out[2], "groups": len(base), "most": taps[2],
        "spread_groups": len(spread), "options": options, **({"dy": 0} if what == "value" else {}),
    }  # fmt: skip
    parameters = {
        "what": what, "taps": taps[2] if taps[2] <= UNROLLED else 0, "near": near if shuffles else 0,
        "options": (options if options <= UNROLLED else 0) if gradient else 1,
        "back": back if shuffles and gradient else 0,
    }  # fmt: skip
    launch = Launch.of(Kernel("max_across", tuple(parameters.items())), ACROSS_ARGUMENTS, numbers, tables)
    return launch.cut(rows // per_chunk, scratch=2 * (len(base) + NEAR) * lanes, links=shape[0])
