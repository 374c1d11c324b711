"""What the cost models assume of this machine, from what was measured on it (`machine.py`)."""

from __future__ import annotations

import math

from cnnc.backends.cpu.machine import Cache
from cnnc.kernels.cpu.target import Pace, Target
from cnnc.lowering.figures import Figures, Level

# The machine that the models' constants were measured on: GFLOP/s of a core with AVX-512, and GB/s that reach it from the
# caches behind its own and from memory while all cores read.
PEAK, SHARED, MEMORY = 237.0, 110.0, 30.0
SLOWEST, FASTEST = 1 / 8, 4.0
SMALLEST, LARGEST = 0.5, 2.0  # own cache


def step(ratio: float, least: float, most: float) -> float:
    """The nearest power of the root of 2: figures that vary from run to run make one pace."""
    return min(most, max(least, 2 ** (round(2 * math.log2(ratio)) / 2))) if ratio > 0 else 1.0


def pace_of(target: Target, figures: Figures, caches: tuple[Cache, ...]) -> Pace:
    """The pace of a machine for kernels of a target. A core's own cache is its share of the second level; what the system
    does not tell is as usual.
    """
    each = figures.peak_all / figures.threads * target.slowness / PEAK
    memory = figures.level("memory")
    behind = figures.level("L3") or (memory if caches else None)
    second = next((c.bytes / c.shared for c in caches if c.name == "L2"), target.cache)

    def rate(level: Level | None, reference: float) -> float:
        if level is None or each <= 0:
            return 1.0
        return step(level.all / figures.threads / reference / each, SLOWEST, FASTEST)

    return Pace(step(second / target.cache, SMALLEST, LARGEST), rate(behind, SHARED), rate(memory, MEMORY))
