"""Weights of several groups made one, and weight gradients of groups that are not whole blocks of channels."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cnnc.backends.cpu.context import Lowering
from cnnc.backends.cpu.emit import emit, is_blocked, offset, target_of
from cnnc.backends.cpu.merge_groups import whole
from cnnc.backends.cpu.problem import Problem
from cnnc.ir.graph import Node
from cnnc.ir.types import product
from cnnc.kernels.cpu.conv.gradient_plan import weight_gradient_plan
from cnnc.kernels.cpu.elementwise import layout_plan, reduce_plan
from cnnc.kernels.cpu.launches import blocks
from cnnc.kernels.cpu.problem import FOREIGN
from cnnc.lowering.plan import Ref


@dataclass(frozen=True)
class Groups:
    """`count` groups, made `by` at a time one; filters of a group, and floats of a filter."""

    count: int
    by: int
    filters: int
    row: int


def diagonal(low: Lowering, node: Node, dense: Ref, own: Ref, g: Groups, merging: bool) -> None:
    """A copy of what of merged weights joins a group with itself, from `dense` to `own`, or the other way."""
    sizes = (g.count // g.by, g.by, g.filters, g.row)
    small = (g.by * g.filters * g.row, g.filters * g.row, g.row, 1)
    large = (g.by * g.filters * g.by * g.row, (g.filters * g.by + 1) * g.row, g.by * g.row, 1)
    source, result = (small, large) if merging else (large, small)
    plan = layout_plan.plan_copy(target_of(low), sizes, source, result)
    emit(low, node, plan, {"a0": own, "y0": dense} if merging else {"a0": dense, "y0": own}, ["y0"])


def merge(low: Lowering, node: Node) -> None:
    """Weights of several groups made one, or back; what joins no group with itself is 0."""
    groups, by = node.attributes["groups"], node.attributes["by"]
    merging = node.op == "merge_groups"
    own, dense = (node.inputs[0], node.name) if merging else (node.name, node.inputs[0])
    if merging:
        fill = layout_plan.plan_fill(target_of(low), product(low.shape(dense)), FOREIGN)
        emit(low, node, fill, {"y": low.ref(dense)}, ["y"])
    filters, row = low.shape(own)[0] // groups, product(low.shape(own)[1:])
    diagonal(low, node, low.ref(dense), low.ref(own), Groups(groups, by, filters, row), merging)


def weight_gradient(low: Lowering, node: Node, p: Problem) -> bool:
    """The gradient of the weights of groups that are not whole blocks of channels: of as many as fill some, made one."""
    own, lanes, groups = p.conv.of_group, target_of(low).lanes, p.conv.groups
    parts = own.filters % lanes or own.channels % lanes
    if groups == 1 or not parts or p.conv.depthwise or not is_blocked(low.type(p.weight)):
        return False
    by = min(whole(own.filters, own.channels, lanes), groups)
    merged, rest = divmod(groups, by)
    several(low, node, p, 0, Groups(merged * by, by, own.filters, own.channels * product(own.kernel)))
    if rest:
        several(low, node, p, merged * by, Groups(rest, rest, own.filters, own.channels * product(own.kernel)))
    return True


def several(low: Lowering, node: Node, p: Problem, first: int, g: Groups) -> None:
    """The steps for groups from the first on: some are made one, and taken apart again."""
    target, own, count = target_of(low), p.conv.of_group, g.count // g.by
    conv = replace(p.two, channels=g.count * own.channels, filters=g.count * own.filters, groups=count)
    launch = weight_gradient_plan(target, conv)
    sizes = {"x": p.conv.channels, "dy": p.conv.filters}
    between = {f"{name}_image": blocks(n, target) * launch.arguments[f"{name}_block"] for name, n in sizes.items()}
    launch = replace(launch, arguments={**launch.arguments, **between})
    parts, size = launch.arguments.get("parts", 1), g.count * g.filters * g.by * g.row
    sums = low.buffer(f"{node.name}~merged", "arena", 4 * parts * size)
    if launch.links:
        low.per_image.add(sums.buffer)
    buffers = {"dw": sums}
    for name, value, n in zip(("x", "dy"), node.inputs, (own.channels, own.filters), strict=True):
        skipped = first * n // target.lanes * launch.arguments[f"{name}_block"]
        buffers[name] = offset(low.ref(value), skipped)
    emit(low, node, launch, buffers, ["dw"], note=f"direct, {g.by} groups as one")
    if parts > 1:
        total = reduce_plan.plan_reduce_axes(target, (parts, size), (0,), False)
        dense = low.buffer(f"{node.name}~merged", "arena", 4 * size)
        emit(low, node, total, {"x": sums, "y": dense}, ["y"], note=f"sum of {parts} parts")
        sums = dense
    diagonal(low, node, sums, offset(low.ref(node.name), first * g.filters * g.row), g, False)
