"""What pooling does with a pixel, be it a vector of channels or one float."""

from __future__ import annotations

import math
from types import ModuleType

from llvmlite import ir
from numba import types

from ..code.emit import F32, Emitter, Value
from ..code.vector import FLOATS, MaskType, emitted, vectors
from ..target import Target

INT = types.int64


class Unit(ModuleType):
    """What a pixel holds: a vector of L channels, or one float. Every operation works on either.

    `read`, `write`, `constant` and `greater` emit code, the others are called from kernels.
    """

    def __init__(self, target: Target, blocked: bool) -> None:
        super().__init__("unit")
        module = vectors(target)
        kind = module.vector if blocked else types.float32
        truth = MaskType(target.lanes) if blocked else types.boolean
        self.width = target.lanes if blocked else 1
        self.floats, self.offset = module.floats, module.offset

        def read(e: Emitter, p: Value, i: Value) -> Value:
            return e.load(p, i) if blocked else e.b.load(e.at(p, i), align=4)

        def write(e: Emitter, v: Value, p: Value, i: Value) -> None:
            if blocked:
                e.store(v, p, i)
            else:
                e.b.store(v, e.at(p, i), align=4)

        def constant(e: Emitter, number: float) -> Value:
            return e.const(number) if blocked else ir.Constant(F32, float(number))

        def number(e: Emitter, f: Value) -> Value:
            return e.splat(f) if blocked else f

        def greater(e: Emitter, v: Value, best: Value) -> Value:
            """Where v replaces the best: greater, or the first NaN. Of equals the first stays."""
            b = e.b
            return b.and_(b.fcmp_unordered(">", v, best), b.fcmp_ordered("ord", best, best))

        def lowest(e: Emitter, count: Value) -> Value:
            """-inf in the first count channels, 0 in padded lanes."""
            return (
                e.select(e.first_lanes(count), e.const(-math.inf), e.const(0))
                if blocked
                else ir.Constant(F32, -math.inf)
            )

        self.read, self.write, self.constant, self.greater = read, write, constant, greater
        self.lowest = emitted(target, kind, (INT,), lowest)
        self.load = emitted(target, kind, (FLOATS, INT), read)
        self.store = emitted(target, None, (kind, FLOATS, INT), write)
        self.number = emitted(target, kind, (types.float32,), number)
        self.beats = emitted(target, truth, (kind, kind), greater)
        self.select = emitted(target, kind, (truth, kind, kind), lambda e, m, x, y: e.b.select(m, x, y))
        self.equal = emitted(target, truth, (kind, kind), lambda e, x, y: e.b.fcmp_ordered("==", x, y))
        self.add = emitted(target, kind, (kind, kind), lambda e, x, y: e.b.fadd(x, y))
        self.mul = emitted(target, kind, (kind, kind), lambda e, x, y: e.b.fmul(x, y))
