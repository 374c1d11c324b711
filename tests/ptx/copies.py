"""Copies from global to shared memory that go on by themselves (cp.async), and waiting for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tests.ptx.decode import Decoder, instruction
from tests.ptx.registers import Active, Array, Step
from tests.ptx.text import Fault, Instruction

if TYPE_CHECKING:
    from tests.ptx.machine import Run


@dataclass
class Flight:
    """What one instruction copies: for each thread its group, the first word, and the words."""

    lanes: Array
    group: Array
    at: Array
    words: Array


class Flights:
    """Copies that are under way. Every thread closes groups of its own, and waits for its own."""

    def __init__(self, lanes: int) -> None:
        self.closed = np.zeros(lanes, np.int64)  # groups of each thread
        self.under_way: list[Flight] = []

    def land(self, run: Run, ready: Array) -> None:
        """Write those of the threads' groups below `ready` (a number for each thread): as the threads' own writes."""
        remaining = []
        for flight in self.under_way:
            there = flight.group < ready[flight.lanes]
            lanes, at, words = flight.lanes[there], flight.at[there], flight.words[there]
            for i in range(flight.words.shape[1] if len(lanes) else 0):
                run.shared.flying[at + i] -= 1
                run.shared.store(lanes, at + i, run.epochs(lanes), [words[:, i]])
            if not there.all():
                away = ~there
                remaining.append(Flight(flight.lanes[away], flight.group[away], flight.at[away], flight.words[away]))
        self.under_way = remaining


_CA = [f"cp.async.ca.shared{cta}.global" for cta in ("", "::cta")]
_CG = [f"cp.async.cg.shared{cta}.global" for cta in ("", "::cta")]


@instruction(*_CA, *_CG)
def _copy(d: Decoder, what: Instruction) -> Step:
    """[shared], [global], bytes: 4, 8 or 16. A fourth operand says how many of them are read: zeros follow."""
    to, source, size = d.address(what.operands[0]), d.address(what.operands[1]), int(what.operands[2])
    if size not in ((16,) if ".cg." in what.opcode else (4, 8, 16)):
        raise Fault(f"unknown size of a copy: {what.text}")
    count = d.reader(what.operands[3], "u32") if len(what.operands) > 3 else None

    def copy(run: Run, active: Active) -> None:
        lanes = run.those(active)
        at = run.shared.place(run.full(to(run))[lanes], size, run.row[lanes])
        asked = np.full(len(lanes), size) if count is None else run.full(count(run))[lanes].astype(np.int64)
        if (asked & 3).any() or (asked > size).any():
            raise Fault("a copy of no whole words, or of more than it has")
        words = np.zeros((len(lanes), size // 4), np.uint32)
        origin = run.full(source(run))[lanes]
        if (origin & (size - 1)).any():
            raise Fault(f"misaligned: a copy of {size} bytes")
        for i in range(size // 4):
            some = asked > 4 * i
            if some.any():
                words[some, i] = run.memory.load(origin[some] + 4 * i, 4, 1, run.block[lanes[some]])[0]
        for i in range(size // 4):
            run.shared.touch(lanes, at + i, run.epochs(lanes), True)
            run.shared.flying[at + i] += 1
        run.flights.under_way.append(Flight(lanes, run.flights.closed[lanes], at, words))
        if run.figures is not None and (asked == size).any():
            run.figures.count_global(lanes[asked == size], origin[asked == size], size)

    return copy


@instruction("cp.async.commit_group")
def _commit(d: Decoder, what: Instruction) -> Step:
    def commit(run: Run, active: Active) -> None:
        run.flights.closed[run.those(active)] += 1

    return commit


@instruction("cp.async.wait_group")
def _wait(d: Decoder, what: Instruction) -> Step:
    """Until at most so many of the thread's latest groups are under way."""
    left = int(what.operands[0])

    def wait(run: Run, active: Active) -> None:
        ready = np.zeros(run.lanes, np.int64)
        lanes = run.those(active)
        ready[lanes] = run.flights.closed[lanes] - left
        run.flights.land(run, ready)

    return wait


@instruction("cp.async.wait_all")
def _wait_all(d: Decoder, what: Instruction) -> Step:
    def wait(run: Run, active: Active) -> None:
        ready = np.zeros(run.lanes, np.int64)
        ready[run.those(active)] = np.iinfo(np.int64).max
        run.flights.land(run, ready)

    return wait
