"""Functions of vectors: exponentials, logarithms, powers.

Each says how many units of the last place it may be off, over all of float32, and what it makes of infinities; NaN stays
NaN. Numbers below 2^-126 count as 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from llvmlite import ir

from .instructions import I32, Value, declare
from .knots import KNOTS, Knots, about

# e^r = 1 + r + r^2 P(r) for |r| <= log(2) / 2: the polynomial P of Cephes' expf, the highest power first
EXPONENTIAL = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
ONE = 9.3  # from where on the hyperbolic tangent is 1
DOUBLE = ir.DoubleType()


@cache
def _tangents() -> tuple[tuple[float, ...], ...]:
    """The table of the hyperbolic tangent; about 0 it is d (1 - d^2 / 3 + ...), to all digits."""
    near = [*about(lambda d: math.tanh(d) / d if d else 1.0, ONE / 31, 0, 5), 0.0]
    found = np.array([near, *(about(math.tanh, ONE / 31, k, 6) for k in range(1, KNOTS))]).T
    return tuple(tuple(float(c) for c in row) for row in found)


class Functions(Knots):
    """Functions of one vector and of two."""

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
        """e^x within 2 ulp, exact at +-inf."""
        return self._power_of_e(self._cut(x, -104))

    def _cut(self, x: Value, lowest: float) -> Value:
        """x, or `lowest` or 89 where it is beyond; NaN stays."""
        x = self.select(self.less(x, self.const(lowest)), self.const(lowest), x)
        return self.select(self.greater(x, self.const(89)), self.const(89), x)

    def _reduced(self, x: Value) -> tuple[Value, Value, Value]:
        """(n, the same as integers, r) with x = n log(2) + r and |r| <= log(2) / 2: Cody and Waite's reduction."""
        n, bits = self._round(self.b.fmul(x, self.const(1 / math.log(2))))
        r = self.fma(n, self.const(-0.693359375), x)
        return n, bits, self.fma(n, self.const(2.12194440e-4), r)

    def _power_of_e(self, x: Value, low: Value | None = None) -> Value:
        """e^(x + low) for -110 < x < 90 and a small `low`: the reduction and the polynomial of Cephes' expf.

        2^n is applied at once or in two halves, so that results that overflow or are denormal come out right.
        """
        b = self.b
        n, bits, r = self._reduced(x)
        if low is not None:
            r = b.fadd(r, low)
        value = self.fma(b.fmul(r, r), self._polynomial(r, EXPONENTIAL), b.fadd(r, self.const(1)))
        return self._times_power(value, n, bits)

    def _times_power(self, value: Value, n: Value, bits: Value) -> Value:
        """value * 2^n, where `bits` is n as an integer."""
        b = self.b
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
        _, bits, r = self._reduced(self._cut(x, -20))
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
        """The natural logarithm within 2 ulp (Cephes' logf): -inf at 0 and denormals, NaN below 0, inf at inf."""
        return self._logarithm(x, None)

    def log1p(self, x: Value) -> Value:
        """The logarithm of 1 + x within 2 ulp, near 0 too: -inf at -1, NaN below, inf at inf."""
        return self._logarithm(self.b.fadd(x, self.const(1)), x)

    def _logarithm(self, x: Value, exact: Value | None) -> Value:
        """log(x); `exact` is x - 1 where that was rounded away in x."""
        b = self.b
        bits = b.bitcast(x, self.int_type)
        # mantissa in [sqrt(1/2), sqrt(2)): the integer 0x3f3504f3 is sqrt(1/2)
        shifted = b.sub(bits, self.ints(0x3F3504F3))
        whole = b.ashr(shifted, self.ints(23))
        exponent = b.sitofp(whole, self.type)
        mantissa = b.add(b.and_(shifted, self.ints(0x7FFFFF)), self.ints(0x3F3504F3))
        f = b.fsub(b.bitcast(mantissa, self.type), self.const(1))
        if exact is not None:
            f = self.select(b.icmp_signed("==", whole, self.ints(0)), exact, f)
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
        return self.quotient(above, self.b.fadd(power, self.const(1)))

    def tanh(self, x: Value) -> Value:
        """The hyperbolic tangent within 3 ulp: with AVX-512 by knots; else a polynomial (Cephes' tanhf) below 0.625,
        1 - 2 / (e^2|x| + 1) above.
        """
        b = self.b
        size = self.absolute(x)
        size = self.select(self.greater(size, self.const(ONE)), self.const(ONE), size)
        if self.target.name == "avx512":
            return self.signed(self.by_knots(size, ONE / 31, _tangents())[0], x)
        square = b.fmul(x, x)
        coefficients = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
        small = self.fma(b.fmul(x, square), self._polynomial(square, coefficients), x)
        power = self._power_of_e(b.fadd(size, size))
        large = b.fsub(self.const(1), b.fdiv(self.const(2), b.fadd(power, self.const(1))))
        return self.select(self.less(size, self.const(0.625)), small, self.signed(large, x))

    def softplus(self, x: Value) -> Value:
        """log(1 + e^x) within 3 ulp in both tails: max(x, 0) + log1p(e^-|x|)."""
        power = self.exp(self.b.fneg(self.absolute(x)))
        return self.b.fadd(self.maximum(x, self.const(0)), self.log1p(power))

    # ---- whole numbers, powers

    def floor(self, x: Value) -> Value:
        """The largest whole number up to x, exact; infinities stay."""
        b = self.b
        cut = b.sitofp(b.fptosi(x, self.int_type), self.type)  # of numbers that have no fraction it is not used
        down = self.select(self.greater(cut, x), b.fsub(cut, self.const(1)), cut)
        return self.select(self.less(self.absolute(x), self.const(2.0**23)), down, x)

    def sign(self, x: Value) -> Value:
        """-1, 0 or 1."""
        one = self.select(self.greater(x, self.const(0)), self.const(1), x)
        return self.select(self.less(x, self.const(0)), self.const(-1), one)

    def pow(self, x: Value, y: Value) -> Value:
        """x^y within 2 ulp, with C's values at 0, infinities and NaN: y log|x| in float64, whose e^ is taken in float32,
        and the sign of x where y is an odd number; NaN where x < 0 and y has a fraction.
        """
        b = self.b
        size = self.absolute(x)
        wide = ir.VectorType(DOUBLE, self.lanes)

        def const(value: float) -> Value:
            return ir.Constant(wide, [value] * self.lanes)

        shifted = b.sub(b.bitcast(size, self.int_type), self.ints(0x3F3504F3))  # as in _logarithm
        mantissa = b.add(b.and_(shifted, self.ints(0x7FFFFF)), self.ints(0x3F3504F3))
        f = b.fpext(b.fsub(b.bitcast(mantissa, self.type), self.const(1)), wide)
        s = b.fdiv(f, b.fadd(f, const(2)))
        square = b.fmul(s, s)
        series = const(2 / 15)  # of log(1 + f) = 2 artanh(s): 2 s (1 + s^2 / 3 + s^4 / 5 + ...)
        for power in (13, 11, 9, 7, 5, 3, 1):
            series = b.fadd(b.fmul(series, square), const(2 / power))
        exponent = b.fmul(b.sitofp(b.ashr(shifted, self.ints(23)), wide), const(math.log(2)))
        logarithm = b.fadd(exponent, b.fmul(series, s))
        logarithm = b.select(self.less(size, self.const(2.0**-126)), const(-math.inf), logarithm)
        logarithm = b.select(b.fcmp_unordered("==", size, self.const(math.inf)), b.fpext(size, wide), logarithm)
        total = b.fmul(logarithm, b.fpext(y, wide))
        for limit, sign in ((-104.0, "<"), (89.0, ">")):
            total = b.select(b.fcmp_ordered(sign, total, const(limit)), const(limit), total)
        whole = b.fptrunc(b.fmul(total, const(1 / math.log(2))), self.type)
        n, bits = self._round(whole)
        r = b.fptrunc(b.fsub(total, b.fmul(b.fpext(n, wide), const(math.log(2)))), self.type)
        value = self.fma(b.fmul(r, r), self._polynomial(r, EXPONENTIAL), b.fadd(r, self.const(1)))
        return self._with_sign(self._times_power(value, n, bits), x, y)

    def _with_sign(self, value: Value, x: Value, y: Value) -> Value:
        """|x|^y with the sign of x^y; 1 where y is 0 or x is 1, and where x is -1 and y infinite."""
        b = self.b
        half = b.fmul(y, self.const(0.5))
        odd = b.and_(self._is_whole(y), b.not_(self._is_whole(half)))
        value = self.select(b.fcmp_ordered("==", self.absolute(x), self.const(1)), self.const(1), value)
        value = self.select(odd, self.signed(value, x), value)
        negative = b.and_(self.less(x, self.const(0)), self.greater(x, self.const(-math.inf)))
        value = self.select(b.and_(negative, b.not_(self._is_whole(y))), self.const(math.nan), value)
        one = b.or_(b.fcmp_ordered("==", y, self.const(0)), b.fcmp_ordered("==", x, self.const(1)))
        value = self.select(b.or_(self.is_nan(x), self.is_nan(y)), b.fadd(x, y), value)
        return self.select(one, self.const(1), value)

    def _is_whole(self, x: Value) -> Value:
        """The mask of whole numbers; infinities are such."""
        return self.b.fcmp_ordered("==", self.floor(x), x)
