"""Max unpooling (Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2013).

Values go back to where the maxima of a pooling were, and what is between is 0. Where they were is not kept as numbers: it
is read from the tensor that was pooled, so that a layer gives one value and nothing is stored that training has not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from cnnc.ir.graph import Attributes, Node
from cnnc.ir.layer import Argument, Site, builds
from cnnc.ir.op import InferenceError, Op, Types, defines
from cnnc.ir.types import TensorType
from cnnc.ops.adaptive_pool import first_largest
from cnnc.ops.checks import flag
from cnnc.ops.pool import ATTRIBUTES, maximum_gradient, window_of
from cnnc.ops.window import Window, image, spatial

UNPOOL = {k: v for k, v in ATTRIBUTES.items() if k != "dilation"}


def _window(x: TensorType, attributes: Attributes) -> Window:
    window = window_of(attributes, x.rank - 2)
    if any(s < k for s, k in zip(window.stride, window.kernel, strict=True)):
        raise InferenceError(
            f"windows of {window.kernel} overlap at stride {window.stride}: a pixel could be the maximum of several",
            "stride",
            "E0203",
            help="use a stride of at least the kernel, for the pooling too",
        )
    return window


def _infer(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    y, x = image(types[0], "unpool", "y"), image(types[1], "unpool")
    pooled = (*x.shape[:2], *_window(x, attributes).output(spatial(x)))
    if y.shape != pooled:
        shown = ", ".join(map(str, pooled))
        raise InferenceError(
            f"unpool puts [{shown}] back into {x}, not {y}", "x", "E0204", help="give it the tensor that was pooled"
        )
    return (x,)


def _infer_gradient(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x, dy = image(types[0], "unpool_gradient"), image(types[1], "unpool_gradient", "dy")
    if x.shape != dy.shape:
        raise InferenceError(f"a gradient {dy} does not belong to {x}", "dy", "E0204")
    return (TensorType(x.dtype, (*x.shape[:2], *_window(x, attributes).output(spatial(x))), x.layout),)


def windows(window: Window, size: Sequence[int], out: Sequence[int]) -> list[tuple[Any, Any]]:
    """For each axis where windows begin in the image, and how many of its pixels they hold."""
    found = []
    for axis, (extent, count) in enumerate(zip(size, out, strict=True)):
        begin = np.arange(count) * window.stride[axis] - window.padding[axis][0]
        first = np.maximum(begin, 0)
        found.append((first, np.minimum(begin + window.kernel[axis], extent) - first))
    return found


def _gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    return [context.add("unpool_gradient", [node.operand("x"), gradients[0]], node.attributes), None]


_pool = partial(Op, attributes=UNPOOL, layout="any", kind="pooling")


@defines(_pool("unpool", ("y", "x"), infer=_infer, gradient=_gradient))
def _unpool(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """Like x: y where the first largest value of each window of x is, and 0 elsewhere. Windows do not overlap."""
    return maximum_gradient((arrays[1], arrays[0]), attributes, types)


@defines(_pool("unpool_gradient", ("x", "dy"), infer=_infer_gradient))
def _pick(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """dL/dy of unpool: what dy has where the first largest value of each window of x is."""
    x, dy = (np.asarray(a, np.float64) for a in arrays)
    y = np.zeros(types[0].sizes)
    axes = windows(window_of(attributes, x.ndim - 2), x.shape[2:], y.shape[2:])
    for at in np.ndindex(*y.shape[2:]):
        where = tuple(slice(first[o], first[o] + count[o]) for o, (first, count) in zip(at, axes, strict=True))
        part, values = (a[(slice(None), slice(None), *where)] for a in (x, dy))
        y[(slice(None), slice(None), *at)] = np.take_along_axis(
            values.reshape(*part.shape[:2], math.prod(part.shape[2:])), first_largest(part)[..., None], 2
        )[..., 0]
    return (y,)


@builds(
    "unpool",
    Argument("kernel_size", doc="pixels of a window of the pooling: a number, or a list of one for each axis"),
    Argument("stride", None, "pixels from one window to the next; the kernel's size unless given"),
    Argument("padding", 0, "pixels around what was pooled, at most half of the kernel"),
    Argument("ceil_mode", False, "whether the last window may reach past what was pooled"),
    operands=2,
    shapes="[N, C, H', W'] and [N, C, H, W] -> [N, C, H, W]",
    example="x -> maxpool(2) -> unpool(x, 2)",
)
def _build(site: Site) -> str:
    """max unpooling, `y -> unpool(x, 2)`: y's values where the maxima of x were that maxpool took, 0 elsewhere"""
    given = site.arguments
    if isinstance(given["padding"], str):
        raise InferenceError(f'padding is a number or a list, not "{given["padding"]}"', "padding", "E0203")
    rank = image(site.type, "unpool").rank - 2
    window = Window.of(given["kernel_size"], given, rank, stride_default=given["kernel_size"])
    ceil = flag(given["ceil_mode"], "ceil_mode")
    return site.add("unpool", site.operands, {"kernel": window.kernel, **window.attributes(), "ceil_mode": ceil})
