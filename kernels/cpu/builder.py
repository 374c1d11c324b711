"""Many kernels at once, in processes of their own: Numba's front end holds Python's lock, and llvmlite one lock for
all of LLVM, so that threads would not help.

`python -c` with `PROGRAM` is a worker: it reads its import path, then (target, kernels) again and again from its standard
input, and answers each with a list of object files. Kernels of one family go to one worker where they are few: what Numba
makes of a family's function is made once in a process.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from . import Kernel, compile
from .target import Target

PROGRAM = f"import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); from {__name__} import work; work()"
# Kernels for which another process pays: it takes a second to start, a kernel a quarter of one.
SHARE = 6
# Kernels of a family that are compiled in one go.
GROUP = 8

Done = Callable[[Kernel, bytes], None]


def work() -> None:
    """A worker's life."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed is no answer
    with suppress(EOFError):
        while True:
            target, kernels = pickle.load(sys.stdin.buffer)
            pickle.dump([compile.build(kernel, target) for kernel in kernels], answers)
            answers.flush()


def groups(kernels: Sequence[Kernel]) -> list[list[Kernel]]:
    """What is compiled in one go: kernels of one family, the largest groups first."""
    families: dict[str, list[Kernel]] = {}
    for kernel in kernels:
        families.setdefault(kernel.family, []).append(kernel)
    found = [family[i : i + GROUP] for family in families.values() for i in range(0, len(family), GROUP)]
    return sorted(found, key=len, reverse=True)


def build_all(kernels: Sequence[Kernel], target: Target, processes: int, done: Done) -> None:
    """Compile kernels in this process and in up to `processes - 1` others. `done(kernel, object code)` is called for each
    from any thread, one at a time. A worker that fails leaves its kernels to this process, which raises what is wrong
    with them.
    """
    todo: SimpleQueue[list[Kernel]] = SimpleQueue()
    for group in groups(kernels):
        todo.put(group)
    lock, left = threading.Lock(), []

    def finished(group: Sequence[Kernel], codes: Sequence[bytes]) -> None:
        with lock:
            for kernel, code in zip(group, codes, strict=True):
                done(kernel, code)

    def feed(worker: Any) -> None:
        with suppress(Empty):
            while True:
                group = todo.get_nowait()
                try:
                    pickle.dump((target, group), worker.stdin)
                    worker.stdin.flush()
                    codes = pickle.load(worker.stdout)
                except (OSError, EOFError, pickle.UnpicklingError):
                    left.append(group)
                    return
                finished(group, codes)

    workers = [w for w in (_worker() for _ in range(min(processes, len(kernels) // SHARE) - 1)) if w is not None]
    feeders = [threading.Thread(target=feed, args=(worker,), daemon=True) for worker in workers]
    try:
        for feeder in feeders:
            feeder.start()
        for group in _drain(todo):
            finished(group, [compile.build(kernel, target) for kernel in group])
        for feeder in feeders:
            feeder.join()
        for group in left:
            finished(group, [compile.build(kernel, target) for kernel in group])
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
            with suppress(OSError):
                worker.stdin.close()
            worker.stdout.close()


def _drain(todo: SimpleQueue[list[Kernel]]) -> Iterator[list[Kernel]]:
    with suppress(Empty):
        while True:
            yield todo.get_nowait()


def _worker() -> Any:
    """A process that compiles, or None where none can be started: an interpreter inside another program has no name."""
    try:
        worker = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert worker.stdin is not None
        pickle.dump(sys.path, worker.stdin)
        worker.stdin.flush()
    except (OSError, ValueError, TypeError):
        return None
    return worker
