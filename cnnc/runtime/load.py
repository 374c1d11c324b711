"""What others do on this process's cores meanwhile: times that are taken on a busy machine say little of programs."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from cnnc.runtime.threads import affinity

STAT = Path("/proc/stat")
FREE = 0.1  # cores' worth of others' work that does not matter


@dataclass(frozen=True)
class Load:
    """Cores' worth of work that others did on the cores that this process may use, over some time."""

    others: float
    cores: int

    def busy(self, threads: int) -> bool:
        """Whether so many threads got in each other's way with the others."""
        return self.others > FREE and min(threads, self.cores) + self.others > self.cores + FREE

    def __str__(self) -> str:
        return f"other programs take {self.others:.1f} of {self.cores} core{'s' * (self.cores > 1)}"


class Watch:
    """Begins to look when it is made, and tells what others did up to now when it is asked; None where the system does not
    tell, as only Linux does. children: processes of this one whose work is not others'.
    """

    def __init__(self, children: tuple[int, ...] = ()) -> None:
        self._children = children
        self._begin = self._now()

    def _now(self) -> tuple[float, float] | None:
        """The time, and others' seconds of work."""
        try:
            tick = os.sysconf("SC_CLK_TCK")
            ours = {f"cpu{k}" for k in os.sched_getaffinity(0)}
            lines = [line.split() for line in STAT.read_text().splitlines()]
            # user, nice, system, (idle, iowait,) irq, softirq, steal: guests are within user
            working = sum(sum(map(int, x[1:4] + x[6:9])) for x in lines if x and x[0] in ours) / tick
            own = time.process_time() + sum(self._seconds(pid) / tick for pid in self._children)
            return time.perf_counter(), working - own
        except (OSError, ValueError, IndexError, AttributeError):
            return None

    def _seconds(self, pid: int) -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def load(self) -> Load | None:
        now = self._now()
        if now is None or self._begin is None or now[0] <= self._begin[0]:
            return None
        there = affinity()
        others = (now[1] - self._begin[1]) / (now[0] - self._begin[0])
        return Load(min(max(0.0, others), float(there)), there)


def look(seconds: float) -> Load | None:
    """What others do in so many seconds from now."""
    watch = Watch()
    time.sleep(seconds)
    return watch.load()
