"""From shapes to the launches of losses over classes. Nothing here imports Numba.

Logits are plain [outer, size, inner]: `size` classes at each of outer * inner places, which lie beside each other where
inner is 1 ("rows"), and else along the places ("columns").
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import Kernel
from ..launches import Launch, Shape, bits, divide, split
from ..target import Target

PLACES = ("outer", "per_chunk", "size", "inner")
ENTROPY_HEAD = (*PLACES, "smoothing", "ignored", "x", "target", "weight")
ENTROPY_ARGUMENTS = (*ENTROPY_HEAD, "term", "counted")
ENTROPY_GRADIENT_ARGUMENTS = (*ENTROPY_HEAD, "dterm", "dx")
SOFT_HEAD = (*PLACES, "smoothing", "x", "target", "weight")
SOFT_ARGUMENTS = (*SOFT_HEAD, "term")
SOFT_GRADIENT_ARGUMENTS = (*SOFT_HEAD, "dterm", "dx")
HINGE_HEAD = ("rows", "per_chunk", "size", "margin", "x", "target", "weight")
HINGE_ARGUMENTS = (*HINGE_HEAD, "term")
HINGE_GRADIENT_ARGUMENTS = (*HINGE_HEAD, "dterm", "dx")
HITS_ARGUMENTS = (*PLACES, "ignored", "x", "target", "hit", "counted")
NUMBERS_ARGUMENTS = ("count", "numbers", "y")


def _places(target: Target, shape: Shape) -> tuple[dict[str, int], int]:
    """The numbers of `PLACES`, and how many chunks there are."""
    outer, size, inner = shape[0], shape[1], math.prod(shape[2:])
    wide = 1 if inner == 1 else target.lanes
    units = outer * divide(inner, wide)
    per_chunk = divide(units, split(units * size * wide, 8192)) if units else 1
    chunks = divide(units, per_chunk) if math.prod(shape) else 0
    return {"outer": outer, "per_chunk": per_chunk, "size": size, "inner": inner}, chunks


def plan_cross_entropy_terms(
    target: Target, shape: Shape, smoothing: float, ignored: int, weighted: bool, gradient: bool = False
) -> Launch:
    """`term` = cross-entropy of every place of plain logits `x` [N, C, ...] with its int64 label in `target`; `counted` =
    the weight of the label, 0 where it is `ignored`. Or (gradient) `dx` from the gradient `dterm` of the terms. `weight`
    has a number for each class, if weighted.
    """
    numbers, chunks = _places(target, shape)
    numbers |= {"smoothing": bits(smoothing), "ignored": ignored, **({} if weighted else {"weight": 0})}
    family = "cross_entropy_terms_gradient" if gradient else "cross_entropy_terms"
    kernel = Kernel(family, (("strided", numbers["inner"] != 1), ("smooth", smoothing != 0), ("weighted", weighted)))
    names = ENTROPY_GRADIENT_ARGUMENTS if gradient else ENTROPY_ARGUMENTS
    return Launch.of(kernel, names, numbers).cut(chunks, 2 * target.lanes)


def plan_cross_entropy_soft(
    target: Target, shape: Shape, smoothing: float, weighted: bool, gradient: bool = False
) -> Launch:
    """The same with shares of the classes in `target`, of the logits' shape; without `counted`."""
    numbers, chunks = _places(target, shape)
    numbers |= {"smoothing": bits(smoothing), **({} if weighted else {"weight": 0})}
    family = "cross_entropy_soft_gradient" if gradient else "cross_entropy_soft"
    kernel = Kernel(family, (("strided", numbers["inner"] != 1), ("weighted", weighted)))
    names = SOFT_GRADIENT_ARGUMENTS if gradient else SOFT_ARGUMENTS
    return Launch.of(kernel, names, numbers).cut(chunks)


def plan_multiclass_hinge(
    target: Target, rows: int, size: int, margin: float, p: int, weighted: bool, gradient: bool = False
) -> Launch:
    """`term` [rows] = weight[label] / size * the sum over other classes c of max(0, margin - x[label] + x[c])^p; or
    (gradient) `dx` from the gradient `dterm` of the terms."""
    per_chunk = divide(rows, split(rows * size, 8192)) if rows else 1
    numbers = {"rows": rows, "per_chunk": per_chunk, "size": size, "margin": bits(margin)}
    numbers |= {} if weighted else {"weight": 0}
    kernel = Kernel(
        "multiclass_hinge_gradient" if gradient else "multiclass_hinge", (("square", p == 2), ("weighted", weighted))
    )
    names = HINGE_GRADIENT_ARGUMENTS if gradient else HINGE_ARGUMENTS
    return Launch.of(kernel, names, numbers).cut(divide(rows, per_chunk))


def plan_class_hits(target: Target, shape: Shape, ignored: int) -> Launch:
    """`hit` = 1 at every place whose first largest logit is the label's, else 0; `counted` = 0 where the label is
    `ignored`, else 1."""
    numbers, chunks = _places(target, shape)
    kernel = Kernel("class_hits", (("strided", numbers["inner"] != 1),))
    return Launch.of(kernel, HITS_ARGUMENTS, {**numbers, "ignored": ignored}).cut(chunks, 2 * target.lanes)


def plan_numbers(values: Sequence[float]) -> Launch:
    """`y` = these numbers, float32."""
    table = np.zeros(2 * divide(len(values), 2), np.float32)
    table[: len(values)] = values
    numbers = {"count": len(values)}
    return Launch.of(Kernel("numbers"), NUMBERS_ARGUMENTS, numbers, {"numbers": table.view(np.int64)}).cut(1)
