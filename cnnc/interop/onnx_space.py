"""What changes the size of space, in ONNX's operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnc.interop.onnx_writer import Writer
from cnnc.ir.graph import Node
from cnnc.ir.types import product
from cnnc.ops.adaptive_pool import averages
from cnnc.ops.bands import CUBIC, ROUNDINGS
from cnnc.ops.pool import divisors, window_of
from cnnc.ops.upsample import interpolations
from cnnc.ops.window import Window, spatial

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


def pads_of(padding: Sequence[tuple[int, int]]) -> list[int]:
    return [p[0] for p in padding] + [p[1] for p in padding]


def _covering(window: Window, size: Sequence[int], out: Sequence[int]) -> list[tuple[int, int]]:
    """The padding with which rounding down gives the windows of `out`."""
    return [
        (before, max(after, (o - 1) * window.stride[i] + window.reach(i) - before - size[i]))
        for i, ((before, after), o) in enumerate(zip(window.padding, out, strict=True))
    ]


def _padded(w: Writer, x: str, padding: Sequence[tuple[int, int]], value: float, stem: str) -> str:
    pads = [0, 0, *(p[0] for p in padding), 0, 0, *(p[1] for p in padding)]
    return w.add("Pad", [x, w.integers(pads, f"{stem}.pads"), w.constant(np.float32(value), f"{stem}.value")], stem)


def write_maxpool(w: Writer, node: Node) -> None:
    """Ceil mode as padding behind the input; padding beyond the taps, which runtimes refuse, before the pooling."""
    x, size, out = w.names[node.inputs[0]], spatial(w.graph.type(node.inputs[0])), spatial(node.type)
    window = window_of(node.attributes, len(size))
    padding = _covering(window, size, out)
    if any(max(p) >= k for p, k in zip(padding, window.kernel, strict=True)):
        x, padding = _padded(w, x, padding, -np.inf, node.name), [(0, 0)] * len(size)
    if window.kernel == size and spatial(node.type) == (1,) * len(size) and not any(map(any, padding)):
        w.add("GlobalMaxPool", [x], node.name, w.names[node.name])
        return
    shared: dict[str, Any] = {"kernel_shape": window.kernel, "strides": window.stride, "dilations": window.dilation}
    w.add("MaxPool", [x], node.name, w.names[node.name], pads=pads_of(padding), **shared)


def write_avgpool(w: Writer, node: Node) -> None:
    _average(w, node, w.names[node.inputs[0]], w.names[node.name])


def _average(w: Writer, node: Node, x: str, result: str | None) -> str:
    """The means of windows of a node. Runtimes differ in what they divide by where a window leaves the padded input: there
    the sums are taken over explicit zeros, and divided by the definition's counts.
    """
    size, out, given = spatial(w.graph.type(node.inputs[0])), spatial(node.type), node.attributes
    window, include, divisor = window_of(given, len(size)), True, None
    if node.op == "avgpool":
        include, divisor = bool(node.attribute("count_include_pad")), node.attribute("divisor_override")
    padding = _covering(window, size, out)
    shared: dict[str, Any] = {"kernel_shape": window.kernel, "strides": window.stride}
    if divisor is None and padding == list(window.padding) and all(a == b for a, b in padding):
        shared |= {"pads": pads_of(padding), "count_include_pad": int(include)}
        return w.add("AveragePool", [x], node.name, result, **shared)
    mean = w.add("AveragePool", [_padded(w, x, padding, 0.0, node.name)], node.name, **shared)
    scale = np.asarray(product(window.kernel) / (divisor or divisors(window, include, size, out)), np.float32)
    return w.add("Mul", [mean, w.constant(scale, f"{node.name}.scale")], node.name, result)


def write_lppool(w: Writer, node: Node) -> None:
    """LpPool, which takes absolute values, where powers are even and no window reaches past the input."""
    x, p, stem = w.names[node.inputs[0]], float(node.attribute("norm_type")), node.name
    size, window = spatial(w.graph.type(node.inputs[0])), window_of(node.attributes, node.type.rank - 2)
    if p % 2 == 0 and _covering(window, size, spatial(node.type)) == list(window.padding):
        shared = {"kernel_shape": window.kernel, "strides": window.stride, "p": int(p)}
        w.add("LpPool", [x], stem, w.names[node.name], **shared)
        return
    mean = _average(w, node, w.add("Pow", [x, w.constant(np.float32(p), f"{stem}.p")], stem), None)
    total = w.add("Mul", [mean, w.constant(np.float32(product(window.kernel)), f"{stem}.pixels")], stem)
    w.add("Pow", [total, w.constant(np.float32(1 / p), f"{stem}.root")], stem, w.names[node.name])


def write_adaptive(w: Writer, node: Node) -> None:
    """ONNX has none: averages as products with their weights, maxima window by window along each axis."""
    x, stem = w.names[node.inputs[0]], node.name
    axes = averages(node, spatial(w.graph.type(node.inputs[0])), spatial(node.type))
    if node.op == "adaptive_avgpool":
        weights = [w.constant(band.apply(np.eye(band.size), 0).astype(np.float32), f"{stem}.weights") for band in axes]
        old, new = "abc"[: len(axes)], "xyz"[: len(axes)]
        pairs = ",".join(a + b for a, b in zip(new, old, strict=True))
        w.add("Einsum", [x, *weights], stem, w.names[node.name], equation=f"mn{old},{pairs}->mn{new}")
        return
    for axis, band in enumerate(axes, 2):
        at, parts = w.integers([axis], f"{stem}.axis"), []
        for first, count in zip(band.first, band.count, strict=True):
            limits = [w.integers([int(end)], f"{stem}.end") for end in (first, first + count)]
            parts.append(w.add("ReduceMax", [w.add("Slice", [x, *limits, at], stem), at], stem, keepdims=1))
        result = w.names[node.name] if axis == node.type.rank - 1 else None
        x = w.add("Concat", parts, stem, result, axis=axis)


def write_unpool(w: Writer, node: Node) -> None:
    y, x = (w.names[o] for o in node.inputs)
    window = window_of(node.attributes, node.type.rank - 2)
    padding = _covering(window, spatial(node.type), spatial(w.graph.type(node.inputs[0])))
    shared = {"kernel_shape": window.kernel, "strides": window.stride, "pads": pads_of(padding)}
    pooled, places = (w.fresh(f"{node.name}.{name}") for name in ("pooled", "places"))
    w.nodes.append(w.onnx.helper.make_node("MaxPool", [x], [pooled, places], name=pooled, **shared))
    w.add("MaxUnpool", [y, places, w.shape(node.type.shape, node.name)], node.name, w.names[node.name], **shared)
