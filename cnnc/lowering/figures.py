"""What a machine can do at best: a record of rates that a target measures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Level:
    """A level of memory: bytes of one cache (None of main memory), GB/s that one core and all threads read."""

    name: str
    bytes: int | None
    one: float
    all: float


@dataclass(frozen=True)
class Figures:
    """GFLOP/s of multiply-adds (two operations each) on one core and on all threads, and the levels, nearest first."""

    processor: str
    target: str
    threads: int
    peak_one: float
    peak_all: float
    levels: tuple[Level, ...]

    def level(self, name: str) -> Level | None:
        return next((level for level in self.levels if level.name == name), None)

    def peak(self, threads: int) -> float:
        """GFLOP/s of so many threads."""
        return self.peak_one if threads == 1 else min(self.peak_all, self.peak_one * threads)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
