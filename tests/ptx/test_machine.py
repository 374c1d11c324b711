"""Branches, barriers, the counts, and what a warp does together."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ptx.text import Fault
from tests.ptx.writing import run


def test_threads_part_and_meet() -> None:
    """Collatz's steps, a number of its own for each thread: loops of different lengths with a branch inside."""
    body = """
        add.u64 %rd3, %rd1, %wide; add.u64 %rd4, %rd2, %wide; ld.global.b32 %r1, [%rd3]; mov.b32 %r2, 0;
        $head: setp.eq.s32 %p1, %r1, 1; @%p1 bra $done;
        and.b32 %r3, %r1, 1; setp.ne.s32 %p2, %r3, 0; @%p2 bra $odd;
        shr.u32 %r1, %r1, 1; bra.uni $next;
        $odd: mad.lo.s32 %r1, %r1, 3, 1;
        $next: add.s32 %r2, %r2, 1; bra.uni $head;
        $done: bar.sync 0; st.global.b32 [%rd4], %r2; ret;
    """
    x = np.arange(1, 97, dtype=np.int32)
    machine, [y] = run(body, [x], [x], grid=3)

    def steps(n: int) -> int:
        return 0 if n == 1 else 1 + steps(3 * n + 1 if n % 2 else n // 2)

    assert y.tolist() == [steps(int(n)) for n in x]
    assert machine.figures.barriers == 3
    assert machine.figures.instructions["ret"] == 3


def test_warps_that_wait() -> None:
    """The first warp comes to the barrier by another way than the second."""
    body = """
        mov.b32 %r1, tile; shl.b32 %r2, %tid, 2; add.s32 %r1, %r1, %r2;
        setp.lt.u32 %p1, %tid, 32; @%p1 bra $first;
        st.shared.b32 [%r1], %tid; bar.sync 0; bra.uni $end;
        $first: st.shared.b32 [%r1], 100; bar.sync 0;
        $end: xor.b32 %r3, %r1, 128; ld.shared.b32 %r4, [%r3]; add.u64 %rd3, %rd1, %wide; st.global.b32 [%rd3], %r4; ret;
    """
    _, [y] = run(body, [], [np.zeros(64, np.int32)], threads=64, shared=256)
    assert y.tolist() == [*range(32, 64), *[100] * 32]


ADDRESS = "mov.b32 %r1, tile; mul.lo.s32 %r2, %tid, {step}; and.b32 %r2, %r2, 4095; add.s32 %r1, %r1, %r2;"


@pytest.mark.parametrize(
    ("step", "width", "cycles", "least"),
    [(4, 1, 1, 1), (8, 1, 2, 1), (128, 1, 32, 1), (132, 1, 1, 1), (0, 1, 1, 1), (8, 2, 2, 2), (16, 4, 4, 4), (32, 4, 8, 4), (0, 4, 2, 2)],
)  # fmt: skip
def test_conflicts_of_banks(step: int, width: int, cycles: int, least: int) -> None:
    vector = {1: ("", "%r3"), 2: (".v2", "{%r3, %r4}"), 4: (".v4", "{%r3, %r4, %r5, %r6}")}[width]
    fill = "mov.b32 %r8, tile; shl.b32 %r9, %tid, 2; $more: add.s32 %r7, %r8, %r9; st.shared.b32 [%r7], 0;" + (
        "add.s32 %r9, %r9, 128; setp.lt.s32 %p2, %r9, 4224; @%p2 bra $more; bar.sync 0;"
    )
    base, _ = run(fill + "ret;", [], shared=4224)
    machine, _ = run(
        fill + ADDRESS.format(step=step) + f"ld.shared{vector[0]}.b32 {vector[1]}, [%r1]; ret;", [], shared=4224
    )
    a, b = base.figures, machine.figures
    assert (b.shared_cycles - a.shared_cycles, b.shared_least - a.shared_least) == (cycles, least)
    assert b.shared_requests - a.shared_requests == 1


@pytest.mark.parametrize(("step", "sectors", "least"), [(4, 4, 4), (8, 8, 4), (32, 32, 4), (0, 1, 1)])
def test_sectors(step: int, sectors: int, least: int) -> None:
    body = f"mad.wide.u32 %rd3, %tid, {step}, %rd1; ld.global.b32 %r1, [%rd3]; ret;"
    machine, _ = run(body, [np.zeros(256, np.float32)])
    assert (machine.figures.sectors, machine.figures.sectors_least) == (sectors, least)


def test_shuffles() -> None:
    def shuffled(mode: str, by: str, bounds: int = 31) -> list[int]:
        body = f"shfl.sync.{mode}.b32 %r1|%p1, %tid, {by}, {bounds}, 0xffffffff; selp.b32 %r2, 0, 100, %p1; add.s32 %r1, %r1, %r2;"
        return run(body + "add.u64 %rd3, %rd1, %wide; st.global.b32 [%rd3], %r1; ret;", [], [np.zeros(32, np.int32)])[
            1
        ][0].tolist()

    lanes = np.arange(32)
    assert shuffled("bfly", "5") == (lanes ^ 5).tolist()
    assert shuffled("down", "9") == [i + 9 if i < 23 else i + 100 for i in range(32)]
    assert shuffled("up", "9", 0) == [i - 9 if i >= 9 else i + 100 for i in range(32)]
    assert shuffled("idx", "%tid") == lanes.tolist()
    assert shuffled("idx", "3") == [3] * 32
    segments = 31 | 24 << 8  # of 8 threads
    assert shuffled("idx", "3", segments) == (lanes // 8 * 8 + 3).tolist()
    assert shuffled("down", "2", segments) == [i + 2 if i % 8 < 6 else i + 100 for i in range(32)]
    assert shuffled("up", "2", 24 << 8) == [i - 2 if i % 8 >= 2 else i + 100 for i in range(32)]


def test_votes() -> None:
    body = "setp.eq.u32 %p1, %tid, 40; vote.sync.any.pred %p2, %p1, -1; vote.sync.all.pred %p3, !%p1, -1; selp.b32 %r1, 1, 0, %p2;"
    body += "selp.b32 %r2, 2, 0, %p3; or.b32 %r1, %r1, %r2; add.u64 %rd3, %rd1, %wide; st.global.b32 [%rd3], %r1; ret;"
    _, [y] = run(body, [], [np.zeros(64, np.int32)], threads=64)
    assert y.tolist() == [2] * 32 + [1] * 32


def test_a_fault_names_its_instruction() -> None:
    with pytest.raises(Fault, match=r"(?s)misaligned.*in: st.global.b32 \[%rd1\+1\], %tid"):
        run("st.global.b32 [%rd1+1], %tid; ret;", [np.zeros(64, np.float32)])
