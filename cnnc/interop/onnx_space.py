"""What changes the size of space, in ONNX's operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnc.interop.onnx_writer import Writer
from cnnc.ir.graph import Node
from cnnc.ops.bands import CUBIC, ROUNDINGS
from cnnc.ops.upsample import interpolations
from cnnc.ops.window import spatial

RESIZES = {"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic"}


def write_upsample(w: Writer, node: Node) -> None:
    """Resize over the axes of space, of which it interpolates along two or three; but gathering where the nearest of ONNX,
    who divides by the scale, is another than PyTorch's.
    """
    mode, corners, rounding, factor = (node.attribute(name) for name in ("mode", "corners", "rounding", "factor"))
    x, result, stem = w.names[node.inputs[0]], w.names[node.name], node.name
    size, extents, rank = spatial(node.type), spatial(w.graph.type(node.inputs[0])), node.type.rank
    factors = factor or [n / extent for n, extent in zip(size, extents, strict=True)]
    shared: dict[str, Any] = {"mode": RESIZES[mode], "coordinate_transformation_mode": corners, "cubic_coeff_a": CUBIC}
    if mode == "nearest":
        shared["nearest_mode"] = rounding
        found = [band.first for band in interpolations(node, extents, size)]
        theirs = [_nearest(corners, rounding, *axis) for axis in zip(extents, size, factors, strict=True)]
        if not all(map(np.array_equal, found, theirs)):
            for axis, at in enumerate(found, 2):
                places = w.constant(at, f"{stem}.places")
                x = w.add("Gather", [x, places], stem, result if axis == rank - 1 else None, axis=axis)
            return
    line = rank == 3 and mode != "nearest"
    if line:
        x, size, factors = w.reshape(x, (*node.type.shape[:2], 1, *extents), stem), (1, *size), [1, *factors]
    if factor:
        inputs = [x, "", w.constant(np.array([1, 1, *factors], np.float32), f"{stem}.scales")]
    else:
        inputs = [x, "", "", w.integers(size, f"{stem}.sizes")]
        shared["axes"] = range(2, 2 + len(size))
    y = w.add("Resize", inputs, stem, None if line else result, **shared)
    if line:
        w.reshape(y, node.type.shape, stem, result)


def _nearest(corners: str, rounding: str, size: int, results: int, factor: float) -> Any:
    """The values that ONNX Runtime takes: in float32, where scales are results to a value."""
    o, scale = np.arange(results, dtype=np.float32), np.float32(factor)
    half, last = np.float32(0.5), np.float32(max(results - 1, 1))
    at = {
        "asymmetric": o / scale,
        "half_pixel": (o + half) / scale - half,
        "pytorch_half_pixel": (o + half) / scale - half if results > 1 else o * 0,
        "align_corners": o * np.float32(size - 1) / last,
    }[corners]
    return np.clip(ROUNDINGS[rounding](at), 0, size - 1).astype(np.int64)
