"""Pooling on the CPU."""

from __future__ import annotations

from dataclasses import replace

from cnnc.backends.cpu.context import Lowering
from cnnc.backends.cpu.emit import emit, is_blocked, target_of
from cnnc.ir.graph import Node
from cnnc.kernels.cpu.elementwise import reduce_plan
from cnnc.kernels.cpu.pool import plan as pool_plan
from cnnc.kernels.cpu.problem import Pool
from cnnc.ops.pool import window_of


def pool(low: Lowering, node: Node) -> None:
    if node.name in low.places:  # the convolution before it has written the maxima
        return
    gradient = node.op.endswith("_gradient")
    small, large = (node.inputs[-1], node.name) if gradient else (node.name, node.inputs[0])
    shape, out, rank = low.shape(large), low.shape(small), low.type(small).rank - 2
    window = window_of(node.attributes, rank)
    windows = Pool(
        shape, out, is_blocked(low.type(small)), window.kernel, window.stride, window.padding, window.dilation
    )
    if node.op.startswith("maxpool"):
        plan = pool_plan.plan_maxpool(target_of(low), windows, gradient)
    else:
        include = node.attribute("count_include_pad")
        plan = pool_plan.plan_avgpool(target_of(low), replace(windows, dilation=(1,) * rank), include, gradient)
    if gradient:
        buffers = {"dy": low.ref(node.inputs[-1]), "dx": low.ref(node.name)}
        if node.op == "maxpool_gradient":
            buffers["x"] = low.ref(node.inputs[0])
        emit(low, node, plan, buffers, ["dx"])
    else:
        emit(low, node, plan, {"x": low.ref(node.inputs[0]), "y": low.ref(node.name)}, ["y"])


def global_average(low: Lowering, node: Node) -> None:
    x = node.inputs[0]
    shape, blocked = low.shape(x), is_blocked(low.type(x))
    plan = (
        pool_plan.plan_global_average(target_of(low), shape, True)
        if blocked
        else reduce_plan.plan_reduce_axes(target_of(low), shape, range(2, len(shape)), True)
    )
    emit(low, node, plan, {"x": low.ref(x), "y": low.ref(node.name)}, ["y"])
