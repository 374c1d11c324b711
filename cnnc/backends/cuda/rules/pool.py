"""Pooling on GPUs."""

from __future__ import annotations

from cnnc.backends.cuda.context import Lowering
from cnnc.backends.cuda.emit import emit, is_blocked
from cnnc.ir.graph import Node
from cnnc.kernels.cpu.problem import Pool
from cnnc.kernels.cuda.pool import windows_plan
from cnnc.ops.pool import window_of


def pool(low: Lowering, node: Node) -> None:
    gradient = node.op.endswith("_gradient")
    small, large = (node.inputs[-1], node.name) if gradient else (node.name, node.inputs[0])
    shape, out, rank = low.shape(large), low.shape(small), low.type(small).rank - 2
    window = window_of(node.attributes, rank)
    blocked = is_blocked(low.type(small))
    dilation = window.dilation if node.op.startswith("maxpool") else (1,) * rank
    windows = Pool(shape, out, blocked, window.kernel, window.stride, window.padding, dilation)
    if node.op.startswith("maxpool"):
        plan = (windows_plan.plan_maxpool_gradient if gradient else windows_plan.plan_maxpool)(windows)
    else:
        include, divisor = node.attribute("count_include_pad"), node.attribute("divisor_override")
        make = windows_plan.plan_avgpool_gradient if gradient else windows_plan.plan_avgpool
        plan = make(windows, include, divisor)
    names = [name for name in plan.buffers if name != "y"]
    buffers = {name: low.ref(value) for name, value in zip(names, node.inputs, strict=True)}
    emit(low, node, plan, {**buffers, "y": low.ref(node.name)}, ["y"])
