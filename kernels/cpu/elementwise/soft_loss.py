"""Cross-entropy of shares of the classes, place by place: -sum over classes c of t_c w_c log softmax(x)_c.

t is the target, smoothed: (1 - smoothing) t + smoothing / classes.
"""

from __future__ import annotations

import math
from typing import Any

from .. import Family
from ..code.vector import vectors
from ..target import Target
from .class_loss_plan import SOFT_ARGUMENTS, SOFT_GRADIENT_ARGUMENTS
from .classes import columns_of, largest_of, smoothed_of

LOWEST = -math.inf


def make_cross_entropy_soft(target: Target, strided: bool, weighted: bool) -> Any:
    V, lanes, largest = vectors(target), target.lanes, largest_of(target)
    (units, column), smoothed = columns_of(target), smoothed_of(target)

    def rows(arguments: Any, chunk: Any, scratch: Any) -> None:
        outer, per_chunk, size = arguments[0], arguments[1], arguments[2]
        weight, (keep, share) = V.floats(arguments[7]), smoothed(arguments)
        for row in range(chunk * per_chunk, min(outer, (chunk + 1) * per_chunk)):
            x, shares = V.offset(V.floats(arguments[5]), row * size), V.offset(V.floats(arguments[6]), row * size)
            shift, sums, losses = V.splat(largest(x, size)), V.zero(), V.zero()
            for i in range(0, size, lanes):
                sums += V.select(V.first(size - i), V.exp(V.load_first(x, i, size - i) - shift), V.zero())
            logarithm = V.log(V.splat(V.total(sums)))
            for i in range(0, size, lanes):
                part = (shift - V.load_first(x, i, size - i) + logarithm) * (
                    V.load_first(shares, i, size - i) * keep + share
                )
                if weighted:
                    part = part * V.load_first(weight, i, size - i)
                losses += V.select(V.first(size - i), part, V.zero())
            V.floats(arguments[8])[row] = V.total(losses)

    def columns(arguments: Any, chunk: Any, scratch: Any) -> None:
        first, last, size, inner = units(arguments, chunk)
        weight, (keep, share) = V.floats(arguments[7]), smoothed(arguments)
        for unit in range(first, last):
            start, place, count = column(arguments, unit)
            x, shares = V.offset(V.floats(arguments[5]), start), V.offset(V.floats(arguments[6]), start)
            shift, sums, losses = V.splat(LOWEST), V.zero(), V.zero()
            for i in range(size):
                shift = V.maximum(shift, V.load_first(x, i * inner, count))
            for i in range(size):
                sums += V.exp(V.load_first(x, i * inner, count) - shift)
            logarithm = V.log(sums)
            for i in range(size):
                wanted = V.load_first(shares, i * inner, count) * keep + share
                part = (shift - V.load_first(x, i * inner, count) + logarithm) * wanted
                losses += part * weight[i] if weighted else part
            V.store_first(losses, V.floats(arguments[8]), place, count)

    return columns if strided else rows


def make_cross_entropy_soft_gradient(target: Target, strided: bool, weighted: bool) -> Any:
    """p_c S - t_c w_c of each place, times the gradient of its term: p softmax(x), S the sum of t w."""
    V, lanes, largest = vectors(target), target.lanes, largest_of(target)
    (units, column), smoothed = columns_of(target), smoothed_of(target)

    def rows(arguments: Any, chunk: Any, scratch: Any) -> None:
        outer, per_chunk, size = arguments[0], arguments[1], arguments[2]
        weight, (keep, share) = V.floats(arguments[7]), smoothed(arguments)
        for row in range(chunk * per_chunk, min(outer, (chunk + 1) * per_chunk)):
            x, shares = V.offset(V.floats(arguments[5]), row * size), V.offset(V.floats(arguments[6]), row * size)
            dx, factor = V.offset(V.floats(arguments[9]), row * size), V.floats(arguments[8])[row]
            shift, sums, total = V.splat(largest(x, size)), V.zero(), V.zero()
            for i in range(0, size, lanes):
                sums += V.select(V.first(size - i), V.exp(V.load_first(x, i, size - i) - shift), V.zero())
                wanted = V.load_first(shares, i, size - i) * keep + share
                if weighted:
                    wanted = wanted * V.load_first(weight, i, size - i)
                total += V.select(V.first(size - i), wanted, V.zero())
            scale = V.splat(V.total(total)) / V.total(sums)
            for i in range(0, size, lanes):
                wanted = V.load_first(shares, i, size - i) * keep + share
                if weighted:
                    wanted = wanted * V.load_first(weight, i, size - i)
                power = V.exp(V.load_first(x, i, size - i) - shift)
                V.store_first((power * scale - wanted) * factor, dx, i, size - i)

    def columns(arguments: Any, chunk: Any, scratch: Any) -> None:
        first, last, size, inner = units(arguments, chunk)
        weight, (keep, share) = V.floats(arguments[7]), smoothed(arguments)
        for unit in range(first, last):
            start, place, count = column(arguments, unit)
            x, shares = V.offset(V.floats(arguments[5]), start), V.offset(V.floats(arguments[6]), start)
            dx = V.offset(V.floats(arguments[9]), start)
            factor = V.load_first(V.floats(arguments[8]), place, count)
            shift, sums, total = V.splat(LOWEST), V.zero(), V.zero()
            for i in range(size):
                shift = V.maximum(shift, V.load_first(x, i * inner, count))
            for i in range(size):
                sums += V.exp(V.load_first(x, i * inner, count) - shift)
                wanted = V.load_first(shares, i * inner, count) * keep + share
                total += wanted * weight[i] if weighted else wanted
            scale = total / sums
            for i in range(size):
                wanted = V.load_first(shares, i * inner, count) * keep + share
                if weighted:
                    wanted = wanted * weight[i]
                power = V.exp(V.load_first(x, i * inner, count) - shift)
                V.store_first((power * scale - wanted) * factor, dx, i * inner, count)

    return columns if strided else rows


FAMILIES = (
    Family(
        "cross_entropy_soft",
        SOFT_ARGUMENTS,
        make_cross_entropy_soft,
        "-sum over classes c of t_c w_c log softmax(x)_c at every place, t the shares of the classes, smoothed.",
    ),
    Family(
        "cross_entropy_soft_gradient",
        SOFT_GRADIENT_ARGUMENTS,
        make_cross_entropy_soft_gradient,
        "dx of the terms of cross-entropy with shares of the classes.",
    ),
)
