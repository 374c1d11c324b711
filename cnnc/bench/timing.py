"""Engines that take turns.

Calls that alternate one by one would measure the other engine's idle threads, which still spin; calls of one engine
after all of another's would measure the machine's drift. So engines take turns in blocks, each after a pause and two
warm-up calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Call = Callable[[], object]
PAUSE = 0.4  # seconds before a block, in which other engines' threads go to sleep
WARM, LEAST = 2, 3  # calls before a block's timing starts, and the fewest that are timed


@dataclass(frozen=True)
class Timing:
    """Whole calls, in milliseconds. A tenth took at most `low`, a tenth `high` or longer."""

    median: float
    least: float
    calls: int
    mean: float = 0.0
    low: float = 0.0
    high: float = 0.0


def timing(times: Sequence[float]) -> Timing:
    """What is said of the times of some calls."""
    low, median, high = (float(q) for q in np.quantile(times, (0.1, 0.5, 0.9)))
    return Timing(median, min(times), len(times), float(np.mean(times)), low, high)


def alternate(
    engines: Mapping[str, Call],
    rounds: int = 5,
    block: float = 0.5,
    pause: float | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Timing]:
    """The times of each engine's calls over `rounds` blocks of `block` seconds, of LEAST calls at least."""
    rest = PAUSE if pause is None else pause
    times: dict[str, list[float]] = {name: [] for name in engines}
    for turn in range(rounds):
        for name, call in engines.items():
            progress(f"round {turn + 1} of {rounds}: {name}")
            time.sleep(rest if len(engines) > 1 else 0)
            for _ in range(WARM):
                call()
            taken: list[float] = []
            end = time.perf_counter() + block
            while len(taken) < LEAST or time.perf_counter() < end:
                start = time.perf_counter()
                call()
                taken.append(1e3 * (time.perf_counter() - start))
            times[name] += taken
    return {name: timing(t) for name, t in times.items()}
