"""The ops that move values in ONNX's operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cnnc.interop.onnx_writer import Writer, unknown
from cnnc.ir.graph import Node
from cnnc.ir.types import BATCH, Dim
from cnnc.ops.checks import all_axes
from cnnc.ops.selection import cuts, selected, sides
from cnnc.ops.transpose import axes_of, turned


def _write_slice(w: Writer, node: Node) -> None:
    axes, starts, sizes, steps = zip(*cuts(node.attributes), strict=True)
    ends = [start + (size - 1) * step + 1 for start, size, step in zip(starts, sizes, steps, strict=True)]
    limits = [w.integers(v, f"{node.name}.{k}") for k, v in (("start", starts), ("end", ends), ("axis", axes))]
    limits += [w.integers(steps, f"{node.name}.step")] if any(s != 1 for s in steps) else []
    w.add("Slice", [w.names[node.inputs[0]], *limits], node.name, w.names[node.name])


def _write_flip(w: Writer, node: Node) -> None:
    axes = all_axes(node.attributes["axis"], node.type.rank)
    numbers = {"start": [-1] * len(axes), "end": [-(2**31)] * len(axes), "axis": axes, "step": [-1] * len(axes)}
    limits = [w.integers(v, f"{node.name}.{k}") for k, v in numbers.items()]
    w.add("Slice", [w.names[node.inputs[0]], *limits], node.name, w.names[node.name])


def _write_repeat(w: Writer, node: Node) -> None:
    repeats = w.integers(node.attributes["repeats"], f"{node.name}.repeats")
    w.add("Tile", [w.names[node.inputs[0]], repeats], node.name, w.names[node.name])


def _write_gathered(w: Writer, node: Node) -> None:
    """By the indices of each axis."""
    shape = tuple(0 if d == BATCH else int(d) for d in w.graph.type(node.inputs[0]).shape)
    indices = selected(node.op, node.attributes, shape)
    x = w.names[node.inputs[0]]
    for i, (axis, index) in enumerate(indices.items()):
        result = w.names[node.name] if i == len(indices) - 1 else None
        x = w.add("Gather", [x, w.integers(index.tolist(), f"{node.name}.indices")], node.name, result, axis=axis)
    if not indices:
        w.add("Identity", [x], node.name, w.names[node.name])


def _write_pad(w: Writer, node: Node) -> None:
    """ONNX's padding, but for what goes round, which it has not, and for what is cut and reflected at once."""
    around, mode = sides(node.attributes, node.type.rank), str(node.attribute("mode"))
    if any(between for *_, between in around):
        raise unknown(node, "it has an interior")
    if mode == "circular" or (mode != "constant" and any(min(side[1:3]) < 0 for side in around)):
        _write_gathered(w, node)
        return
    skipped = [0] * (node.type.rank - len(around))
    pads = w.integers([*skipped, *(s[1] for s in around), *skipped, *(s[2] for s in around)], f"{node.name}.pads")
    value = [w.constant(np.float32(node.attribute("value")), f"{node.name}.value")] if mode == "constant" else []
    called = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}[mode]
    w.add("Pad", [w.names[node.inputs[0]], pads, *value], node.name, w.names[node.name], mode=called)


def _write_turned(w: Writer, node: Node, sizes: Sequence[Dim], order: Sequence[int]) -> None:
    """Axes of those sizes in another order, in the node's shape."""
    parts = w.reshape(w.names[node.inputs[0]], sizes, node.name)
    w.reshape(w.add("Transpose", [parts], node.name, perm=list(order)), node.type.shape, node.name, w.names[node.name])


def _write_transpose(w: Writer, node: Node) -> None:
    axes = list(axes_of(node.attributes, node.type.rank))
    w.add("Transpose", [w.names[node.inputs[0]]], node.name, w.names[node.name], perm=axes)


def _write_channel_shuffle(w: Writer, node: Node) -> None:
    n, channels, *space = node.type.shape
    groups = node.attributes["groups"]
    order = [0, 2, 1, *range(3, 3 + len(space))]
    _write_turned(w, node, [n, groups, int(channels) // groups, *space], order)


def _write_pixel_shuffle(w: Writer, node: Node) -> None:
    x, factor = w.graph.type(node.inputs[0]), node.attributes["factor"]
    if node.op == "pixel_shuffle" and x.rank == 4:
        w.add("DepthToSpace", [w.names[node.inputs[0]]], node.name, w.names[node.name], blocksize=factor, mode="CRD")
    else:
        _write_turned(w, node, *turned(node.op, x.shape, factor))


MOVING: dict[str, Callable[[Writer, Node], None]] = {
    "slice": _write_slice,
    "gather": _write_gathered,
    "flip": _write_flip,
    "repeat": _write_repeat,
    "pad": _write_pad,
    "channel_shuffle": _write_channel_shuffle,
    "transpose": _write_transpose,
    "pixel_shuffle": _write_pixel_shuffle,
    "pixel_unshuffle": _write_pixel_shuffle,
}
