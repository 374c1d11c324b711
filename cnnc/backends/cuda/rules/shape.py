"""Layouts on GPUs."""

from __future__ import annotations

from cnnc.backends.cuda.context import Lowering
from cnnc.backends.cuda.emit import as_result, at, is_blocked, map_to
from cnnc.ir.graph import Node
from cnnc.ir.types import product
from cnnc.kernels.cuda.elementwise.map_plan import Space


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
