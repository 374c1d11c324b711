"""What is selected along the axes of an operand: by slice, gather, flip, repeat, pad and channel_shuffle.

Element i of an axis of the result is element index[i] of the operand's, or the fill where that is FILL: `selected` says so for each axis
that is not as it was, and all else of these ops follows from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cnnc.ir.graph import DEFAULTS, Node
from cnnc.ir.types import BATCH
from cnnc.ops.checks import all_axes

FILL = -1
Index = np.ndarray[Any, np.dtype[np.int64]]
Selection = Mapping[int, Index]  # by axis


def cuts(attributes: Mapping[str, Any]) -> list[tuple[int, int, int, int]]:
    """(axis, start, size, step) of each axis that a slice cuts: numbers, or lists of as many."""
    axes = attributes["axis"]
    several = isinstance(axes, tuple | list)
    count = len(axes) if several else 1

    def listed(name: str, default: Any = None) -> Sequence[Any]:
        value = attributes.get(name)
        value = default if value is None else value
        return value if isinstance(value, tuple | list) else (value,) * count

    return list(zip(listed("axis"), listed("start"), listed("size"), listed("step", 1), strict=True))


def sides(attributes: Mapping[str, Any], rank: int) -> list[tuple[int, int, int, int]]:
    """(axis, before, after, between) of each axis that a pad widens: the last ones, as many as there are pairs."""
    padding = attributes["padding"]
    interior = attributes.get("interior") or (0,) * len(padding)
    first = rank - len(padding)
    return [(first + i, *pair, between) for i, (pair, between) in enumerate(zip(padding, interior, strict=True))]


def _of_slice(attributes: Mapping[str, Any], shape: Sequence[int]) -> Selection:
    return {axis % len(shape): start + step * np.arange(size) for axis, start, size, step in cuts(attributes)}


def _of_gather(attributes: Mapping[str, Any], shape: Sequence[int]) -> Selection:
    axis = attributes["axis"] % len(shape)
    return {axis: np.array(attributes["indices"], np.int64) % max(1, shape[axis])}


def _of_flip(attributes: Mapping[str, Any], shape: Sequence[int]) -> Selection:
    return {a: np.arange(shape[a])[::-1].copy() for a in all_axes(attributes["axis"], len(shape))}


def _of_repeat(attributes: Mapping[str, Any], shape: Sequence[int]) -> Selection:
    return {a: np.tile(np.arange(shape[a]), n) for a, n in enumerate(attributes["repeats"]) if n != 1}


def _of_shuffle(attributes: Mapping[str, Any], shape: Sequence[int]) -> Selection:
    return {1: np.arange(shape[1]).reshape(attributes["groups"], -1).T.ravel()}


def _of_pad(attributes: Mapping[str, Any], shape: Sequence[int]) -> Selection:
    mode = attributes["mode"]
    result: dict[int, Index] = {}
    for axis, before, after, between in sides(attributes, len(shape)):
        size, apart = shape[axis], between + 1
        at = np.arange(-before, (size - 1) * apart + 1 + after)
        if mode == "constant":
            inside = (at >= 0) & (at <= (size - 1) * apart) & (at % apart == 0)
            index = np.where(inside, at // apart, FILL)
        elif mode == "circular":
            index = at % size
        elif mode == "replicate":
            index = np.clip(at, 0, size - 1)
        else:
            period = max(1, 2 * (size - 1))
            index = np.minimum(at % period, period - at % period) if size > 1 else np.zeros_like(at)
        if len(index) != size or (index != np.arange(size)).any():
            result[axis] = index.astype(np.int64)
    return result


SELECTING: dict[str, Callable[[Mapping[str, Any], Sequence[int]], Selection]] = {
    "slice": _of_slice,
    "gather": _of_gather,
    "flip": _of_flip,
    "repeat": _of_repeat,
    "channel_shuffle": _of_shuffle,
    "pad": _of_pad,
}
RETURNING = {f"{op}_gradient": op for op in ("gather", "repeat", "pad")}


def selected(op: str, attributes: Mapping[str, Any], shape: Sequence[int]) -> Selection:
    """For each axis of an operand of that shape the places that the result has of it, or FILL; axes that stay as they are left
    out. For a gradient, of what it is the gradient of.
    """
    return SELECTING[RETURNING.get(op, op)]({**DEFAULTS[op], **attributes}, shape)


def once(index: Index) -> bool:
    """Whether every place is selected at most once."""
    there = index[index >= 0]
    return len(np.unique(there)) == len(there)


def inverse(index: Index, size: int) -> Index:
    """Of places that are selected once: where each of them went, or FILL."""
    result = np.full(size, FILL, np.int64)
    there = index >= 0
    result[index[there]] = np.flatnonzero(there)
    return result


def in_blocks(node: Node) -> bool:
    """Whether a node of these ops works in blocks of channels: gradients do where no channel is a sum of several."""
    if node.op not in RETURNING:
        return True
    shape = tuple(1 if d == BATCH else int(d) for d in node.attributes["size"])
    index = selected(node.op, node.attributes, shape).get(1)
    return index is None or once(index)
