"""How many threads there should be."""

from __future__ import annotations

import os

from cnnc.runtime.cgroup import quota


def affinity() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores() -> int:
    """The cores that this process may use: those that it may run on, and no more than its quota of time, to the nearest
    whole one. Threads beyond that stop each other for the rest of every period.
    """
    limit = quota()
    return affinity() if limit is None else max(1, min(affinity(), int(limit + 0.5)))
