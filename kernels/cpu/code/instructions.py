"""Vector instructions, emitted with llvmlite's builder: constants, memory, arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from ..target import Target

I1, I32, I64, F32 = ir.IntType(1), ir.IntType(32), ir.IntType(64), ir.FloatType()
Value = Any


def i64(value: int) -> Value:
    return ir.Constant(I64, value)


def declare(module: Any, name: str, result: Any, arguments: Sequence[Any]) -> Any:
    """The function of that name in the module, declared on first use."""
    if name in module.globals:
        return module.globals[name]
    return ir.Function(module, ir.FunctionType(result, arguments), name)


class Instructions:
    """Operations on vectors of the target's `lanes` float32. Pointers are float pointers; indices count floats."""

    def __init__(self, builder: Any, target: Target) -> None:
        self.b = builder
        self.target = target
        self.lanes = target.lanes
        self.type = ir.VectorType(F32, self.lanes)
        self.int_type = ir.VectorType(I32, self.lanes)

    # ---- constants, memory

    def const(self, value: float) -> Value:
        return ir.Constant(self.type, [float(value)] * self.lanes)

    def ints(self, value: int) -> Value:
        return ir.Constant(self.int_type, [value] * self.lanes)

    def at(self, pointer: Value, index: Value | int = 0) -> Value:
        """pointer + index floats."""
        if isinstance(index, int):
            return pointer if index == 0 else self.b.gep(pointer, [i64(index)])
        return self.b.gep(pointer, [index])

    def load(self, pointer: Value, index: Value | int = 0) -> Value:
        return self.b.load(self.b.bitcast(self.at(pointer, index), self.type.as_pointer()), align=4)

    def store(self, value: Value, pointer: Value, index: Value | int = 0) -> None:
        self.b.store(value, self.b.bitcast(self.at(pointer, index), self.type.as_pointer()), align=4)

    def splat(self, scalar: Value) -> Value:
        """A scalar in every lane."""
        kind = ir.VectorType(scalar.type, self.lanes)
        one = self.b.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(I32, 0))
        return self.b.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(self.int_type, [0] * self.lanes))

    def broadcast(self, pointer: Value, index: Value | int = 0) -> Value:
        """The float at the pointer, in every lane."""
        return self.splat(self.b.load(self.at(pointer, index), align=4))

    def is_own(self, weights: Value) -> Value:
        """The mask of weights that are not FOREIGN."""
        return self.b.icmp_signed("!=", self.b.bitcast(weights, self.int_type), self.ints(-(2**31)))

    def first_lanes(self, count: Value) -> Value:
        """The mask of the lanes below count, an i64 of any size."""
        lanes = ir.Constant(ir.VectorType(I64, self.lanes), list(range(self.lanes)))
        return self.b.icmp_signed("<", lanes, self.splat(count))

    def masked_load(self, pointer: Value, mask: Value) -> Value:
        """The lanes of the mask from memory, zero elsewhere; memory outside the mask is not touched."""
        pointer = self.b.bitcast(pointer, self.type.as_pointer())
        name = f"llvm.masked.load.v{self.lanes}f32.p0"
        function = declare(self.b.module, name, self.type, [pointer.type, I32, mask.type, self.type])
        return self.b.call(function, [pointer, ir.Constant(I32, 4), mask, self.const(0)])

    def masked_store(self, value: Value, pointer: Value, mask: Value) -> None:
        pointer = self.b.bitcast(pointer, self.type.as_pointer())
        name = f"llvm.masked.store.v{self.lanes}f32.p0"
        function = declare(self.b.module, name, ir.VoidType(), [self.type, pointer.type, I32, mask.type])
        self.b.call(function, [value, pointer, ir.Constant(I32, 4), mask])

    def prefetch(self, pointer: Value, locality: int = 3) -> None:
        """Ask for the cache line of the pointer; locality 3 keeps it everywhere, 2 from the second level on, 0
        nowhere for long."""
        raw = ir.IntType(8).as_pointer()
        function = declare(self.b.module, "llvm.prefetch.p0", ir.VoidType(), [raw, I32, I32, I32])
        self.b.call(
            function,
            [self.b.bitcast(pointer, raw), ir.Constant(I32, 0), ir.Constant(I32, locality), ir.Constant(I32, 1)],
        )

    def taking(self, places: Sequence[Value], apart: Value, size: int) -> Callable[[Value], list[Value]]:
        """take(p): vectors from the `size` that lie `apart` floats from each other, from p on; lane l of the k-th is float
        `places[k][l]` (int64) of these.
        """
        b, lanes = self.b, self.lanes
        if self.target.name not in ("avx512", "avx2"):

            def distance(at: Value) -> Value:
                return b.add(b.mul(b.sdiv(at, i64(lanes)), apart), b.srem(at, i64(lanes)))

            def gather(pointer: Value, ones: list[Value]) -> Value:
                value = ir.Constant(self.type, ir.Undefined)
                for lane, at in enumerate(ones):
                    value = b.insert_element(value, b.load(b.gep(pointer, [at]), align=4), ir.Constant(I32, lane))
                return value

            far = [[distance(b.load(b.gep(p, [i64(lane)]), align=8)) for lane in range(lanes)] for p in places]
            return lambda pointer: [gather(pointer, ones) for ones in far]
        wide = [b.load(b.bitcast(p, ir.VectorType(I64, lanes).as_pointer()), align=8) for p in places]
        indices = [b.trunc(place, self.int_type) for place in wide]

        def take(pointer: Value) -> list[Value]:
            vectors = [self.load(pointer)]
            for _ in range(size - 1):
                pointer = b.gep(pointer, [apart])
                vectors.append(self.load(pointer))
            return [self.among(vectors, index) for index in indices]

        return take

    def among(self, vectors: Sequence[Value], index: Value) -> Value:
        """Lane l is number index[l] (int32) of the floats of the vectors, one behind the other: with AVX-512 and AVX2."""
        b, together = self.b, 1 if self.target.name == "avx2" else 2

        def pick(first: int) -> Value:
            if together == 1:
                name, operands = "llvm.x86.avx2.permps", [vectors[first], index]
            else:  # of two vectors at once
                second = vectors[min(first + 1, len(vectors) - 1)]
                name, operands = "llvm.x86.avx512.vpermi2var.ps.512", [vectors[first], index, second]
            return b.call(declare(b.module, name, self.type, [operand.type for operand in operands]), operands)

        value = pick(0)
        for first in range(together, len(vectors), together):
            beyond = b.icmp_signed(">=", index, self.ints(first * self.lanes))
            value = b.select(beyond, pick(first), value)
        return value

    def gather(self, pointer: Value, index: Value) -> Value:
        """Lane l is the float at pointer + index[l] (int32)."""
        b = self.b
        if self.target.name == "avx512":
            kinds = [self.type, ir.IntType(8).as_pointer(), self.int_type, ir.VectorType(I1, 16), I32]
            function = declare(b.module, "llvm.x86.avx512.mask.gather.dps.512", self.type, kinds)
            everywhere, size = ir.Constant(kinds[3], [1] * 16), ir.Constant(I32, 4)
            return b.call(function, [self.const(0), b.bitcast(pointer, kinds[1]), index, everywhere, size])
        value = ir.Constant(self.type, ir.Undefined)
        for lane in range(self.lanes):
            at = b.sext(b.extract_element(index, ir.Constant(I32, lane)), I64)
            value = b.insert_element(value, b.load(b.gep(pointer, [at]), align=4), ir.Constant(I32, lane))
        return value

    def load_ints(self, pointer: Value, index: Value | int = 0) -> Value:
        """int32 at a float pointer."""
        return self.b.bitcast(self.load(pointer, index), self.int_type)

    def bits(self, x: Value) -> Value:
        """The bits that an i64 of at least 0 has, without leading zeros."""
        count = declare(self.b.module, "llvm.ctlz.i64", I64, [I64, I1])
        return self.b.sub(i64(64), self.b.call(count, [x, ir.Constant(I1, 0)]))

    # ---- arithmetic

    def fma(self, x: Value, y: Value, z: Value) -> Value:
        """x * y + z, rounded once where the target can."""
        if not self.target.fma:
            return self.b.fadd(self.b.fmul(x, y), z)
        return self.b.call(declare(self.b.module, f"llvm.fma.v{self.lanes}f32", self.type, [self.type] * 3), [x, y, z])

    def quotient(self, x: Value, y: Value) -> Value:
        """x / y; within 2 ulp for y of middling size with AVX-512: by Newton's step, for a division holds up what is beside it."""
        if self.target.name != "avx512":
            return self.b.fdiv(x, y)
        mask = ir.IntType(16)
        rough = declare(self.b.module, "llvm.x86.avx512.rcp14.ps.512", self.type, [self.type, self.type, mask])
        q = self.b.call(rough, [y, self.const(0), ir.Constant(mask, 0xFFFF)])
        return self.b.fmul(x, self.fma(self.fma(self.b.fneg(y), q, self.const(1)), q, q))

    def sqrt(self, x: Value) -> Value:
        return self.b.call(declare(self.b.module, f"llvm.sqrt.v{self.lanes}f32", self.type, [self.type]), [x])

    def absolute(self, x: Value) -> Value:
        return self.b.call(declare(self.b.module, f"llvm.fabs.v{self.lanes}f32", self.type, [self.type]), [x])

    def less(self, x: Value, y: Value) -> Value:
        return self.b.fcmp_ordered("<", x, y)

    def greater(self, x: Value, y: Value) -> Value:
        return self.b.fcmp_ordered(">", x, y)

    def is_nan(self, x: Value) -> Value:
        return self.b.fcmp_unordered("uno", x, x)

    def select(self, mask: Value, x: Value, y: Value) -> Value:
        return self.b.select(mask, x, y)

    def signed(self, size: Value, x: Value) -> Value:
        """A number that is not negative with the sign of x."""
        sign = self.b.and_(self.b.bitcast(x, self.int_type), self.ints(-(2**31)))
        return self.b.bitcast(self.b.or_(self.b.bitcast(size, self.int_type), sign), self.type)

    def maximum(self, x: Value, y: Value) -> Value:
        """The larger; NaN when either is NaN; y of equals."""
        return self.select(self.is_nan(x), x, self.select(self.greater(x, y), x, y))

    def minimum(self, x: Value, y: Value) -> Value:
        """The smaller; NaN when either is NaN; y of equals."""
        return self.select(self.is_nan(x), x, self.select(self.less(x, y), x, y))

    def _fold(self, x: Value, combine: Callable[[Value, Value], Value]) -> Value:
        width = self.lanes
        while width > 1:
            width //= 2
            none = ir.Constant(x.type, ir.Undefined)
            half = ir.VectorType(I32, width)
            low = self.b.shuffle_vector(x, none, ir.Constant(half, list(range(width))))
            high = self.b.shuffle_vector(x, none, ir.Constant(half, list(range(width, 2 * width))))
            x = combine(low, high)
        return self.b.extract_element(x, ir.Constant(I32, 0))

    def total(self, x: Value) -> Value:
        """The sum of the lanes, a scalar: halves are added to halves, always in this order."""
        return self._fold(x, self.b.fadd)

    def largest(self, x: Value) -> Value:
        """The largest lane, a scalar; NaN when any lane is NaN."""

        def larger(low: Value, high: Value) -> Value:
            best = self.b.select(self.b.fcmp_ordered(">", low, high), low, high)
            return self.b.select(self.b.fcmp_unordered("uno", low, low), low, best)

        return self._fold(x, larger)
