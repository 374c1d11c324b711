"""Normalization of rows: what is normalized together is contiguous."""

from __future__ import annotations

from typing import Any

from .. import Family
from ..code.expression import Expression
from ..code.vector import indices, vectors
from ..target import Target
from .plan import ARGUMENTS, GRADIENT_ARGUMENTS, OPERANDS, PIECE
from .trees import Trees, substituted
from .walk import Layout, Walks


def _layout(target: Target, head: tuple[str, ...], flat: bool, operands: tuple[str, ...]) -> Layout:
    places: dict[str, tuple[str | None, str]] = {
        "full": ("position", "vector"),
        "image": ("along", "vector"),
        "channel": ("along", "vector") if flat else ("channel", "scalar"),
        "scalar": (None, "scalar"),
    }
    kinds = {name: places[kind] for name, kind in zip(OPERANDS, operands, strict=False)}
    return Layout(head, {"x": places["full"], **kinds}, "scalar", target.lanes, False)


def _make(target: Target, layout: Layout, trees: Trees, expression: Expression, gradient: str | None) -> Any:
    """gradient: None, "bare", "channel", "image" or "flat": of what the weights' gradients are."""
    V, lanes, A, centered = vectors(target), target.lanes, indices(layout.head), trees.centered
    how, backward = ("total", "add" if gradient in ("image", "flat") else None), gradient is not None
    walks = Walks.of(target, layout, trees, expression, how, backward)
    total, spread, sums, write = walks.total, walks.spread, walks.sums, walks.write
    by_channel, along, piece = gradient == "channel", gradient in ("image", "flat"), PIECE * 4 * lanes
    weights, parts = A.a1 if by_channel else 0, (A.dweight, A.dbias) if backward else (0, 0)

    def kernel(arguments: Any, chunk: Any, scratch: Any) -> None:
        per_chunk, length, start = arguments[A.per_chunk], arguments[A.length], arguments[A.start]
        channels, plane = arguments[A.channels], arguments[A.plane]
        segment, wrap, eps = arguments[A.segment], arguments[A.wrap], V.real(arguments[A.eps])
        y, zero = V.floats(arguments[A.y]), V.zero()
        s0, s1 = V.offset(scratch, 8 * lanes), V.offset(scratch, 9 * lanes)
        dweight, dbias = V.floats(arguments[parts[0]]), V.floats(arguments[parts[1]])
        if along:
            for i in range(0, wrap, lanes):
                V.store_first(zero, dweight, chunk * wrap + i, wrap - i)
                if centered:
                    V.store_first(zero, dbias, chunk * wrap + i, wrap - i)
        for row in range(chunk * per_chunk, min((chunk + 1) * per_chunk, arguments[A.units])):
            base, mean, one, two = row * length, 0.0, 0.0, 0.0
            if centered:
                for i in range(0, start, piece):
                    V.store(zero, s0, 0)
                    total(arguments, scratch, base + i, 0, 0, min(piece, start - i), lanes, s0, s0, s0)
                    mean += V.total(V.load(s0, 0))
                mean /= start
            scratch[0] = mean
            for i in range(0, length, piece):
                V.store(zero, s0, 0)
                V.store(zero, s1, 0)
                spread(arguments, scratch, base + i, 0, 0, min(piece, length - i), lanes, s0, s1, s1)
                one += V.total(V.load(s0, 0))
                two += V.total(V.load(s1, 0))
            rest, variance = 0.0, two / length
            if centered:
                rest = one / length
                variance -= rest * rest
                if variance < 0.0:
                    variance = 0.0
            scratch[lanes] = rest
            V.store(V.splat(1.0) / V.sqrt(V.splat(variance + eps)), scratch, 2 * lanes)
            wrapped = base % wrap
            if backward:
                one, two = 0.0, 0.0
                for begin in range(0, length, segment):
                    first, second = 0.0, 0.0
                    for i in range(begin, begin + segment, piece):
                        V.store(zero, s0, 0)
                        V.store(zero, s1, 0)
                        count = min(piece, begin + segment - i)
                        sums(arguments, scratch, base + i, wrapped + i, 0, count, lanes, s0, s1, s1)
                        first += V.total(V.load(s0, 0))
                        second += V.total(V.load(s1, 0))
                    if by_channel:
                        at = (base + begin) // plane
                        dweight[at] = second
                        if centered:
                            dbias[at] = first
                        weight = V.floats(arguments[weights])[at % channels]
                        first *= weight
                        second *= weight
                    one += first
                    two += second
                scratch[3 * lanes] = one / length
                scratch[4 * lanes] = two / length
            for begin in range(0, length, segment):
                position, place = base + begin, wrapped + begin
                channel, at = position // plane % channels, chunk * wrap + place if along else 0
                out, out1, out2 = V.offset(y, position), V.offset(dweight, at), V.offset(dbias, at)
                write(arguments, scratch, position, place, channel, segment, lanes, out, out1, out2)

    return kernel


def make_rows(
    target: Target, blocked: bool, flat: bool, centered: bool, expression: Expression | None, operands: tuple[str, ...]
) -> Any:
    trees = Trees.of(centered, False)
    tree = trees.normalized if expression is None else substituted(expression, "y", trees.normalized)
    return _make(target, _layout(target, ARGUMENTS, flat, operands), trees, tree, None)


def make_rows_gradient(target: Target, blocked: bool, flat: bool, centered: bool, weight: str | None) -> Any:
    kind = "bare" if weight is None else "flat" if flat else weight
    layout = _layout(target, GRADIENT_ARGUMENTS, flat, ("full", *([weight] if weight else [])))
    # a channel's weight is no part of its own sums, which are its gradients
    trees = Trees.of(centered, kind in ("image", "flat"))
    return _make(target, layout, trees, Trees.of(centered, weight is not None).back, kind)


FAMILIES = (
    Family(
        "normalize_rows",
        ARGUMENTS,
        make_rows,
        "y = f((x - mean) / sqrt(variance + eps), a0, ...) of rows with statistics of their own. A chunk is some rows.",
    ),
    Family(
        "normalize_rows_gradient",
        GRADIENT_ARGUMENTS,
        make_rows_gradient,
        "dL/dx of normalized rows from x and dL/dy, and parts of the weights' gradients. A chunk is some rows.",
    ),
)
