"""Quantized operators, in float32: whole numbers of 8 bits are held as floats, and give the same whole numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnc.interop.onnx_import.calls import Call, Unsupported
from cnnc.interop.onnx_import.importer import Array, Importer, rule
from cnnc.interop.onnx_import.rules.windows import kernel_of, pads_of, window_attributes
from cnnc.ir.types import WEIGHTS
from cnnc.ops.window import spatial

ROUNDED = "where(abs(floor({0} + 0.5) - {0}) == 0.5, 2 * floor({0} / 2 + 0.5), floor({0} + 0.5))"  # to the even one


def limits(array: Array, call: Call) -> tuple[float, float]:
    """The least and the greatest number of an integer type."""
    if array.dtype.kind not in "iu":
        raise Unsupported(call, f"it makes numbers of type {array.dtype}")
    info = np.iinfo(array.dtype)
    return float(info.min), float(info.max)


def _along(i: Importer, array: Array, rank: int, axis: int, source: str) -> str:
    """A number, or one for each place along an axis, so that it broadcasts."""
    flat = np.asarray(array, np.float64).reshape(-1)
    if flat.size == 1:
        return i.number_node(flat.astype(np.float32))
    shape = [1] * rank
    shape[axis % rank] = flat.size
    return i.aligned(flat.reshape(shape).astype(np.float32), rank, source)


def _zero(i: Importer, c: Call, place: int) -> Array:
    return i.known(c, place, "zero point") if c.has(place) else np.zeros((), np.uint8)


def quantized(i: Importer, x: str, scale: str, zero: str, bounds: tuple[float, float]) -> str:
    """round(x / scale) + zero within the type's bounds."""
    y = i.pointwise("a0 / a1", x, scale)
    y = i.pointwise(ROUNDED.format("a0"), y)
    return i.pointwise(f"min(max(a0 + a1, {bounds[0]!r}), {bounds[1]!r})", y, zero)


@rule("QuantizeLinear")
def quantize(i: Importer, c: Call) -> str:
    x, scale, zero = i.tensor(c, 0), i.known(c, 1, "scale"), _zero(i, c, 2)
    if c.integer("block_size", 0):
        raise Unsupported(c, "its scales are of blocks")
    rank, axis = i.type(x).rank, c.integer("axis", 1)
    pair = _along(i, scale, rank, axis, c.inputs[1]), _along(i, zero, rank, axis, c.inputs[2] if c.has(2) else "")
    return quantized(i, x, *pair, limits(zero, c))


@rule("DequantizeLinear")
def dequantize(i: Importer, c: Call) -> str:
    x, scale = i.tensor(c, 0), i.known(c, 1, "scale")
    if c.integer("block_size", 0):
        raise Unsupported(c, "its scales are of blocks")
    rank, axis = i.type(x).rank, c.integer("axis", 1)
    factor = _along(i, scale, rank, axis, c.inputs[1])
    if not c.has(2) or not np.any(i.known(c, 2, "zero point")):
        return i.pointwise("a0 * a1", x, factor)
    zero = _along(i, i.known(c, 2, "zero point"), rank, axis, c.inputs[2])
    return i.pointwise("(a0 - a2) * a1", x, factor, zero)


@rule("QLinearConv", "ConvInteger")
def convolution(i: Importer, c: Call) -> str:
    """The convolution of what the numbers stand for, quantized again; products of bytes are exact in float32."""
    whole = c.operator == "ConvInteger"
    at = dict(zip(("x", "w", "x_zero", "w_zero"), (0, 1, 2, 3) if whole else (0, 3, 2, 5), strict=True))
    x, w = i.tensor(c, at["x"]), i.known(c, at["w"], "weights").astype(np.float64)
    zero = _zero(i, c, at["w_zero"]).astype(np.float64).reshape(-1, *[1] * (w.ndim - 1))
    shift = i.number_node(_zero(i, c, at["x_zero"]).astype(np.float32).reshape(-1)[:1])
    size = spatial(i.type(x))
    attributes: dict[str, Any] = window_attributes(c, len(size), pads_of(c, size, kernel_of(i, c, w.shape[2:])))
    attributes["groups"] = c.integer("group", 1)
    weight = i.parameter(w - zero, c.inputs[at["w"]], "weight", WEIGHTS[w.ndim])
    operands = [i.pointwise("a0 - a1", x, shift), weight]
    if not whole and c.has(8):
        operands.append(i.parameter(i.known(c, 8, "bias").astype(np.float64), c.inputs[8], "bias"))
    y = i.add("conv", operands, attributes)
    return y if whole else _again(i, c, y, (1, 4, 6, 7), 1)


@rule("QLinearMatMul")
def matmul(i: Importer, c: Call) -> str:
    rank = max(i.type(i.tensor(c, p)).rank for p in (0, 3))
    a, b = (
        i.pointwise("a0 - a1", i.tensor(c, p), _along(i, _zero(i, c, z), i.type(i.tensor(c, p)).rank, axis, ""))
        for p, z, axis in ((0, 2, -2), (3, 5, -1))
    )
    return _again(i, c, i.add("matmul", [a, b]), (1, 4, 6, 7), rank - 1)


def _again(i: Importer, c: Call, y: str, places: tuple[int, int, int, int], axis: int) -> str:
    """Sums of products as numbers of the result's type: factors of the two operands, scale and zero point of the result."""
    first, second, scale, zero = (i.known(c, p, "scale") for p in places)
    rank = i.type(y).rank
    factor = np.asarray(first, np.float32).reshape(-1) * np.asarray(second, np.float32).reshape(-1)
    value = i.pointwise("a0 * a1", y, _along(i, factor, rank, axis, ""))
    return quantized(
        i, value, _along(i, scale, rank, axis, c.inputs[places[2]]), _along(i, zero, rank, axis, ""), limits(zero, c)
    )
