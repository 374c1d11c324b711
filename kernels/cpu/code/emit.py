"""Vector instructions and vector mathematics, emitted with llvmlite's builder.

`Emitter` is what the register tiles are written with. `vector.py` offers the same operations to kernels that are
written in Python.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llvmlite import ir

from ..target import Target

I1, I32, I64, F32 = ir.IntType(1), ir.IntType(32), ir.IntType(64), ir.FloatType()
Value = Any
# e^r = 1 + r + r^2 P(r) for |r| <= log(2) / 2: the polynomial P of Cephes' expf, the highest power first
EXPONENTIAL = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)


def i64(value: int) -> Value:
    return ir.Constant(I64, value)


def declare(module: Any, name: str, result: Any, arguments: Sequence[Any]) -> Any:
    """The function of that name in the module, declared on first use."""
    if name in module.globals:
        return module.globals[name]
    return ir.Function(module, ir.FunctionType(result, arguments), name)


class Emitter:
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

        def pick(values: list[Value], index: Value) -> Value:
            if self.target.name == "avx2":
                name, operands = "llvm.x86.avx2.permps", [values[0], index]
            else:  # of two vectors at once
                name, operands = "llvm.x86.avx512.vpermi2var.ps.512", [values[0], index, values[-1]]
            return b.call(declare(b.module, name, self.type, [operand.type for operand in operands]), operands)

        together = 1 if self.target.name == "avx2" else 2

        def merged(vectors: list[Value], index: Value) -> Value:
            value = pick(vectors[:together], index)
            for first in range(together, size, together):
                beyond = b.icmp_signed(">=", index, self.ints(first * lanes))
                value = b.select(beyond, pick(vectors[first : first + together], index), value)
            return value

        def take(pointer: Value) -> list[Value]:
            vectors = [self.load(pointer)]
            for _ in range(size - 1):
                pointer = b.gep(pointer, [apart])
                vectors.append(self.load(pointer))
            return [merged(vectors, index) for index in indices]

        return take

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

    def _polynomial(self, x: Value, coefficients: Sequence[float]) -> Value:
        """Horner's rule, the highest power first."""
        value = self.const(coefficients[0])
        for coefficient in coefficients[1:]:
            value = self.fma(value, x, self.const(coefficient))
        return value

    def _round(self, x: Value) -> tuple[Value, Value]:
        """The nearest integer of |x| < 2^22 as float and as int. Adding 1.5 * 2^23 rounds, and needs no library on any
        target.
        """
        magic = 1.5 * 2**23
        shifted = self.b.fadd(x, self.const(magic))
        whole = self.b.fsub(shifted, self.const(magic))
        return whole, self.b.sub(self.b.bitcast(shifted, self.int_type), self.ints(0x4B400000))

    def exp(self, x: Value) -> Value:
        """e^x within 2 ulp: Cody and Waite's reduction and the polynomial of Cephes' expf. Exact at +-inf, NaN stays.

        2^n is applied at once or in two halves, so that results that overflow or are denormal come out right.
        """
        b = self.b
        x = self.select(self.less(x, self.const(-104)), self.const(-104), x)
        x = self.select(self.greater(x, self.const(89)), self.const(89), x)
        n, bits = self._round(b.fmul(x, self.const(1 / math.log(2))))
        r = self.fma(n, self.const(-0.693359375), x)
        r = self.fma(n, self.const(2.12194440e-4), r)
        value = self.fma(b.fmul(r, r), self._polynomial(r, EXPONENTIAL), b.fadd(r, self.const(1)))
        if self.target.name == "avx512":
            return self._scaled(value, n)
        half = b.ashr(bits, self.ints(1))
        for part in (half, b.sub(bits, half)):
            power = b.shl(b.add(part, self.ints(127)), self.ints(23))
            value = b.fmul(value, b.bitcast(power, self.type))
        return value

    def expm1(self, x: Value) -> Value:
        """e^x - 1 within 3 ulp, near 0 too: the reduction and the polynomial of `exp` without its 1, and then
        2^n p + (2^n - 1), in halves that do not overflow before the result does. inf at inf, -1 at -inf, NaN stays.
        """
        b = self.b
        y = self.select(self.less(x, self.const(-20)), self.const(-20), x)
        y = self.select(self.greater(y, self.const(89)), self.const(89), y)
        n, bits = self._round(b.fmul(y, self.const(1 / math.log(2))))
        r = self.fma(n, self.const(-0.693359375), y)
        r = self.fma(n, self.const(2.12194440e-4), r)
        p = self.fma(b.fmul(r, r), self._polynomial(r, EXPONENTIAL), r)
        half = b.bitcast(b.shl(b.add(bits, self.ints(126)), self.ints(23)), self.type)  # 2^n / 2
        value = b.fadd(b.fmul(half, p), b.fsub(half, self.const(0.5)))
        # x is its own result where it is tiny: halves of the smallest numbers would be flushed to zero
        return self.select(self.less(self.absolute(x), self.const(2.0**-25)), x, b.fadd(value, value))

    def _scaled(self, x: Value, n: Value) -> Value:
        """x * 2^n, rounded once: an instruction of AVX-512."""
        mask, current = ir.IntType(16), ir.Constant(I32, 4)
        kinds = [self.type, self.type, self.type, mask, I32]
        function = declare(self.b.module, "llvm.x86.avx512.mask.scalef.ps.512", self.type, kinds)
        return self.b.call(function, [x, n, self.const(0), ir.Constant(mask, 0xFFFF), current])

    def log(self, x: Value) -> Value:
        """The natural logarithm within 2 ulp (Cephes' logf): -inf at 0 and denormals, NaN below 0, inf at inf, NaN
        stays.
        """
        b = self.b
        bits = b.bitcast(x, self.int_type)
        # mantissa in [sqrt(1/2), sqrt(2)): the integer 0x3f3504f3 is sqrt(1/2)
        shifted = b.sub(bits, self.ints(0x3F3504F3))
        exponent = b.sitofp(b.ashr(shifted, self.ints(23)), self.type)
        mantissa = b.add(b.and_(shifted, self.ints(0x7FFFFF)), self.ints(0x3F3504F3))
        f = b.fsub(b.bitcast(mantissa, self.type), self.const(1))
        f2 = b.fmul(f, f)
        coefficients = (
            7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
            -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
        )  # fmt: skip
        value = b.fmul(b.fmul(f2, f), self._polynomial(f, coefficients))
        value = self.fma(exponent, self.const(-2.12194440e-4), value)
        value = self.fma(f2, self.const(-0.5), value)
        value = self.fma(exponent, self.const(0.693359375), b.fadd(f, value))
        value = self.select(b.fcmp_ordered("<", x, self.const(2.0**-126)), self.const(-math.inf), value)
        value = self.select(b.fcmp_unordered("<", x, self.const(0)), self.const(math.nan), value)
        return self.select(b.fcmp_ordered("==", x, self.const(math.inf)), self.const(math.inf), value)

    def sigmoid(self, x: Value) -> Value:
        """1 / (1 + e^-x) within 4 ulp in both tails: by e^-|x| alone, which never overflows."""
        power = self.exp(self.b.fneg(self.absolute(x)))
        above = self.select(self.less(x, self.const(0)), power, self.const(1))
        return self.b.fdiv(above, self.b.fadd(power, self.const(1)))

    def tanh(self, x: Value) -> Value:
        """The hyperbolic tangent within 3 ulp: a polynomial (Cephes' tanhf) below 0.625, 1 - 2 / (e^2|x| + 1) above."""
        b = self.b
        size = self.absolute(x)
        square = b.fmul(x, x)
        coefficients = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
        small = self.fma(b.fmul(x, square), self._polynomial(square, coefficients), x)
        power = self.exp(b.fadd(size, size))
        large = b.fsub(self.const(1), b.fdiv(self.const(2), b.fadd(power, self.const(1))))
        sign = b.and_(b.bitcast(x, self.int_type), self.ints(-(2**31)))
        large = b.bitcast(b.or_(b.bitcast(large, self.int_type), sign), self.type)
        return self.select(self.less(size, self.const(0.625)), small, large)

    # ---- expressions and loops

    def expression(self, tree: Any, variables: Mapping[str, Value]) -> Value:
        """Pointwise mathematics as nested tuples: ("var", name), ("const", number), (operation, operand, ...).

        gt gives 1 or 0, where takes any condition that is not 0 (NaN counts as true), max and min hand NaN on. A
        product with an
        added term is not contracted: the rounding is that of the operations as written.
        """
        known: dict[Any, Value] = {}
        b = self.b

        def condition(tree: Any) -> Value:
            if tree[0] == "gt":
                return self.greater(visit(tree[1]), visit(tree[2]))
            return b.fcmp_unordered("!=", visit(tree), self.const(0))

        def compute(tree: Any) -> Value:
            operation = tree[0]
            if operation == "var":
                return variables[tree[1]]
            if operation == "const":
                return self.const(tree[1])
            if operation == "gt":
                return self.select(condition(tree), self.const(1), self.const(0))
            if operation == "where":
                return self.select(condition(tree[1]), visit(tree[2]), visit(tree[3]))
            function = {
                "add": b.fadd, "sub": b.fsub, "mul": b.fmul, "div": b.fdiv, "neg": b.fneg, "max": self.maximum, "min": self.minimum,
                "exp": self.exp, "expm1": self.expm1, "log": self.log, "sigmoid": self.sigmoid, "tanh": self.tanh,
                "sqrt": self.sqrt, "abs": self.absolute,
            }[operation]  # fmt: skip
            return function(*(visit(operand) for operand in tree[1:]))

        def visit(tree: Any) -> Value:
            if tree not in known:
                known[tree] = compute(tree)
            return known[tree]

        return visit(tree)

    def loop(
        self, count: Value, carried: Sequence[Value], body: Callable[[Value, list[Value]], Sequence[Value]]
    ) -> list[Value]:
        """`for i in range(count): carried = body(i, carried)` for count >= 1; returns the last carried values."""
        b, before = self.b, self.b.block
        head, done = b.append_basic_block("loop"), b.append_basic_block("done")
        b.branch(head)
        b.position_at_end(head)
        i, phis = b.phi(I64), [b.phi(value.type) for value in carried]
        out = list(body(i, list(phis)))
        after, step = b.block, b.add(i, i64(1))
        i.add_incoming(i64(0), before)
        i.add_incoming(step, after)
        for phi, start, end in zip(phis, carried, out, strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(end, after)
        b.cbranch(b.icmp_signed("<", step, count), head, done)
        b.position_at_end(done)
        return out


def zero_at_zero(tree: Any) -> bool:
    """Whether the expression is 0 where every variable is 0: whether padded lanes stay zero without a mask."""
    safe: dict[str, Callable[..., float]] = {
        "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "div": lambda a, b: a / b,
        "neg": lambda a: -a, "max": max, "min": min, "exp": math.exp, "expm1": math.expm1, "log": math.log,
        "sigmoid": lambda a: 1 / (1 + math.exp(-a)), "tanh": math.tanh, "sqrt": math.sqrt, "abs": abs,
        "gt": lambda a, b: float(a > b), "where": lambda c, a, b: a if c else b,
    }  # fmt: skip

    def visit(tree: Any) -> float:
        if tree[0] == "var":
            return 0.0
        return tree[1] if tree[0] == "const" else safe[tree[0]](*(visit(operand) for operand in tree[1:]))

    try:
        return visit(tree) == 0.0
    except (ArithmeticError, ValueError):
        return False
