"""Windows over space: kernel, stride, padding and dilation, for convolution and pooling alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np

from cnnc.ir.graph import Node
from cnnc.ir.layer import Argument
from cnnc.ir.op import InferenceError, Types
from cnnc.ir.receptive import Field, space_of
from cnnc.ir.types import ELEMENTS, TensorType
from cnnc.ops.checks import LIMIT, flag, integers, show

# Arguments of layers with windows.
KERNEL_SIZE = Argument("kernel_size", doc="pixels of a window: a number, or a list of one for each axis")
DILATION = Argument("dilation", 1, "pixels from one tap of a window to the next")
GROUPS = Argument("groups", 1, "groups of channels that do not see each other; as many as channels: depthwise")


def pairs(
    value: Any, rank: int, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Padding before and after each axis, from a number, a list, a list of pairs, or "same" (at stride 1; the odd one
    goes after).
    """
    if value == "same":
        if any(s != 1 for s in stride):
            raise InferenceError(
                'padding="same" needs stride 1', "padding", "E0203", help="write the padding as a number"
            )
        totals = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
        return tuple((t // 2, t - t // 2) for t in totals)
    if isinstance(value, str):
        raise InferenceError(f'padding is a number, a list or "same", not "{value}"', "padding", "E0203")
    if isinstance(value, list | tuple) and any(isinstance(v, list | tuple) for v in value):
        if len(value) != rank:
            raise InferenceError(f"padding has {len(value)} pairs for {rank} axes of space", "padding", "E0203")
        result = tuple(integers(v, "padding", 2, 0) for v in value)
        return tuple((p[0], p[1]) for p in result)
    return tuple((p, p) for p in integers(value, "padding", rank, 0))


@dataclass(frozen=True)
class Window:
    """A window per spatial axis; `padding` is (before, after)."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    ceil_mode: bool = False

    @classmethod
    def of(cls, kernel: Any, attributes: Mapping[str, Any], rank: int, stride_default: Any = 1) -> Window:
        """From the arguments of a layer or the attributes of a node."""
        k = integers(kernel, "kernel_size", rank, 1)
        stride = attributes.get("stride")
        s = integers(stride_default if stride is None else stride, "stride", rank, 1)
        dilation = attributes.get("dilation")
        d = integers(1 if dilation is None else dilation, "dilation", rank, 1)
        padding = attributes.get("padding")
        ceil = flag(attributes.get("ceil_mode") or False, "ceil_mode")
        return cls(k, s, pairs(0 if padding is None else padding, rank, k, s, d), d, ceil)

    def attributes(self) -> dict[str, Any]:
        """What a node carries: lists per axis; what is 1 or 0 throughout is left out."""
        symmetric = all(a == b for a, b in self.padding)
        padding = tuple(a for a, _ in self.padding) if symmetric else self.padding
        result: dict[str, Any] = {}
        if any(s != 1 for s in self.stride):
            result["stride"] = self.stride
        if any(a or b for a, b in self.padding):
            result["padding"] = padding
        if any(d != 1 for d in self.dilation):
            result["dilation"] = self.dilation
        return result

    def reach(self, axis: int) -> int:
        """Pixels from the first tap to the last, both included."""
        return (self.kernel[axis] - 1) * self.dilation[axis] + 1

    def output(self, size: Sequence[int]) -> tuple[int, ...]:
        """floor((W - F + 2P) / S) + 1 for each axis; `ceil_mode` rounds up but starts no window in the padding behind
        the input, so that a window may be larger than what there is by less than a stride.

        Raises `InferenceError` where a kernel is larger than its padded input, and no window is left.
        """
        result = []
        self._check_extents(size)
        for axis, extent in enumerate(size):
            before, after = self.padding[axis]
            room = extent + before + after - self.reach(axis)
            stride = self.stride[axis]
            count = (-(-room // stride) if self.ceil_mode else room // stride) + 1
            if self.ceil_mode and (count - 1) * stride >= extent + before:
                count -= 1
            if room < 0 and count < 1:
                dilated = f" (dilated to {self.reach(axis)})" if self.dilation[axis] > 1 else ""
                raise InferenceError(
                    f"kernel {self.kernel[axis]}{dilated} exceeds the padded input {extent + before + after}",
                    "kernel_size",
                    "E0202",
                    notes=[
                        f"the input is {' x '.join(map(str, size))}, padded by {before} and {after} on axis {axis + 2}"
                    ],
                    help=f"use a kernel of at most {extent + before + after}, or more padding",
                )
            result.append(count)
        return tuple(result)

    def _check_extents(self, size: Sequence[int]) -> None:
        """Offsets in the padded input are whole numbers of the machine. Raises `InferenceError` (E0402)."""
        padded = [extent + sum(pair) for extent, pair in zip(size, self.padding, strict=True)]
        for axis, extent in enumerate(padded):
            if extent >= LIMIT or self.reach(axis) >= LIMIT:
                raise InferenceError(
                    f"the padded input would have {extent:,} pixels on axis {axis + 2}, "
                    f"and the kernel would reach over {self.reach(axis):,}; both must be below 2^31",
                    "padding" if extent >= LIMIT else "dilation" if self.dilation[axis] > 1 else "kernel_size",
                    "E0402",
                )
        if prod(padded) >= ELEMENTS:
            raise InferenceError(
                f"the padded input would have {prod(padded):,} pixels; they must be below 2^45", "padding", "E0402"
            )

    def leftover(self, size: Sequence[int]) -> tuple[int, ...]:
        """Rows and columns that no window reaches because the windows do not tile the padded input."""
        return tuple(
            0 if self.ceil_mode else (extent + sum(self.padding[i]) - self.reach(i)) % self.stride[i]
            for i, extent in enumerate(size)
        )

    def taps(self, size: Sequence[int], out: Sequence[int]) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
        """Each tap with the slices of the *padded* input that it multiplies over all outputs."""
        for tap in product(*(range(k) for k in self.kernel)):
            yield (
                tap,
                tuple(
                    slice(t * d, t * d + (o - 1) * s + 1, s)
                    for t, d, o, s in zip(tap, self.dilation, out, self.stride, strict=True)
                ),
            )

    def pad(self, x: Any, out: Sequence[int], value: float = 0.0) -> Any:
        """The input padded so that every window of `out` lies inside."""
        widths = []
        for axis, o in enumerate(out):
            before, after = self.padding[axis]
            need = (o - 1) * self.stride[axis] + self.reach(axis)
            widths.append((before, max(after, need - before - x.shape[axis + 2])))
        return np.pad(x, [(0, 0), (0, 0), *widths], constant_values=value)

    def unpad(self, x: Any, size: Sequence[int]) -> Any:
        return x[(slice(None), slice(None), *(slice(p[0], p[0] + s) for p, s in zip(self.padding, size, strict=True)))]


def window_field(node: Node, types: Types, seen: Field) -> Field:
    """What the results of an op see whose attributes say what its window is."""
    return field_through(Window.of(node.attributes["kernel"], node.attributes, node.type.rank - 2), node, seen)


def field_through(window: Window, node: Node, seen: Field) -> Field:
    """What a node sees that slides a window."""
    space = space_of(node.type)
    return seen.window([window.reach(axis) for axis in range(len(space))], window.stride, space)


def spatial(type: TensorType) -> tuple[int, ...]:
    """The spatial sizes of an activation [N, C, ...]."""
    return tuple(int(d) for d in type.shape[2:])


def image(type: TensorType | None, layer: str, operand: str = "x") -> TensorType:
    """An activation with axes of space. Raises `InferenceError` where it has none or more than three."""
    if type is None or type.rank not in (3, 4, 5):
        raise InferenceError(
            f"{layer} works on [N, C, W], [N, C, H, W] or [N, C, D, H, W], not on {show(type)}",
            operand,
            "E0201",
            help="a flattened tensor has no space left; put the layer before flatten",
        )
    return type
