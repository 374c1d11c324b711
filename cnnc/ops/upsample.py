"""Resizing an image: nearest, linear and cubic interpolation along each axis of space."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from cnnc.ir.graph import Attributes, Node
from cnnc.ir.layer import Argument, Site, builds
from cnnc.ir.op import REQUIRED, InferenceError, Op, Types, defines
from cnnc.ir.receptive import Field, space_of
from cnnc.ir.types import TensorType
from cnnc.ops import bands
from cnnc.ops.bands import COORDINATES, ROUNDINGS, TAPS, Bands
from cnnc.ops.checks import LIMIT, flag, integers
from cnnc.ops.window import image, spatial

MODES = {
    **{mode: mode for mode in TAPS},
    "linear": "bilinear",
    "trilinear": "bilinear",
    "nearest-exact": "nearest",
}  # as PyTorch calls them
CHOICES: dict[str, Mapping[str, object]] = {"mode": TAPS, "corners": COORDINATES, "rounding": ROUNDINGS}


def _axes(attributes: Attributes, extents: Sequence[int], size: Sequence[int]) -> list[Bands]:
    mode, corners, rounding = (attributes[name] for name in CHOICES)
    factors = attributes["factor"] or (None,) * len(size)
    pairs = zip(extents, size, factors, strict=True)
    return [bands.interpolation(extent, n, mode, corners, rounding, factor) for extent, n, factor in pairs]


def interpolations(node: Node, extents: Sequence[int], size: Sequence[int]) -> list[Bands]:
    """Of each axis of space, of a node of `upsample` or its gradient, from `extents` values to `size`."""
    return _axes(Attributes({name: node.attribute(name) for name in ("factor", *CHOICES)}), extents, size)


def _infer(types: Types, attributes: Attributes, op: str, operand: str) -> tuple[TensorType, ...]:
    x = image(types[0], op, operand)
    size = integers(attributes["size"], "size", x.rank - 2, 1)
    for name, choices in CHOICES.items():
        if attributes[name] not in choices:
            raise InferenceError(f"{name} is one of {', '.join(choices)}, not {attributes[name]!r}", name, "E0203")
    factor = attributes["factor"]
    if factor is not None and (
        not isinstance(factor, tuple) or len(factor) != x.rank - 2 or not all(_positive(f) for f in factor)
    ):
        raise InferenceError(f"factor is a number above 0 for each axis, not {factor!r}", "factor", "E0203")
    return (TensorType(x.dtype, (*x.shape[:2], *size), x.layout),)


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    size = spatial(context.type(node.operand("x")))
    return [context.add("upsample_gradient", [gradients[0]], {**node.attributes, "size": size})]


def _field(node: Node, types: Types, seen: Field) -> Field:
    more, space = TAPS[node.attribute("mode")] - 1, space_of(node.type)
    size = tuple(s + more * j for s, j in zip(seen.size, seen.jump, strict=True))
    jump = tuple(bands.shrunk(*axis) for axis in zip(seen.jump, seen.extent, space, strict=True))
    return Field(size, jump, space)


_resize = partial(
    Op,
    attributes={"size": REQUIRED, "factor": None, "mode": "nearest", "corners": "asymmetric", "rounding": "floor"},
    layout="any",
    kind="shape",
)


@defines(
    _resize("upsample", ("x",), infer=partial(_infer, op="upsample", operand="x"), gradient=_gradient, field=_field)
)
def _upsample(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """An image of `size` pixels, each of the values next to where it lies in x: the nearest, the 2 of each axis
    whose line goes through it (bilinear), or the 4 whose cubic does (bicubic). `corners` says where: pixel o lies
    at o * H / H' (asymmetric), (o + 1/2) * H / H' - 1/2 (half_pixel; pytorch_half_pixel is 0 for a single one), or
    o * (H - 1) / (H' - 1) (align_corners), with 1 / `factor` for H / H' where there is one. `rounding` finds the
    nearest: floor, ceil, round_prefer_floor or round_prefer_ceil. These are the names of ONNX's Resize.
    """
    return (bands.apply(_axes(attributes, np.shape(arrays[0])[2:], types[0].sizes[2:]), arrays[0]),)


@defines(_resize("upsample_gradient", ("dy",), infer=partial(_infer, op="upsample_gradient", operand="dy")))
def _upsample_gradient(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """dL/dx of upsample: each gradient goes to the values that its pixel is made of, by their weights."""
    return (
        bands.apply([b.transposed for b in _axes(attributes, types[0].sizes[2:], np.shape(arrays[0])[2:])], arrays[0]),
    )


# ------------------------------------------------------------------------------------------------ the layer


def _sizes(site: Site, extents: Sequence[int]) -> tuple[tuple[int, ...], tuple[float, ...] | None]:
    """The size of the result, and the factors where they are not what the sizes say."""
    factor, size, rank = site.arguments["factor"], site.arguments["size"], len(extents)
    if (factor is None) == (size is None):
        raise InferenceError(
            "upsample takes either a factor or a size",
            "size",
            "E0203",
            help="write upsample(2) or upsample(size=[64, 64])",
        )
    if size is not None:
        return integers(size, "size", rank, 1), None
    factors = tuple(factor) if isinstance(factor, list | tuple) else (factor,) * rank
    if len(factors) != rank or not all(_positive(f) for f in factors):
        raise InferenceError(f"factor is a number above 0, or a list of {rank}, not {factor!r}", "factor", "E0203")
    made = tuple(math.floor(extent * f) for extent, f in zip(extents, factors, strict=True))
    for extent, f, n in zip(extents, factors, made, strict=True):
        if not 1 <= n < LIMIT:
            raise InferenceError(
                f"factor {f:g} makes {n:,} pixels of {extent}; they must be at least 1 and below 2^31",
                "factor",
                "E0202" if n < 1 else "E0402",
            )
    exact = all(extent * f == n for extent, f, n in zip(extents, factors, made, strict=True))
    return made, None if exact else factors


@builds(
    "upsample",
    Argument("factor", None, "pixels that one becomes along an axis: a number, or a list of one for each axis"),
    Argument("mode", "nearest", '"nearest", "bilinear" (or "linear", "trilinear"), "bicubic" or "nearest-exact"'),
    Argument("align_corners", False, "whether the corner pixels' centers stay at the corners"),
    Argument("size", None, "in place of a factor, how many pixels there are then: a number, or a list"),
    shapes="[N, C, H, W] -> [N, C, H', W'], where H' = floor(H * factor), or as `size` says",
    example='x -> upsample(2, mode="bilinear")',
)
def _build(site: Site) -> str:
    """an image of more pixels, or fewer: the nearest, or interpolated along 1, 2 or 3 axes, as PyTorch does"""
    size, factor = _sizes(site, spatial(image(site.type, "upsample")))
    mode, align = site.arguments["mode"], flag(site.arguments["align_corners"], "align_corners")
    if not isinstance(mode, str) or mode not in MODES:
        raise InferenceError(f"mode is one of {', '.join(map(repr, MODES))}, not {mode!r}", "mode", "E0203")
    attributes: dict[str, Any] = {"size": size, "factor": factor, "mode": MODES[mode]}
    if MODES[mode] != "nearest":
        attributes["corners"] = "align_corners" if align else "half_pixel"
    elif align:
        raise InferenceError(
            f'align_corners is for mode="bilinear" and "bicubic", not for "{mode}"',
            "align_corners",
            "E0203",
            help='leave it out, or write mode="bilinear"',
        )
    elif mode == "nearest-exact":
        attributes |= {"corners": "half_pixel", "rounding": "round_prefer_ceil"}
    return site.add("upsample", site.operands, attributes)
