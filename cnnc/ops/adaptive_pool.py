"""Pooling to a given size, over windows that cover the image and may overlap; and the maximum over all of space.

Window o of an axis goes from floor(o * H / H') to ceil((o + 1) * H / H'), as PyTorch's. Where H' divides H these are
ordinary pools.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from cnnc.ir.graph import Attributes, Node
from cnnc.ir.layer import Argument, Layer, Site, builds, register_layer
from cnnc.ir.op import REQUIRED, Op, Types, defines
from cnnc.ir.receptive import Field, space_of
from cnnc.ir.types import TensorType
from cnnc.ops import bands
from cnnc.ops.bands import Bands
from cnnc.ops.checks import integers
from cnnc.ops.window import image, spatial


def averages(node: Node, extents: Sequence[int], size: Sequence[int]) -> list[Bands]:
    """Of each axis of space, from `extents` values to `size`."""
    return [bands.averages(*axis) for axis in zip(extents, size, strict=True)]


def _infer(types: Types, attributes: Attributes, position: int = 0) -> tuple[TensorType, ...]:
    x = image(types[position], "adaptive pooling")
    return (TensorType(x.dtype, (*x.shape[:2], *integers(attributes["size"], "size", x.rank - 2, 1)), x.layout),)


def _backward(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    x = node.operands[0]
    operands = [x, gradients[0]] if node.op == "adaptive_maxpool" else [gradients[0]]
    return [context.add(f"{node.op}_gradient", operands, {"size": spatial(context.type(x))})]


def _windows(extents: Sequence[int], size: Sequence[int]) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Each result with the slices of the input that it is made of."""
    for at in product(*map(range, size)):
        yield at, tuple(slice(o * n // s, -(-(o + 1) * n // s)) for o, n, s in zip(at, extents, size, strict=True))


def first_largest(window: Any) -> Any:
    """Of windows [N, C, ...] the number of the first largest value, or of the first NaN, [N, C]."""
    flat = window.reshape(*window.shape[:2], math.prod(window.shape[2:]))
    return np.where(np.isnan(flat), np.inf, flat).argmax(2)


def _field(node: Node, types: Types, seen: Field) -> Field:
    space = space_of(node.type)
    most = [int(b.count.max()) for b in averages(node, seen.extent, space)]
    size = tuple(s + (k - 1) * j for s, k, j in zip(seen.size, most, seen.jump, strict=True))
    jump = tuple(bands.shrunk(*axis) for axis in zip(seen.jump, seen.extent, space, strict=True))
    return Field(size, jump, space)


_pool = partial(Op, attributes={"size": REQUIRED}, layout="any", kind="pooling")


@defines(_pool("adaptive_avgpool", ("x",), infer=_infer, gradient=_backward, field=_field))
def _average(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """The mean of each of `size` windows, from floor(o * H / H') to ceil((o + 1) * H / H') along each axis."""
    x = np.asarray(arrays[0])
    axes = zip(x.shape[2:], types[0].sizes[2:], strict=True)
    return (bands.apply([bands.averages(*axis) for axis in axes], x),)


@defines(_pool("adaptive_avgpool_gradient", ("dy",), infer=_infer))
def _average_gradient(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """dL/dx of adaptive_avgpool. `size`: of x."""
    dy = np.asarray(arrays[0])
    axes = zip(types[0].sizes[2:], dy.shape[2:], strict=True)
    return (bands.apply([bands.averages(*axis).transposed for axis in axes], dy),)


@defines(_pool("adaptive_maxpool", ("x",), infer=_infer, gradient=_backward, field=_field))
def _maximum(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """The largest value of each of `size` windows, from floor(o * H / H') to ceil((o + 1) * H / H') along each axis."""
    x: Any = np.asarray(arrays[0], np.float64)
    y: Any = np.zeros(types[0].sizes)
    for at, where in _windows(x.shape[2:], y.shape[2:]):
        y[(slice(None), slice(None), *at)] = x[(slice(None), slice(None), *where)].max(tuple(range(2, x.ndim)))
    return (y,)


@defines(_pool("adaptive_maxpool_gradient", ("x", "dy"), infer=partial(_infer, position=1)))
def _maximum_gradient(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """dL/dx of adaptive_maxpool: each gradient goes to the first largest value of its window. `size`: of x."""
    x: Any = np.asarray(arrays[0], np.float64)
    dy: Any = np.asarray(arrays[1], np.float64)
    dx: Any = np.zeros_like(x)
    for at, where in _windows(x.shape[2:], dy.shape[2:]):
        part = x[(slice(None), slice(None), *where)]
        flat = np.zeros((*part.shape[:2], part[0, 0].size if part.size else 0))
        if part.size:
            above: Any = dy[(slice(None), slice(None), *at)]
            np.put_along_axis(flat, first_largest(part)[..., None], above[..., None], 2)
        dx[(slice(None), slice(None), *where)] += flat.reshape(part.shape)
    return (dx,)


# ------------------------------------------------------------------------------------------------ layers


def _pooled(site: Site, kind: str) -> str:
    """An ordinary pool where its windows are even."""
    extents = spatial(image(site.type, f"adaptive_{kind}"))
    size = integers(site.arguments["size"], "size", len(extents), 1)
    if kind == "avgpool" and set(size) == {1}:
        return site.add("global_avgpool", site.operands)
    if any(extent % n for extent, n in zip(extents, size, strict=True)):
        return site.add(f"adaptive_{kind}", site.operands, {"size": size})
    kernel = tuple(extent // n for extent, n in zip(extents, size, strict=True))
    return site.add(kind, site.operands, {"kernel": kernel, "stride": kernel})


for _kind, _what in (("avgpool", "mean"), ("maxpool", "largest")):
    register_layer(
        Layer(
            name=f"adaptive_{_kind}",
            arguments=(Argument("size", doc="how many windows there are: a number, or a list of one for each axis"),),
            build=partial(_pooled, kind=_kind),
            doc=f"the {_what} of each of so many windows, which cover the image",
            shapes="[N, C, H, W] -> [N, C, *size]",
            example=f"x -> adaptive_{_kind}(7)",
        )
    )


@builds("global_maxpool", shapes="[N, C, H, W] -> [N, C, 1, 1]", example="x -> global_maxpool")
def _global_maxpool(site: Site) -> str:
    """the largest over space: `[N, C, 1, 1]`"""
    return site.add(
        "maxpool", site.operands, {"kernel": (k := spatial(image(site.type, "global_maxpool"))), "stride": k}
    )
