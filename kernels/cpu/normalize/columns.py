"""Normalization of columns, a tile of neighbors at a time; of blocks, over the channels of each pixel."""

from __future__ import annotations

from typing import Any

from .. import Family
from ..code.expression import Expression
from ..code.vector import indices, vectors
from ..target import Target
from .plan import ARGUMENTS, GRADIENT_ARGUMENTS, OPERANDS, PIECE, TILE
from .trees import Trees, substituted
from .walk import Layout, Walks


def _layout(target: Target, head: tuple[str, ...], blocked: bool, operands: tuple[str, ...]) -> Layout:
    places: dict[str, tuple[str | None, str]] = {
        "full": ("position", "vector"),
        "image": ("along", "scalar"),
        "channel": ("channel", "lanes" if blocked else "scalar"),
        "scalar": (None, "scalar"),
    }
    kinds = {name: places[kind] for name, kind in zip(OPERANDS, operands, strict=False)}
    return Layout(head, {"x": places["full"], **kinds}, "vector", TILE * target.lanes, blocked)


def _make(target: Target, layout: Layout, trees: Trees, expression: Expression, gradient: str | None) -> Any:
    """gradient: None, "bare" or "weighted"."""
    V, lanes, A, centered = vectors(target), target.lanes, indices(layout.head), trees.centered
    how, backward = ("add", "total" if gradient == "weighted" else None), gradient is not None
    walks = Walks.of(target, layout, trees, expression, how, backward)
    total, spread, sums, write = walks.total, walks.spread, walks.sums, walks.write
    tile, weighted, blocked = TILE * lanes, gradient == "weighted", layout.masked
    parts = (A.dweight, A.dbias) if backward else (0, 0)

    def kernel(arguments: Any, chunk: Any, scratch: Any) -> None:
        per_chunk, length, inner = arguments[A.per_chunk], arguments[A.length], arguments[A.inner]
        channels, plane, tiles = arguments[A.channels], arguments[A.plane], arguments[A.wrap]
        some, eps = arguments[A.start], V.splat(V.real(arguments[A.eps]))
        y, zero = V.floats(arguments[A.y]), V.zero()
        s0, s1 = V.offset(scratch, 8 * tile), V.offset(scratch, 9 * tile)
        p0, p1 = V.offset(scratch, 10 * tile), V.offset(scratch, 11 * tile)
        w0, w1 = V.offset(scratch, 16 * tile), V.offset(scratch, 16 * tile + length * lanes)
        dweight, dbias = V.floats(arguments[parts[0]]), V.floats(arguments[parts[1]])
        last, count, few, width_of_block = lanes, length, some, lanes if blocked else 1
        apart, blocks = plane * width_of_block, (channels + width_of_block - 1) // width_of_block
        if blocked:
            last, count, few = channels - (length - 1) * lanes, channels, min(channels, some * lanes)
        if weighted:
            for i in range(2 * length):
                V.store(zero, w0, i * lanes)
        for unit in range(chunk * per_chunk, min((chunk + 1) * per_chunk, arguments[A.units])):
            column = unit % tiles * tile
            base, width = unit // tiles * length * inner + column, min(tile, inner - column)
            for v in range(0, tile, lanes):
                V.store(zero, scratch, v)
                V.store(zero, scratch, tile + v)
            # 0: what the mean is about; 1: deviations from it; 2: the gradient's sums
            for stage in range(0 if centered else 1, 3 if backward else 2):
                for v in range(0, tile, lanes):
                    V.store(zero, s0, v)
                    V.store(zero, s1, v)
                rows = some if stage == 0 else length
                for start in range(0, rows, PIECE):
                    for v in range(0, tile, lanes):
                        V.store(zero, p0, v)
                        V.store(zero, p1, v)
                    for r in range(start, min(start + PIECE, rows)):
                        position, valid = base + r * inner, last if r == length - 1 else lanes
                        if stage == 0:
                            total(arguments, scratch, position, r, 0, width, valid, p0, p1, p1)
                        elif stage == 1:
                            spread(arguments, scratch, position, r, 0, width, valid, p0, p1, p1)
                        else:
                            channel = position // apart % blocks * width_of_block
                            sums(arguments, scratch, position, r, channel, width, valid, p0, p1, p1)
                    for v in range(0, tile, lanes):
                        V.store(V.load(s0, v) + V.load(p0, v), s0, v)
                        V.store(V.load(s1, v) + V.load(p1, v), s1, v)
                for v in range(0, tile, lanes):
                    one, two = V.load(s0, v), V.load(s1, v)
                    if blocked:
                        one, two = V.splat(V.total(one)), V.splat(V.total(two))
                    if stage == 0:
                        V.store(one / few, scratch, v)
                    elif stage == 1:
                        rest, variance = zero, two / count
                        if centered:
                            rest = one / count
                            variance = variance - rest * rest
                            variance = V.select(variance < 0.0, zero, variance)
                        V.store(rest, scratch, tile + v)
                        V.store(V.splat(1.0) / V.sqrt(variance + eps), scratch, 2 * tile + v)
                    else:
                        V.store(one / count, scratch, 3 * tile + v)
                        V.store(two / count, scratch, 4 * tile + v)
            for r in range(length):
                position, valid = base + r * inner, last if r == length - 1 else lanes
                channel = position // apart % blocks * width_of_block
                o0, o1 = w0, w1
                if weighted:
                    o0, o1 = V.offset(w0, r * lanes), V.offset(w1, r * lanes)
                write(arguments, scratch, position, r, channel, width, valid, V.offset(y, position), o0, o1)
        if weighted:
            for r in range(length):
                if blocked:
                    V.store_first(V.load(w0, r * lanes), dweight, chunk * count + r * lanes, count - r * lanes)
                    if centered:
                        V.store_first(V.load(w1, r * lanes), dbias, chunk * count + r * lanes, count - r * lanes)
                else:
                    dweight[chunk * count + r] = V.total(V.load(w0, r * lanes))
                    if centered:
                        dbias[chunk * count + r] = V.total(V.load(w1, r * lanes))

    return kernel


def make_columns(
    target: Target, blocked: bool, flat: bool, centered: bool, expression: Expression | None, operands: tuple[str, ...]
) -> Any:
    trees = Trees.of(centered, False)
    tree = trees.normalized if expression is None else substituted(expression, "y", trees.normalized)
    return _make(target, _layout(target, ARGUMENTS, blocked, operands), trees, tree, None)


def make_columns_gradient(target: Target, blocked: bool, flat: bool, centered: bool, weight: str | None) -> Any:
    layout = _layout(target, GRADIENT_ARGUMENTS, blocked, ("full", *([weight] if weight else [])))
    trees = Trees.of(centered, weight is not None)
    return _make(target, layout, trees, trees.back, "weighted" if weight else "bare")


FAMILIES = (
    Family(
        "normalize_columns",
        ARGUMENTS,
        make_columns,
        "y = f((x - mean) / sqrt(variance + eps), a0, ...) with statistics of each column. A chunk is some tiles of columns.",
    ),
    Family(
        "normalize_columns_gradient",
        GRADIENT_ARGUMENTS,
        make_columns_gradient,
        "dL/dx of normalized columns from x and dL/dy, and parts of the weights' gradients. A chunk is some tiles.",
    ),
)
