"""From windows that tables say to launches of their maxima. Nothing here imports Numba."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import Kernel
from ..launches import Launch, Shape, blocks, divide, divisor, split
from ..target import Target

UNEVEN_ARGUMENTS = (
    "rows", "per_chunk", "depth", "height", "width", "out_depth", "out_height", "out_width",
    "depth_windows", "height_windows", "width_windows", "x", "dy", "y",
)  # fmt: skip
FAR = float(2**24)  # from a window's first pixel, behind all that float32 can number
Windows = tuple[Any, Any]  # of an axis, for each window: where it begins, and of how many pixels it is
WHOLE: Windows = (np.zeros(1, np.int64), np.ones(1, np.int64))  # a missing axis


def plan_uneven(target: Target, shape: Shape, blocked: bool, windows: Sequence[Windows], what: str) -> Launch:
    """Windows over x [N, C, *size], blocked or plain, of one to three axes, none of them empty.

    what: "value", y is the maxima (there is no dy); "gradient", dy of the windows becomes y like x: where the first maximum
    was; "pick", y of the windows is what dy, which is like x, has there.
    """
    if all(len(first) == 1 and count[0] == n for n, (first, count) in zip(shape[2:], windows, strict=True)):
        pixels = math.prod(shape[2:])  # as a row
        shape, windows = (*shape[:2], pixels), [(np.zeros(1, np.int64), np.full(1, pixels))]
    size, axes = [1] * (5 - len(shape)) + list(shape[2:]), [WHOLE] * (3 - len(windows)) + list(windows)
    out = [len(first) for first, _ in axes]
    planes = shape[0] * (blocks(shape[1], target) if blocked else shape[1])
    most = [int(np.max(count, initial=1)) for _, count in axes]
    taps = math.prod(most)
    rows, gradient = planes * out[0] * out[1], what == "gradient"
    work = out[2] * taps * (target.lanes if blocked else 4)
    per_chunk = divisor(rows // max(1, shape[0]), max(1, divide(rows, split(rows * work, 8192, 128)))) if rows else 1
    names = ("depth", "height", "width")
    numbers = {"rows": rows, "per_chunk": per_chunk, **dict(zip(names, size, strict=True))}
    if what == "value":
        numbers["dy"] = 0
    numbers |= {f"out_{name}": n for name, n in zip(names, out, strict=True)}
    tables = {f"{name}_windows": np.stack(pair, 1).ravel() for name, pair in zip(names, axes, strict=True)}
    parameters: dict[str, object] = {"blocked": blocked, "what": what}
    if not blocked and ((most[0] - 1) * size[1] + most[1] - 1) * size[2] + most[2] < FAR:
        parameters["across"] = True
    launch = Launch.of(Kernel("uneven_max", tuple(parameters.items())), UNEVEN_ARGUMENTS, numbers, tables)
    return launch.cut((planes if gradient else divide(rows, per_chunk)) if math.prod(shape) else 0, links=shape[0])
