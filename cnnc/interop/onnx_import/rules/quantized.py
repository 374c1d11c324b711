"""Quantized operators, in float32: whole numbers of 8 bits are held as floats, and give the same whole numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnc.interop.onnx_import.calls import Call, Unsupported
from cnnc.interop.onnx_import.importer import Array, Importer, rule
from cnnc.interop.onnx_import.rules.shape import listed
from cnnc.interop.onnx_import.rules.windows import kernel_of, pads_of, window_attributes
from cnnc.ir.types import WEIGHTS
from cnnc.ops.window import spatial

ROUNDED = "where(abs(floor({0} + 0.5) - {0}) == 0.5, 2 * floor({0} / 2 + 0.5), floor({0} + 0.5))"  # to the even one


def limits(i: Importer, call: Call, place: int) -> tuple[float, float]:
    """The least and the greatest number of the type of a zero point; of bytes where there is none."""
    from cnnc.interop.onnx import package

    zero, wanted = i.fixed(call, place), call.integer("output_dtype", 0)
    if zero is None and (call.has(place) or wanted):
        kind = i.kinds.get(call.inputs[place], 0) if call.has(place) else wanted
        dtype = package().helper.tensor_dtype_to_np_dtype(kind) if kind else np.dtype(np.float32)
    else:
        dtype = np.dtype(np.uint8) if zero is None else zero.dtype
    if dtype.kind not in "iu":
        raise Unsupported(call, f"it makes numbers of type {dtype}")
    info = np.iinfo(dtype)
    return float(info.min), float(info.max)


def _spread(i: Importer, c: Call, place: int, x: str) -> str:
    """The scale or the zero point of an operand: one number, one for each place along an axis, or for each of its blocks."""
    if not c.has(place):
        return i.number_node(np.zeros((), np.float32))
    value, t = i.values[c.inputs[place]], i.type(x)
    axis, block = c.integer("axis", 1) % max(1, t.rank), c.integer("block_size", 0)
    if block:
        indices = listed(np.arange(int(t.shape[axis])) // block)
        return i.add("gather", [i.tensor(c, place)], {"axis": axis, "indices": indices})
    if not isinstance(value, str):
        return _along(i, value, t.rank, axis, c.inputs[place])
    if i.type(value).rank == 1 and i.type(value).shape[0] != 1:
        shape = tuple(i.type(value).shape[0] if a == axis else 1 for a in range(t.rank))
        return i.add("reshape", [value], {"shape": shape})
    return value


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
    x = i.tensor(c, 0)
    return quantized(i, x, _spread(i, c, 1, x), _spread(i, c, 2, x), limits(i, c, 2))


@rule("DequantizeLinear")
def dequantize(i: Importer, c: Call) -> str:
    x = i.tensor(c, 0)
    factor, zero = _spread(i, c, 1, x), i.fixed(c, 2)
    if not c.has(2) or (zero is not None and not np.any(zero)):
        return i.pointwise("a0 * a1", x, factor)
    return i.pointwise("(a0 - a2) * a1", x, factor, _spread(i, c, 2, x))


@rule("DynamicQuantizeLinear")
def dynamic(i: Importer, c: Call) -> list[str]:
    """Bytes between the least and the greatest value, 0 among them; the scale; the zero point."""
    x = i.tensor(c, 0)
    axes = {"axis": tuple(range(i.type(x).rank))}
    low, high = i.add("min", [x], axes), i.add("max", [x], axes)
    scale = i.pointwise("(max(a1, 0) - min(a0, 0)) / 255", low, high)
    zero = i.pointwise("min(max(0 - min(a0, 0) / a1, 0), 255)", low, scale)
    zero = i.pointwise(ROUNDED.format("a0"), zero)
    return [quantized(i, x, scale, zero, (0.0, 255.0)), scale, zero]


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


@rule("QLinearMatMul", "MatMulInteger")
def matmul(i: Importer, c: Call) -> str:
    whole = c.operator == "MatMulInteger"
    rank = max(i.type(i.tensor(c, p)).rank for p in (0, 1 if whole else 3))
    a, b = (
        i.pointwise("a0 - a1", i.tensor(c, p), _along(i, _zero(i, c, z), i.type(i.tensor(c, p)).rank, axis, ""))
        for p, z, axis in (((0, 2, -2), (1, 3, -1)) if whole else ((0, 2, -2), (3, 5, -1)))
    )
    y = i.add("matmul", [a, b])
    return y if whole else _again(i, c, y, (1, 4, 6, 7), rank - 1)


def _again(i: Importer, c: Call, y: str, places: tuple[int, int, int, int], axis: int) -> str:
    """Sums of products as numbers of the result's type: factors of the two operands, scale and zero point of the result."""
    first, second, scale, zero = (i.known(c, p, "scale") for p in places)
    rank = i.type(y).rank
    factor = np.asarray(first, np.float32).reshape(-1) * np.asarray(second, np.float32).reshape(-1)
    value = i.pointwise("a0 * a1", y, _along(i, factor, rank, axis, ""))
    return quantized(
        i,
        value,
        _along(i, scale, rank, axis, c.inputs[places[2]]),
        _along(i, zero, rank, axis, ""),
        limits(i, c, places[3]),
    )
