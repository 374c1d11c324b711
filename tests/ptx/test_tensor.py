"""Products on tensor cores, held against products of whole matrices."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ptx.registers import Array
from tests.ptx.text import Fault
from tests.ptx.writing import run

RNG = np.random.default_rng(3)


def integers(*shape: int) -> Array:
    return RNG.integers(-8, 9, shape).astype(np.float32)


def bf16(x: Array) -> Array:
    """Pairs along the last axis, as words."""
    halves = x.view(np.uint32) >> np.uint32(16)
    return halves[..., ::2] | halves[..., 1::2] << np.uint32(16)


# row 8 w + r of 16 bytes of the first buffer goes to shared memory where thread 8 w + r says; words come back by ldmatrix
LDMATRIX = """
    mul.wide.u32 %rd5, %tid, 16; add.u64 %rd3, %rd1, %rd5; ld.global.v4.b32 {%r1, %r2, %r3, %r4}, [%rd3];
    mov.b32 %r5, tile; shl.b32 %r6, %tid, 4; add.s32 %r5, %r5, %r6; st.shared.v4.b32 [%r5], {%r1, %r2, %r3, %r4};
    bar.sync 0;
    ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r11, %r12, %r13, %r14}, [%r5];
"""


def test_ldmatrix() -> None:
    x = np.arange(128, dtype=np.int32)
    stores = "".join(f"st.global.b32 [%rd4+{128 * i}], %r{11 + i};" for i in range(4))
    machine, [y] = run(LDMATRIX + f"add.u64 %rd4, %rd2, %wide; {stores} ret;", [x], [x], shared=512)
    assert np.array_equal(y, x)  # matrix i, row r, word w: thread 4 r + w of register i
    assert (machine.figures.shared_cycles, machine.figures.shared_least) == (8, 8)
    with pytest.raises(Fault, match="misaligned: shared"):
        run(LDMATRIX.replace("%r14}, [%r5]", "%r14}, [%r5+8]") + "ret;", [x], [x], shared=1024)
    with pytest.raises(Fault, match="no barrier"):
        run(LDMATRIX.replace("bar.sync 0;", "") + "ret;", [x], [x], shared=512)


@pytest.mark.parametrize("kind", ["tf32", "bf16"])
def test_mma(kind: str) -> None:
    depth = 8 if kind == "tf32" else 16
    a, b, c = integers(16, depth), integers(depth, 8), integers(16, 8)
    row, column = np.arange(32) // 4, np.arange(32) % 4
    left, right = (a, b.T.copy()) if kind == "tf32" else (bf16(a), bf16(b.T.copy()))
    left, right = left.view(np.uint32), right.view(np.uint32)
    A = np.stack([left[row + 8 * (i % 2), column + 4 * (i // 2)] for i in range(4)])
    B = np.stack([right[row, column + 4 * i] for i in range(2)])
    C = np.stack([c[row + 8 * (i // 2), 2 * column + i % 2] for i in range(4)])
    shape = "m16n8k8.row.col.f32.tf32.tf32.f32" if kind == "tf32" else "m16n8k16.row.col.f32.bf16.bf16.f32"
    loads = "".join(
        f"add.u64 %rd8, %rd{k}, %wide; ld.global.b32 %r{10 * k + i}, [%rd8+{128 * i}];"
        for k, n in ((1, 4), (2, 2), (3, 4))
        for i in range(n)
    )
    body = loads + (
        f"mma.sync.aligned.{shape} {{%r41,%r42,%r43,%r44}}, {{%r10,%r11,%r12,%r13}}, {{%r20,%r21}}, {{%r30,%r31,%r32,%r33}};"
        "add.u64 %rd8, %rd4, %wide;"
    )
    body += "".join(f"st.global.b32 [%rd8+{128 * i}], %r{41 + i};" for i in range(4)) + "ret;"
    _, [d] = run(body, [A, B, C], [C])
    expected = a @ b + c
    assert all(np.array_equal(d[i], expected[row + 8 * (i // 2), 2 * column + i % 2]) for i in range(4))


def swizzled(rows: Array) -> Array:
    """Rows of 32 numbers as tensor cores want them: the eight pieces of 16 bytes of row r at place p ^ (r & 7)."""
    pieces = rows.reshape(len(rows), 8, 4)
    out = np.empty_like(pieces)
    for r in range(len(rows)):
        out[r, np.arange(8) ^ (r & 7)] = pieces[r]
    return out


def wgmma(n: int, registers: bool, change: tuple[str, str] = ("", "")) -> tuple[Array, Array]:
    """What four warps make of A [64, 32] and B [n, 32], and A B^T: A from shared memory, or its first 8 columns from registers."""
    a, b = integers(64, 32), integers(n, 32)
    if registers:
        b[:, 8:] = 0
    memory = np.concatenate([swizzled(a), swizzled(b)]).astype(np.float32)
    lane = np.arange(128)
    row, column = 16 * (lane // 32) + lane % 32 // 4, lane % 4
    A = np.stack([a[row + 8 * (i % 2), column + 4 * (i // 2)] for i in range(4)])
    words = memory.size
    count = n // 2
    sums = ", ".join(f"%r{30 + i}" for i in range(count))
    body = f"""
        mov.b32 %r1, %tid;
        $copy: mul.wide.u32 %rd5, %r1, 4; add.u64 %rd5, %rd1, %rd5; ld.global.b32 %r2, [%rd5];
        mov.b32 %r3, tile; shl.b32 %r4, %r1, 2; add.s32 %r3, %r3, %r4; st.shared.b32 [%r3], %r2;
        add.s32 %r1, %r1, 128; setp.lt.u32 %p1, %r1, {words}; @%p1 bra $copy;
        fence.proxy.async.shared::cta;
        bar.sync 0;
        {"".join(f"mov.b32 %r{30 + i}, 0;" for i in range(count))}
        mov.b32 %r5, tile; shr.u32 %r5, %r5, 4; cvt.u64.u32 %rd6, %r5;
        or.b64 %rd6, %rd6, {1 << 62 | 64 << 32 | 1 << 16};
        add.u64 %rd7, %rd6, {64 * 128 >> 4};
        add.u64 %rd9, %rd2, %wide;
        {"".join(f"ld.global.b32 %r{10 + i}, [%rd9+{512 * i}];" for i in range(4))}
        wgmma.fence.sync.aligned;
    """
    for _ in range(1 if registers else 4):
        left = "{%r10, %r11, %r12, %r13}" if registers else "%rd6"
        body += f"wgmma.mma_async.sync.aligned.m64n{n}k8.f32.tf32.tf32 {{{sums}}}, {left}, %rd7, 1, 1, 1;"
        body += "add.u64 %rd6, %rd6, 2; add.u64 %rd7, %rd7, 2;"
    body += "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0; add.u64 %rd8, %rd3, %wide;"
    body += "".join(f"st.global.b32 [%rd8+{512 * i}], %r{30 + i};" for i in range(count)) + "ret;"
    assert change[0] in body
    _, [d] = run(
        body.replace(*change, 1) if change[0] else body,
        [memory, A],
        [np.zeros((count, 128), np.float32)],
        threads=128,
        shared=4 * words,
    )
    found = np.zeros((64, n), np.float32)
    for i in range(count):
        found[row + 8 * (i // 2 % 2), 2 * column + i // 4 * 8 + i % 2] = d[i]
    return found, a @ b.T


@pytest.mark.parametrize("registers", [False, True])
@pytest.mark.parametrize("n", [8, 32])
def test_wgmma(n: int, registers: bool) -> None:
    found, expected = wgmma(n, registers)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("bar.sync 0;", "", "no barrier"),
        ("fence.proxy.async.shared::cta;", "", "no fence.proxy.async"),
        ("wgmma.fence.sync.aligned;", "", "no wgmma.fence"),
        ("wgmma.wait_group.sync.aligned 0;", "", "no wait: register"),
        ("wgmma.wait_group.sync.aligned 0;", "wgmma.wait_group.sync.aligned 1;", "no wait: register"),
        (f"{1 << 62 | 64 << 32 | 1 << 16}", f"{64 << 32 | 1 << 16}", "unknown descriptor"),
        ("shr.u32 %r5, %r5, 4;", "shr.u32 %r5, %tid, 4;", "different descriptors"),
        ("add.u64 %rd7, %rd6, 512;", "add.u64 %rd7, %rd6, 600;", "out of bounds: shared"),
    ],
)
def test_faults_of_wgmma(right: str, wrong: str, message: str) -> None:
    with pytest.raises(Fault, match=message):
        wgmma(8, False, (right, wrong))
