"""Launching a list of steps on the processor: argument blocks, and the counters of the step driver."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from itertools import accumulate

import numpy as np

from cnnc.backends.cpu.code import Code
from cnnc.backends.cpu.run import openmp, pool
from cnnc.kernels.cpu.steps import driver
from cnnc.lowering import chain
from cnnc.lowering.memory import working
from cnnc.lowering.plan import Ref, Step
from cnnc.lowering.target import Array, Job
from cnnc.runtime.device import HostMemory, address, aligned_empty

SPINS = 2_000  # pauses before a worker of another's pool yields: about a tenth of a millisecond
PATIENCE = 400  # pauses before it takes what is left in others' queues
RUNS = 8  # run records that helpers may join, at most
NOTE = 64  # bytes ahead of a worker's scratch

_WORKER = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


class Runner:
    """A list of steps with its argument blocks, ready to be launched."""

    def __init__(self, job: Job, code: Code) -> None:
        steps, own = job.steps, job.own
        width = max((len(s.arguments) for s in steps), default=1)
        self.blocks = np.zeros((max(len(steps), 1), width), np.int64)
        self.slots: dict[str, list[tuple[int, int, int]]] = {}
        self._bound: dict[str, int] = {}
        words = np.zeros((max(len(steps), 1), driver.STEP), np.int64)
        owned = [self._arguments(i, s, job) for i, s in enumerate(steps)]
        for i, (s, (begin, end)) in enumerate(zip(steps, chain.spans(steps), strict=True)):
            claims, length = s.links or s.chunks, end - begin + 1
            words[i, :5] = code.address(s.kernel), self.blocks[i:].ctypes.data, claims, s.chunks // claims, length
        self._owned = np.array([value for found in owned for value in found], np.int64).reshape(-1, 3)
        for i, before in enumerate(accumulate(map(len, owned), initial=0)):
            if i < len(steps):
                words[i, 5:7] = len(owned[i]), self._owned.ctypes.data + 24 * before
        workers = working(steps, job.workers)
        queues = min(workers, driver.QUEUES)
        # a page and a bit apart, so that workers do not share sets of the cache; ahead of each a line for a kernel's note
        size = -(-max(job.scratch, 16) * 4 // 4096) * 4096 + 2 * NOTE
        self._scratch = [aligned_empty(size) for _ in range(workers)]
        self._rooms = np.zeros((workers, -(-width // 8) * 8), np.int64)
        self._records = np.zeros((workers, 8), np.int64)
        for w, scratch_ in enumerate(self._scratch):
            room = self._rooms[w].ctypes.data
            self._records[w, :4] = scratch_.ctypes.data + NOTE, own.address + w * own.bytes, room, w * queues // workers
        self._words = words
        run = np.zeros(driver.RUN, np.int64)
        run[:6] = len(steps), words.ctypes.data, 0, openmp.yield_address(), width, queues
        run[9:12] = self._records.ctypes.data, workers, code.driver()
        bytes_ = 8 * max(len(steps), 1) * driver.state_words(queues)
        helped = pool.of(code) if workers > 1 and steps else None
        self._launch: Callable[[], None] = (
            _Alone(run, bytes_) if helped is None else _Helped(helped, run, bytes_, (self._records, words))
        )

    def _arguments(self, i: int, step: Step, job: Job) -> list[tuple[int, int, int]]:
        """Write the argument block of a step; what of it each worker has of its own: (argument, offset, bytes)."""
        owned = []
        for j, (_, a) in enumerate(step.arguments):
            if isinstance(a, Ref) and a.buffer in job.own.buffers:
                b = job.own.buffers[a.buffer]
                owned.append((j, b.offset + a.offset, b.bytes))
            elif isinstance(a, Ref) and a.buffer in job.bound:
                self.slots.setdefault(a.buffer, []).append((i, j, a.offset))
            else:
                self.blocks[i, j] = job.where(a) if isinstance(a, Ref) else a
        return owned

    def bind(self, arrays: Mapping[str, Array]) -> None:
        """Put the addresses of inputs and results into the argument blocks."""
        for name, slots in self.slots.items():
            at = address(arrays[name])
            if self._bound.get(name) != at:
                self._bound[name] = at
                for i, j, offset in slots:
                    self.blocks[i, j] = at + offset

    def __call__(self) -> None:
        self._launch()


class _Helped:
    """Calls that the helpers of our own pool join. run: the record that all are like."""

    def __init__(self, pool_: pool.Pool, run: Array, bytes_: int, memory: tuple[Array, ...]) -> None:
        self._pool, workers = pool_, int(run[10])
        self._helpers, self._epoch = workers - 1, pool_.epoch
        pool_.most = pool.MOST  # where there were no more threads, there may be some now
        run[6:9], run[12] = (pool_.syscall, *pool_.waiting), pool_.address
        # as many as there may be late helpers in, and one for a call without any, whose worker has one queue
        shared = min(workers, RUNS)
        runs, states = _several(run, bytes_, shared + 1)
        runs[-1, 5] = 1
        self._runs = runs
        self._job = np.zeros(8, np.int64)
        self._job[:4] = shared, runs.ctypes.data, runs[0].nbytes, bytes_
        self._job[6] = self._helpers
        self._where = self._job.ctypes.data
        self._left = runs.ctypes.data, runs.ctypes.data + runs.nbytes, (runs, states, memory)

    def __call__(self) -> None:
        pool_ = self._pool
        if self._epoch != pool_.epoch:  # the helpers that were inside are not in this process
            self._epoch = pool_.epoch
            self._runs[:, pool.INSIDE] = 0
        if pool_.helpers < self._helpers:
            pool_.want(self._helpers)
        others = pool_.launch(pool_.address, self._where)
        if others:
            pool_.met(others, self._helpers)

    def __del__(self) -> None:
        if (left := getattr(self, "_left", None)) is not None:
            self._pool.leave(*left)


class _Alone:
    """Calls on the calling thread, or on Numba's pool where that may be used."""

    def __init__(self, run: Array, bytes_: int) -> None:
        self._workers = int(run[10])
        run[7:9] = SPINS, PATIENCE
        self._runs, self._states = _several(run, bytes_, 2)
        self._runs[0, pool.JOINED] = self._workers - 1
        self._runs[1, 5] = 1  # a worker alone waits for nobody, and has one queue
        self._kept = [np.array([x], np.int64) for x in (run[9], self._workers, 64)]
        pointers = [a.ctypes.data for a in self._kept]  # arguments, dimensions and strides of a Numba kernel
        self._all, self._one = ((*pointers, r.ctypes.data) for r in self._runs)
        self._driver = int(run[11])
        self._call = _WORKER(self._driver)
        self._some = bool(run[0])

    def __call__(self) -> None:
        if not self._some:
            return
        self._states.fill(0)
        launch = openmp.parallel_for() if self._workers > 1 else None
        if launch is None:
            self._call(*self._one)
        else:
            launch(self._driver, *self._all, 0, 1, self._workers)


def _several(run: Array, bytes_: int, count: int) -> tuple[Array, Array]:
    """Records like one, with a state each."""
    bytes_ = -(-bytes_ // 64) * 64
    states = aligned_empty(bytes_ * count)
    runs = aligned_empty(run.nbytes * count).view(np.int64).reshape(count, -1)
    runs[:] = run
    runs[:, 2] = states.ctypes.data + np.arange(count) * bytes_
    return runs, states


class CpuDevice(HostMemory):
    """The processor: the host's memory, and steps that the step driver launches."""

    def __init__(self, code: Code) -> None:
        self.code = code

    def ready(self) -> None:
        self.code.driver()

    def runner(self, job: Job) -> Runner:
        return Runner(job, self.code)
