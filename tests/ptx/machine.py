"""Runs kernels of PTX on NumPy, and watches them.

All threads of some blocks run together: a register is an array over them, and an instruction a few calls of NumPy. Threads that
part at a branch are stepped the lowest instruction first, so that they meet again.

What no result shows is a `Fault`: accesses out of bounds or misaligned, reads of what nothing wrote, threads that meet in shared
memory with no barrier between, copies that are not waited for, barriers and instructions of a whole warp that part of the
threads reach, blocks that write or read what another writes, local memory, instructions that are not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tests.ptx import arithmetic, copies, tensor, transfers, warps  # noqa: F401  (they say what instructions do)
from tests.ptx.decode import Decoder
from tests.ptx.figures import WARP, Figures
from tests.ptx.memory import Global, Shared
from tests.ptx.registers import DTYPES, Active, Array, Step
from tests.ptx.text import Entry, Fault, Instruction, Module, parse

STEPS = 20_000_000  # after which a launch is said never to end
THREADS = 4096  # that run together


@dataclass(frozen=True)
class Line:
    """An instruction, ready to run. kind: "plain", "branch" (to `target`), "return" or "barrier"."""

    kind: str
    name: str
    guard: tuple[str, bool] | None
    step: Step | None
    target: int
    text: str


def _line(decoder: Decoder, entry: Entry, what: Instruction) -> Line:
    name = what.opcode
    if name in ("bra", "bra.uni"):
        return Line("branch", "bra", what.guard, None, entry.labels[what.operands[0]], what.text)
    if name in ("ret", "exit"):
        return Line("return", "ret", what.guard, None, 0, what.text)
    if name in ("bar.sync", "barrier.sync.aligned", "barrier.cta.sync.aligned.all"):
        if what.operands != ("0",):
            raise Fault(f"unknown barrier: {what.text}")
        return Line("barrier", "bar.sync", what.guard, None, 0, what.text)
    return Line("plain", name, what.guard, decoder.step(what), 0, what.text)


class Machine:
    """A module's kernels, and memory for them. count: whether `figures` are kept."""

    def __init__(self, source: str | Module, memory: Global | None = None, count: bool = True) -> None:
        self.module = parse(source) if isinstance(source, str) else source
        self.memory = memory or Global()
        self.figures, self.count = Figures(), count
        self._lines: dict[str, list[Line]] = {}

    def launch(
        self,
        grid: int,
        threads: int,
        arguments: Sequence[int | float],
        shared: int = 0,
        name: str = "",
        together: int = 0,
    ) -> None:
        """Run a kernel, the only one where none is named, with so many bytes of dynamic shared memory, and so many blocks together."""
        entry = self.module.entries[name or next(iter(self.module.entries))]
        if threads % WARP or not 0 < threads <= (entry.threads or 1024):
            raise Fault(f"{threads} threads are no whole warps, or more than the kernel's {entry.threads or 1024}")
        if len(arguments) != len(entry.parameters):
            raise Fault(f"{len(arguments)} arguments for {len(entry.parameters)} parameters")
        if entry.name not in self._lines:
            decoder = Decoder(self.module, entry)
            self._lines[entry.name] = [_line(decoder, entry, what) for what in entry.code]
        values = {
            name: np.array([argument]).astype(DTYPES[kind])
            for (name, kind), argument in zip(entry.parameters.items(), arguments, strict=True)
        }
        self.memory.begin()
        step = together or max(1, THREADS // threads)
        for first in range(0, grid, step):
            blocks = np.arange(first, min(grid, first + step))
            with np.errstate(all="ignore"):
                Run(
                    self, self._lines[entry.name], values, blocks, grid, threads, self.module.shared_bytes + shared
                ).run()


class Run:
    """Blocks that run together.

    block: of each thread, counted in the grid; row: counted here; thread: in its block. epoch: barriers that its block has
    passed. mask: the threads that are where the machine is, None where all are.
    """

    def __init__(
        self,
        machine: Machine,
        lines: list[Line],
        parameters: dict[str, Array],
        blocks: Array,
        grid: int,
        threads: int,
        shared: int,
    ) -> None:
        self.lanes, self.blocks, self.threads, self.grid = len(blocks) * threads, len(blocks), threads, grid
        self.memory, self.shared, self.parameters = machine.memory, Shared(len(blocks), shared), parameters
        self.figures = machine.figures if machine.count else None
        self.block, self.row = np.repeat(blocks, threads), np.repeat(np.arange(len(blocks)), threads)
        self.thread, self.every = np.tile(np.arange(threads), len(blocks)), np.arange(self.lanes)
        self.block_epoch = np.zeros(len(blocks), np.int64)
        self.flights, self.tensor = copies.Flights(self.lanes), tensor.Tensor()
        self._lines, self._registers = lines, dict[str, Array]()
        self._partly: dict[str, Array] = {}  # which threads have set a register that not all have
        self.mask: Active = None

    # ---- registers

    def take(self, name: str) -> Array:
        """A register's value. Raises `Fault` where a thread that reads it has not set it, or where a product is under way to it."""
        if name in self.tensor.busy:
            raise Fault(f"no wait: register {name} is read before wgmma.wait_group")
        return self.held(name)

    def held(self, name: str) -> Array:
        """What tensor cores add to."""
        value = self._registers.get(name)
        if value is None:
            raise Fault(f"uninitialised: register {name}")
        if name in self._partly and not self._partly[name][slice(None) if self.now is None else self.now].all():
            raise Fault(f"uninitialised: register {name} in some threads")
        return value

    now: Active = None  # the threads that the instruction is for

    def put(self, name: str, value: Array, active: Active) -> None:
        if active is None:
            self._registers[name] = value
            self._partly.pop(name, None)
            return
        old = self._registers.get(name)
        if old is None:
            old, self._partly[name] = np.zeros(1, value.dtype), active
        elif name in self._partly:
            self._partly[name] = self._partly[name] | active
        self._registers[name] = np.where(active, value, old)

    def full(self, value: Array) -> Array:
        """One number for each thread."""
        return value if len(value) == self.lanes else np.broadcast_to(value, self.lanes)

    def epochs(self, lanes: Array) -> Array:
        return self.block_epoch[self.row[lanes]]

    def those(self, active: Active) -> Array:
        """The numbers of the threads that take part."""
        return self.every if active is None else np.flatnonzero(active)

    def whole(self, active: Active) -> Array:
        """The warps of the threads that take part. Raises `Fault` where that is part of one."""
        if active is None:
            return np.arange(self.lanes // WARP)
        table = active.reshape(-1, WARP)
        if (table.any(1) != table.all(1)).any():
            raise Fault("part of a warp: the instruction is for all of its threads")
        return np.flatnonzero(table.any(1))

    # ---- control

    def run(self) -> None:
        try:
            self._run()
        except Fault as e:
            raise Fault(f"{e}\n  in: {self._text}") from None

    _text = ""

    def _run(self) -> None:
        done, waiting = np.zeros(self.lanes, bool), np.zeros(self.lanes, bool)
        pc, pcs = 0, None  # where all threads are, or each of them
        for _ in range(STEPS):
            if pcs is not None:
                live = ~(done | waiting)
                if not live.any():
                    if done.all():
                        return
                    self._release(waiting, done)
                    continue
                pc = int(pcs[live].min())
                mask = live & (pcs == pc)
                self.mask = None if mask.all() else mask
                if self.mask is None:
                    pcs = None
            line = self._lines[pc]
            self._text, self.now = line.text, self.mask
            active = self._guarded(line)
            self._count(line, active)
            if line.kind == "plain":
                if active is None or active.any():
                    self.now = active
                    line.step(self, active)  # type: ignore[misc]
                if pcs is None:
                    pc += 1
                else:
                    pcs[self.mask] = pc + 1
                continue
            here = np.ones(self.lanes, bool) if active is None else active
            if pcs is None and (active is None or not here.any()):
                if active is not None:
                    pc += 1
                elif line.kind == "return":
                    return
                elif line.kind == "branch":
                    pc = line.target
                else:
                    pc += 1
                    self._pass(np.ones(self.blocks, bool))
                continue
            everyone = slice(None) if self.mask is None else self.mask
            pcs = np.full(self.lanes, pc) if pcs is None else pcs
            pcs[everyone] = pc + 1
            if line.kind == "branch":
                pcs[here] = line.target
            elif line.kind == "return":
                done |= here
            else:
                waiting |= here
                self._release(waiting, done, False)
        raise Fault(f"the kernel does not end within {STEPS} instructions")

    def _guarded(self, line: Line) -> Active:
        if line.guard is None:
            return self.mask
        name, negated = line.guard
        truth = self.take(name) ^ negated
        if len(truth) == 1 and self.lanes > 1:
            return self.mask if truth[0] else np.zeros(self.lanes, bool)
        active = truth if self.mask is None else truth & self.mask
        return None if active.all() else active

    def _release(self, waiting: Array, done: Array, must: bool = True) -> None:
        """Blocks all of whose threads wait go on. Raises `Fault` where threads wait for some that never come."""
        wait, end = waiting.reshape(self.blocks, -1), done.reshape(self.blocks, -1)
        if (wait.any(1) & end.any(1)).any():
            raise Fault("barrier: some threads of a block wait at it, others have ended")
        there = wait.all(1)
        if must and not there.any():
            raise Fault("barrier: some threads of a block wait at it, others never come")
        self._pass(there)
        waiting &= ~np.repeat(there, self.threads)

    def _pass(self, blocks: Array) -> None:
        self.block_epoch[blocks] += 1
        if self.figures is not None:
            self.figures.barriers += int(blocks.sum())

    def _count(self, line: Line, active: Active) -> None:
        if self.figures is not None:
            warps = self.lanes // WARP if active is None else int(active.reshape(-1, WARP).any(1).sum())
            self.figures.instructions[line.name] += warps
