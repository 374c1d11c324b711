"""Local response normalization across channels, on blocked tensors (Krizhevsky et al., ImageNet classification, 2012).

y = x u^-beta with u = k + alpha / size * (the sum of x^2 over the channels c - size // 2 ... c + (size - 1) // 2), as
PyTorch.
"""

from __future__ import annotations

from typing import Any

from .. import Family
from ..code.emit import Emitter, Value
from ..code.vector import emitted, vectors
from ..target import Target
from .loss_plan import LRN_HEAD


def _power(target: Target, quarters: int) -> Any:
    """power(u, beta) = u^-beta; quarters: 4 beta where that is 2, 3 or 4, which need no logarithm, else 0."""
    V = vectors(target)

    def emit(e: Emitter, u: Value, beta: Value) -> Value:
        b = e.b
        if quarters == 0:
            return e.exp(b.fneg(b.fmul(beta, e.log(u))))
        root = e.sqrt(u) if quarters < 4 else u
        if quarters == 3:
            root = b.fmul(root, e.sqrt(root))
        return b.fdiv(e.const(1), root)

    return emitted(target, V.vector, (V.vector, V.vector), emit)


def make_lrn(target: Target, quarters: int, gradient: bool) -> Any:
    V, lanes, power = vectors(target), target.lanes, _power(target, quarters)

    def kernel(arguments, chunk, scratch):
        channels, plane, pieces, piece, size = arguments[0], arguments[1], arguments[2], arguments[3], arguments[4]
        border, beta = arguments[5], V.splat(V.real(arguments[7]))
        scale, k = V.splat(V.real(arguments[6]) / size), V.splat(V.real(arguments[8]))
        blocks = (channels + lanes - 1) // lanes
        image = chunk // pieces * blocks * plane * lanes
        # with gradient, y holds dy
        x, y = V.offset(V.floats(arguments[9]), image), V.offset(V.floats(arguments[10]), image)
        dx = V.offset(V.floats(arguments[11]), image) if gradient else y
        start, row = chunk % pieces * piece, 2 * border + blocks * lanes
        for i in range(0, 2 * row if gradient else row, lanes):
            V.store(V.zero(), scratch, i)
        squares, window = V.offset(scratch, border), V.offset(scratch, border - size // 2)
        shares, back = V.offset(squares, row), V.offset(squares, row - (size - 1) // 2)
        for p in range(start, min(plane, start + piece)):
            for cb in range(blocks):
                value = V.load(x, (cb * plane + p) * lanes)
                V.store(value * value, squares, cb * lanes)
            for cb in range(blocks):
                total, at = V.zero(), (cb * plane + p) * lanes
                for i in range(size):
                    total += V.load(window, cb * lanes + i)
                u, exists = V.fma(scale, total, k), V.first(channels - cb * lanes)
                if gradient:
                    through = V.load(y, at) * power(u, beta)
                    share = through * V.load(x, at) / u
                    V.store(V.select(exists, share, V.zero()), shares, cb * lanes)
                    V.store(V.select(exists, through, V.zero()), dx, at)
                else:
                    V.store(V.select(exists, V.load(x, at) * power(u, beta), V.zero()), y, at)
            for cb in range(blocks if gradient else 0):
                total, at = V.zero(), (cb * plane + p) * lanes
                for i in range(size):
                    total += V.load(back, cb * lanes + i)
                V.store(V.load(dx, at) - (scale + scale) * beta * V.load(x, at) * total, dx, at)

    return kernel


FAMILIES = (
    Family(
        "lrn",
        (*LRN_HEAD, "x", "y", "dx"),
        make_lrn,
        "Local response normalization: x to y or, with gradient, x and dy (in y's place) to dx. A chunk is a piece of a plane.",
    ),
)
