"""Small kernels written by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.ptx.machine import Machine
from tests.ptx.registers import DTYPES, Array

# %rd1, %rd2, ... begin as addresses of the kernel's buffers, %tid is the thread in its block, %at four times the thread in the grid


def kernel(body: str, buffers: int, shared: int = 0) -> str:
    """The text of a kernel over so many buffers, with an array `tile` of shared memory."""
    parameters = ", ".join(f".param .u64 p{i}" for i in range(buffers))
    loads = "\n".join(f"ld.param.b64 %rd{i + 1}, [p{i}];" for i in range(buffers))
    tile = f".shared .align 1024 .b8 tile[{shared}];" if shared else ""
    return f"""
.version 8.0
.target sm_90a
.address_size 64
{tile}
.visible .entry kernel({parameters})
{{
    .reg .pred %p<9>;
    .reg .b16 %h<9>;
    .reg .b32 %r<99>;
    .reg .b64 %rd<40>;
    .reg .b32 %tid, %at, %block;
    .reg .b64 %wide;
    {loads}
    mov.u32 %tid, %tid.x;
    mov.u32 %block, %ctaid.x;
    mov.u32 %at, %ntid.x;
    mad.lo.s32 %at, %at, %block, %tid;
    shl.b32 %at, %at, 2;
    cvt.u64.u32 %wide, %at;
    {body}
}}
"""


def run(
    body: str, arrays: Sequence[Array], results: Sequence[Array] = (), grid: int = 1, threads: int = 32, shared: int = 0
) -> tuple[Machine, list[Array]]:
    """Run a kernel over copies of arrays, and buffers like `results` behind them, which it returns."""
    machine = Machine(kernel(body, len(arrays) + len(results), shared))
    addresses = [machine.memory.put(a) for a in arrays]
    made = [machine.memory.allocate(a.nbytes) for a in results]
    machine.launch(grid, threads, [*addresses, *made])
    return machine, [machine.memory.read(at, a.dtype, a.shape) for at, a in zip(made, results, strict=True)]


def compute(opcode: str, kinds: Sequence[str], result: str, *operands: Array) -> Array:
    """What an instruction makes of arrays of 32 n numbers of those types."""
    names = {1: "%h", 2: "%h", 4: "%r", 8: "%rd"}

    def register(kind: str, i: int) -> str:
        return f"{names[DTYPES[kind].itemsize]}{i + 2 + (len(operands) if kind[1:] == '64' else 0)}"

    body, used = [], []
    for i, kind in enumerate(kinds):
        size = 1 if kind == "pred" else DTYPES[kind].itemsize
        body.append(f"mad.wide.u32 %rd30, %tid, {size}, %rd{i + 1};")
        if kind == "pred":
            body.append(f"ld.global.u8 %h1, [%rd30]; setp.ne.s16 %p{i + 1}, %h1, 0;")
            used.append(f"%p{i + 1}")
        else:
            used.append(register(kind, i))
            body.append(f"ld.global.{kind} {used[-1]}, [%rd30];")
    to = "%p8" if result == "pred" else register(result, len(kinds) + 1)
    body.append(f"{opcode} {to}, {', '.join(used)};")
    size = DTYPES[result].itemsize
    body.append(f"mad.wide.u32 %rd30, %tid, {4 if result == 'pred' else size}, %rd{len(kinds) + 1};")
    body.append(
        f"selp.b32 %r1, 1, 0, {to}; st.global.b32 [%rd30], %r1;"
        if result == "pred"
        else f"st.global.{result} [%rd30], {to};"
    )
    arrays = [
        np.ascontiguousarray(a, np.uint8 if k == "pred" else DTYPES[k]) for k, a in zip(kinds, operands, strict=True)
    ]
    like = np.zeros(len(arrays[0]), np.uint32 if result == "pred" else DTYPES[result])
    return run("\n".join([*body, "ret;"]), arrays, [like], threads=len(like))[1][0]
