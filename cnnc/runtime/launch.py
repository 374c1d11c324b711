"""Launching a list of steps: argument blocks, and the counters of the step driver."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Protocol

import numpy as np

from cnnc.diagnostics import error
from cnnc.lowering import chain
from cnnc.lowering.plan import Buffer, Ref, Step
from cnnc.runtime import threads as pool

Array = np.ndarray[Any, Any]


class Machine(Protocol):
    """What running asks of a backend: code for kernels, the step driver and its sizes."""

    def ready(self, kernels: Iterable[Any]) -> None: ...
    def address(self, kernel: Any) -> int: ...
    def driver(self) -> int: ...
    def state_words(self, queues: int) -> int: ...
    @property
    def most_queues(self) -> int: ...
    @property
    def step_words(self) -> int: ...


@dataclass(frozen=True)
class Own:
    """The buffers that each worker keeps to itself, by name; the first worker's memory, and bytes from one to the next."""

    buffers: Mapping[str, Buffer] = field(default_factory=dict)
    address: int = 0
    bytes: int = 0


NOTE = 64  # bytes ahead of a worker's scratch
LARGE = 2 << 20  # bytes of a large page


def aligned_empty(size: int) -> Array:
    """uint8[size] at the start of a cache line, or of a large page where it fills some: NumPy asks for those. Raises
    `CnncError` (exit code 5) where there is no memory for it.
    """
    alignment = LARGE if size >= 2 * LARGE else 64
    try:
        raw = np.empty(size + alignment, np.uint8)
    except (MemoryError, ValueError):
        raise error(
            "E0410",
            f"{size / 2**20:,.0f} MiB of memory are needed and not there",
            help="use a smaller batch",
            exit_code=5,
        ) from None
    start = -raw.ctypes.data % alignment
    return raw[start : start + size]


def address(array: Array) -> int:
    """Where the numbers of a contiguous array lie: `array.ctypes.data` in a fifth of its time, where they may be written."""
    try:
        return ctypes.addressof(_BYTE(array))
    except (TypeError, ValueError):  # read-only, or empty
        return int(array.ctypes.data)


def working(steps: Sequence[Step], workers: int) -> int:
    """Workers that find something to do, of as many as there are."""
    return max(1, min(workers, max((s.links or s.chunks for s in steps), default=1)))


_BYTE: Any = ctypes.c_char.from_buffer
_WORKER = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


class Runner:
    """A list of steps with its argument blocks, ready to be launched."""

    def __init__(
        self,
        steps: tuple[Step, ...],
        where: Callable[[Ref], int],
        machine: Machine,
        scratch: int,
        workers: int,
        inputs: frozenset[str] = frozenset(),
        own: Own | None = None,
    ) -> None:
        own = own or Own()
        width = max((len(s.arguments) for s in steps), default=1)
        self.blocks = np.zeros((max(len(steps), 1), width), np.int64)
        self.slots: dict[str, list[tuple[int, int, int]]] = {}
        self._bound: dict[str, int] = {}
        words = np.zeros((max(len(steps), 1), machine.step_words), np.int64)
        spans = chain.spans(steps)
        owned: list[list[tuple[int, int, int]]] = [[] for _ in steps]
        for i, s in enumerate(steps):
            for j, (_, a) in enumerate(s.arguments):
                if isinstance(a, Ref) and a.buffer in own.buffers:
                    b = own.buffers[a.buffer]
                    owned[i].append((j, b.offset + a.offset, b.bytes))
                elif isinstance(a, Ref) and a.buffer in inputs:
                    self.slots.setdefault(a.buffer, []).append((i, j, a.offset))
                else:
                    self.blocks[i, j] = where(a) if isinstance(a, Ref) else a
            begin, end = spans[i]
            claims, length = s.links or s.chunks, end - begin + 1
            words[i, :5] = machine.address(s.kernel), self.blocks[i:].ctypes.data, claims, s.chunks // claims, length
        self._owned = np.array([value for found in owned for value in found], np.int64).reshape(-1, 3)
        for i, before in enumerate(accumulate(map(len, owned), initial=0)):
            if i < len(steps):
                words[i, 5:7] = len(owned[i]), self._owned.ctypes.data + 24 * before
        workers = working(steps, workers)
        queues = min(workers, machine.most_queues)
        # a page and a bit apart, so that workers do not share sets of the cache; ahead of each a line for a kernel's note
        size = -(-max(scratch, 16) * 4 // 4096) * 4096 + 2 * NOTE
        self._scratch = [aligned_empty(size) for _ in range(workers)]
        self._rooms = np.zeros((workers, -(-width // 8) * 8), np.int64)
        self._records = np.zeros((workers, 8), np.int64)
        for w, scratch_ in enumerate(self._scratch):
            room = self._rooms[w].ctypes.data
            self._records[w, :4] = scratch_.ctypes.data + NOTE, own.address + w * own.bytes, room, w * queues // workers
        self.state = np.zeros(max(len(steps), 1) * machine.state_words(queues), np.int64)
        self._words = words
        self._run = np.array(
            [len(steps), words.ctypes.data, self.state.ctypes.data, pool.yield_address(), width, queues], np.int64
        )
        self._arguments = np.array([self._records.ctypes.data], np.int64)
        self._dimensions, self._strides = np.array([workers], np.int64), np.array([64], np.int64)
        self._driver, self._workers, self._count = machine.driver(), workers, len(steps)
        self._alone = _WORKER(self._driver)
        self._pointers = tuple(a.ctypes.data for a in (self._arguments, self._dimensions, self._strides, self._run))

    def bind(self, name: str, address: int) -> None:
        """Put the address of an input into the argument blocks."""
        if self._bound.get(name) != address:
            self._bound[name] = address
            for i, j, offset in self.slots[name]:
                self.blocks[i, j] = address + offset

    def __call__(self) -> None:
        if not self._count:
            return
        self.state.fill(0)
        launch = pool.parallel_for() if self._workers > 1 else None
        if launch is None:
            queues, self._run[5] = self._run[5], 1  # a worker alone waits for nobody
            self._alone(*self._pointers)
            self._run[5] = queues
        else:
            launch(self._driver, *self._pointers, 0, 1, self._workers)
