"""Resize, and Upsample as it was called before opset 10."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cnnc.interop.onnx_import.calls import Call, Unsupported
from cnnc.interop.onnx_import.importer import Importer, rule
from cnnc.interop.onnx_import.rules.resampling import COORDINATES, ROUNDED, Axis, Form, matrix, outside
from cnnc.ir.types import BATCH
from cnnc.untrusted import Malformed

MODES = {"nearest": "nearest", "linear": "bilinear", "bilinear": "bilinear", "cubic": "bicubic"}


@rule("Resize", "Upsample")
def resize(i: Importer, c: Call) -> str:
    x = i.tensor(c, 0)
    t, mode = i.type(x), c.text("mode", "nearest")
    if mode not in MODES:
        raise Malformed(f"its mode is '{mode}'")
    shape = [1 if d == BATCH else int(d) for d in t.shape]
    factors, out = _factors(i, c, shape)
    if any(f != 1 for f in factors[:2]) or t.rank not in (3, 4, 5):
        raise Unsupported(c, "it resizes the batch or the channels, or what is no image")
    if _is_strange(c, mode):
        return _by_matrices(i, c, x, [Axis(*v) for v in zip(shape, out, factors, strict=True)])
    attributes: dict[str, Any] = {"size": tuple(out[2:]), "mode": MODES[mode], **_corners(c, mode, i.opset)}
    if any(n * f != o for n, f, o in zip(shape, factors, out, strict=True)):
        if attributes["corners"] == "align_corners":
            raise Unsupported(
                c, "its corners are aligned and its sizes no whole numbers, where ONNX and runtimes differ"
            )
        attributes["factor"] = tuple(factors[2:])
    return i.add("upsample", [x], attributes)


def _factors(i: Importer, c: Call, shape: Sequence[int]) -> tuple[list[float], list[int]]:
    """How many times as large each axis becomes, and its size then, from scales or from sizes that are given."""
    scales, sizes, axes = _wanted(i, c, len(shape))
    given = _by_axis(scales or sizes or (), axes)
    rank = range(len(shape))
    if scales:
        factors = [float(given.get(a, 1)) for a in rank]
        return factors, [int(n * f) for n, f in zip(shape, factors, strict=True)]
    factors = [given.get(a, shape[a]) / shape[a] for a in rank]
    policy = c.text("keep_aspect_ratio_policy", "stretch")
    if not given or policy == "stretch":
        return factors, [int(given.get(a, shape[a])) for a in rank]
    one = (min if policy == "not_larger" else max)(factors[a] for a in axes)
    factors = [one if a in axes else 1.0 for a in rank]
    return factors, [int(n * f + 0.5) for n, f in zip(shape, factors, strict=True)]


def _by_axis(numbers: Sequence[float], axes: Sequence[int]) -> dict[int, float]:
    given = dict(zip(axes, numbers, strict=False))
    if len(given) != len(numbers) or not all(0 < v < 2**31 for v in numbers):
        raise Malformed(f"its scales or sizes are {list(numbers)}, for {len(axes)} axes")
    return given


def _wanted(i: Importer, c: Call, rank: int) -> tuple[Sequence[float] | None, Sequence[int] | None, Sequence[int]]:
    """Scales, or else sizes, and of which axes."""
    axes = tuple(a % rank for a in c.integers("axes") or range(rank))
    if c.operator == "Upsample" and "scales" in c.attributes:
        return tuple(c.attributes["scales"]), None, axes
    place = 1 if c.operator == "Upsample" or i.opset < 11 else 2
    if c.has(3) and place == 2:
        return None, tuple(int(v) for v in i.known(c, 3, "sizes").reshape(-1)), axes
    return tuple(float(v) for v in i.known(c, place, "scales").reshape(-1)), None, axes


def _is_strange(c: Call, mode: str) -> bool:
    """Whether this is a form that no layer has."""
    corners = c.text("coordinate_transformation_mode", "half_pixel")
    strange = corners in ("tf_crop_and_resize", "half_pixel_symmetric")
    strange = strange or bool(c.integer("antialias", 0) or c.integer("exclude_outside", 0))
    return strange or (mode == "cubic" and c.number("cubic_coeff_a", -0.75) != -0.75)


def _by_matrices(i: Importer, c: Call, x: str, axes: Sequence[Axis]) -> str:
    """Each axis of space times a matrix; a value where a box reaches beyond the image."""
    form = Form(
        "linear" if c.text("mode", "nearest") == "bilinear" else c.text("mode", "nearest"),
        c.text("coordinate_transformation_mode", "half_pixel"),
        c.text("nearest_mode", "round_prefer_floor"),
        c.number("cubic_coeff_a", -0.75),
        bool(c.integer("antialias", 0)),
        bool(c.integer("exclude_outside", 0)),
    )
    if form.coordinates not in COORDINATES or form.rounding not in ROUNDED:
        raise Malformed(f"its coordinates are '{form.coordinates}', rounded by '{form.rounding}'")
    boxed = form.coordinates == "tf_crop_and_resize"
    if boxed:
        axes = _boxes(i, c, axes)
    y, rank = x, len(axes)
    for place in range(2, rank):
        axis = axes[place]
        if axis.size == axis.out and axis.factor == 1 and not boxed:
            continue
        i.make(axis.out, axis.size)
        weight = i.parameter(matrix(axis, form), "", f"resize{place}")
        turn = [a if a not in (place, rank - 1) else rank - 1 + place - a for a in range(rank)]
        turned = y if place == rank - 1 else i.add("transpose", [y], {"axes": tuple(turn)})
        y = i.add("linear", [turned, weight])
        y = y if place == rank - 1 else i.add("transpose", [y], {"axes": tuple(turn)})
    return _filled(i, c, y, axes) if boxed else y


def _boxes(i: Importer, c: Call, axes: Sequence[Axis]) -> list[Axis]:
    box = i.known(c, 1, "box").reshape(-1)
    given = [a % len(axes) for a in c.integers("axes") or range(len(axes))]
    if len(box) != 2 * len(given):
        raise Malformed(f"its box has {len(box)} numbers, for {len(given)} axes")
    ends = {a: (float(b), float(e)) for a, b, e in zip(given, box, box[len(given) :], strict=False)}
    return [replace(a, begin=ends.get(k, (0, 1))[0], end=ends.get(k, (0, 1))[1]) for k, a in enumerate(axes)]


def _filled(i: Importer, c: Call, y: str, axes: Sequence[Axis]) -> str:
    mask = np.zeros([1] * len(axes), bool)
    for place in range(2, len(axes)):
        mask = mask | outside(axes[place]).reshape([-1 if a == place else 1 for a in range(len(axes))])
    if not mask.any():
        return y
    i.make(*mask.shape)
    value = c.number("extrapolation_value", 0.0)
    return i.pointwise(f"where(a1, {value!r}, a0)", y, i.aligned(mask.astype(np.float32), len(axes)))


def _corners(c: Call, mode: str, opset: int) -> dict[str, str]:
    corners = c.text("coordinate_transformation_mode", "half_pixel" if opset >= 11 else "asymmetric")
    if corners not in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
        raise Unsupported(c, f"its coordinates are '{corners}'")
    if mode != "nearest":
        return {"corners": corners}
    rounding = c.text("nearest_mode", "round_prefer_floor" if opset >= 11 else "floor")
    return {"corners": corners, "rounding": rounding}
