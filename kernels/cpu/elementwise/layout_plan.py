"""Launches that move data: layouts, copies, concatenation, constants, dropout."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .. import Kernel
from ..launches import OUTER, Launch, Shape, bits, blocks, divide, split
from ..target import Target
from .map_plan import MAP_HEAD, MAX_RESULTS, operand_arguments

IDENTITY = ("var", "a0")


def _pieces(plane: int, smallest: int, unit: int) -> tuple[int, int]:
    """A plane cut into pieces of a multiple of `unit` pixels, each at least about `smallest`."""
    piece = divide(divide(plane, split(plane, smallest)), unit) * unit
    return divide(plane, piece), piece


def plan_block(target: Target, shape: Shape, strides: tuple[int, int] | None = None) -> Launch:
    """Plain `x` of that shape to blocked `y`. strides: elements from image to image and from channel to channel of x,
    dense when None.
    """
    return _conversion(target, shape, strides, "block", "x")


def plan_unblock(target: Target, shape: Shape, strides: tuple[int, int] | None = None) -> Launch:
    """Blocked `x` to plain `y` of that shape. strides: elements from image to image and from channel to channel of y,
    dense when None.
    """
    return _conversion(target, shape, strides, "unblock", "y")


def _conversion(target: Target, shape: Shape, strides: tuple[int, int] | None, family: str, plain: str) -> Launch:
    plane = math.prod(shape[2:])
    image, channel = strides or (shape[1] * plane, plane)
    pieces, piece = _pieces(plane, 1024, target.lanes)
    arguments = {"channels": shape[1], "plane": plane, "pieces": pieces, "piece": piece}
    arguments |= {f"{plain}_image": image, f"{plain}_channel": channel}
    chunks = shape[0] * blocks(shape[1], target) * pieces if math.prod(shape) else 0
    links = shape[0] if strides is None else 0
    return Launch(Kernel(family), arguments | {"x": 0, "y": 0}, ("x", "y"), chunks, links=links)


def plan_dropout(target: Target, shape: Shape, blocked: bool, p: float, salt: int) -> Launch:
    """y = x / (1 - p) where kept, else 0: each element is dropped with probability p, 0 <= p < 1.

    Element i (the logical, plain index) is dropped when the first word of Philox4x32-10 is below p 2^32, with the
    counter (i mod 2^32, i / 2^32, salt, step) and the key seed. `state` holds int64 seed and step. The gradient is the
    same launch on dy.
    """
    if not 0 <= p < 1:
        raise ValueError(f"the probability {p} is not in [0, 1)")
    total, channels, plane, units = math.prod(shape), 1, math.prod(shape), 1
    if blocked:
        channels, plane, units = shape[1], math.prod(shape[2:]), shape[0] * blocks(shape[1], target)
    pieces, piece = _pieces(plane, 512 if blocked else 8192, target.lanes)
    arguments = {
        "channels": channels, "plane": plane, "pieces": pieces, "piece": piece, "salt": salt, "threshold": round(p * 2**32),
        "scale": bits(1 / (1 - p)), "state": 0, "x": 0, "y": 0,
    }  # fmt: skip
    return Launch(
        Kernel("dropout", (("blocked", blocked),)), arguments, ("state", "x", "y"), units * pieces if total else 0
    )


def plan_fill(target: Target, size: int, value: float) -> Launch:
    """y = value, `size` floats. The value is an argument: one kernel writes them all."""
    pieces, piece = _pieces(size, 16384, target.lanes)
    return Launch(
        Kernel("fill"), {"size": size, "piece": piece, "value": bits(value), "y": 0}, ("y",), pieces if size else 0
    )


def plan_copy(target: Target, sizes: Sequence[int], source: Sequence[int], result: Sequence[int], source_start: int = 0,
              result_start: int = 0) -> Launch:  # fmt: skip
    """Copy a region of up to five axes from `a0` to `y0`: sizes, strides and starts in floats; along the last axis both
    are dense.
    """
    axes = [(size, a, y) for size, a, y in zip(sizes[:-1], source[:-1], result[:-1], strict=True) if size != 1]
    length = sizes[-1]
    if length > 1 and (source[-1], result[-1]) != (1, 1):
        raise ValueError("the last axis of a copied region is not dense")
    while axes and axes[-1][1:] == (length, length):
        length *= axes.pop()[0]
    merged: list[tuple[int, int, int]] = []
    for size, a, y in axes:
        if merged and merged[-1][1:] == (a * size, y * size):
            merged[-1] = (merged[-1][0] * size, a, y)
        else:
            merged.append((size, a, y))
    if len(merged) > OUTER:
        raise ValueError(f"a copy over {tuple(sizes)} needs more than {OUTER} loops")
    merged = [(1, 0, 0)] * (OUTER - len(merged)) + merged
    rows = math.prod(size for size, _, _ in merged)
    if rows * length == 0:
        return Launch(Kernel("map", ()), {}, (), 0)
    pieces, piece = _pieces(length, 16384, 64)
    rows_per_chunk = divide(rows, split(rows * length, 16384)) if pieces == 1 else 1
    head = (rows, rows_per_chunk, pieces, piece, length, merged[1][0], merged[2][0], merged[3][0], 1, 1, target.lanes)
    arguments = dict(zip(MAP_HEAD, head, strict=True))
    arguments |= operand_arguments("y", [[y for _, _, y in merged]], MAX_RESULTS) | operand_arguments(
        "a", [[a for _, a, _ in merged]]
    )
    arguments |= {"y0": 4 * result_start, "a0": 4 * source_start}
    kernel = Kernel("map", (("kinds", ("vector",)), ("expressions", (IDENTITY,)), ("masked", False)))
    return Launch(kernel, arguments, ("y0", "a0"), divide(rows, rows_per_chunk) * pieces)


def plan_concat(target: Target, shapes: Sequence[Shape], axis: int, blocked: bool) -> list[Launch]:
    """One launch per tensor, which copies it (its last buffer, `a0` or `x`) into its place in the result (its first,
    `y0` or `y`).
    """
    axis %= len(shapes[0])
    stored = [list(shape) for shape in shapes]
    if blocked:
        if axis == 1 and any(shape[1] % target.lanes for shape in shapes[:-1]):
            channels, starts = (
                sum(shape[1] for shape in shapes),
                [sum(s[1] for s in shapes[:k]) for k in range(len(shapes))],
            )
            whole = (shapes[0][0], channels, *shapes[0][2:])
            return [
                plan_move_channels(target, shape, 0, whole, at, shape[1])
                for shape, at in zip(shapes, starts, strict=True)
            ]
        stored = [[shape[0], blocks(shape[1], target), *shape[2:], target.lanes] for shape in shapes]
    total, start, launches = sum(shape[axis] for shape in stored), 0, []
    for shape in stored:
        inner = math.prod(shape[axis + 1 :])
        before, own = math.prod(shape[:axis]), shape[axis] * inner
        launches.append(plan_copy(target, (before, own), (own, 1), (total * inner, 1), 0, start))
        start += own
    return launches


def plan_move_channels(target: Target, x: Shape, x_first: int, y: Shape, y_first: int, channels: int) -> Launch:
    """Channels of a blocked `x`, from x_first, to those of a blocked `y`, from y_first; with y's last channel go its
    padded lanes.

    The gradient of a concatenation takes the channels back: y_first is 0.
    """
    last = int(y_first + channels == y[1])
    arguments = {
        "plane": math.prod(y[2:]), "channels": channels, "x_blocks": blocks(x[1], target), "y_blocks": blocks(y[1], target),
        "x_first": x_first, "y_first": y_first, "last": last, "x": 0, "y": 0,
    }  # fmt: skip
    touched = (y_first + channels - 1) // target.lanes - y_first // target.lanes + 1
    chunks = y[0] * touched if math.prod(y) and channels else 0
    return Launch(Kernel("move_channels"), arguments, ("y", "x"), chunks, 3 * target.lanes)


def plan_slice(target: Target, shape: Shape, starts: Sequence[int], sizes: Sequence[int]) -> Launch:
    """The part of a plain `a0` that starts there and has those sizes, into a dense `y0`."""
    strides, dense = (
        [math.prod(shape[k + 1 :]) for k in range(len(shape))],
        [math.prod(sizes[k + 1 :]) for k in range(len(sizes))],
    )
    return plan_copy(target, sizes, strides, dense, sum(a * b for a, b in zip(starts, strides, strict=True)))
