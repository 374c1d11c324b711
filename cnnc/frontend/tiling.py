"""The warning about windows that do not tile their input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnc.ir.op import InferenceError
from cnnc.ir.types import TensorType
from cnnc.ops.window import Window, spatial


def leftover(
    arguments: Mapping[str, Any], type: TensorType | None, result: TensorType
) -> tuple[str, list[str], str] | None:
    """Message, notes and help where pixels of the input are in no window although the windows should cover it.

    Pixels that a stride larger than the kernel skips, and columns of padding, are no loss: torchvision's ResNet leaves
    a column of padding over at every stride of 2, and nobody wants to hear of it. Where the result is not what windows over
    the input give, they lie over the result, as a transposed convolution's do.
    """
    if type is None or type.rank < 3 or "kernel_size" not in arguments:
        return None
    size = spatial(type)
    kernel = arguments["kernel_size"]
    try:
        window = Window.of(kernel, arguments, len(size), kernel if arguments.get("stride") is None else 1)
        if window.output(size) != spatial(result):
            return None
    except InferenceError:
        return None
    parts, notes, count = [], [], 0
    for axis, left in enumerate(window.leftover(size)):
        lost = min(left - window.padding[axis][1], size[axis])
        if lost <= 0 or window.reach(axis) < window.stride[axis]:
            continue
        what = {1: "column", 2: "row", 3: "plane"}[len(size) - axis]
        parts.append(f"the last {what}" if lost == 1 else f"the last {lost} {what}s")
        count += lost
        padded = sum(window.padding[axis])
        room = f"{size[axis]} + {padded} of padding" if padded else f"{size[axis]}"
        notes.append(
            f"({room} - {window.reach(axis)}) / {window.stride[axis]} + 1 = "
            f"{(size[axis] + padded - window.reach(axis)) / window.stride[axis] + 1:.2f} is rounded down"
        )
    if not parts:
        return None
    verb = "is" if count == 1 else "are"
    return (
        f"windows do not tile the input: {' and '.join(parts)} {verb} left over",
        sorted(set(notes)),
        "change stride or padding" + (", or set ceil_mode=true" if "ceil_mode" in arguments else ""),
    )
