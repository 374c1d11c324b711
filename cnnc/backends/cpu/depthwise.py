"""Depthwise convolutions: a step of their own, or one with the 1x1 convolution ahead of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cnnc.backends.cpu.choice import Geometry
from cnnc.backends.cpu.common import epilogue, is_blocked, target_of
from cnnc.backends.cpu.steps import emit, merged, packed
from cnnc.ir.graph import Node
from cnnc.kernels.cpu import conv_shapes_depthwise, depthwise_shapes
from cnnc.lowering.select import Lowering


def is_depthwise(geometry: Geometry) -> bool:
    """Whether every channel is a group, with one filter."""
    return geometry.groups == geometry.channels == geometry.filters > 1


def _along(low: Lowering, node: Node) -> tuple[Node, Any] | None:
    """The 1x1 convolution that goes along in the step of this depthwise one, since that alone reads it, and the step's plan."""
    first = low.graph.node(node.inputs[0])
    alone = low.graph.only_user(first.name) == node and node.operands.count(first.name) == 1
    if first.op != "conv" or node.op != "conv" or not alone:
        return None
    inner, kinds, _ = epilogue(low, first)
    one, geometry = Geometry(low, first), Geometry(low, node)
    plain = any(not is_blocked(low.type(value)) for value in (first.inputs[0], first.name, node.name))
    if kinds or plain or one.space > 2 or one.groups > 1 or not is_depthwise(geometry) or merged(low, first.inputs[1]):
        return None
    if one.sizes[5:] != ((1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1):
        return None
    expression, kinds, _ = epilogue(low, node)
    images, channels, height, width, _, *window, _ = geometry.sizes
    plan = conv_shapes_depthwise.expanded_plan(
        target_of(low), images, one.channels, channels, height, width, *window, inner, expression, kinds
    )
    return None if plan is None else (first, plan)


def goes_along(low: Lowering, node: Node) -> bool:
    """Whether the step of the depthwise convolution that reads this one computes it."""
    user = low.graph.only_user(node.name)
    return user is not None and user.op == "conv" and user.inputs[0] == node.name and _along(low, user) is not None


def depthwise(low: Lowering, node: Node, geometry: Geometry, x: str, bias: str | None, gradient: bool = False) -> None:
    """The step of a depthwise convolution, with the 1x1 one ahead of it where that goes along, or of its data gradient, and
    the packing of the weights.
    """
    weight = node.operand("weight")
    along = None if gradient else _along(low, node)
    expression, kinds, extras = epilogue(low, node)
    buffers = {f"a{i}": low.ref(o) for i, o in enumerate(extras)}
    prefix, note = "", "depthwise" + (" data gradient" if gradient else "")
    if along is None:
        images, channels, height, width, _, *window, _ = geometry.sizes
        planner = depthwise_shapes.depthwise_data_gradient_plan if gradient else depthwise_shapes.depthwise_plan
        plan: Any = planner(target_of(low), images, channels, height, width, *window, expression, kinds)
        names, form = depthwise_shapes.DEPTHWISE_ARGUMENTS, plan.weights
        buffers["x"] = low.ref(x)
    else:
        first, plan = along
        names, form = conv_shapes_depthwise.EXPANDED_ARGUMENTS, plan.depthwise
        wide, ahead = first.operand("weight"), first.optional("bias")
        buffers |= {"x": low.ref(first.inputs[0]), "w": packed(low, first, wide, plan.weights)}
        if ahead is not None:
            buffers["bias"] = low.ref(ahead)
        prefix, pixels = "depthwise_", plan.step.arguments["pixels"]
        note = f"{note}, with the 1x1 of {first.name} ahead, direct {pixels}x{plan.step.arguments['panel']}, panel by panel"
    buffers |= {f"{prefix}w": packed(low, node, weight, form), f"{prefix}y": low.ref(node.name)}
    if bias is not None:
        buffers[f"{prefix}bias"] = low.ref(bias)
    step = replace(plan.step, arguments={"bias": 0, f"{prefix}bias": 0, **plan.step.arguments})
    order = (*names, *(f"a{i}" for i in range(len(extras))))
    emit(low, node, step, buffers, [f"{prefix}y"], order, note)


def depthwise_weight_gradient(low: Lowering, node: Node, geometry: Geometry) -> None:
    """The step that sums over parts of the images, and the step that adds them."""
    x, dy = node.inputs
    images, channels, height, width, _, *window, _ = geometry.sizes
    plan = depthwise_shapes.depthwise_weight_gradient_plan(target_of(low), images, channels, height, width, *window)
    sums = low.buffer(f"{node.name}~sums", "arena", 4 * plan.floats)
    if plan.parts.links:
        low.divided.add(sums.buffer)
    buffers = {"x": low.ref(x), "dy": low.ref(dy), "sums": sums}
    order = depthwise_shapes.DEPTHWISE_WEIGHT_GRADIENT_ARGUMENTS
    emit(low, node, plan.parts, buffers, ["sums"], order, "depthwise weight gradient")
    buffers = {"sums": sums, "dw": low.ref(node.name)}
    emit(low, node, plan.total, buffers, ["dw"], depthwise_shapes.DEPTHWISE_SUM_ARGUMENTS, "sum of the parts")
