"""Layouts and concatenation on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

from cnnc.backends.cpu import parts
from cnnc.backends.cpu.context import Lowering
from cnnc.backends.cpu.emit import emit, is_blocked, target_of
from cnnc.ir.graph import Node
from cnnc.ir.types import product
from cnnc.kernels.cpu.elementwise import layout_plan


def to_layout(low: Lowering, node: Node) -> None:
    x = node.inputs[0]
    before, after, shape = low.type(x), node.type, low.shape(x)
    if before.layout == after.layout or (product(shape[2:]) == 1 and shape[1] % max(before.block, after.block) == 0):
        low.alias(node.name, x)
        return
    if is_blocked(after):
        emit(
            low, node, layout_plan.plan_block(target_of(low), shape), {"x": low.ref(x), "y": low.ref(node.name)}, ["y"]
        )
        return
    part = parts.part(low, node.name)
    plan = parts.into(part, layout_plan.plan_unblock(target_of(low), shape))
    emit(low, node, plan, {"x": low.ref(x), "y": low.ref(node.name) if part is None else part.ref}, ["y"])


def same_memory(low: Lowering, node: Node) -> None:
    low.alias(node.name, node.inputs[0])


def concat(low: Lowering, node: Node) -> None:
    axis = node.attribute("axis") % node.type.rank
    plans = layout_plan.plan_concat(target_of(low), [low.shape(o) for o in node.inputs], axis, is_blocked(node.type))
    found = parts.starts(low, node)
    starts: Sequence[int | None] = [None] * len(plans) if found is None else found
    for o, plan, start in zip(node.inputs, plans, starts, strict=True):
        result, part = plan.buffers
        if o in low.divided or (start is not None and low.ref(o) == parts.at(low.ref(node.name), start)):
            continue  # it is there
        emit(low, node, plan, {part: low.ref(o), result: low.ref(node.name)}, [result])
