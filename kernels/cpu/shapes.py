"""From shapes to launches: which kernel, which integers, how many chunks, how much scratch.

Nothing here imports Numba. Every planner returns a `Launch`; the addresses of its `buffers` are filled in by the
caller. How the work is cut into chunks follows the problem, and where any cut gives the same bits, the number of
workers.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from . import Kernel
from .expression import Expression, keeps_zero
from .target import Target

Shape = tuple[int, ...]

MAX_OPERANDS, MAX_RESULTS, OUTER = 12, 4, 4
_IMAGE = 2048  # floats of an image's part at least, to be a chunk of its own


@dataclass(frozen=True)
class Launch:
    """One step: a kernel, its arguments in order, the number of chunks, the floats of scratch that a worker needs, and
    `links`: the images, where chunks go through them one after the other, as many for each (else 0).

    The argument of a buffer is the number of bytes between the buffer's start and where the kernel begins: its address
    is to be added.
    """

    kernel: Kernel
    arguments: Mapping[str, int]
    buffers: tuple[str, ...]
    chunks: int
    scratch: int = 0
    links: int = 0


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


def bits(number: float) -> int:
    """The int64 with the bits of a float64."""
    return int(struct.unpack("<q", struct.pack("<d", number))[0])


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def blocks(channels: int, target: Target) -> int:
    return ceil_div(channels, target.lanes)


def blocked_size(shape: Shape, target: Target) -> int:
    """Floats in a blocked tensor of that logical shape."""
    return shape[0] * blocks(shape[1], target) * target.lanes * math.prod(shape[2:])


def divisor(count: int, most: int) -> int:
    """The largest divisor of `count` that is at most `most`."""
    return max((d for d in range(1, min(count, most) + 1) if count % d == 0), default=1)


def split(total: int, smallest: int, most: int = 64) -> int:
    """The number of chunks for `total` units of work: at most `most`, each at least `smallest`, at least one."""
    return max(1, min(most, total // max(1, smallest)))


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
        stored, unit = [own[0], ceil_div(own[1], lanes), *own[2:]], lanes
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
    sizes = [shape[0], ceil_div(shape[1], lanes), *shape[2:]] if blocked else list(shape)
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
        piece = ceil_div(ceil_div(loops.length, ceil_div(loops.length, smallest)), 64) * 64
        pieces, rows_per_chunk = ceil_div(loops.length, piece), 1
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
    chunks = ceil_div(rows, rows_per_chunk) * pieces
    return Launch(kernel, arguments, buffers, chunks, links=shape[0] if whole else 0)


# ---- sums

_CHANNEL_LOOPS = (
    "rows",
    "channels",
    "channel_rows",
    "length",
    "size1",
    "size2",
    "size3",
    "valid",
    "rows_per_part",
    "total",
)
CHANNELS_HEAD = (*_CHANNEL_LOOPS, "scale")
MOMENTS_HEAD = (*_CHANNEL_LOOPS, "mean", "variance")


def channel_parts(target: Target, shape: Shape, blocked: bool, chunks: int = 16) -> int:
    """Into how many parts of equally many images the sums of a channel are best cut: a part an image, where its planes
    are large, so that the sums may follow what makes the image; else so many that there are about `chunks` chunks.
    """
    if blocked and math.prod(shape[2:]) * target.lanes >= _IMAGE:
        return shape[0]
    units = blocks(shape[1], target) if blocked else shape[1]
    wanted = min(chunks // max(1, units), math.prod(shape) // max(1, units) // 32768)
    return max((part for part in range(1, min(shape[0], wanted) + 1) if shape[0] % part == 0), default=1)


def _channel_loops(
    target: Target, shape: Shape, blocked: bool, operands: Sequence[Operand], parts: int
) -> tuple[Loops, dict[str, int]]:
    loops = collapse(shape, blocked, operands, target.lanes, keep_channels=True)
    count, rows = loops.sizes[loops.masked_by], math.prod(loops.sizes) // loops.sizes[loops.masked_by]
    if shape[0] % parts or rows % parts:
        raise ValueError(f"{shape[0]} images are not cut into {parts} equal parts")
    return loops, {
        "rows": rows, "channels": count, "channel_rows": math.prod(loops.sizes[loops.masked_by + 1 :]),
        "length": loops.length, "size1": loops.sizes[1], "size2": loops.sizes[2], "size3": loops.sizes[3],
        "valid": (shape[1] - 1) % target.lanes + 1, "rows_per_part": rows // parts, "total": shape[1],
    }  # fmt: skip


def plan_reduce_channels(target: Target, shape: Shape, blocked: bool, operands: Sequence[Operand],
                         expressions: Sequence[Expression], scale: float = 1.0, parts: int = 1) -> Launch:  # fmt: skip
    """y0[C], y1[C] ...: scale times the sum over all axes but the channels' (1) of expressions of a0, a1, ..., which
    broadcast to `shape`.

    With parts (see `channel_parts`) the results are [parts, C], each part the sums over its share of the images;
    `plan_reduce_axes` over axis 0 adds them up.
    """
    tensor = Operand(shape, blocked)
    loops, arguments = _channel_loops(target, shape, blocked, [tensor, *operands], parts)
    arguments |= (
        {"scale": bits(scale)} | {f"y{j}": 0 for j in range(MAX_RESULTS)} | operand_arguments("a", loops.strides[1:])
    )
    kernel = Kernel(
        "reduce_channels",
        (("kinds", tuple(loops.kinds[1:])), ("expressions", tuple(expressions)), ("blocked", blocked)),
    )
    buffers = tuple(f"y{j}" for j in range(len(expressions))) + tuple(f"a{k}" for k in range(len(operands)))
    return Launch(kernel, arguments, buffers, parts * arguments["channels"], 2 * target.lanes * len(expressions),
                  shape[0] if parts == shape[0] else 0)  # fmt: skip


def plan_moments(target: Target, shape: Shape, blocked: bool, parts: int = 1) -> Launch:
    """mean[C] and variance[C] (biased) of `a0` over all axes but the channels' (1).

    With parts (see `channel_parts`) the results are [parts, C], each part the moments of its share of the images:
    `plan_combine_moments`.
    """
    loops, arguments = _channel_loops(target, shape, blocked, [Operand(shape, blocked)], parts)
    arguments |= {"mean": 0, "variance": 0} | operand_arguments("a", loops.strides)
    kernel = Kernel("moments", (("blocked", blocked),))
    chunks, links = parts * arguments["channels"], shape[0] if parts == shape[0] else 0
    return Launch(kernel, arguments, ("mean", "variance", "a0"), chunks, 4 * target.lanes, links)


def plan_combine_moments(target: Target, channels: int, parts: int) -> Launch:
    """`mean`[C] and `variance`[C] from the `means` and `variances` [parts, C] of equally large parts. They may not
    overlap.
    """
    arguments = {"channels": channels, "parts": parts, "means": 0, "variances": 0, "mean": 0, "variance": 0}
    return Launch(
        Kernel("combine_moments"),
        arguments,
        ("means", "variances", "mean", "variance"),
        ceil_div(channels, target.lanes),
    )


def plan_reduce_axes(target: Target, shape: Shape, axes: Sequence[int], mean: bool) -> Launch:
    """y: the sum, or the mean, of a plain `x` over the axes, whose sizes vanish or become 1 (the same memory)."""
    reduced = {axis % len(shape) for axis in axes}
    groups: list[tuple[bool, int]] = []
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        if groups and groups[-1][0] == (axis in reduced):
            groups[-1] = (groups[-1][0], groups[-1][1] * size)
        else:
            groups.append((axis in reduced, size))
    is_reduced, length = groups.pop() if groups else (False, 1)
    strides, step = [], length
    for _, size in reversed(groups):
        strides.insert(0, step)
        step *= size
    outer = {
        flag: [(size, step) for (group, size), step in zip(groups, strides, strict=True) if group == flag]
        for flag in (False, True)
    }
    (kept0, stride0), (kept1, stride1) = [(1, 0)] * (2 - len(outer[False])) + outer[False]
    (count0, down0), (count1, down1) = [(1, 0)] * (2 - len(outer[True])) + outer[True]
    outputs = kept0 * kept1 * (1 if is_reduced else ceil_div(length, target.lanes))
    work = count0 * count1 * (length if is_reduced else target.lanes)
    terms = count0 * count1 * (length if is_reduced else 1)
    per_chunk = ceil_div(outputs, split(outputs * work, 16384)) if outputs else 1
    arguments = {
        "outputs": outputs, "per_chunk": per_chunk, "size1": kept1, "length": length, "count0": count0, "count1": count1,
        "scale": bits(1 / terms if mean and terms else 1.0), "kept0": stride0, "kept1": stride1, "reduced0": down0, "reduced1": down1,
        "x": 0, "y": 0,
    }  # fmt: skip
    kernel = Kernel("reduce_axes", (("inner", "reduced" if is_reduced else "kept"),))
    return Launch(kernel, arguments, ("x", "y"), ceil_div(outputs, per_chunk))
