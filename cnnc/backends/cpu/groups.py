"""Weights of several groups made one, and weight gradients of groups that are not whole blocks of channels."""

from __future__ import annotations

from dataclasses import replace

from cnnc.backends.cpu import convolution
from cnnc.backends.cpu.choice import Geometry
from cnnc.backends.cpu.common import Rule, is_blocked, launch, target_of
from cnnc.backends.cpu.depthwise import is_depthwise
from cnnc.backends.cpu.steps import emit, further
from cnnc.ir.graph import Node
from cnnc.ir.types import product
from cnnc.kernels.cpu import conv_shapes, shapes, shapes_layout
from cnnc.kernels.cpu.conv_arguments import FOREIGN
from cnnc.lowering.plan import Ref
from cnnc.lowering.select import Lowering
from cnnc.ops.groups import whole


def diagonal(
    low: Lowering, node: Node, dense: Ref, own: Ref, groups: int, by: int, filters: int, row: int, merging: bool
) -> None:
    """A copy of what of merged weights joins a group with itself, from `dense` to `own`, or the other way. Filters and the
    floats of one are a group's.
    """
    sizes = (groups // by, by, filters, row)
    small = (by * filters * row, filters * row, row, 1)
    large = (by * filters * by * row, (filters * by + 1) * row, by * row, 1)
    source, result = (small, large) if merging else (large, small)
    plan = shapes_layout.plan_copy(target_of(low), sizes, source, result)
    launch(low, node, plan, {"a0": own, "y0": dense} if merging else {"a0": dense, "y0": own}, ["y0"])


def merge(low: Lowering, node: Node) -> None:
    """Weights of several groups made one, or back; what joins no group with itself is 0."""
    groups, by = node.attributes["groups"], node.attributes["by"]
    merging = node.op == "merge_groups"
    own, dense = (node.inputs[0], node.name) if merging else (node.name, node.inputs[0])
    if merging:
        fill = shapes_layout.plan_fill(target_of(low), product(low.shape(dense)), FOREIGN)
        launch(low, node, fill, {"y": low.ref(dense)}, ["y"])
    filters, row = low.shape(own)[0] // groups, product(low.shape(own)[1:])
    diagonal(low, node, low.ref(dense), low.ref(own), groups, by, filters, row, merging)


def conv_weight_gradient(low: Lowering, node: Node) -> None:
    geometry, lanes = Geometry(low, node), target_of(low).lanes
    filters, channels = geometry.filters // geometry.groups, geometry.channels // geometry.groups
    parts = filters % lanes or channels % lanes
    if (
        geometry.groups == 1
        or not parts
        or is_depthwise(geometry)
        or not is_blocked(low.type(node.inputs[1]))
    ):
        convolution.conv_weight_gradient(low, node)
        return
    by = min(whole(filters, channels, lanes), geometry.groups)
    merged, rest = divmod(geometry.groups, by)
    several(low, node, geometry, 0, merged, by)
    if rest:
        several(low, node, geometry, merged * by, 1, rest)


def several(low: Lowering, node: Node, geometry: Geometry, first: int, count: int, by: int) -> None:
    """The steps for `count` times `by` groups from the first on: as many are made one, and taken apart again."""
    target = target_of(low)
    filters, channels = geometry.filters // geometry.groups, geometry.channels // geometry.groups
    images, _, height, width, _, kernel, *window, _ = geometry.sizes
    plan = conv_shapes.weight_gradient_plan(
        target, images, count * by * channels, height, width, count * by * filters, kernel, *window, count
    )
    sizes = {"x": geometry.channels, "dy": geometry.filters}
    between = {f"{name}_image": shapes.blocks(n, target) * plan.arguments[f"{name}_block"] for name, n in sizes.items()}
    plan = replace(plan, arguments={**plan.arguments, **between})
    parts, taps = plan.arguments.get("parts", 1), product(kernel)
    size = count * by * filters * by * channels * taps
    sums = low.buffer(f"{node.name}~merged", "arena", 4 * parts * size)
    if plan.links:
        low.divided.add(sums.buffer)
    buffers = {"dw": sums}
    for name, value, n in zip(("x", "dy"), node.inputs, (channels, filters), strict=True):
        skipped = first * n // target.lanes * plan.arguments[f"{name}_block"]
        buffers[name] = further(low.ref(value), skipped)
    pixels = "parts" in plan.arguments
    order = conv_shapes.PIXEL_WEIGHT_GRADIENT_ARGUMENTS if pixels else conv_shapes.WEIGHT_GRADIENT_ARGUMENTS
    emit(low, node, plan, buffers, ["dw"], order, f"direct, {by} groups as one")
    if parts > 1:
        total = shapes.plan_reduce_axes(target, (parts, size), (0,), False)
        dense = low.buffer(f"{node.name}~merged", "arena", 4 * size)
        launch(low, node, total, {"x": sums, "y": dense}, ["y"], note=f"sum of {parts} parts")
        sums = dense
    own = further(low.ref(node.name), first * filters * channels * taps)
    diagonal(low, node, sums, own, count * by, by, filters, channels * taps, False)


RULES: dict[str, Rule] = {
    "merge_groups": merge,
    "split_groups": merge,
    "conv_weight_gradient": conv_weight_gradient,
}
