"""What the machine can do at best: multiply-adds in registers, and reading from any level of memory.

`peak` runs chains of multiply-adds over registers, so that memory does not hold them back, and latency does not where
there are enough chains. `stream` reads a chunk's own floats again and again.
"""

from __future__ import annotations

from typing import Any

from numba import types

from . import Family
from .code.emit import Emitter, Value
from .code.vector import FLOATS, emitted, vectors
from .target import Target

LOADS = 8  # vectors read in a turn of `stream`, into as many sums: more than an addition's latency


def make_peak(target: Target, chains: int) -> Any:
    V = vectors(target)

    def emit(e: Emitter, x: Value, turns: Value) -> None:
        a, b = e.load(x, 0), e.load(x, e.lanes)
        start = [e.load(x, (2 + i) * e.lanes) for i in range(chains)]

        def step(s: Value) -> Value:
            """Without fma, a product of what does not change would leave the loop."""
            return e.fma(a, b, s) if target.fma else e.b.fadd(e.b.fmul(a, s), b)

        sums = e.loop(turns, start, lambda i, carried: [step(s) for s in carried])
        for i, value in enumerate(sums):
            e.store(value, x, (2 + i) * e.lanes)

    run = emitted(target, None, (FLOATS, types.int64), emit)

    def kernel(arguments, chunk, scratch):
        run(V.offset(V.floats(arguments[2]), chunk * arguments[1]), arguments[0])

    return kernel


def make_stream(target: Target) -> Any:
    V, lanes = vectors(target), target.lanes

    def emit(e: Emitter, x: Value, turns: Value) -> Value:
        def body(i: Value, carried: list[Value]) -> list[Value]:
            at, *sums = carried
            loaded = [e.load(at, j * e.lanes) for j in range(LOADS)]
            return [e.at(at, LOADS * e.lanes), *(e.b.fadd(s, v) for s, v in zip(sums, loaded, strict=True))]

        _, total, *rest = e.loop(turns, [x, *[e.const(0)] * LOADS], body)
        for s in rest:
            total = e.b.fadd(total, s)
        return total

    read = emitted(target, V.vector, (FLOATS, types.int64), emit)

    def kernel(arguments, chunk, scratch):
        x = V.offset(V.floats(arguments[2]), chunk * arguments[0] * LOADS * lanes)
        kept = V.zero()
        for _ in range(arguments[1]):
            kept += read(x, arguments[0])
        V.store(kept, scratch, 0)

    return kernel


FAMILIES = (
    Family(
        "peak", ("turns", "apart", "x"), make_peak, "`turns` times `chains` multiply-adds on x + chunk * apart floats"
    ),
    Family("stream", ("turns", "passes", "x"), make_stream, "`passes` over a chunk's own `turns` * LOADS vectors of x"),
)
