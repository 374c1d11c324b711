"""Softmax and its logarithm along an axis, cross-entropy, accuracy. Logits are shifted by their maximum first.

Of a row whose label is the maximum, cross-entropy is log(1 + others), where `others` is the sum of the other classes'
powers: it keeps its digits, and so does its gradient, however sure the network is.
"""

from __future__ import annotations

import math
from typing import Any

from .. import Family
from ..code.vector import vectors
from ..target import Target
from .classes import columns_of, others_of


def make_softmax(target: Target, log: bool, strided: bool) -> Any:
    """strided: the axis is not the last one, and the vectors lie along the inner axis."""
    V, lanes, lowest = vectors(target), target.lanes, -math.inf
    units, column = columns_of(target)

    def rows(arguments, chunk, scratch):
        outer, per_chunk, size = arguments[0], arguments[1], arguments[2]
        for row in range(chunk * per_chunk, min(outer, (chunk + 1) * per_chunk)):
            x, y = V.offset(V.floats(arguments[4]), row * size), V.offset(V.floats(arguments[5]), row * size)
            first, second, third, fourth, i = V.splat(lowest), V.splat(lowest), V.splat(lowest), V.splat(lowest), 0
            while size - i >= 4 * lanes:  # four that do not wait for each other
                first, second = V.maximum(first, V.load(x, i)), V.maximum(second, V.load(x, i + lanes))
                third = V.maximum(third, V.load(x, i + 2 * lanes))
                fourth = V.maximum(fourth, V.load(x, i + 3 * lanes))
                i += 4 * lanes
            while i < size:
                value = V.select(V.first(size - i), V.load_first(x, i, size - i), V.splat(lowest))
                first = V.maximum(first, value)
                i += lanes
            shift = V.splat(V.largest(V.maximum(V.maximum(first, second), V.maximum(third, fourth))))
            sums = V.zero()
            for i in range(0, size, lanes):
                power = V.exp(V.load_first(x, i, size - i) - shift)
                sums += V.select(V.first(size - i), power, V.zero())
                if not log:
                    V.store_first(power, y, i, size - i)
            total = V.splat(V.total(sums))
            part = V.splat(1.0) / total
            if log:
                total = V.log(total)
            for i in range(0, size, lanes):
                if log:
                    V.store_first(V.load_first(x, i, size - i) - shift - total, y, i, size - i)
                else:
                    V.store_first(V.load_first(y, i, size - i) * part, y, i, size - i)

    def columns(arguments, chunk, scratch):
        first, last, size, inner = units(arguments, chunk)
        for unit in range(first, last):
            start, _, count = column(arguments, unit)
            x, y = V.offset(V.floats(arguments[4]), start), V.offset(V.floats(arguments[5]), start)
            shift, total = V.splat(lowest), V.zero()
            for i in range(size):
                shift = V.maximum(shift, V.load_first(x, i * inner, count))
            for i in range(size):
                power = V.exp(V.load_first(x, i * inner, count) - shift)
                total += power
                if not log:
                    V.store_first(power, y, i * inner, count)
            part = V.splat(1.0) / total
            if log:
                total = V.log(total)
            for i in range(size):
                if log:
                    V.store_first(V.load_first(x, i * inner, count) - shift - total, y, i * inner, count)
                else:
                    V.store_first(V.load_first(y, i * inner, count) * part, y, i * inner, count)

    return columns if strided else rows


def make_softmax_gradient(target: Target, log: bool, strided: bool) -> Any:
    """dx = y (dy - sum(dy y)), or for the logarithm dy - exp(y) sum(dy)."""
    V, lanes = vectors(target), target.lanes
    units, column = columns_of(target)

    def rows(arguments, chunk, scratch):
        outer, per_chunk, size = arguments[0], arguments[1], arguments[2]
        for row in range(chunk * per_chunk, min(outer, (chunk + 1) * per_chunk)):
            y, dy = V.offset(V.floats(arguments[4]), row * size), V.offset(V.floats(arguments[5]), row * size)
            dx = V.offset(V.floats(arguments[6]), row * size)
            sums = V.zero()
            for i in range(0, size, lanes):
                if log:
                    sums += V.load_first(dy, i, size - i)
                else:
                    sums = V.fma(V.load_first(dy, i, size - i), V.load_first(y, i, size - i), sums)
            total = V.splat(V.total(sums))
            for i in range(0, size, lanes):
                value, above = V.load_first(y, i, size - i), V.load_first(dy, i, size - i)
                V.store_first(above - V.exp(value) * total if log else value * (above - total), dx, i, size - i)

    def columns(arguments, chunk, scratch):
        first, last, size, inner = units(arguments, chunk)
        for unit in range(first, last):
            start, _, count = column(arguments, unit)
            y, dy = V.offset(V.floats(arguments[4]), start), V.offset(V.floats(arguments[5]), start)
            dx = V.offset(V.floats(arguments[6]), start)
            total = V.zero()
            for i in range(size):
                if log:
                    total += V.load_first(dy, i * inner, count)
                else:
                    total = V.fma(V.load_first(dy, i * inner, count), V.load_first(y, i * inner, count), total)
            for i in range(size):
                value, above = V.load_first(y, i * inner, count), V.load_first(dy, i * inner, count)
                V.store_first(above - V.exp(value) * total if log else value * (above - total), dx, i * inner, count)

    return columns if strided else rows


def make_cross_entropy(target: Target) -> Any:
    V, others, nan = vectors(target), others_of(target), math.nan

    def kernel(arguments, chunk, scratch):
        n, size, x, labels = arguments[0], arguments[1], V.floats(arguments[2]), V.integers(arguments[3])
        loss, sum_of_losses = V.floats(arguments[4]), 0.0
        for row in range(n):
            label = labels[row]
            shift, rest = others(x, size, label)
            if label < 0 or label >= size:
                sum_of_losses = nan
            else:
                own = V.exp(V.splat(x[label]) - shift)
                beyond = V.splat(rest) + (own - 1.0)
                total = beyond + 1.0
                # log(1 + beyond), with what is lost in the sum put back
                logarithm = V.log(total) + (beyond - (total - 1.0)) / total
                sum_of_losses += (float(shift) - float(x[label])) + float(V.largest(logarithm))
            x = V.offset(x, size)
        loss[0] = sum_of_losses / n

    return kernel


def make_cross_entropy_gradient(target: Target) -> Any:
    V, lanes, others, nan = vectors(target), target.lanes, others_of(target), math.nan

    def kernel(arguments, chunk, scratch):
        n, per_chunk, size = arguments[0], arguments[1], arguments[2]
        labels, scale = V.integers(arguments[4]), V.floats(arguments[5])[0] / n
        for row in range(chunk * per_chunk, min(n, (chunk + 1) * per_chunk)):
            x, dx = V.offset(V.floats(arguments[3]), row * size), V.offset(V.floats(arguments[6]), row * size)
            label = labels[row]
            shift, sum_of_others = others(x, size, label)
            outside = label < 0 or label >= size
            rest, factor = V.splat(sum_of_others), nan if outside else float(scale)
            total = rest if outside else rest + V.exp(V.splat(x[label]) - shift)
            for i in range(0, size, lanes):
                power = V.exp(V.load_first(x, i, size - i) - shift)
                # The label's lane, if it lies in this vector: p - 1 is what the others have, negative.
                hit = V.first(label - i + 1) & ~V.first(label - i)
                V.store_first(V.select(hit, V.zero() - rest, power) / total * V.splat(factor), dx, i, size - i)

    return kernel


def make_accuracy(target: Target) -> Any:
    V = vectors(target)

    def kernel(arguments, chunk, scratch):
        n, size, x, labels = arguments[0], arguments[1], V.floats(arguments[2]), V.integers(arguments[3])
        result, hits = V.floats(arguments[4]), 0
        for row in range(n):
            best, top = 0, x[0]
            for i in range(1, size):
                value = x[i]
                # The first of equals, and the first NaN, as numpy.argmax.
                if value > top or (value != value and top == top):
                    best, top = i, value
            hits += 1 if best == labels[row] else 0
            x = V.offset(x, size)
        result[0] = hits / n

    return kernel


_AXIS = ("outer", "per_chunk", "size", "inner")
FAMILIES = (
    Family(
        "softmax",
        (*_AXIS, "x", "y"),
        make_softmax,
        "Softmax, or its logarithm, along the middle axis of [outer, size, inner].",
    ),
    Family(
        "softmax_gradient",
        (*_AXIS, "y", "dy", "dx"),
        make_softmax_gradient,
        "The gradient of softmax from its result y.",
    ),
    Family(
        "cross_entropy",
        ("n", "size", "x", "labels", "loss"),
        make_cross_entropy,
        "The mean of -log softmax(x)[label] over logits x[n, size] and int64 labels[n]; NaN if a label is out of range. One chunk.",
    ),
    Family(
        "cross_entropy_gradient",
        ("n", "per_chunk", "size", "x", "labels", "scale", "dx"),
        make_cross_entropy_gradient,
        "(softmax(x) - one_hot(label)) scale[0] / n; NaN in rows whose label is out of range. A chunk is some rows.",
    ),
    Family(
        "accuracy",
        ("n", "size", "x", "labels", "y"),
        make_accuracy,
        "The part of the rows whose first maximum is at the label. One chunk.",
    ),
)
