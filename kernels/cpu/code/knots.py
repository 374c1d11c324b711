"""Functions by polynomials about the nearest of 32 knots, whose coefficients are picked from registers: with AVX-512."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from .instructions import Instructions, Value, declare

KNOTS = 32
MAGIC = 1.5 * 2**23  # added to a float32, it rounds to a whole number, which then ends the bits


def about(function: Callable[[float], float], apart: float, knot: int, degree: int) -> Any:
    """Coefficients of function(c + d), c = apart * knot, for |d| <= apart / 2 by powers of d, the highest first."""
    points = apart / 2 * np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))  # Chebyshev's
    return np.linalg.solve(np.vander(points, degree + 1), [function(apart * knot + d) for d in points])


class Knots(Instructions):
    """Tables of polynomials: rows of coefficients, the highest power first, each for 32 knots; knot k stands at k modulo 32."""

    def by_knots(self, x: Value, apart: float, table: Sequence[Sequence[float]]) -> list[Value]:
        """The polynomial about the knot nearest to x, and its slope; knots are `apart` from each other."""
        b, magic = self.b, self.const(MAGIC)
        shifted = self.fma(x, self.const(1 / apart), magic)
        index, distance = b.bitcast(shifted, self.int_type), self.fma(b.fsub(shifted, magic), self.const(-apart), x)
        name, kinds = "llvm.x86.avx512.vpermi2var.ps.512", [self.type, self.int_type, self.type]
        pick = declare(b.module, name, self.type, kinds)
        picked = []
        for row in table:
            low, high = (ir.Constant(self.type, list(row[at : at + 16])) for at in (0, 16))
            picked.append(b.call(pick, [low, index, high]))
        value = self.fma(picked[0], distance, picked[1])
        slope = picked[0]
        for coefficient in picked[2:]:
            slope, value = self.fma(slope, distance, value), self.fma(value, distance, coefficient)
        return [value, slope]
