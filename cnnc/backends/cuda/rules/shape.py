"""Layouts on GPUs."""

from __future__ import annotations

from cnnc.backends.cuda.context import Lowering
from cnnc.backends.cuda.emit import as_result, at, is_blocked, map_to, scratch
from cnnc.ir.graph import Node
from cnnc.ir.types import product
from cnnc.kernels.cuda.elementwise.map_plan import Space, View
from cnnc.kernels.cuda.target import LANES
from cnnc.lowering.plan import Ref


def to_layout(low: Lowering, node: Node) -> None:
    x = node.inputs[0]
    before, after, shape = low.type(x), node.type, as_result(low.shape(x))
    if before.layout == after.layout or (product(shape[2:]) == 1 and shape[1] % max(before.block, after.block) == 0):
        low.alias(node.name, x)
        return
    space = Space(shape, True)
    result = at(space, low.ref(node.name), shape, is_blocked(after))
    map_to(low, node, space, [result], [at(space, low.ref(x), shape, is_blocked(before))])


def same_memory(low: Lowering, node: Node) -> None:
    low.alias(node.name, node.inputs[0])


def concat(low: Lowering, node: Node) -> None:
    """A copy of each part to its place. Channels that do not fill blocks go through a plain result, which is blocked then."""
    shape, axis = as_result(low.shape(node.name)), node.attribute("axis") % node.type.rank
    parts = [as_result(low.shape(o)) for o in node.inputs]
    blocked = is_blocked(node.type)
    if not blocked or axis != 1 or all(part[1] % LANES == 0 for part in parts[:-1]):
        _parts(low, node, low.ref(node.name), Space(shape, blocked), axis)
        return
    plain, space = scratch(low, f"{node.name}~plain", product(shape)), Space(shape, True)
    _parts(low, node, plain, Space(shape), axis)
    map_to(low, node, space, [at(space, low.ref(node.name), shape, True)], [at(space, plain, shape)])


def _parts(low: Lowering, node: Node, target: Ref, whole: Space, axis: int) -> None:
    """target: the result, dense over the axes of `whole`."""
    dense, first = whole.dense, 0
    for operand in node.inputs:
        shape, blocked = as_result(low.shape(operand)), is_blocked(low.type(operand))
        space = Space(shape, blocked)
        start = first * dense[axis] // (LANES if whole.blocked and axis == 1 else 1) + target.offset // 4
        steps = dense
        if blocked and not whole.blocked:  # a plain result, as blocks go through it
            steps = (dense[0], LANES * dense[1], *dense[2:], dense[1])
        source = at(space, low.ref(operand), shape, blocked)
        map_to(low, node, space, [(Ref(target.buffer), View(steps, start, whole.blocked))], [source])
        first += shape[axis]
