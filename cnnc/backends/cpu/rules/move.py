"""Selections along axes, transposes and shuffles of pixels on the CPU: from where each value comes, for the planners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cnnc.backends.cpu.context import Lowering
from cnnc.backends.cpu.emit import emit, is_blocked, offset, target_of
from cnnc.ir.graph import Node
from cnnc.ir.types import BATCH, product
from cnnc.kernels.cpu.launches import Launch
from cnnc.kernels.cpu.move.accumulate_plan import Came, plan_accumulate
from cnnc.kernels.cpu.move.lanes_plan import Lanes, plan_lanes
from cnnc.kernels.cpu.move.plan import FILL, Move, Table, plan_move, steps
from cnnc.ops import selection as ops
from cnnc.ops.selection import Index
from cnnc.ops.transpose import axes_of, turned


def strides(sizes: Sequence[int]) -> list[int]:
    """Of dense memory."""
    return [product(tuple(sizes[i + 1 :])) for i in range(len(sizes))]


def places(index: Index, stride: int) -> Table:
    return np.where(index >= 0, index * stride, FILL)


def images(low: Lowering, node: Node) -> int:
    """The images that keep to themselves, where the first axis is the batch."""
    return low.batch if node.type.shape[:1] == (BATCH,) else 0


def _emit(low: Lowering, node: Node, plan: Launch) -> None:
    emit(low, node, plan, {"x": low.ref(node.inputs[0]), "y": low.ref(node.name)}, ["y"])


def select(low: Lowering, node: Node) -> None:
    """What is some of its operand's values, or what they went to where each went to one place."""
    x, blocked = low.shape(node.inputs[0]), is_blocked(node.type)
    returning = node.op in ops.RETURNING
    shape = low.shape(node.name)
    selection = dict(ops.selected(node.op, node.attributes, shape if returning else x))
    if returning and not all(map(ops.once, selection.values())):
        _accumulate(low, node, selection)
        return
    if returning:
        selection = {axis: ops.inverse(index, shape[axis]) for axis, index in selection.items()}
    fill = float(node.attribute("value")) if node.op == "pad" else 0.0
    channels = selection.get(1)
    if blocked and channels is not None:
        whole = _whole_blocks(channels, x[1], node.type.block)
        if whole is None:
            _lanes(low, node, selection, fill)
            return
        selection[1] = whole
    elif blocked and fill and shape[1] % node.type.block:
        _lanes(low, node, selection, fill)
        return
    stored = low.type(node.inputs[0]).memory_shape(low.batch)
    if _view(low, node, selection, stored):
        return
    apart = strides(stored)
    axes = [
        places(selection[axis], apart[axis]) if axis in selection else steps(size, apart[axis])
        for axis, size in enumerate(stored)
    ]
    _emit(low, node, plan_move(target_of(low), Move(tuple(axes), fill, images(low, node))))


def _whole_blocks(channels: Index, count: int, lanes: int) -> Index | None:
    """The blocks that are selected, where channels go by whole blocks; the last one, with its padding, stays the last."""
    padded = np.full(-(-len(channels) // lanes) * lanes, FILL, np.int64)
    padded[: len(channels)] = channels
    rows = padded.reshape(-1, lanes)
    first = rows[:, 0]
    lane = np.arange(lanes)
    want = np.where(first[:, None] >= 0, first[:, None] + lane, FILL)
    if (first[first >= 0] % lanes).any():
        return None
    # a block of the result that is not full is the operand's last; an operand's last is nowhere else
    valid = np.where(np.arange(len(padded)).reshape(-1, lanes) < len(channels), want, FILL)
    partial = len(channels) % lanes
    if partial and first[-1] >= 0 and first[-1] + partial != count:
        return None
    if (valid != rows).any() or (valid >= count).any():
        return None
    return np.where(first >= 0, first // lanes, FILL)


def _view(low: Lowering, node: Node, selection: Mapping[int, Index], stored: Sequence[int]) -> bool:
    """Take what lies side by side where it is, with nothing outside of it in front."""
    if len(selection) != 1:
        return False
    ((axis, index),) = selection.items()
    if index[0] < 0 or (np.diff(index) != 1).any() or product(tuple(stored[:axis])) != 1:
        return False
    low.places[node.name] = offset(low.ref(node.inputs[0]), int(index[0]) * strides(stored)[axis])
    return True


def _lanes(low: Lowering, node: Node, selection: Mapping[int, Index], fill: float) -> None:
    stored = low.type(node.inputs[0]).memory_shape(low.batch)
    apart, channels = strides(stored), low.shape(node.inputs[0])[1]
    space = [
        places(selection[axis], apart[axis]) if axis in selection else steps(stored[axis], apart[axis])
        for axis in range(2, len(stored) - 1)
    ]
    index = selection.get(1, np.arange(channels))
    alone = images(low, node) > 0
    _emit(
        low,
        node,
        plan_lanes(target_of(low), Lanes(steps(stored[0], apart[0]), index, tuple(space), apart[1], fill, alone)),
    )


def _accumulate(low: Lowering, node: Node, selection: Mapping[int, Index]) -> None:
    stored, before = node.type.memory_shape(low.batch), low.type(node.inputs[0]).memory_shape(low.batch)
    apart = strides(before)
    axes = []
    for axis, size in enumerate(stored):
        index = selection.get(axis)
        if index is not None and axis == 1 and is_blocked(node.type):
            index = _whole_blocks(index, low.shape(node.name)[1], node.type.block)
            assert index is not None, f"%{node.name} adds up parts of blocks"
        axes.append(Came(np.arange(size) if index is None else index, size, apart[axis]))
    _emit(low, node, plan_accumulate(target_of(low), axes, images(low, node)))


def transpose(low: Lowering, node: Node) -> None:
    order = axes_of(node.attributes, node.type.rank)
    stored = low.type(node.inputs[0]).memory_shape(low.batch)
    apart = strides(stored)
    order = (*order, *range(len(order), len(stored)))  # the lanes of a block stay
    if [a for a in order if stored[a] != 1] == [a for a in range(len(stored)) if stored[a] != 1]:
        low.alias(node.name, node.inputs[0])
        return
    axes = tuple(steps(stored[a], apart[a]) for a in order)
    _emit(low, node, plan_move(target_of(low), Move(axes, images=images(low, node))))


def _walk(sizes: Sequence[int], order: Sequence[int]) -> tuple[Table, ...]:
    """Axes of those sizes in another order."""
    apart = strides(sizes)
    return tuple(steps(sizes[a], apart[a]) for a in order)


def pixel_shuffle(low: Lowering, node: Node) -> None:
    sizes, order = turned(node.op, low.shape(node.inputs[0]), node.attributes["factor"])
    move = Move(_walk([int(s) for s in sizes], order), images=images(low, node))
    _emit(low, node, plan_move(target_of(low), move))
