"""Maximum, average and global average pooling, and their gradients.

Windows are floor((W - K + 2P) / S) + 1 unless `ceil_mode`. Maximum: padding is -inf, NaN wins, the first index wins
ties. Average: `count_include_pad` divides by the window clipped to the padded input, otherwise by the pixels really
there (PyTorch's rule; ONNX Runtime differs with ceil mode).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from cnnc.ir.graph import Attributes, Node
from cnnc.ir.layer import Argument, Layer, Site, builds, register_layer
from cnnc.ir.op import REQUIRED, InferenceError, Op, Types, defines, whole_field
from cnnc.ir.types import TensorType, product
from cnnc.ops.checks import flag, integer, integers
from cnnc.ops.window import DILATION, KERNEL_SIZE, Window, image, spatial, window_field

ATTRIBUTES: dict[str, Any] = {"kernel": REQUIRED, "stride": None, "padding": None, "dilation": None, "ceil_mode": False}


def window_of(attributes: Mapping[str, Any], rank: int) -> Window:
    """The window of a pooling node. Raises `InferenceError` where a window could lie wholly in the padding in front."""
    window = Window.of(attributes["kernel"], attributes, rank)
    for axis, (before, after) in enumerate(window.padding):
        if 2 * max(before, after) > window.reach(axis):
            raise InferenceError(
                f"padding {max(before, after)} is more than half of the kernel {window.kernel[axis]}",
                "padding",
                "E0203",
                help=f"use at most {window.reach(axis) // 2}",
            )
    return window


def _infer(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x = image(types[0], "pooling")
    window = window_of(attributes, x.rank - 2)
    return (TensorType(x.dtype, (*x.shape[:2], *window.output(spatial(x))), x.layout),)


def _infer_gradient(position: int) -> Callable[[Types, Attributes], tuple[TensorType, ...]]:
    def infer(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
        dy = image(types[position], "a pooling gradient", "dy")
        rank = dy.rank - 2
        size = integers(attributes["size"], "size", rank, 1)
        if tuple(dy.shape[2:]) != window_of(attributes, rank).output(size):
            raise InferenceError(f"a gradient {dy} does not belong to an input of size {size}", "size", "E0204")
        return (TensorType(dy.dtype, (*dy.shape[:2], *size), dy.layout),)

    return infer


def divisors(window: Window, include_pad: bool, size: Sequence[int], out: Sequence[int]) -> Any:
    """By how much each average is divided."""
    ones = np.ones((1, 1, *size))
    if include_pad:
        ones = np.pad(ones, [(0, 0), (0, 0), *window.padding], constant_values=1)
        window = replace(window, padding=((0, 0),) * len(size))
    padded = window.pad(ones, out)
    total: Any = sum(padded[(slice(None), slice(None), *where)] for _, where in window.taps(size, out))
    return total


def _divided(attributes: Attributes, size: Sequence[int], out: Sequence[int]) -> Any:
    if attributes["divisor_override"] is not None:
        return integer(attributes["divisor_override"], "divisor_override", 1)
    return divisors(window_of(attributes, len(size)), attributes["count_include_pad"], size, out)


def _infer_average(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    if attributes["divisor_override"] is not None:
        integer(attributes["divisor_override"], "divisor_override", 1)
    return _infer(types, attributes)


def _maximum_backward(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    x = node.operand("x")
    return [context.add("maxpool_gradient", [x, gradients[0]], {**node.attributes, "size": spatial(context.type(x))})]


def _average_backward(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    size = spatial(context.type(node.operand("x")))
    return [context.add("avgpool_gradient", [gradients[0]], {**node.attributes, "size": size})]


def _global_backward(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    x = context.type(node.operands[0])
    return [context.expand(context.scale(gradients[0], 1 / product(spatial(x))), x)]


AVERAGE = {k: v for k, v in ATTRIBUTES.items() if k != "dilation"} | {
    "count_include_pad": True,
    "divisor_override": None,
}
_pool = partial(Op, layout="any", kind="pooling", field=window_field)


@defines(_pool("maxpool", ("x",), infer=_infer, attributes=ATTRIBUTES, gradient=_maximum_backward))
def _maximum(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """The largest value of each window, NaN where it has one. Padding is never the largest."""
    x = np.asarray(arrays[0], np.float64)
    window, out = window_of(attributes, x.ndim - 2), types[0].sizes[2:]
    padded, y = window.pad(x, out, -np.inf), np.full(types[0].sizes, -np.inf)
    for _, where in window.taps(x.shape[2:], out):
        y = np.maximum(y, padded[(slice(None), slice(None), *where)])
    return (y,)


@defines(_pool("maxpool_gradient", ("x", "dy"), infer=_infer_gradient(1), attributes={**ATTRIBUTES, "size": REQUIRED}))
def maximum_gradient(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """dL/dx of maxpool: each gradient goes to the first largest value of its window."""
    x, dy = (np.asarray(a, np.float64) for a in arrays)
    window, out = window_of(attributes, x.ndim - 2), dy.shape[2:]
    padded = window.pad(x, out, -np.inf)
    taps = [(slice(None), slice(None), *where) for _, where in window.taps(x.shape[2:], out)]
    parts = np.stack([padded[where] for where in taps])
    # the first index of the maximum; the first NaN where there is one. A pixel that is really -inf comes before padding
    # does.
    inside = window.pad(np.ones_like(x), out)
    rank = np.where(np.isnan(parts), np.inf, parts)
    ordered = np.stack([np.where(inside[where] > 0, 1, 0) for where in taps])
    first = np.where((rank == rank.max(0)) & (ordered > 0), 1, 0).argmax(0)
    dx = np.zeros_like(padded)
    for i, where in enumerate(taps):
        dx[where] += np.where(first == i, dy, 0)
    return (window.unpad(dx, x.shape[2:]),)


@defines(_pool("avgpool", ("x",), infer=_infer_average, attributes=AVERAGE, gradient=_average_backward))
def _average(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """The mean of each window: with `count_include_pad` over the window as far as the padded input goes, otherwise
    over the pixels that are there; with `divisor_override` the sum of each, divided by that.
    """
    x = np.asarray(arrays[0], np.float64)
    window, out = window_of(attributes, x.ndim - 2), types[0].sizes[2:]
    padded = window.pad(x, out)
    total = sum(padded[(slice(None), slice(None), *where)] for _, where in window.taps(x.shape[2:], out))
    return (total / _divided(attributes, x.shape[2:], out),)


@defines(_pool("avgpool_gradient", ("dy",), infer=_infer_gradient(0), attributes={**AVERAGE, "size": REQUIRED}))
def _average_gradient(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """dL/dx of avgpool: each gradient spread evenly over its window."""
    dy, size = np.asarray(arrays[0], np.float64), attributes["size"]
    window, out = window_of(attributes, dy.ndim - 2), dy.shape[2:]
    dx = window.pad(np.zeros((*dy.shape[:2], *size)), out)
    part = dy / _divided(attributes, size, out)
    for _, where in window.taps(size, out):
        dx[(slice(None), slice(None), *where)] += part
    return (window.unpad(dx, size),)


def _infer_global(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x = image(types[0], "global_avgpool")
    return (TensorType(x.dtype, (*x.shape[:2], *[1] * (x.rank - 2)), x.layout),)


@defines(
    Op(
        "global_avgpool",
        ("x",),
        infer=_infer_global,
        gradient=_global_backward,
        layout="any",
        kind="pooling",
        field=whole_field,
    )
)
def _global_avgpool(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """The mean over space: [N, C, H, W] -> [N, C, 1, 1]."""
    return (np.asarray(arrays[0], np.float64).mean(tuple(range(2, np.ndim(arrays[0]))), keepdims=True),)


# ------------------------------------------------------------------------------------------------ layers


def _layer(op: str, arguments: tuple[Argument, ...], doc: str) -> None:
    def build(site: Site) -> str:
        rank, given = image(site.type, op).rank - 2, site.arguments
        if given["padding"] == "same" or isinstance(given["padding"], str):
            raise InferenceError(f'padding is a number or a list, not "{given["padding"]}"', "padding", "E0203")
        window = Window.of(given["kernel_size"], given, rank, stride_default=given["kernel_size"])
        attributes: dict[str, Any] = {"kernel": window.kernel, **window.attributes()}
        attributes |= {name: flag(given[name], name) for name in ("ceil_mode", "count_include_pad") if name in given}
        if given.get("divisor_override") is not None:
            attributes["divisor_override"] = given["divisor_override"]
        return site.add(op, site.operands, attributes)

    dilated = any(a.name == "dilation" for a in arguments)
    reach = "dilation * (kernel_size - 1) - 1" if dilated else "kernel_size"
    register_layer(
        Layer(
            name=op,
            arguments=arguments,
            build=build,
            doc=doc,
            shapes="[N, C, H, W] -> [N, C, H', W'], where "
            f"H' = floor((H + 2 * padding - {reach}) / stride) + 1, rounded up with ceil_mode",
            example=f"x -> {op}(3, stride=2, padding=1)",
        )
    )


_COMMON = (
    KERNEL_SIZE,
    Argument("stride", None, "pixels from one window to the next; the kernel's size unless given"),
    Argument("padding", 0, "pixels around the input, at most half of the kernel"),
)
_CEIL = Argument("ceil_mode", False, "whether the last window may reach past the input")
_layer(
    "maxpool",
    (*_COMMON, DILATION, _CEIL),
    "the largest of each window; without a stride, windows do not overlap",
)
_layer(
    "avgpool",
    (
        *_COMMON,
        _CEIL,
        Argument("count_include_pad", True, "whether padding counts as zeros"),
        Argument("divisor_override", None, "by what sums are divided, in place of how many pixels they are of"),
    ),
    "the mean of each window",
)


@builds("global_avgpool", shapes="[N, C, H, W] -> [N, C, 1, 1]", example="x -> global_avgpool")
def _global_avgpool_layer(site: Site) -> str:
    """the mean over space: `[N, C, 1, 1]`"""
    return site.add("global_avgpool", site.operands)
