"""Resize, and Upsample as it was called before opset 10."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cnnc.interop.onnx_import.calls import Call, Unsupported
from cnnc.interop.onnx_import.importer import Importer, rule
from cnnc.ir.types import BATCH
from cnnc.untrusted import Malformed

MODES = {"nearest": "nearest", "linear": "bilinear", "bilinear": "bilinear", "cubic": "bicubic"}


@rule("Resize", "Upsample")
def resize(i: Importer, c: Call) -> str:
    x = i.tensor(c, 0)
    t, mode = i.type(x), c.text("mode", "nearest")
    if mode not in MODES:
        raise Malformed(f"its mode is '{mode}'")
    scales, sizes, axes = _wanted(i, c, t.rank)
    shape = [1 if d == BATCH else int(d) for d in t.shape]
    given = dict(zip(axes, scales or sizes or (), strict=False))
    if len(given) != len(scales or sizes or ()):
        raise Malformed(f"its scales or sizes are {list(scales or sizes or ())}, for {len(axes)} axes")
    if not all(0 < v < 2**31 for v in given.values()):
        raise Malformed(f"its scales or sizes are {list(given.values())}")
    factors, out = _factors(c, shape, given, axes, bool(scales))
    if any(f != 1 for f in factors[:2]) or t.rank not in (3, 4, 5):
        raise Unsupported(c, "it resizes the batch or the channels, or what is no image")
    attributes: dict[str, Any] = {"size": tuple(out[2:]), "mode": MODES[mode], **_corners(c, mode, i.opset)}
    if any(n * f != o for n, f, o in zip(shape, factors, out, strict=True)):
        if attributes["corners"] == "align_corners":
            raise Unsupported(
                c, "its corners are aligned and its sizes no whole numbers, where ONNX and runtimes differ"
            )
        attributes["factor"] = tuple(factors[2:])
    return i.add("upsample", [x], attributes)


def _factors(
    c: Call, shape: Sequence[int], given: Mapping[int, float], axes: Sequence[int], scaled: bool
) -> tuple[list[float], list[int]]:
    """How many times as large each axis becomes, and its size then, from scales or from sizes that are given."""
    rank = range(len(shape))
    if scaled:
        factors = [float(given.get(a, 1)) for a in rank]
        return factors, [int(n * f) for n, f in zip(shape, factors, strict=True)]
    factors = [given.get(a, shape[a]) / shape[a] for a in rank]
    if given and c.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        larger = c.text("keep_aspect_ratio_policy", "stretch") == "not_larger"
        one = (min if larger else max)(factors[a] for a in axes)
        factors = [one if a in axes else 1.0 for a in rank]
        return factors, [int(shape[a] * one + 0.5) if a in axes else shape[a] for a in rank]
    return factors, [int(given.get(a, shape[a])) for a in rank]


def _wanted(i: Importer, c: Call, rank: int) -> tuple[Sequence[float] | None, Sequence[int] | None, Sequence[int]]:
    """Scales, or else sizes, and of which axes."""
    axes = tuple(a % rank for a in c.integers("axes") or range(rank))
    if c.operator == "Upsample" and "scales" in c.attributes:
        return tuple(c.attributes["scales"]), None, axes
    place = 1 if c.operator == "Upsample" or i.opset < 11 else 2
    if c.has(3) and place == 2:
        return None, tuple(int(v) for v in i.known(c, 3, "sizes").reshape(-1)), axes
    return tuple(float(v) for v in i.known(c, place, "scales").reshape(-1)), None, axes


def _corners(c: Call, mode: str, opset: int) -> dict[str, str]:
    corners = c.text("coordinate_transformation_mode", "half_pixel" if opset >= 11 else "asymmetric")
    if corners not in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
        raise Unsupported(c, f"its coordinates are '{corners}'")
    if c.integer("antialias", 0) or c.integer("exclude_outside", 0):
        raise Unsupported(c, "it smooths what it makes smaller, or leaves out what lies outside")
    if mode == "cubic" and c.number("cubic_coeff_a", -0.75) != -0.75:
        raise Unsupported(c, f"its cubic has the coefficient {c.number('cubic_coeff_a', -0.75)}; -0.75 is known")
    if mode != "nearest":
        return {"corners": corners}
    rounding = c.text("nearest_mode", "round_prefer_floor" if opset >= 11 else "floor")
    return {"corners": corners, "rounding": rounding}
