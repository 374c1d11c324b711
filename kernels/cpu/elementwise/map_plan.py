"""From shapes to launches of pointwise maps: which kernel, which integers, how many chunks. Nothing here imports Numba."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from .. import Kernel
from ..code.expression import Expression, keeps_zero
from ..launches import OUTER, Launch, Shape, divide, divisor
from ..target import Target

MAX_OPERANDS, MAX_RESULTS = 12, 4


_IMAGE = 2048  # floats of an image's part at least, to be a chunk of its own


@dataclass(frozen=True)
class Operand:
    """A float32 operand of a map: its logical shape (each axis as the result's, or 1) and whether it is stored in
    channel blocks.

    The rank is the result's. A vector of one number a channel is `Operand((1, C, 1, 1))`, a number `Operand((1,) *
    rank)`.
    """

    shape: Shape
    blocked: bool = False


@dataclass
class Loops:
    """Collapsed loops: sizes and strides of OUTER outer dimensions, the inner length and each operand's kind along it."""

    sizes: list[int]
    strides: list[list[int]]
    length: int
    kinds: list[str]
    masked_by: int = -1
    extra: dict[str, int] = field(default_factory=dict)


def strides_of(operand: Operand, shape: Shape, lanes: int, result_blocked: bool) -> list[int]:
    """Element strides over the result's axes [N, CB, spatial...] (blocked) or its logical axes (plain); 0 along
    broadcast axes.
    """
    own = operand.shape
    if len(own) != len(shape) or any(a not in (1, b) for a, b in zip(own, shape, strict=True)):
        raise ValueError(f"an operand of shape {own} does not broadcast to {shape}")
    if not result_blocked:
        if operand.blocked:
            raise ValueError("a blocked operand cannot be read by a plain map")
        stored, unit = list(own), 1
    elif operand.blocked and own[1] == shape[1]:
        stored, unit = [own[0], divide(own[1], lanes), *own[2:]], lanes
    elif all(a == 1 for a in own):
        return [0] * len(own)
    elif math.prod(own[2:]) == 1 and own[1] == shape[1]:
        return [own[1] if own[0] > 1 else 0, lanes if own[1] > lanes else 0] + [0] * (len(own) - 2)
    else:
        raise ValueError(f"an operand of shape {own} cannot be read by a map over blocks of {shape}")
    strides, step = [], unit
    for size in reversed(stored):
        strides.append(step if size > 1 else 0)
        step *= size
    return strides[::-1]


def _along(step: int, length: int, known: str | None, blocked: bool) -> str:
    """The kind of an operand along an inner loop of `length` so far, once an axis with that step joins it; "no" where it has
    none.
    """
    fits = [
        kind for kind, fit in (("vector", length), ("lanes" if blocked else "scalar", 0), ("scalar", 0)) if step == fit
    ]
    unknown = [kind for kind in fits if kind != "scalar" or not blocked]
    allowed = unknown if known is None else [kind for kind in fits if kind == known]
    return allowed[0] if allowed else "no"


def _inner(
    sizes: Sequence[int], strides: Sequence[Sequence[int]], kinds: list[str | None], unit: int, stop: int
) -> tuple[list[str | None], int, int]:
    """Each operand's kind along the inner loop, its length, and the last axis that did not join it: at the latest `stop`."""
    length, axis = unit, len(sizes) - 1
    while axis >= 0 and axis != stop:
        if sizes[axis] > 1:
            steps = zip(strides, kinds, strict=True)
            proposed: list[str | None] = [_along(row[axis], length, kind, unit > 1) for row, kind in steps]
            if "no" in proposed:
                break
            kinds, length = proposed, length * sizes[axis]
        axis -= 1
    return kinds, length, axis


def _outer(loops: Sequence[tuple[int, list[int]]], keep_channels: bool) -> tuple[list[tuple[int, list[int]]], int]:
    """Loops, each a size and the operands' steps, merged into as few as can be; and which of them is the channels'."""
    merged: list[tuple[int, list[int]]] = []
    channel = -1
    for axis, (size, steps) in enumerate(loops):
        channels, separate = keep_channels and axis == 1, keep_channels and axis in (1, 2)
        if merged and size == 1 and not channels:
            continue
        last, before = merged[-1] if merged else (0, [])
        dense = not separate and all(big == small * size for big, small in zip(before, steps, strict=False))
        if merged and dense:
            merged[-1] = (last * size, steps)
        elif merged and not separate and last == 1:
            merged[-1] = (size, steps)
        else:
            merged.append((size, steps))
        channel = len(merged) - 1 if channels else channel
    return merged, channel


def collapse(shape: Shape, blocked: bool, operands: Sequence[Operand], lanes: int, keep_channels: bool) -> Loops:
    """The fewest loops over a tensor.

    keep_channels: the channel (block) loop is not merged into the inner one, because its last block is masked or
    because the sums are one per channel. The first operand is the tensor itself.
    """
    sizes = [shape[0], divide(shape[1], lanes), *shape[2:]] if blocked else list(shape)
    strides = [strides_of(operand, shape, lanes, blocked) for operand in operands]
    kinds: list[str | None] = ["scalar" if all(a == 1 for a in operand.shape) else None for operand in operands]
    kinds, length, axis = _inner(sizes, strides, kinds, lanes if blocked else 1, 1 if keep_channels else -1)
    loops = [(sizes[a], [row[a] for row in strides]) for a in range(axis + 1)]
    merged, channel = _outer(loops, keep_channels)
    if len(merged) > OUTER:
        raise ValueError(f"a map over {shape} needs more than {OUTER} loops")
    pad = OUTER - len(merged)
    merged = [(1, [0] * len(operands))] * pad + merged
    still = "lanes" if blocked else "vector"
    return Loops(
        [size for size, _ in merged],
        [[steps[k] for _, steps in merged] for k in range(len(operands))],
        length,
        [kind or ("vector" if k == 0 else still) for k, kind in enumerate(kinds)],
        channel + pad if channel >= 0 else -1,
    )


def operand_arguments(prefix: str, strides: Sequence[Sequence[int]], most: int | None = None) -> dict[str, int]:
    """`a0`, `a0_0` ... `a0_3`, `a1` ...: an address and the strides of the outer loops for each operand."""
    result: dict[str, int] = {}
    for k in range(len(strides) if most is None else most):
        result[f"{prefix}{k}"] = 0
        for d in range(OUTER):
            result[f"{prefix}{k}_{d}"] = strides[k][d] if k < len(strides) else 0
    return result


MAP_HEAD = (
    "rows",
    "rows_per_chunk",
    "pieces",
    "piece",
    "length",
    "size1",
    "size2",
    "size3",
    "channel_rows",
    "channel_count",
    "valid",
)


def _cut(shape: Shape, rows: int, length: int) -> tuple[int, int]:
    """(rows, floats of a row) of a chunk."""
    smallest = max(8192, rows * length // 64)
    if length > smallest:
        return 1, divide(divide(length, divide(length, smallest)), 64) * 64
    most = max(1, smallest // length)
    if rows % shape[0] == 0 and rows // shape[0] * length >= _IMAGE:  # image by image, if chunks stay large
        even = divisor(rows // shape[0], most)
        most = even if 2 * even >= min(most, rows // shape[0]) else most
    return most, length


def plan_map(
    target: Target, shape: Shape, blocked: bool, operands: Sequence[Operand], expressions: Sequence[Expression]
) -> Launch:
    """One or more expressions over the variables a0, a1, ... for every element of `shape`; the results are y0, y1, ...

    The results have the logical shape `shape` and are stored blocked or plain, densely. A result may be the buffer of
    an operand of the same shape and layout. Raises ValueError for broadcasts that no kernel covers.
    """
    if len(operands) > MAX_OPERANDS or not 1 <= len(expressions) <= MAX_RESULTS:
        raise ValueError(f"a map of {len(operands)} operands and {len(expressions)} results")
    lanes = target.lanes
    everything = [Operand(shape, blocked), *operands]
    masked = (
        blocked
        and shape[1] % lanes != 0
        and (any(operand != everything[0] for operand in operands) or not all(keeps_zero(e) for e in expressions))
    )
    loops = collapse(shape, blocked, everything, lanes, keep_channels=masked)
    rows = math.prod(loops.sizes)
    if math.prod(shape) == 0:
        return Launch(Kernel("map", ()), {}, (), 0)
    rows_per_chunk, piece = _cut(shape, rows, loops.length)
    pieces = divide(loops.length, piece)
    arguments = {
        "rows": rows,
        "rows_per_chunk": rows_per_chunk,
        "pieces": pieces,
        "piece": piece,
        "length": loops.length,
        "size1": loops.sizes[1],
        "size2": loops.sizes[2],
        "size3": loops.sizes[3],
        "channel_rows": math.prod(loops.sizes[loops.masked_by + 1 :]) if masked else 1,
        "channel_count": loops.sizes[loops.masked_by] if masked else 1,
        "valid": shape[1] % lanes or lanes if masked else lanes,
        **operand_arguments("y", [loops.strides[0]] * len(expressions), MAX_RESULTS),
        **operand_arguments("a", loops.strides[1:]),
    }
    kernel = Kernel("map", (("kinds", tuple(loops.kinds[1:])), ("expressions", tuple(expressions)), ("masked", masked)))
    buffers = tuple(f"y{j}" for j in range(len(expressions))) + tuple(f"a{k}" for k in range(len(operands)))
    # rows of an image, or pieces of its part of the only row
    parts, left = divmod(rows if rows > 1 else loops.length, shape[0])
    whole = not left and parts % (rows_per_chunk if rows > 1 else piece) == 0
    chunks = divide(rows, rows_per_chunk) * pieces
    return Launch(kernel, arguments, buffers, chunks, links=shape[0] if whole else 0)
