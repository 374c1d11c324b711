"""Forged files: every format's fields take values that they cannot have, and what follows is an error in words or the right
answer.

`python -m tests.malformed.forge --count 10000 --seed 0` makes so many, in processes of their own with bounds of time and
memory; `--only FORMAT` keeps to one format, `--case FORMAT:NUMBER` shows one file's traceback, and `--keep FOLDER` keeps what failed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle, islice
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from cnnc.codes import CODES
from cnnc.diagnostics import CnncError, render
from tests.random_networks.reference import Mismatch

SECONDS, DEADLINE = (
    5.0,
    120.0,
)  # of processor time for reading a file; of waiting for a worker, which may compile kernels
MEMORY = 2 << 30  # bytes that reading a file may take
REFUSED = (1, 3, 5)
_OFTEN = ("npy", "npz", "idx", "safetensors", "cnnx", "image")
ORDER = (
    *_OFTEN,
    "cifar",
    "decisions",
    *_OFTEN,
    "weights",
    "onnx",
    "onnx",
    "cnn",
    "checkpoint",
    *_OFTEN,
    "ir",
)  # graphs that are right are compiled and run


@dataclass(frozen=True)
class Outcome:
    """What became of a forged file: "right", "refused E0625", or what should not be, with how it came to that."""

    kind: str
    detail: str = ""

    @property
    def good(self) -> bool:
        return self.kind == "right" or self.kind.startswith("refused")


@contextmanager
def bounded_memory() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def outcome(format: Any, path: Path) -> Outcome:
    """Read a file as the commands do, and judge what it gave."""
    start = time.process_time()
    try:
        with bounded_memory():
            found = format.read(path)
    except CnncError as e:
        text = "\n".join(render(d) for d in e.diagnostics)
        if e.exit_code not in REFUSED or any(d.code not in CODES or not d.message for d in e.diagnostics):
            return Outcome(f"exit code {e.exit_code}", text)
        if len(text) > 20_000:
            return Outcome("long message", text[:1000])
        kind = f"refused {e.diagnostics[0].code}"
    except MemoryError:
        kind = "refused E0602"
    except Mismatch as e:
        return Outcome("wrong", str(e))
    except Exception:
        return Outcome("bug", traceback.format_exc(limit=-6))
    else:
        kind = "right"
    taken = time.process_time() - start
    if taken > format.seconds:
        return Outcome("slow", f"{taken:.1f} s")
    if kind == "right":
        try:
            format.judge(path, found)
        except Mismatch as e:
            return Outcome("wrong", str(e))
        except Exception:
            return Outcome("bug in judging", traceback.format_exc(limit=-6))
    return Outcome(kind)


def forged(format: Any, seed: int, number: int, folder: Path) -> Path:
    """A forged file, the same for the same seed and number."""
    return format.forge(random.Random(f"{format.name} {seed} {number}"), folder)


def one(format: Any, seed: int, number: int, keep: Path | None = None) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="forged-") as folder:
        result = outcome(format, forged(format, seed, number, Path(folder)))
        if keep is not None and not result.good:
            shutil.copytree(folder, keep / f"{format.name}-{seed}-{number}", dirs_exist_ok=True)
    return result


def _work(connection: Connection, seed: int, keep: Path | None) -> None:
    from tests.malformed.formats import formats

    with tempfile.TemporaryDirectory(prefix="forged-") as folder:
        kinds = {f.name: f for f in formats(Path(folder))}
        connection.send(None)
        while (task := connection.recv()) is not None:
            connection.send(one(kinds[task[0]], seed, task[1], keep))


class _Worker:
    def __init__(self, seed: int, keep: Path | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_work, args=(other, seed, keep), daemon=True)
        self.process.start()
        other.close()
        self.task: tuple[str, int] | None = None
        self.since = time.monotonic()

    def late(self) -> bool:
        return time.monotonic() - self.since > DEADLINE

    def end(self) -> int | None:
        self.process.kill()
        self.process.join()
        return self.process.exitcode


def run(
    tasks: Sequence[tuple[str, int]], seed: int, jobs: int, keep: Path | None = None
) -> Iterator[tuple[str, int, Outcome]]:
    """The outcome of every task (format, number). A worker that hangs or dies is an outcome, and another takes over."""
    left = list(reversed(tasks))
    workers = [_Worker(seed, keep) for _ in range(max(1, min(jobs, len(left))))]
    try:
        while any(w.task for w in workers) or left:
            for ready in wait([w.connection for w in workers], 1.0):
                worker = next(w for w in workers if w.connection is ready)
                task, worker.task = worker.task, None
                with suppress(EOFError, ConnectionError):
                    found = worker.connection.recv()
                    if task is not None:
                        yield *task, found
                    if left:
                        worker.task = left.pop()
                        worker.since = time.monotonic()
                        worker.connection.send(worker.task)
                    continue
                code = worker.end()
                if task is None:
                    raise RuntimeError(f"a worker did not start ({code})")
                yield *task, Outcome("died", f"exit code {code}")
                workers[workers.index(worker)] = _Worker(seed, keep)
            for i, worker in enumerate(workers):
                if worker.task is not None and worker.late():
                    worker.end()
                    yield *worker.task, Outcome("hangs", f"{DEADLINE} s")
                    workers[i] = _Worker(seed, keep)
    finally:
        for worker in workers:
            with suppress(OSError):
                worker.connection.send(None)
            worker.process.join(5)
            worker.end()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--only", action="append")
    parser.add_argument("--case")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args(arguments)
    from tests.malformed.formats import formats

    if given.case:
        name, _, number = given.case.partition(":")
        with tempfile.TemporaryDirectory(prefix="forged-") as folder:
            kind = next(f for f in formats(Path(folder)) if f.name == name)
            result = one(kind, given.seed, int(number), given.keep)
        print(result.kind, result.detail, sep="\n")
        return 0 if result.good else 1
    names = tuple(given.only or ORDER)
    counted: Counter[str] = Counter()
    tasks = []
    for name in islice(cycle(names), given.count):
        tasks.append((name, counted[name]))
        counted[name] += 1
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    start, failed = time.monotonic(), 0
    for done, (name, number, result) in enumerate(run(tasks, given.seed, given.jobs, given.keep), 1):
        counts[name][result.kind] += 1
        if not result.good:
            failed += 1
            print(f"{name}:{number} {result.kind}\n{result.detail}", flush=True)
        if done % 500 == 0:
            print(
                f"{done} of {given.count}, {failed} failed, {time.monotonic() - start:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    for name, count in counts.items():
        print(f"{name:12} {', '.join(f'{kind} {n}' for kind, n in count.most_common())}")
    print(f"{given.count} forged files of seed {given.seed}: {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
