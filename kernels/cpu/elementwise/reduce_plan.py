"""From shapes to launches of sums. Nothing here imports Numba."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .. import Kernel
from ..code.expression import Expression
from ..launches import Launch, Shape, bits, blocks, divide, split
from ..target import Target
from .map_plan import _IMAGE, MAX_RESULTS, Loops, Operand, collapse, operand_arguments

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
        divide(channels, target.lanes),
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
    strides: list[int] = []
    step = length
    for _, size in reversed(groups):
        strides.insert(0, step)
        step *= size
    outer = {
        flag: [(size, step) for (group, size), step in zip(groups, strides, strict=True) if group == flag]
        for flag in (False, True)
    }
    (kept0, stride0), (kept1, stride1) = [(1, 0)] * (2 - len(outer[False])) + outer[False]
    (count0, down0), (count1, down1) = [(1, 0)] * (2 - len(outer[True])) + outer[True]
    outputs = kept0 * kept1 * (1 if is_reduced else divide(length, target.lanes))
    work = count0 * count1 * (length if is_reduced else target.lanes)
    terms = count0 * count1 * (length if is_reduced else 1)
    per_chunk = divide(outputs, split(outputs * work, 16384)) if outputs else 1
    arguments = {
        "outputs": outputs, "per_chunk": per_chunk, "size1": kept1, "length": length, "count0": count0, "count1": count1,
        "scale": bits(1 / terms if mean and terms else 1.0), "kept0": stride0, "kept1": stride1, "reduced0": down0, "reduced1": down1,
        "x": 0, "y": 0,
    }  # fmt: skip
    kernel = Kernel("reduce_axes", (("inner", "reduced" if is_reduced else "kept"),))
    return Launch(kernel, arguments, ("x", "y"), divide(outputs, per_chunk))
