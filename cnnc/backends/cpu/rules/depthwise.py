"""Depthwise convolutions: a step of their own, or one with the 1x1 convolution ahead of them."""

from __future__ import annotations

from cnnc.backends.cpu.context import Lowering
from cnnc.backends.cpu.emit import emit, is_blocked, maybe, merged, packed, target_of
from cnnc.backends.cpu.problem import Problem, problem
from cnnc.ir.graph import Node
from cnnc.kernels.cpu.depthwise.expanded_plan import ExpandedPlan, expanded_plan
from cnnc.kernels.cpu.depthwise.plan import (
    depthwise_data_gradient_plan,
    depthwise_plan,
    depthwise_weight_gradient_plan,
)
from cnnc.lowering.plan import Ref


def _along(low: Lowering, node: Node) -> tuple[Node, ExpandedPlan] | None:
    """The 1x1 convolution that goes along in the step of this depthwise one, since that alone reads it, and the step's plan."""
    first = low.graph.node(node.inputs[0])
    alone = low.graph.only_user(first.name) == node and node.operands.count(first.name) == 1
    if first.op != "conv" or node.op != "conv" or not alone:
        return None
    one, own = problem(low, first), problem(low, node)
    plain = any(not is_blocked(low.type(value)) for value in (first.inputs[0], first.name, node.name))
    if one.epilogue.operands or plain or len(one.conv.size) > 2 or one.conv.groups > 1 or not own.conv.depthwise:
        return None
    if merged(low, one.weight) or not one.two.pointwise:
        return None
    plan = expanded_plan(target_of(low), own.two, one.conv.channels, one.epilogue.expression, own.epilogue)
    return None if plan is None else (first, plan)


def goes_along(low: Lowering, node: Node, p: Problem) -> bool:
    """Whether the step of the depthwise convolution that reads this one computes it."""
    user = low.graph.only_user(node.name)
    if p.transposed or user is None or user.op != "conv" or user.inputs[0] != node.name:
        return False
    return _along(low, user) is not None


def convolution(low: Lowering, node: Node, p: Problem) -> bool:
    """The step of a depthwise convolution, with the 1x1 one ahead of it where that goes along, or of its data gradient, and
    the packing of the weights.
    """
    if not p.conv.depthwise or not is_blocked(low.type(p.x)):
        return False
    along = None if p.transposed else _along(low, node)
    buffers: dict[str, Ref | None] = {
        name: low.ref(value) for name, value in zip(p.epilogue.names, p.operands, strict=True)
    }
    prefix, note = "", "depthwise" + (" data gradient" if p.transposed else "")
    if along is None:
        plan = (depthwise_data_gradient_plan if p.transposed else depthwise_plan)(target_of(low), p.two, p.epilogue)
        launch, form = plan.step, plan.weights
        buffers["x"] = low.ref(p.x)
    else:
        first, expanded = along
        launch, form, one, prefix = expanded.step, expanded.depthwise, problem(low, first), "depthwise_"
        buffers |= {"x": low.ref(one.x), "w": packed(low, first, one.weight, expanded.weights)}
        buffers["bias"] = maybe(low, one.bias)
        tile = f"direct {launch.arguments['pixels']}x{launch.arguments['panel']}"
        note = f"{note}, with the 1x1 of {first.name} ahead, {tile}, panel by panel"
    buffers |= {f"{prefix}w": packed(low, node, p.weight, form), f"{prefix}y": low.ref(node.name)}
    buffers[f"{prefix}bias"] = maybe(low, p.bias)
    emit(low, node, launch, buffers, [f"{prefix}y"], note=note)
    return True


def weight_gradient(low: Lowering, node: Node, p: Problem) -> bool:
    """The step that sums over parts of the images, and the step that adds them."""
    if not p.conv.depthwise or not is_blocked(low.type(p.x)):
        return False
    plan = depthwise_weight_gradient_plan(target_of(low), p.two)
    sums = low.buffer(f"{node.name}~sums", "arena", 4 * plan.floats)
    if plan.parts.links:
        low.per_image.add(sums.buffer)
    buffers = {"x": low.ref(p.x), "dy": low.ref(p.weight), "sums": sums}
    emit(low, node, plan.parts, buffers, ["sums"], note="depthwise weight gradient")
    emit(low, node, plan.total, {"sums": sums, "dw": low.ref(node.name)}, ["dw"], note="sum of the parts")
    return True
