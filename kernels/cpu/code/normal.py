"""Functions of the normal distribution."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from llvmlite import ir

from .functions import Functions
from .instructions import Value
from .knots import KNOTS, about

# erf(x) = x + x P(x^2) for |x| <= 1: least relative error, 2^-29
ERROR = (
    7.853854338e-5, -8.010191500e-4, 5.188327444e-3, -2.685381181e-2, 1.128358515e-1, -3.761262582e-1, 1.283791657e-1,
)  # fmt: skip
# (t + 2.5) e^(t^2 / 2) Phi(-t) = P(t / (t + 2.5)) for 0 <= t <= 13.3, likewise, 2^-27
TAIL = (
    -2.780316271e-2, 3.849638606e-2, 6.584714714e-2, -9.940698543e-2, 8.879178098e-3, -1.016930388e-1, 4.523249179e-2,
    2.932374679e-1, 1.695230451e-1, -1.243390573, 1.25,
)  # fmt: skip
FAR = 14.5  # deviations beyond which both the density and the tail are 0 in float32
# A table of Phi: knots from LOWEST to HIGHEST, APART from each other.
APART, LOWEST, HIGHEST = 0.3125, -4.5, 5.45


@cache
def _cumulative(degree: int) -> tuple[tuple[float, ...], ...]:
    """The table of Phi."""
    found = np.empty((degree + 1, KNOTS))
    for k in range(-14, 18):
        side = 1 if k > 0 else -1  # what is left of 1 has more digits

        def tail(x: float, side: int = side) -> float:
            return -side * math.erfc(side * x / math.sqrt(2)) / 2

        found[:, k % KNOTS] = about(tail, APART, k, degree)
        found[-1, k % KNOTS] += k > 0
    found[-1, 17] += 1 - np.polyval(found[:, 17], HIGHEST - 17 * APART)  # 1 at the end
    return tuple(tuple(float(c) for c in row) for row in found)


class Normal(Functions):
    """Functions of the normal distribution, of one vector."""

    def _deviation(self, x: Value) -> tuple[Value, Value]:
        """(|x| up to `FAR`, e^(-x^2 / 2)): the square in two parts, of which the second is what the first was rounded by."""
        b = self.b
        size = self.absolute(x)
        size = self.select(self.greater(size, self.const(FAR)), self.const(FAR), size)
        if self.target.fma:
            half = b.fmul(size, self.const(-0.5))
            square = b.fmul(half, size)
            return size, self._power_of_e(square, self.fma(half, size, b.fneg(square)))
        high = b.bitcast(b.and_(b.bitcast(size, self.int_type), self.ints(-4096)), self.type)  # whose square is exact
        low = b.fmul(b.fsub(size, high), b.fadd(size, high))
        half = self.const(-0.5)
        return size, self._power_of_e(b.fmul(b.fmul(high, high), half), b.fmul(low, half))

    def _upper_tail(self, x: Value) -> Value:
        """The normal distribution's part above |x|, within 5 ulp down to the smallest number."""
        b = self.b
        size, density = self._deviation(x)
        q = self.quotient(self.const(1), b.fadd(size, self.const(2.5)))
        return b.fmul(density, b.fmul(q, self._polynomial(b.fmul(size, q), TAIL)))

    def normal_pdf(self, x: Value) -> Value:
        """e^(-x^2 / 2) / sqrt(2 pi) within 4 ulp; 0 at +-inf."""
        return self.b.fmul(self._deviation(x)[1], self.const(1 / math.sqrt(2 * math.pi)))

    def normal_cdf(self, x: Value) -> Value:
        """The normal distribution's part below x, within 5 ulp in both tails: 0 at -inf, 1 at inf."""
        if self.target.name != "avx512":
            return self._cdf(x)
        highest = self.const(HIGHEST)

        def near() -> list[Value]:
            return self.by_knots(self.select(self.greater(x, highest), highest, x), APART, _cumulative(7))[:1]

        return self._unless(self.less(x, self.const(LOWEST)), near, lambda: [self._cdf(x)])[0]

    def normal(self, x: Value) -> list[Value]:
        """`normal_cdf` and `normal_pdf` of x, with what they share computed once."""
        if self.target.name != "avx512":
            return [self._cdf(x), self.normal_pdf(x)]
        beyond = self.b.or_(self.less(x, self.const(LOWEST)), self.greater(x, self.const(HIGHEST)))
        return self._unless(
            beyond, lambda: self.by_knots(x, APART, _cumulative(8)), lambda: [self._cdf(x), self.normal_pdf(x)]
        )

    def _cdf(self, x: Value) -> Value:
        tail = self._upper_tail(x)
        return self.select(self.less(x, self.const(0)), tail, self.b.fsub(self.const(1), tail))

    def _unless(self, beyond: Value, near: Callable[[], list[Value]], far: Callable[[], list[Value]]) -> list[Value]:
        """What `near` computes; what `far` does where one lane, as hardly ever, is `beyond`."""
        b, none = self.b, ir.Constant(ir.IntType(self.lanes), 0)
        here, there, done = (b.append_basic_block(name) for name in ("near", "far", "done"))
        b.cbranch(b.icmp_unsigned("==", b.bitcast(beyond, none.type), none), here, there).set_weights([1000, 1])
        ways = []
        for block, way in ((here, near), (there, far)):
            b.position_at_end(block)
            ways.append((way(), b.block))
            b.branch(done)
        b.position_at_end(done)
        results = []
        for k in range(len(ways[0][0])):
            results.append(b.phi(self.type))
            for values, block in ways:
                results[k].add_incoming(values[k], block)
        return results

    def erf(self, x: Value) -> Value:
        """The error function within 2 ulp: a polynomial up to 1, above by the normal distribution's tail. +-1 at +-inf."""
        b = self.b
        small = self.fma(x, self._polynomial(b.fmul(x, x), ERROR), x)
        tail = self._upper_tail(b.fmul(x, self.const(math.sqrt(2))))
        large = self.signed(b.fsub(self.const(1), b.fadd(tail, tail)), x)
        return self.select(self.less(self.absolute(x), self.const(1)), small, large)
