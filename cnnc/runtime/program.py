"""A Plan bound to memory and machine code: what one call runs.

A `Program` holds what all calls share (machine code, packed weights, tables). A `Frame` holds what one call at a time
needs: the arena, the argument blocks, the counters of the step driver. Concurrent calls take a frame each.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from cnnc.diagnostics import error
from cnnc.lowering import chain
from cnnc.lowering.plan import Plan, Ref, Step
from cnnc.runtime import threads as pool

Array = np.ndarray[Any, Any]
Packed = dict[str, Array]  # digest of what is in a packed buffer -> the buffer


class Machine(Protocol):
    """What running asks of a backend: code for kernels, the step driver and its sizes."""

    def ready(self, kernels: Iterable[Any]) -> None: ...
    def address(self, kernel: Any) -> int: ...
    def driver(self) -> int: ...
    @property
    def state_words(self) -> int: ...
    @property
    def step_words(self) -> int: ...


def aligned_empty(size: int, alignment: int = 64) -> Array:
    """uint8[size] at an aligned address. Raises `CnncError` (exit code 5) where there is no memory for it."""
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
    ) -> None:
        width = max((len(s.arguments) for s in steps), default=1)
        self.blocks = np.zeros((max(len(steps), 1), width), np.int64)
        self.slots: dict[str, list[tuple[int, int, int]]] = {}
        self._bound: dict[str, int] = {}
        words = np.zeros((max(len(steps), 1), machine.step_words), np.int64)
        spans = chain.spans(steps)
        for i, s in enumerate(steps):
            for j, (_, a) in enumerate(s.arguments):
                if isinstance(a, Ref) and a.buffer in inputs:
                    self.slots.setdefault(a.buffer, []).append((i, j, a.offset))
                else:
                    self.blocks[i, j] = where(a) if isinstance(a, Ref) else a
            begin, end = spans[i]
            claims, length = s.links or s.chunks, end - begin + 1
            words[i, :5] = machine.address(s.kernel), self.blocks[i:].ctypes.data, claims, s.chunks // claims, length
        workers = max(1, min(workers, max((s.links or s.chunks for s in steps), default=1)))
        size = (
            -(-max(scratch, 16) * 4 // 4096) * 4096 + 128
        )  # apart by a page and a bit, so that workers do not share sets
        self._scratch = [aligned_empty(size) for _ in range(workers)]
        self._records = np.zeros((workers, 8), np.int64)
        self._records[:, 0] = [s.ctypes.data for s in self._scratch]
        self.state = np.zeros(max(len(steps), 1) * machine.state_words, np.int64)
        self._words = words
        self._run = np.array([len(steps), words.ctypes.data, self.state.ctypes.data, pool.yield_address()], np.int64)
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
            self._alone(*self._pointers)
        else:
            launch(self._driver, *self._pointers, 0, 1, self._workers)


class Frame:
    """The memory of one call at a time."""

    def __init__(self, program: Program) -> None:
        plan = program.plan
        self.arena = aligned_empty(max(plan.arena, 64))
        base = self.arena.ctypes.data
        self.buffers = {b.name: b for b in plan.buffers}

        def where(ref: Ref) -> int:
            b = self.buffers[ref.buffer]
            return (base + b.offset if b.place == "arena" else program.fixed[b.name].ctypes.data) + ref.offset

        names = frozenset(b.name for b in plan.buffers if b.place == "input")
        self.runner = Runner(plan.steps, where, program.machine, plan.scratch, program.workers, names)
        # an output that is an input is copied from what the caller gave
        self.outputs = [
            (label, None if name in names else self._view(name, program), name, dtype, shape)
            for (label, name), (dtype, shape) in zip(plan.outputs, program.results, strict=True)
        ]

    def _view(self, buffer: str, program: Program) -> Array:
        """The bytes of a buffer."""
        b = self.buffers[buffer]
        return (
            self.arena[b.offset : b.offset + b.bytes]
            if b.place == "arena"
            else program.fixed[buffer].reshape(-1).view(np.uint8)
        )


def contents(plan: Plan) -> dict[str, str]:
    """A digest for each packed buffer of what is in it: the steps that make it, and the values and tables that they
    read.

    Plans of several batch sizes, and artifacts, share packed weights by it.
    """
    tables = {b.name: b.data for b in plan.buffers if b.place == "table"}
    made: dict[str, str] = {}

    def content(argument: int | Ref, writes: tuple[str, ...]) -> Any:
        if isinstance(argument, int):
            return argument
        if argument.buffer in writes:
            return "result", writes.index(argument.buffer), argument.offset
        return made.get(argument.buffer, tables.get(argument.buffer, argument.buffer)), argument.offset

    for s in plan.setup:
        key = (str(s.kernel), tuple((k, content(a, s.writes)) for k, a in s.arguments), s.chunks)
        for i, w in enumerate(s.writes):
            text = repr((made.get(w), key, i))
            made[w] = hashlib.sha256(text.encode()).hexdigest()
    return made


class Program:
    """A Plan with its machine code, its values and its packed weights."""

    def __init__(
        self,
        plan: Plan,
        values: Mapping[str, Array],
        machine: Machine,
        workers: int,
        packed: Packed,
        results: Sequence[tuple[np.dtype[Any], tuple[int, ...]]],
    ) -> None:
        """results: element type and shape of every output."""
        self.plan, self.machine, self.workers, self.results = plan, machine, workers, results
        self.fixed: dict[str, Array] = {}
        digests, sizes = contents(plan), {b.name: b.bytes for b in plan.buffers}
        todo = tuple(s for s in plan.setup if any(digests[w] not in packed for w in s.writes))
        needed = {b for s in (*todo, *plan.steps) for b in s.buffers()} | {b for _, b in plan.outputs}
        for b in plan.buffers:
            if b.place == "table":
                self.fixed[b.name] = np.array(b.data, np.int64)
            elif b.place == "value" and b.name in needed:
                if b.name not in values:
                    raise error(
                        "E0608",
                        f"the artifact has no weights for a batch of {plan.batch}",
                        f"'{b.name}' was packed for another size",
                        help=f"compile the model again with --batch {plan.batch}",
                        exit_code=3,
                    )
                self.fixed[b.name] = values[b.name]
        machine.ready(s.kernel for s in (*todo, *plan.steps))
        for buffer, digest in digests.items():
            if digest not in packed:
                packed[digest] = aligned_empty(sizes[buffer])
            self.fixed[buffer] = packed[digest]
        Runner(todo, lambda ref: int(self.fixed[ref.buffer].ctypes.data) + ref.offset, machine, plan.scratch, workers)()
        self._frames: list[Frame] = [Frame(self)]

    def call(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run once. inputs: contiguous arrays of the right type. The outputs by label, each in memory of its own."""
        try:
            frame = self._frames.pop()  # atomic: a frame belongs to one call at a time
        except IndexError:
            frame = Frame(self)
        try:
            for name in frame.runner.slots:
                frame.runner.bind(name, inputs[name].ctypes.data)
            frame.runner()
            return {
                label: (inputs[name].reshape(-1).view(np.uint8) if data is None else data)
                .copy()
                .view(dtype)
                .reshape(shape)
                for label, data, name, dtype, shape in frame.outputs
            }
        finally:
            self._frames.append(frame)
