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


def collapse(shape: Shape, blocked: bool, operands: Sequence[Operand], lanes: int, keep_channels: bool) -> Loops:
    """The fewest loops over a tensor.

    keep_channels: the channel (block) loop is not merged into the inner one, because its last block is masked or
    because the sums are one per channel. The first operand is the tensor itself.
    """
    sizes = [shape[0], divide(shape[1], lanes), *shape[2:]] if blocked else list(shape)
    strides = [strides_of(operand, shape, lanes, blocked) for operand in operands]
    unit = lanes if blocked else 1
    still = "lanes" if blocked else "scalar"
    kinds: list[str | None] = ["scalar" if all(a == 1 for a in operand.shape) else None for operand in operands]
    length, axis = unit, len(sizes) - 1
    while axis >= 0 and not (keep_channels and axis == 1):
        if sizes[axis] > 1:
            proposed = list(kinds)
            for k, row in enumerate(strides):
                fits = [kind for kind, step in (("vector", length), (still, 0), ("scalar", 0)) if row[axis] == step]
                allowed = [
                    kind
                    for kind in fits
                    if kinds[k] in (None, kind) and not (kind == "scalar" and kinds[k] is None and blocked)
                ]
                proposed[k] = allowed[0] if allowed else "no"
            if "no" in proposed:
                break
            kinds, length = proposed, length * sizes[axis]
        axis -= 1
    outer = [(sizes[a], [row[a] for row in strides]) for a in range(axis + 1)]
    merged: list[tuple[int, list[int]]] = []
    channel = -1
    for a, (size, steps) in enumerate(outer):
        separate = keep_channels and a in (1, 2)
        if merged and size == 1 and not (keep_channels and a == 1):
            continue
        if (
            merged
            and not separate
            and all(big == small * size for big, small in zip(merged[-1][1], steps, strict=True))
        ):
            merged[-1] = (merged[-1][0] * size, steps)
        elif merged and not separate and merged[-1][0] == 1:
            merged[-1] = (size, steps)
        else:
            merged.append((size, steps))
        if keep_channels and a == 1:
            channel = len(merged) - 1
    if len(merged) > OUTER:
        raise ValueError(f"a map over {shape} needs more than {OUTER} loops")
    pad = OUTER - len(merged)
    zeros = [0] * len(operands)
    merged = [(1, zeros)] * pad + merged
    first = "vector" if not blocked else "lanes"
    named = [kind or ("vector" if k == 0 else first) for k, kind in enumerate(kinds)]
    return Loops(
        [size for size, _ in merged],
        [[steps[k] for _, steps in merged] for k in range(len(operands))],
        length,
        named,
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
    smallest = max(8192, rows * loops.length // 64)
    if loops.length > smallest:
        piece = divide(divide(loops.length, divide(loops.length, smallest)), 64) * 64
        pieces, rows_per_chunk = divide(loops.length, piece), 1
    else:
        piece, pieces, rows_per_chunk = loops.length, 1, max(1, smallest // loops.length)
        if rows % shape[0] == 0 and rows // shape[0] * loops.length >= _IMAGE:  # image by image, if chunks stay large
            even = divisor(rows // shape[0], rows_per_chunk)
            rows_per_chunk = even if 2 * even >= min(rows_per_chunk, rows // shape[0]) else rows_per_chunk
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
