"""Instructions that the threads of a warp perform together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.ptx.decode import Decoder, instruction
from tests.ptx.figures import WARP
from tests.ptx.registers import Active, Array, Step
from tests.ptx.text import Fault, Instruction

if TYPE_CHECKING:
    from tests.ptx.machine import Run

ALL = 0xFFFFFFFF


def _everybody(d: Decoder, operand: str) -> None:
    if int(d.reader(operand, "u32")(None)[0]) != ALL:  # type: ignore[arg-type]
        raise Fault("unknown: a mask of some threads of a warp")


@instruction(*(f"shfl.sync.{mode}.b32" for mode in ("bfly", "down", "up", "idx")))
def _shuffle(d: Decoder, what: Instruction) -> Step:
    """A value of another thread of the warp, or the thread's own where there is none: PTX's definition, with segments and bounds."""
    mode = what.opcode.split(".")[2]
    to, _, valid = what.operands[0].partition("|")
    write, writes_valid = d.writer(to), d.writer(valid) if valid else None
    read, by, bounds = (d.reader(operand, "u32") for operand in what.operands[1:4])
    _everybody(d, what.operands[4])

    def shuffle(run: Run, active: Active) -> None:
        run.whole(active)
        lane = run.every % WARP
        b = by(run).astype(np.int64) & 31
        c = bounds(run).astype(np.int64)
        last, segment = c & 31, c >> 8 & 31
        most = (lane & segment) | (last & ~segment)
        least = lane & segment
        other = {"bfly": lane ^ b, "down": lane + b, "up": lane - b, "idx": least | (b & ~segment)}[mode]
        there = other >= most if mode == "up" else other <= most
        other = np.where(there, other, lane)
        write(run, run.full(read(run))[run.every - lane + other], active)
        if writes_valid is not None:
            writes_valid(run, there, active)

    return shuffle


@instruction("vote.sync.any.pred", "vote.sync.all.pred")
def _vote(d: Decoder, what: Instruction) -> Step:
    write, read = d.writer(what.operands[0]), d.reader(what.operands[1].lstrip("!"), "pred")
    negated, every = what.operands[1].startswith("!"), ".all." in what.opcode
    _everybody(d, what.operands[2])

    def vote(run: Run, active: Active) -> None:
        run.whole(active)
        table = (run.full(read(run)) ^ negated).reshape(-1, WARP)
        write(run, np.repeat(table.all(1) if every else table.any(1), WARP), active)

    return vote


@instruction("bar.warp.sync")
def _meet(d: Decoder, what: Instruction) -> Step:
    """Threads of a warp meet. That one sees then what another wrote to shared memory is not relied on: it would need a barrier."""
    _everybody(d, what.operands[0])

    def meet(run: Run, active: Active) -> None:
        run.whole(active)

    return meet


@instruction(
    "ldmatrix.sync.aligned.m8n8.x1.shared.b16",
    "ldmatrix.sync.aligned.m8n8.x2.shared.b16",
    "ldmatrix.sync.aligned.m8n8.x4.shared.b16",
)
def _matrices(d: Decoder, what: Instruction) -> Step:
    """Matrices of 8 rows of 16 bytes: threads 8 i to 8 i + 7 of a warp name the rows of matrix i, and thread 4 r + w gets word w of
    row r.
    """
    writers = [d.writer(o) for o in what.operands[0].strip("{}").replace(" ", "").split(",")]
    address = d.address(what.operands[1])

    def load(run: Run, active: Active) -> None:
        warps = run.whole(active)
        rows = run.full(address(run)).reshape(-1, WARP)[warps]
        lanes = (warps[:, None] * WARP + np.arange(WARP)).reshape(-1)
        for i, write in enumerate(writers):
            mine = rows[:, 8 * i : 8 * i + 8]
            run.shared.place(mine.reshape(-1), 16, run.row[np.repeat(warps * WARP, 8)])
            if run.figures is not None:
                run.figures.count_shared(
                    np.repeat(warps * WARP, 8) + np.tile(np.arange(8), len(warps)), mine.reshape(-1), 16
                )
            word = (np.repeat(mine, 4, 1) + np.tile(4 * np.arange(4), 8)).reshape(-1)
            place = run.shared.place(word, 4, run.row[lanes])
            value = run.shared.load(lanes, place, run.epochs(lanes), 1)[0]
            write(run, _all(run, value, lanes), active)

    return load


def _all(run: Run, value: Array, lanes: Array) -> Array:
    full = np.zeros(run.lanes, value.dtype)
    full[lanes] = value
    return full
