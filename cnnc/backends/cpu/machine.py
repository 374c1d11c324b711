"""What this machine can do at best: multiply-adds a second, and bytes a second from every level of memory.

Measured with kernels of our own in about a second, remembered in the cache folder by processor, target and threads.
Rates are the best of several short runs: a neighbor on the machine makes a run slower, never faster.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from cnnc.backends.cpu.code import Code
from cnnc.backends.cpu.run.launch import Runner
from cnnc.lowering.figures import Figures, Level
from cnnc.lowering.plan import KernelName, Ref, Step
from cnnc.lowering.target import Job
from cnnc.runtime import room
from cnnc.runtime.device import aligned_empty
from cnnc.runtime.threads import cores
from cnnc.storage import folder, get, put
from cnnc.untrusted import Field, Malformed, read_json

FORMAT = 1
FASTEST = 1e9  # GFLOP/s or GB/s: no figure is beyond
LOADS = 8  # vectors in a turn of the kernel `stream`
RUN, RUNS = 0.005, 8  # seconds of a run, and how many there are of each; twice as many where they disagree
AGREE = 1.15  # the best two runs are within this factor, or the machine is too busy for its figures to be kept
LARGE = 96 * 2**20  # bytes that no cache holds, at least
_SYSFS = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(frozen=True)
class Cache:
    """A data cache: bytes, and how many cores share it."""

    name: str
    bytes: int
    shared: int


def processor() -> str:
    """The processor's name as the system has it, with its numbers where the name is shared by many."""
    fields: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    except OSError:
        pass
    numbers = [f"{k} {fields[v]}" for k, v in (("family", "cpu family"), ("model", "model")) if v in fields]
    name = fields.get("model name") or platform.machine()
    return f"{name} ({', '.join(numbers)})" if numbers else name


def _size(text: str) -> int:
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    text = text.strip()
    return int(text[:-1]) * units[text[-1]] if text[-1:] in units else int(text)


def _count(text: str) -> int:
    """How many processors a list such as 0-3,8 names."""
    parts = [p.split("-") for p in text.strip().split(",") if p]
    return max(1, sum(int(p[-1]) - int(p[0]) + 1 for p in parts))


def caches() -> tuple[Cache, ...]:
    """The data caches of a core, nearest first; none where the system does not tell."""
    found: dict[int, Cache] = {}
    for entry in sorted(_SYSFS.glob("index*")):
        with suppress(OSError, ValueError, IndexError):
            if (entry / "type").read_text().strip() == "Instruction":
                continue
            level, size = int((entry / "level").read_text()), _size((entry / "size").read_text())
            found[level] = Cache(f"L{level}", size, _count((entry / "shared_cpu_list").read_text()))
    return tuple(found[level] for level in sorted(found))


# ------------------------------------------------------------------------------------------------ measuring


class _Bench:
    """Runs of the two kernels on one thread or on several."""

    def __init__(self, code: Code) -> None:
        self.code, self.settled = code, True

    def best(self, make: Callable[[int], tuple[KernelName, dict[str, int]]], workers: int, data: Any) -> float:
        """Seconds for a repetition, at best; `make` gives the kernel and its arguments for a number of repetitions."""

        def run(repetitions: int, workers: int = workers) -> float:
            kernel, arguments = make(repetitions)
            values: list[tuple[str, int | Ref]] = [*arguments.items(), ("x", Ref("x"))]
            step = Step("probe", kernel, tuple(values), workers, ("x",))
            job = Job((step,), lambda ref: int(data.ctypes.data), 4 * self.code.target.lanes, workers)
            runner = Runner(job, self.code)
            start = time.perf_counter()
            runner()
            return time.perf_counter() - start

        # alone: on a busy machine, launching several threads may take longer than a run
        count, seconds = 1, run(1, 1)
        while seconds < RUN / 4 and count < 2**40:
            count *= 4
            seconds = min(run(count, 1) for _ in range(2))
        count = max(1, round(count * RUN / seconds))
        runs = sorted(run(count) for _ in range(RUNS))
        if self.settled and runs[1] > AGREE * runs[0]:
            runs = sorted([*runs, *(run(count) for _ in range(RUNS))])
            self.settled = runs[1] <= AGREE * runs[0]
        return runs[0] / count

    def peak(self, workers: int) -> float:
        lanes, chains = int(self.code.target.lanes), int(self.code.target.registers) - 4
        apart = (2 + chains) * lanes + 64
        data = aligned_empty(4 * apart * workers).view(np.float32)
        data[:] = 1e-3
        turns = 1000
        kernel = KernelName("peak", (("chains", chains),))
        seconds = self.best(lambda n: (kernel, {"turns": turns * n, "apart": apart}), workers, data)
        return 2 * chains * lanes * turns * workers / seconds / 1e9

    def stream(self, workers: int, bytes_each: int, data: Any) -> float:
        unit = 4 * LOADS * int(self.code.target.lanes)
        turns = max(1, bytes_each // unit)
        kernel = KernelName("stream")
        seconds = self.best(lambda n: (kernel, {"turns": turns, "passes": n}), workers, data)
        return turns * unit * workers / seconds / 1e9


def measure(code: Code, threads: int | None = None) -> Figures:
    """Measure, and remember what runs agree on; what was once faster stays."""
    threads, bench = threads or cores(), _Bench(code)
    hierarchy = caches()
    enough = min(max([LARGE, *(3 * c.bytes for c in hierarchy)]), 2**29)
    large = min(enough, room.left() // 4)
    bench.settled = large == enough  # less may lie in a cache
    data = aligned_empty(large)
    data.view(np.float32)[:] = 0.5
    levels = []
    before = 0
    for cache in hierarchy:
        # half of the cache, shared among the threads that share it, and beyond the cache before
        one, all = (max(cache.bytes // 2 // min(cache.shared, n), 2 * before) for n in (1, threads))
        if all * threads <= large and all <= cache.bytes:
            rates = bench.stream(1, one, data), bench.stream(threads, all, data)
            levels.append(Level(cache.name, cache.bytes, *rates))
        before = cache.bytes
    levels.append(Level("memory", None, bench.stream(1, large, data), bench.stream(threads, large // threads, data)))
    figures = Figures(processor(), code.name, threads, bench.peak(1), bench.peak(threads), tuple(levels))
    earlier = remembered(code, threads)
    if earlier is not None:
        figures = _best(earlier, figures)
    if bench.settled:
        _write(_path(code, threads), figures)
    return figures


def _best(a: Figures, b: Figures) -> Figures:
    """Of two measurements of one machine, the faster of each rate."""
    levels = tuple(
        replace(x, one=max(x.one, y.one), all=max(x.all, y.all)) for x, y in zip(a.levels, b.levels, strict=False)
    )
    return replace(
        b, peak_one=max(a.peak_one, b.peak_one), peak_all=max(a.peak_all, b.peak_all), levels=levels or b.levels
    )


# ------------------------------------------------------------------------------------------------ remembering


def _path(code: Code, threads: int) -> Path:
    key = "\n".join([processor(), code.name, str(threads), *(f"{c.name} {c.bytes}" for c in caches())])
    return folder() / f"machine-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def _write(path: Path, figures: Figures) -> None:
    put(path, json.dumps({"format": FORMAT, **figures.to_json()}).encode())


def remembered(code: Code, threads: int | None = None) -> Figures | None:
    """What was measured before; None where nothing was."""
    path = _path(code, threads or cores())
    data = get(path)
    if data is None:
        return None
    try:
        record = read_json(data, path.name).record(("format", *(f.name for f in fields(Figures))))
        if record["format"].value != FORMAT:
            return None
        levels = tuple(_level(level) for level in record["levels"].items(0, 10))
        peaks = record["peak_one"].number(0, FASTEST), record["peak_all"].number(0, FASTEST)
        whose = record["processor"].text(), record["target"].text(), record["threads"].whole(1)
        return Figures(*whose, *peaks, levels) if whose == (processor(), code.name, threads or cores()) else None
    except Malformed:
        return None


def _level(field: Field) -> Level:
    level = field.record([f.name for f in fields(Level)])
    size = None if level["bytes"].value is None else level["bytes"].whole(1, 2**63)
    return Level(level["name"].text(), size, level["one"].number(0, FASTEST), level["all"].number(0, FASTEST))


def figures(code: Code, threads: int | None = None) -> Figures:
    """What was measured before, or is now."""
    return remembered(code, threads) or measure(code, threads)
