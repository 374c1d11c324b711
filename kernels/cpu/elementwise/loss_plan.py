"""Launches of local response normalization, softmax, cross-entropy and accuracy."""

from __future__ import annotations

import math

from .. import Kernel
from ..launches import Launch, Shape, bits, blocks, divide, split
from ..target import Target

LRN_HEAD = ("channels", "plane", "pieces", "piece", "size", "border", "alpha", "beta", "k")


def plan_lrn(
    target: Target, shape: Shape, size: int, alpha: float, beta: float, k: float, gradient: bool = False
) -> Launch:
    """Blocked `x` of that logical shape to `y`, or (gradient) `x` and `y`, which then holds dy, to `dx`."""
    plane, lanes = math.prod(shape[2:]), target.lanes
    pieces = split(plane * blocks(shape[1], target), 512, 16)
    piece = max(1, divide(plane, pieces))
    border = divide(size, lanes) * lanes
    arguments = {
        "channels": shape[1], "plane": plane, "pieces": divide(plane, piece), "piece": piece, "size": size, "border": border,
        "alpha": bits(alpha), "beta": bits(beta), "k": bits(k), "x": 0, "y": 0,
    } | ({"dx": 0} if gradient else {})  # fmt: skip
    row = 2 * border + blocks(shape[1], target) * lanes
    quarters = {0.5: 2, 0.75: 3, 1.0: 4}.get(beta, 0)
    kernel = Kernel("lrn", (("quarters", quarters), ("gradient", gradient)))
    chunks = shape[0] * divide(plane, piece) if math.prod(shape) else 0
    return Launch(kernel, arguments, ("x", "y", "dx") if gradient else ("x", "y"), chunks, row * (2 if gradient else 1))


def plan_softmax(target: Target, shape: Shape, axis: int, log: bool = False, gradient: bool = False) -> Launch:
    """Softmax (or its logarithm) of a plain `x` along an axis, to `y`; or (gradient) its result `y` and `dy`, to `dx`."""
    axis %= len(shape)
    outer, size, inner = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    units = outer * (1 if inner == 1 else divide(inner, target.lanes))
    per_chunk = divide(units, split(units * size * (1 if inner == 1 else target.lanes), 8192)) if units else 1
    buffers = ("y", "dy", "dx") if gradient else ("x", "y")
    arguments = {"outer": outer, "per_chunk": per_chunk, "size": size, "inner": inner} | dict.fromkeys(buffers, 0)
    kernel = Kernel("softmax_gradient" if gradient else "softmax", (("log", log), ("strided", inner != 1)))
    return Launch(kernel, arguments, buffers, divide(units, per_chunk) if math.prod(shape) else 0)


def plan_cross_entropy(target: Target, n: int, classes: int) -> Launch:
    """`loss` (one float) = the mean of -log softmax(x)[label] over n >= 1 rows of logits `x`; int64 `labels`."""
    return Launch(
        Kernel("cross_entropy"), {"n": n, "size": classes, "x": 0, "labels": 0, "loss": 0}, ("x", "labels", "loss"), 1
    )


def plan_cross_entropy_gradient(target: Target, n: int, classes: int) -> Launch:
    """`dx` = (softmax(x) - one_hot(labels)) scale / n, where `scale` is one float: the gradient of the loss."""
    per_chunk = divide(n, split(n * classes, 8192))
    arguments = {"n": n, "per_chunk": per_chunk, "size": classes, "x": 0, "labels": 0, "scale": 0, "dx": 0}
    return Launch(Kernel("cross_entropy_gradient"), arguments, ("x", "labels", "scale", "dx"), divide(n, per_chunk))


def plan_accuracy(target: Target, n: int, classes: int) -> Launch:
    """`y` (one float) = the part of n >= 1 rows of `x` whose first maximum is at the int64 label."""
    return Launch(Kernel("accuracy"), {"n": n, "size": classes, "x": 0, "labels": 0, "y": 0}, ("x", "labels", "y"), 1)
