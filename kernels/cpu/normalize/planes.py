"""Normalization of blocks of channels over groups of channels and all of space."""

from __future__ import annotations

from typing import Any

from .. import Family
from ..code.expression import Expression
from ..code.vector import indices, vectors
from ..target import Target
from .plan import ARGUMENTS, GRADIENT_ARGUMENTS, OPERANDS, PIECE
from .trees import Trees, substituted
from .walk import Layout, Walks


def _layout(target: Target, head: tuple[str, ...], operands: tuple[str, ...]) -> Layout:
    places: dict[str, tuple[str | None, str]] = {
        "full": ("position", "vector"),
        "image": ("along", "vector"),
        "channel": ("channel", "lanes"),
        "scalar": (None, "scalar"),
    }
    kinds = {name: places[kind] for name, kind in zip(OPERANDS, operands, strict=False)}
    return Layout(head, {"x": places["full"], **kinds}, "lanes", target.lanes, True)


def _make(target: Target, layout: Layout, trees: Trees, expression: Expression, gradient: str | None) -> Any:
    """gradient: None, "bare", "channel" or "image"."""
    V, lanes, A, centered = vectors(target), target.lanes, indices(layout.head), trees.centered
    how, backward = ("total", "add" if gradient == "image" else None), gradient is not None
    walks = Walks.of(target, layout, trees, expression, how, backward)
    total, spread, sums, write = walks.total, walks.spread, walks.sums, walks.write
    by_channel, image, piece = gradient == "channel", gradient == "image", PIECE * 4 * lanes
    weights, parts = A.a1 if by_channel else 0, (A.dweight, A.dbias) if backward else (0, 0)

    def kernel(arguments: Any, chunk: Any, scratch: Any) -> None:
        per_chunk, plane, span = arguments[A.per_chunk], arguments[A.length], arguments[A.inner]
        channels, group, blocks, some = arguments[A.channels], arguments[A.group], arguments[A.wrap], arguments[A.start]
        spans, size, eps = (blocks + span - 1) // span, arguments[A.segment], V.real(arguments[A.eps])
        y, zero = V.floats(arguments[A.y]), V.zero()
        # of each block: mean, rest, scale, first, second; then the sums of its lanes
        apart, share = 5 * lanes, blocks * size
        s0 = V.offset(scratch, span * apart)
        s1, out = V.offset(s0, span * lanes), V.offset(s0, 2 * span * lanes)
        dweight, dbias = V.floats(arguments[parts[0]]), V.floats(arguments[parts[1]])
        if image:
            for i in range(0, share, lanes):
                V.store(zero, dweight, chunk * share + i)
                if centered:
                    V.store(zero, dbias, chunk * share + i)
        for unit in range(chunk * per_chunk, min((chunk + 1) * per_chunk, arguments[A.units])):
            image_number, first_block = unit // spans, unit % spans * span
            count = min(span, blocks - first_block)
            base, c0 = (image_number * blocks + first_block) * size, first_block * lanes
            present = min(channels - c0, count * lanes)
            # 0: the moments; 1: the gradient's sums. Each of single channels first, then of their groups.
            for stage in range(2 if backward else 1):
                for b in range(count):
                    at, statistics, c = base + b * size, V.offset(scratch, b * apart), c0 + b * lanes
                    one, two, q0, q1 = zero, zero, out, V.offset(out, lanes)
                    if stage == 0:
                        V.store(zero, statistics, 0)
                        V.store(zero, statistics, lanes)
                        if centered:
                            for i in range(0, some * lanes, piece):
                                V.store(zero, q0, 0)
                                numbers = min(piece, some * lanes - i)
                                total(arguments, statistics, at + i, 0, 0, numbers, lanes, q0, q0, q0)
                                one += V.load(q0, 0)
                            V.store(one / some, statistics, 0)
                            one = zero
                    for i in range(0, size, piece):
                        V.store(zero, q0, 0)
                        V.store(zero, q1, 0)
                        if stage == 0:
                            spread(arguments, statistics, at + i, 0, 0, min(piece, size - i), lanes, q0, q1, q1)
                        else:
                            along = first_block * size + b * size + i
                            sums(arguments, statistics, at + i, along, c, min(piece, size - i), lanes, q0, q1, q1)
                        one += V.load(q0, 0)
                        two += V.load(q1, 0)
                    V.store(one, s0, b * lanes)
                    V.store(two, s1, b * lanes)
                    if by_channel and stage == 1:
                        V.store_first(two, dweight, image_number * channels + c, channels - c)
                        if centered:
                            V.store_first(one, dbias, image_number * channels + c, channels - c)
                for start in range(0, present, group):
                    first, second = 0.0, 0.0
                    for c in range(start, start + group):
                        weight = 1.0
                        if by_channel and stage == 1:
                            weight = V.floats(arguments[weights])[c0 + c]
                        first += float(s0[c]) * weight
                        second += float(s1[c]) * weight
                        if stage == 0:
                            first += float(scratch[c // lanes * apart + c % lanes]) * plane
                    if stage == 0:
                        first, second = first if centered else 0.0, 0.0
                        for c in range(start, start + group):
                            own = float(s0[c]) / plane
                            away = float(scratch[c // lanes * apart + c % lanes]) + own - first / (plane * group)
                            second += float(s1[c]) + (away * away - own * own) * plane
                        second = 0.0 if second < 0.0 else second
                    first, second = first / (plane * group), second / (plane * group)
                    scale = V.largest(V.splat(1.0) / V.sqrt(V.splat(second + eps)))
                    for c in range(start, start + group):
                        at = c // lanes * apart + c % lanes
                        if stage == 0:
                            scratch[at] = first
                            scratch[at + lanes] = first - float(scratch[at])
                            scratch[at + 2 * lanes] = scale
                        else:
                            scratch[at + 3 * lanes] = first
                            scratch[at + 4 * lanes] = second
            for b in range(count):
                at, along, c = base + b * size, (first_block + b) * size, c0 + b * lanes
                statistics, part = V.offset(scratch, b * apart), chunk * share + along if image else 0
                q0, q1, q2 = V.offset(y, at), V.offset(dweight, part), V.offset(dbias, part)
                write(arguments, statistics, at, along, c, size, channels - c, q0, q1, q2)

    return kernel


def make_planes(
    target: Target, blocked: bool, flat: bool, centered: bool, expression: Expression | None, operands: tuple[str, ...]
) -> Any:
    trees = Trees.of(centered, False)
    tree = trees.normalized if expression is None else substituted(expression, "y", trees.normalized)
    return _make(target, _layout(target, ARGUMENTS, operands), trees, tree, None)


def make_planes_gradient(target: Target, blocked: bool, flat: bool, centered: bool, weight: str | None) -> Any:
    layout = _layout(target, GRADIENT_ARGUMENTS, ("full", *([weight] if weight else [])))
    trees = Trees.of(centered, weight == "image")
    return _make(target, layout, trees, Trees.of(centered, weight is not None).back, weight or "bare")


FAMILIES = (
    Family(
        "normalize_planes",
        ARGUMENTS,
        make_planes,
        "y = f((x - mean) / sqrt(variance + eps), a0, ...) of blocks, with statistics of groups of channels. A chunk is groups.",
    ),
    Family(
        "normalize_planes_gradient",
        GRADIENT_ARGUMENTS,
        make_planes_gradient,
        "dL/dx of normalized blocks from x and dL/dy, and parts of the weights' gradients. A chunk is groups.",
    ),
)
