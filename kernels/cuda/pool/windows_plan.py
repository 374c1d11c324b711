"""From a pooling to its launch. Nothing here imports Numba."""

from __future__ import annotations

import math

from ...cpu.launches import Launch, divide
from ...cpu.problem import Pool
from .. import Kernel
from ..conv.implicit_plan import three
from ..target import LANES

THREADS = 128
AXES = "zyx"
SIZES = (
    "total", "area", "plane", "columns", "divisor", *(f"size_{a}" for a in AXES), *(f"out_{a}" for a in AXES),
    *(f"kernel_{a}" for a in AXES), *(f"stride_{a}" for a in AXES), *(f"before_{a}" for a in AXES), *(f"after_{a}" for a in AXES),
    *(f"dilation_{a}" for a in AXES),
)  # fmt: skip


def _numbers(pool: Pool, gradient: bool, divisor: int) -> tuple[dict[str, int], int]:
    size, out = three(pool.shape[2:], 1), three(pool.out_shape[2:], 1)
    target = size if gradient else out  # what threads go through
    channels = divide(pool.shape[1], LANES) * (LANES // 4) if pool.blocked else pool.shape[1]
    total = pool.shape[0] * channels * math.prod(target)
    if pool.shape[0] * channels * max(math.prod(size), math.prod(out)) * 4 >= 2**31:
        raise ValueError("a pooling of more numbers than places of 32 bits")
    numbers = {
        "total": total,
        "area": math.prod(target),
        "plane": target[1] * target[2],
        "columns": target[2],
        "divisor": divisor,
    }
    kinds = {
        "size": size, "out": out, "kernel": three(pool.kernel, 1), "stride": three(pool.stride, 1), "dilation": three(pool.dilation, 1),
        "before": three([p[0] for p in pool.padding], 0), "after": three([p[1] for p in pool.padding], 0),
    }  # fmt: skip
    for name, values in kinds.items():
        numbers |= {f"{name}_{axis}": value for axis, value in zip(AXES, values, strict=True)}
    return numbers, divide(total, THREADS)


def _launch(pool: Pool, what: str, buffers: tuple[str, ...], divisor: int = 0, counts: str = "") -> Launch:
    numbers, chunks = _numbers(pool, what.endswith("gradient"), divisor)
    kernel = Kernel("pool", (("what", what), ("blocked", pool.blocked), ("counts", counts)))
    return Launch.of(kernel, (*buffers, *SIZES), numbers).cut(chunks)


def plan_maxpool(pool: Pool) -> Launch:
    """`y`: the largest number of each window of `x`; NaN where there is one."""
    return _launch(pool, "max", ("x", "y"))


def plan_maxpool_gradient(pool: Pool) -> Launch:
    """`y`, like `x`: the sum of `dy` over the windows whose first largest number, or first NaN, it is."""
    return _launch(pool, "max_gradient", ("x", "dy", "y"))


def _counts(include_pad: bool, divisor: int | None) -> str:
    return "given" if divisor is not None else "padded" if include_pad else "there"


def plan_avgpool(pool: Pool, include_pad: bool, divisor: int | None = None) -> Launch:
    """`y`: the sum of each window of `x` over the numbers that it has: with those of the padding where `include_pad`, and `divisor`
    instead where that is given.
    """
    return _launch(pool, "average", ("x", "y"), divisor or 0, _counts(include_pad, divisor))


def plan_avgpool_gradient(pool: Pool, include_pad: bool, divisor: int | None = None) -> Launch:
    """`y`, like x: the sum over the windows that a number is in of `dy` over their counts."""
    return _launch(pool, "average_gradient", ("dy", "y"), divisor or 0, _counts(include_pad, divisor))
