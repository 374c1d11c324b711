"""Tensor cores: products of small matrices that a warp, or four of them, hold together.

Numbers come in as tf32 (float32 whose last 13 bits are dropped) or bf16; products are exact and added up in float64 here, and
rounded once: a chip may round sums of many terms otherwise.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from tests.ptx.decode import Decoder, instruction
from tests.ptx.figures import WARP
from tests.ptx.registers import Active, Array, Step
from tests.ptx.text import Fault, Instruction, vector

if TYPE_CHECKING:
    from tests.ptx.machine import Run

ROW, COLUMN = np.arange(WARP) // 4, np.arange(WARP) % 4  # of a thread in the fragments of its warp


def tf32(bits: Array) -> Array:
    return (bits & np.uint32(0xFFFFE000)).view(np.float32)


def _halves(bits: Array) -> tuple[Array, Array]:
    """Two bf16 as float32."""
    return (bits << np.uint32(16)).view(np.float32), (bits & np.uint32(0xFFFF0000)).view(np.float32)


@instruction(
    "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"
)
def _mma(d: Decoder, what: Instruction) -> Step:
    """D[16, 8] = A[16, k] B[k, 8] + C. Of A a thread has rows r, r + 8 and columns c, c + 4 (of bf16: pairs 2 c and 2 c + 8), of B
    the same of k in column r, of C and D rows r, r + 8 in columns 2 c, 2 c + 1.
    """
    bf16 = ".bf16." in what.opcode
    to, a, b, c = (vector(o) for o in what.operands)
    writers = [d.writer(o) for o in to]
    left, right, added = ([d.reader(o, kind) for o in part] for part, kind in ((a, "b32"), (b, "b32"), (c, "f32")))

    def mma(run: Run, active: Active) -> None:
        run.whole(active)
        warps, depth = run.lanes // WARP, 16 if bf16 else 8
        A, B, C = np.zeros((warps, 16, depth)), np.zeros((warps, depth, 8)), np.zeros((warps, 16, 8))
        for i, read in enumerate(left):
            value, row, part = run.full(read(run)).reshape(warps, WARP), ROW + 8 * (i % 2), i // 2
            if bf16:
                A[:, row, 2 * COLUMN + 8 * part], A[:, row, 2 * COLUMN + 8 * part + 1] = _halves(value)
            else:
                A[:, row, COLUMN + 4 * part] = tf32(value)
        for i, read in enumerate(right):
            value = run.full(read(run)).reshape(warps, WARP)
            if bf16:
                B[:, 2 * COLUMN + 8 * i, ROW], B[:, 2 * COLUMN + 8 * i + 1, ROW] = _halves(value)
            else:
                B[:, COLUMN + 4 * i, ROW] = tf32(value)
        for i, read in enumerate(added):
            C[:, ROW + 8 * (i // 2), 2 * COLUMN + i % 2] = run.full(read(run)).reshape(warps, WARP)
        D = (A @ B + C).astype(np.float32)
        for i, write in enumerate(writers):
            write(run, D[:, ROW + 8 * (i // 2), 2 * COLUMN + i % 2].reshape(-1), active)

    return mma


# ---- Hopper's: four warps, with a matrix of weights, or both, in shared memory

GROUP = 128
_SIZES = range(8, 257, 8)


@instruction("wgmma.fence.sync.aligned")
def _fence(d: Decoder, what: Instruction) -> Step:
    def fence(run: Run, active: Active) -> None:
        run.whole(active)
        run.tensor.fenced = True

    return fence


@instruction("wgmma.commit_group.sync.aligned")
def _commit(d: Decoder, what: Instruction) -> Step:
    def commit(run: Run, active: Active) -> None:
        run.whole(active)
        run.tensor.groups.append([])

    return commit


@instruction("wgmma.wait_group.sync.aligned")
def _wait(d: Decoder, what: Instruction) -> Step:
    left = int(what.operands[0])

    def wait(run: Run, active: Active) -> None:
        run.whole(active)
        run.tensor.wait(left)

    return wait


@instruction("fence.proxy.async", "fence.proxy.async.shared::cta")
def _proxy(d: Decoder, what: Instruction) -> Step:
    """What the threads have written to shared memory can be read by tensor cores, behind a barrier."""

    def fence(run: Run, active: Active) -> None:
        mine = np.zeros(run.lanes + 1, bool)
        mine[run.those(active)] = True
        run.shared.unseen &= ~mine[run.shared.writer]

    return fence


class Tensor:
    """Products under way: groups of the registers that they write, the last of them still open."""

    def __init__(self) -> None:
        self.fenced, self.groups = False, [[]]
        self.busy: frozenset[str] = frozenset()

    groups: list[list[str]]

    def begin(self, registers: list[str]) -> None:
        if not self.fenced:
            raise Fault("no wgmma.fence in front of wgmma.mma_async")
        self.groups[-1] += registers
        self.busy |= frozenset(registers)

    def wait(self, left: int) -> None:
        while len(self.groups) - 1 > left:
            self.groups.pop(0)
        self.busy = frozenset(r for group in self.groups for r in group)
        self.fenced = self.fenced and bool(self.busy)


def _matrix(run: Run, descriptor: Array, rows: int) -> Array:
    """[groups of warps, rows, 8] of a descriptor: rows of 8 numbers along the products' sums, swizzled by 128 bytes."""
    table = descriptor.reshape(-1, GROUP)
    if (table != table[:, :1]).any():
        raise Fault("threads of four warps have different descriptors")
    bits = table[:, 0].astype(np.uint64)
    if (bits >> np.uint64(62) != 1).any():
        raise Fault("unknown descriptor: the swizzle is not of 128 bytes")
    field = lambda at: ((bits >> np.uint64(at) & np.uint64(0x3FFF)).astype(np.int64) << 4)[:, None, None]  # noqa: E731
    row, column = np.arange(rows)[:, None], np.arange(8)
    at = field(0) + row // 8 * field(32) + row % 8 * 128 + 4 * column
    at = at ^ (at >> 7 & 7) << 4
    first = np.arange(len(table)) * GROUP
    which = np.broadcast_to(run.row[first][:, None, None], at.shape)
    words = run.shared.place(at.reshape(-1), 4, which.reshape(-1))
    shared, epoch = run.shared, run.block_epoch[which.reshape(-1)]
    if shared.flying[words].any():
        raise Fault("no wait: tensor cores read shared memory while a copy to it is under way")
    if not shared.known[words].all():
        raise Fault("uninitialised: tensor cores read shared memory that nothing has written")
    if (shared.write_epoch[words] == epoch).any():
        raise Fault("race: no barrier between a thread that writes a word and tensor cores that read it")
    if shared.unseen[words].any():
        raise Fault("no fence.proxy.async between threads that write and tensor cores that read")
    shared.read_epoch[words], shared.reader[words] = epoch, -2
    return tf32(shared.words[words]).astype(np.float64).reshape(at.shape)


@instruction(*(f"wgmma.mma_async.sync.aligned.m64n{n}k8.f32.tf32.tf32" for n in _SIZES))
def _wgmma(d: Decoder, what: Instruction) -> Step:
    """D[64, n] += A[64, 8] B[n, 8]^T. Warp w of the four has rows 16 w to 16 w + 15 of D, and of A where that is in registers: as of
    `mma`, for every 8 columns of D.
    """
    n = int(re.search(r"m64n(\d+)k8", what.opcode)[1])  # type: ignore[index]
    names = vector(what.operands[0])
    if len(names) != n // 2 or what.operands[3:] != ("1", "1", "1"):
        raise Fault(f"unknown form of wgmma: {what.text}")
    writers, sums = [d.writer(r) for r in names], names
    left = [d.reader(o, "b32") for o in vector(what.operands[1])] if what.operands[1].startswith("{") else None
    place = None if left else d.reader(what.operands[1], "u64")
    right = d.reader(what.operands[2], "u64")
    lane, j = np.arange(GROUP), np.arange(n // 2)
    row = (16 * (lane // WARP) + lane % WARP // 4)[:, None] + 8 * (j // 2 % 2)
    column = (lane % 4 * 2)[:, None] + j // 4 * 8 + j % 2

    def wgmma(run: Run, active: Active) -> None:
        if active is not None or run.threads % GROUP:
            raise Fault("part of four warps: wgmma is for all of their threads")
        run.tensor.begin(names)
        groups = run.lanes // GROUP
        if left is None:
            A = _matrix(run, run.full(place(run)), 64)  # type: ignore[misc]
        else:
            A = np.zeros((groups, 64, 8))
            for i, read in enumerate(left):
                value = tf32(run.full(read(run)).reshape(groups, GROUP))
                A[:, 16 * (lane // WARP) + lane % WARP // 4 + 8 * (i % 2), lane % 4 + 4 * (i // 2)] = value
        product = A @ _matrix(run, run.full(right(run)), n).transpose(0, 2, 1)
        mine = product[:, row, column].reshape(run.lanes, n // 2)
        for i, write in enumerate(writers):
            total = run.held(sums[i]).view(np.float32).astype(np.float64) + mine[:, i]
            write(run, total.astype(np.float32), None)

    return wgmma
