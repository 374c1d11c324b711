"""Losses over classes, place by place: cross-entropy with weights, smoothing and labels that do not count; the multiclass
hinge; right answers.

Logits are shifted by their maximum first. Of a place whose label is the maximum, cross-entropy is log(1 + others), as
in `loss.py`. A label that is no class gives NaN.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from numba import types

from .. import Family
from ..code.vector import FLOATS, INTEGERS, piece, vectors
from ..target import Target
from .class_loss_plan import (
    ENTROPY_ARGUMENTS,
    ENTROPY_GRADIENT_ARGUMENTS,
    HINGE_ARGUMENTS,
    HINGE_GRADIENT_ARGUMENTS,
    HITS_ARGUMENTS,
    NUMBERS_ARGUMENTS,
)
from .classes import columns_of, others_of, smoothed_of

LOWEST, NAN = -math.inf, math.nan


def make_cross_entropy_terms(target: Target, strided: bool, smooth: bool, weighted: bool) -> Any:
    return _terms_of_columns(target, smooth, weighted) if strided else _terms_of_rows(target, smooth, weighted)


def _terms_of_rows(target: Target, smooth: bool, weighted: bool) -> Any:
    V, lanes, others, smoothed = vectors(target), target.lanes, others_of(target), smoothed_of(target)

    def kernel(arguments: Any, chunk: Any, scratch: Any) -> None:
        outer, per_chunk, size = arguments[0], arguments[1], arguments[2]
        ignored, weight, (keep, share) = arguments[5], V.floats(arguments[8]), smoothed(arguments)
        for row in range(chunk * per_chunk, min(outer, (chunk + 1) * per_chunk)):
            x, label = V.offset(V.floats(arguments[6]), row * size), V.integers(arguments[7])[row]
            term, counted = V.offset(V.floats(arguments[9]), row), V.offset(V.floats(arguments[10]), row)
            if label == ignored or label < 0 or label >= size:
                term[0] = counted[0] = 0.0 if label == ignored else NAN
                continue
            shift, rest = others(x, size, label)
            beyond = V.splat(rest) + (V.exp(V.splat(x[label]) - shift) - 1.0)
            total = beyond + 1.0
            logarithm = V.log(total) + (beyond - (total - 1.0)) / total
            own = float(weight[label]) if weighted else 1.0
            result = keep * own * ((float(shift) - float(x[label])) + float(V.largest(logarithm)))
            if smooth:
                losses = V.zero()
                for i in range(0, size, lanes):
                    part = V.splat(shift) - V.load_first(x, i, size - i) + logarithm
                    if weighted:
                        part = part * V.load_first(weight, i, size - i)
                    losses += V.select(V.first(size - i), part, V.zero())
                result += share * float(V.total(losses))
            term[0], counted[0] = result, own

    return kernel


@cache
def _labelled(target: Target, weighted: bool) -> Any:
    """A piece: labelled(arguments, scratch, place, count) puts into two vectors of scratch, for `count` places from `place` on, their
    labels, -1 where these do not count, and their weights: 0 where they do not count, NaN where they are no class.
    """
    V, lanes = vectors(target), target.lanes

    def labelled(arguments: Any, scratch: Any, place: Any, count: Any) -> None:
        size, ignored, weight = arguments[2], arguments[5], V.floats(arguments[8])
        labels = V.integer_offset(V.integers(arguments[7]), place)
        V.store(V.splat(-1.0), scratch, 0)
        V.store(V.zero(), scratch, lanes)
        for lane in range(min(lanes, count)):
            label = labels[lane]
            if label >= 0 and label < size and label != ignored:
                scratch[lane] = label
                scratch[lanes + lane] = weight[label] if weighted else 1.0
            else:
                scratch[lanes + lane] = 0.0 if label == ignored else NAN

    return piece((INTEGERS, FLOATS, types.int64, types.int64), labelled)


def _terms_of_columns(target: Target, smooth: bool, weighted: bool) -> Any:
    V, lanes, labelled = vectors(target), target.lanes, _labelled(target, weighted)
    (units, column), smoothed = columns_of(target), smoothed_of(target)

    def kernel(arguments: Any, chunk: Any, scratch: Any) -> None:
        first, last, size, inner = units(arguments, chunk)
        weight, (keep, share) = V.floats(arguments[8]), smoothed(arguments)
        for unit in range(first, last):
            start, place, count = column(arguments, unit)
            x = V.offset(V.floats(arguments[6]), start)
            labelled(arguments, scratch, place, count)
            label_of, own = V.load(scratch, 0), V.load(scratch, lanes)
            shift, sums, chosen = V.splat(LOWEST), V.zero(), V.zero()
            for i in range(size):
                shift = V.maximum(shift, V.load_first(x, i * inner, count))
            for i in range(size):
                value = V.load_first(x, i * inner, count)
                hit = label_of == i
                sums += V.select(hit, V.zero(), V.exp(value - shift))
                chosen = V.select(hit, value, chosen)
            beyond = sums + (V.exp(chosen - shift) - 1.0)
            total = beyond + 1.0
            logarithm = V.log(total) + (beyond - (total - 1.0)) / total
            result = own * ((shift - chosen) + logarithm) * keep
            if smooth:
                losses = V.zero()
                for i in range(size):
                    part = shift - V.load_first(x, i * inner, count) + logarithm
                    losses += part * weight[i] if weighted else part
                result = result + losses * share
            # where no class counts, the weight is 0 or NaN, and so is the loss
            V.store_first(V.select(label_of >= 0, result, own), V.floats(arguments[9]), place, count)
            V.store_first(own, V.floats(arguments[10]), place, count)

    return kernel


def make_cross_entropy_terms_gradient(target: Target, strided: bool, smooth: bool, weighted: bool) -> Any:
    """p_c S - t_c w_c of each place, times the gradient of its term: p softmax(x), t the shares of the classes that are
    wanted, w their weights, S the sum of t w. Of the label itself p - 1 is what the others have, negative."""
    return _gradient_of_columns(target, smooth, weighted) if strided else _gradient_of_rows(target, smooth, weighted)


def _gradient_of_rows(target: Target, smooth: bool, weighted: bool) -> Any:
    V, lanes, others, smoothed = vectors(target), target.lanes, others_of(target), smoothed_of(target)

    def kernel(arguments: Any, chunk: Any, scratch: Any) -> None:
        outer, per_chunk, size = arguments[0], arguments[1], arguments[2]
        ignored, weight, (keep, share) = arguments[5], V.floats(arguments[8]), smoothed(arguments)
        for row in range(chunk * per_chunk, min(outer, (chunk + 1) * per_chunk)):
            x, label = V.offset(V.floats(arguments[6]), row * size), V.integers(arguments[7])[row]
            dx, factor = V.offset(V.floats(arguments[10]), row * size), V.floats(arguments[9])[row]
            if label == ignored or label < 0 or label >= size:
                for i in range(0, size, lanes):
                    V.store_first(V.splat(0.0 if label == ignored else NAN), dx, i, size - i)
                continue
            wanted = V.zero()
            for i in range(0, size if smooth and weighted else 0, lanes):
                wanted += V.load_first(weight, i, size - i)
            shift, sum_of_others = others(x, size, label)
            rest = V.splat(sum_of_others)
            inverse = V.splat(1.0) / (rest + V.exp(V.splat(x[label]) - shift))
            weights, own = V.total(wanted) if weighted else size, weight[label] if weighted else 1.0
            for i in range(0, size, lanes):
                power = V.exp(V.load_first(x, i, size - i) - shift)
                hit = V.first(label - i + 1) & ~V.first(label - i)
                result = V.select(hit, V.zero() - rest, power) * inverse * (keep * own)
                if smooth:
                    each = V.load_first(weight, i, size - i) if weighted else V.splat(1.0)
                    result = result + (power * inverse * weights - each) * share
                V.store_first(result * factor, dx, i, size - i)

    return kernel


def _gradient_of_columns(target: Target, smooth: bool, weighted: bool) -> Any:
    V, lanes, labelled = vectors(target), target.lanes, _labelled(target, weighted)
    (units, column), smoothed = columns_of(target), smoothed_of(target)

    def kernel(arguments: Any, chunk: Any, scratch: Any) -> None:
        first, last, size, inner = units(arguments, chunk)
        weight, (keep, share) = V.floats(arguments[8]), smoothed(arguments)
        for unit in range(first, last):
            start, place, count = column(arguments, unit)
            x, dx = V.offset(V.floats(arguments[6]), start), V.offset(V.floats(arguments[10]), start)
            labelled(arguments, scratch, place, count)
            label_of, own = V.load(scratch, 0), V.load(scratch, lanes)
            factor = V.load_first(V.floats(arguments[9]), place, count)
            shift, rest, chosen, weights = V.splat(LOWEST), V.zero(), V.zero(), 0.0
            for i in range(size):
                shift = V.maximum(shift, V.load_first(x, i * inner, count))
                weights += float(weight[i]) if weighted else 1.0
            for i in range(size):
                power = V.exp(V.load_first(x, i * inner, count) - shift)
                hit = label_of == i
                rest += V.select(hit, V.zero(), power)
                chosen = V.select(hit, power, chosen)
            inverse = V.splat(1.0) / (rest + chosen)
            for i in range(size):
                power = V.exp(V.load_first(x, i * inner, count) - shift)
                result = V.select(label_of == i, V.zero() - rest, power) * inverse * own * keep
                if smooth:
                    each = V.splat(weight[i]) if weighted else V.splat(1.0)
                    result = result + (power * inverse * weights - each) * share
                V.store_first(V.select(label_of >= 0, result * factor, own), dx, i * inner, count)

    return kernel


def make_multiclass_hinge(target: Target, square: bool, weighted: bool) -> Any:
    V, lanes = vectors(target), target.lanes

    def kernel(arguments: Any, chunk: Any, scratch: Any) -> None:
        rows, per_chunk, size, margin = arguments[0], arguments[1], arguments[2], V.real(arguments[3])
        weight, term = V.floats(arguments[6]), V.floats(arguments[7])
        for row in range(chunk * per_chunk, min(rows, (chunk + 1) * per_chunk)):
            x, label = V.offset(V.floats(arguments[4]), row * size), V.integers(arguments[5])[row]
            if label < 0 or label >= size:
                term[row] = NAN
            else:
                own, sums = V.splat(margin) - x[label], V.zero()
                for i in range(0, size, lanes):
                    over = V.maximum(own + V.load_first(x, i, size - i), V.zero())
                    others = V.first(size - i) & ~(V.first(label - i + 1) & ~V.first(label - i))
                    sums += V.select(others, over * over if square else over, V.zero())
                term[row] = V.total(sums) / size * (weight[label] if weighted else 1.0)

    return kernel


def make_multiclass_hinge_gradient(target: Target, square: bool, weighted: bool) -> Any:
    V, lanes = vectors(target), target.lanes

    def kernel(arguments: Any, chunk: Any, scratch: Any) -> None:
        rows, per_chunk, size, margin = arguments[0], arguments[1], arguments[2], V.real(arguments[3])
        weight, dterm = V.floats(arguments[6]), V.floats(arguments[7])
        for row in range(chunk * per_chunk, min(rows, (chunk + 1) * per_chunk)):
            x, label = V.offset(V.floats(arguments[4]), row * size), V.integers(arguments[5])[row]
            dx, inside = V.offset(V.floats(arguments[8]), row * size), label >= 0 and label < size
            factor = V.splat(dterm[row] / size if inside else NAN)
            if inside and weighted:
                factor = factor * weight[label]
            own, sums = V.splat(margin) - (x[label] if inside else NAN), V.zero()
            for i in range(0, size, lanes):
                over = own + V.load_first(x, i, size - i)
                slope = V.select(over > 0.0, factor * over * 2.0 if square else factor, V.zero())
                if not inside:
                    slope = factor
                others = V.first(size - i) & ~(V.first(label - i + 1) & ~V.first(label - i))
                slope = V.select(others, slope, V.zero())
                sums += slope
                V.store_first(slope, dx, i, size - i)
            if inside:
                dx[label] = -V.total(sums)

    return kernel


def make_class_hits(target: Target, strided: bool) -> Any:
    V, wide = vectors(target), target.lanes if strided else 1

    def places(arguments: Any, chunk: Any, scratch: Any) -> None:
        """One place after the other, classes `inner` apart."""
        outer, per_chunk, size, inner, ignored = arguments[0], arguments[1], arguments[2], arguments[3], arguments[4]
        hit, counted = V.floats(arguments[7]), V.floats(arguments[8])
        tiles = (inner + wide - 1) // wide
        for unit in range(chunk * per_chunk, min(outer * tiles, (chunk + 1) * per_chunk)):
            column, row = unit % tiles * wide, unit // tiles
            for place in range(column, min(inner, column + wide)):
                x = V.offset(V.floats(arguments[5]), row * size * inner + place)
                best, top = 0, x[0]
                for i in range(1, size):
                    value = x[i * inner]
                    # the first of equals, and the first NaN, as numpy.argmax
                    if value > top or (value != value and top == top):
                        best, top = i, value
                label = V.integers(arguments[6])[row * inner + place]
                hit[row * inner + place] = 1.0 if best == label and label != ignored else 0.0
                counted[row * inner + place] = 0.0 if label == ignored else 1.0

    return places


def make_numbers(target: Target) -> Any:
    V = vectors(target)

    def kernel(arguments: Any, chunk: Any, scratch: Any) -> None:
        numbers, y = V.floats(arguments[1]), V.floats(arguments[2])
        for i in range(arguments[0]):
            y[i] = numbers[i]

    return kernel


FAMILIES = (
    Family(
        "cross_entropy_terms",
        ENTROPY_ARGUMENTS,
        make_cross_entropy_terms,
        "-sum over classes c of t_c w_c log softmax(x)_c at every place, t the label's class, smoothed; and its weight.",
    ),
    Family(
        "cross_entropy_terms_gradient",
        ENTROPY_GRADIENT_ARGUMENTS,
        make_cross_entropy_terms_gradient,
        "dx of the terms of cross-entropy.",
    ),
    Family(
        "multiclass_hinge",
        HINGE_ARGUMENTS,
        make_multiclass_hinge,
        "weight[label] / size * the sum over other classes c of max(0, margin - x[label] + x[c])^p of every row.",
    ),
    Family(
        "multiclass_hinge_gradient",
        HINGE_GRADIENT_ARGUMENTS,
        make_multiclass_hinge_gradient,
        "dx of the terms of the multiclass hinge.",
    ),
    Family("class_hits", HITS_ARGUMENTS, make_class_hits, "1 where the first largest logit is the label's."),
    Family("numbers", NUMBERS_ARGUMENTS, make_numbers, "y = numbers that the plan holds."),
)
