"""Every planted fault is found, and the kernel without it runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tests.ptx.machine import Machine
from tests.ptx.text import Fault
from tests.ptx.writing import kernel, run

# x[i] goes through shared memory to the neighbor: y[i] = x[i ^ 1]
EXCHANGE = """
    add.u64 %rd3, %rd1, %wide; add.u64 %rd4, %rd2, %wide;
    ld.global.b32 %r1, [%rd3];
    mov.b32 %r2, tile; shl.b32 %r3, %tid, 2; add.s32 %r4, %r2, %r3; xor.b32 %r5, %r4, 4;
    st.shared.b32 [%r4], %r1;
    bar.sync 0;
    ld.shared.b32 %r6, [%r5];
    st.global.b32 [%rd4], %r6;
    ret;
"""
# the same in two steps of 64 bytes a thread, copied by the machine while others are used
COPIES = """
    mov.b32 %r1, tile; shl.b32 %r2, %tid, 4; add.s32 %r3, %r1, %r2; mul.wide.u32 %rd5, %tid, 16; add.u64 %rd3, %rd1, %rd5;
    cp.async.cg.shared.global [%r3], [%rd3], 16;
    cp.async.commit_group;
    cp.async.cg.shared.global [%r3+512], [%rd3+512], 16, 16;
    cp.async.commit_group;
    cp.async.wait_group 1;
    bar.sync 0;
    xor.b32 %r4, %r3, 16;
    ld.shared.b32 %r5, [%r4];
    add.u64 %rd4, %rd2, %wide;
    st.global.b32 [%rd4], %r5;
    cp.async.wait_group 0;
    ret;
"""
STORE = """
    add.u64 %rd4, %rd2, %wide;
    st.global.b32 [%rd4], %tid;
    ret;
"""
OTHER = "xor.b64 %rd5, %wide, {by}; add.u64 %rd5, %rd2, %rd5;"


@dataclass(frozen=True)
class Case:
    """A text that stands in a kernel, what it becomes, and what the fault says."""

    kernel: str
    right: str
    wrong: str
    message: str


CASES = {
    "no barrier": Case(EXCHANGE, "bar.sync 0;", "", "no barrier between two threads"),
    "barrier of some": Case(EXCHANGE, "bar.sync 0;", "setp.lt.u32 %p1, %tid, 7; @%p1 bar.sync 0;", "others have ended|no barrier"),
    "barrier behind the end": Case(
        EXCHANGE, "bar.sync 0;", "setp.lt.u32 %p1, %tid, 32; @%p1 ret; bar.sync 0;", "barrier: some threads .* have ended"
    ),
    "written behind reads": Case(
        EXCHANGE, "st.global.b32 [%rd4], %r6;", "st.shared.b32 [%r4], %r6; st.global.b32 [%rd4], %r6;", "a thread that reads"
    ),
    "two write a word": Case(EXCHANGE, "st.shared.b32 [%r4], %r1;", "st.shared.b32 [tile], %r1;", "two threads write"),
    "shared memory ends": Case(EXCHANGE, "[%r5];", "[%r5+256];", "out of bounds: shared memory has 256 bytes"),
    "in front of shared memory": Case(EXCHANGE, "[%r5];", "[%r5+-1024];", "out of bounds: shared"),
    "shared, misaligned": Case(EXCHANGE, "ld.shared.b32 %r6, [%r5];", "ld.shared.v2.b32 {%r6, %r7}, [%r5];", "misaligned: shared"),
    "shared, never written": Case(EXCHANGE, "st.shared.b32 [%r4], %r1;", "", "uninitialised: shared"),
    "register": Case(EXCHANGE, "[%rd4], %r6;", "[%rd4], %r9;", "uninitialised: register %r9"),
    "register of some": Case(
        EXCHANGE, "st.global.b32 [%rd4], %r6;", "setp.ne.u32 %p1, %tid, 9; @%p1 mov.b32 %r9, %r6; st.global.b32 [%rd4], %r9;",
        "uninitialised: register %r9 in some threads",
    ),
    "wait too short": Case(COPIES, "cp.async.wait_group 1;", "cp.async.wait_group 2;", "no wait: shared memory is touched"),
    "no wait": Case(COPIES, "cp.async.wait_group 1;", "", "no wait: shared memory is touched"),
    "copy, no barrier": Case(COPIES, "bar.sync 0;", "", "no barrier between two threads"),
    "copy, misaligned": Case(COPIES, "[%rd3], 16;", "[%rd3+4], 16;", "misaligned: a copy"),
    "copy from outside": Case(COPIES, "[%rd3+512]", "[%rd3+1024]", "out of bounds: .* threads read"),
    "copy to outside": Case(COPIES, "[%r3+512]", "[%r3+1024]", "out of bounds: shared"),
    "copied twice": Case(COPIES, "[%r3+512]", "[%r3]", "while a copy to it is under way"),
    "copy of part of a word": Case(COPIES, "[%rd3+512], 16, 16;", "[%rd3+512], 16, 6;", "no whole words"),
    "behind a buffer": Case(STORE, "[%rd4], %tid;", "[%rd4+4], %tid;", "out of bounds: 1 threads write"),
    "in front of a buffer": Case(STORE, "[%rd4], %tid;", "[%rd4-4], %tid;", "out of bounds: 1 threads write"),
    "no buffer": Case(STORE, "[%rd4], %tid;", "[%wide], %tid;", "out of bounds"),
    "global, misaligned": Case(STORE, "[%rd4], %tid;", "[%rd4+2], %tid;", "misaligned: global"),
    "two blocks": Case(STORE, "[%rd4], %tid;", "[%rd2], %tid;", "two blocks write one address"),
    "a block reads what others write": Case(STORE, "ret;", f"{OTHER.format(by=256)} ld.global.b32 %r1, [%rd5]; ret;", "race: a block"),
    "never written": Case(STORE, "ret;", f"{OTHER.format(by=4)} ld.global.b32 %r1, [%rd5+512]; ret;", "uninitialised: global"),
    "endless": Case(STORE, "ret;", "$L: bra $L;", "does not end"),
    "unknown": Case(STORE, "ret;", "sin.approx.f32 %r1, %r1; ret;", "unknown instruction: sin.approx.f32"),
    "unknown register": Case(STORE, "[%rd4], %tid;", "[%rd4], %q1;", "unknown operand: %q1"),
    "local memory": Case(STORE, "ret;", ".local .align 8 .b8 depot[8]; ret;", "local memory"),
    "part of a warp": Case(STORE, "ret;", "setp.lt.u32 %p1, %tid, 7; @%p1 shfl.sync.bfly.b32 %r1, %tid, 1, 31, -1; ret;", "part of a warp"),
    "part of a warp named": Case(STORE, "ret;", "shfl.sync.bfly.b32 %r1, %tid, 1, 31, 7; ret;", "a mask of some threads"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_planted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    monkeypatch.setattr("tests.ptx.machine.STEPS", 2000)
    x = np.arange(256, dtype=np.float32)
    y = np.zeros(1024 if name == "never written" else 128, np.float32)
    shared = {EXCHANGE: 256, COPIES: 1024}.get(case.kernel, 0)
    grid, threads = (1, 32) if case.kernel == COPIES else (2, 64)
    assert case.right in case.kernel
    run(case.kernel, [x], [y], grid, threads, shared)
    with pytest.raises(Fault, match=case.message):
        run(case.kernel.replace(case.right, case.wrong), [x], [y], grid, threads, shared)


def test_right_values() -> None:
    x = np.arange(128, dtype=np.float32)
    _, [y] = run(EXCHANGE, [x], [x], 2, 64, 256)
    assert np.array_equal(y, x.reshape(-1, 2)[:, ::-1].reshape(-1))
    x = np.arange(256, dtype=np.float32)
    _, [y] = run(COPIES, [x], [np.zeros(32, np.float32)], 1, 32, 1024)
    assert np.array_equal(y, 4 * (np.arange(32) ^ 1))


def test_copies_are_filled_with_zeros() -> None:
    body = COPIES.replace("[%rd3], 16;", "[%rd3], 16, %r8;").replace(
        "mov.b32 %r1, tile;", "mov.b32 %r1, tile; and.b32 %r8, %tid, 1; shl.b32 %r8, %r8, 4;"
    )
    _, [y] = run(body, [np.ones(256, np.float32)], [np.zeros(32, np.float32)], 1, 32, 1024)
    assert np.array_equal(y, (np.arange(32) ^ 1) & 1)


def test_launches() -> None:
    machine = Machine(kernel(STORE, 2))
    at = machine.memory.allocate(256)
    with pytest.raises(Fault, match="whole warps"):
        machine.launch(1, 33, [at, at])
    with pytest.raises(Fault, match="1 arguments for 2"):
        machine.launch(1, 32, [at])
    machine.launch(1, 64, [at, at])
    machine.launch(1, 64, [at, at])  # another launch may write what one wrote
    machine.memory.release(at)
    with pytest.raises(Fault, match="out of bounds"):
        machine.launch(1, 64, [at, at])
    with pytest.raises(Fault, match="more than the kernel's 64"):
        Machine(kernel(STORE, 2).replace("\n{", "\n.maxntid 64\n{")).launch(1, 96, [at, at])
    with pytest.raises(Fault, match="leaves its allocation"):
        machine.memory.write(machine.memory.allocate(8), np.zeros(3, np.float32))


def test_texts() -> None:
    with pytest.raises(Fault, match="outside of the kernels"):
        Machine(".version 8.0\n.visible .func f() { ret; }" + kernel("ret;", 0).replace(".version 8.0", ""))
    body = ".reg .b32 %n; mov.b32 %n, 7; { .reg .b32 %n; mov.b32 %n, 5; } add.u64 %rd4, %rd1, %wide; st.global.b32 [%rd4], %n; ret;"
    assert run(body, [], [np.zeros(32, np.int32)])[1][0].tolist() == [7] * 32
