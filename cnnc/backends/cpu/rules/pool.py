"""Pooling on the CPU."""

from __future__ import annotations

from dataclasses import replace

from cnnc.backends.cpu.context import Lowering
from cnnc.backends.cpu.emit import emit, is_blocked, target_of
from cnnc.ir import expression as ex
from cnnc.ir.graph import Node
from cnnc.kernels.cpu.elementwise import reduce_plan
from cnnc.kernels.cpu.elementwise.map_plan import Operand, plan_map
from cnnc.kernels.cpu.launches import Launch
from cnnc.kernels.cpu.pool import plan as pool_plan
from cnnc.kernels.cpu.pool.across_plan import plan_across
from cnnc.kernels.cpu.pool.uneven_plan import plan_uneven
from cnnc.kernels.cpu.problem import Pool
from cnnc.ops.adaptive_pool import averages
from cnnc.ops.lppool import powers
from cnnc.ops.pool import window_of
from cnnc.ops.unpool import windows as unpooled


def _emit(low: Lowering, node: Node, plan: Launch, *operands: str) -> None:
    """A step whose buffers are the operands in their order, and the result."""
    refs = [low.ref(name) for name in (*operands, node.name)]
    emit(low, node, plan, dict(zip(plan.buffers, refs, strict=True)), [plan.buffers[-1]])


def pool(low: Lowering, node: Node) -> None:
    if node.name in low.written:  # the convolution before it has written the maxima
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
        include, divisor = node.attribute("count_include_pad"), node.attribute("divisor_override")
        windows = replace(windows, dilation=(1,) * rank)
        plan = pool_plan.plan_avgpool(target_of(low), windows, include, gradient, divisor)
    _emit(low, node, plan, *node.inputs)


def unpool(low: Lowering, node: Node) -> None:
    """The values go where the gradient of the pooling goes."""
    y, x = node.inputs
    shape, window = low.shape(x), window_of(node.attributes, low.type(x).rank - 2)
    blocked = is_blocked(node.type)
    windows = Pool(shape, low.shape(y), blocked, window.kernel, window.stride, window.padding, window.dilation)
    _emit(low, node, pool_plan.plan_maxpool(target_of(low), windows, True), x, y)


def uneven(low: Lowering, node: Node) -> None:
    """Maxima of windows of several sizes, their gradient, and that of unpooling."""
    x = node.inputs[0]
    shape, small = low.shape(x), low.shape(node.inputs[-1] if node.op == "adaptive_maxpool_gradient" else node.name)
    if node.op == "unpool_gradient":
        what, windows = "pick", unpooled(window_of(node.attributes, len(shape) - 2), shape[2:], small[2:])
    else:
        what = "gradient" if node.op.endswith("_gradient") else "value"
        windows = [(b.first, b.count) for b in averages(node, shape[2:], small[2:])]
    blocked = is_blocked(node.type)
    plan = None if blocked else plan_across(target_of(low), shape, windows, what)
    _emit(low, node, plan or plan_uneven(target_of(low), shape, blocked, windows, what), *node.inputs)


def norms(low: Lowering, node: Node) -> None:
    """Powers, their averages, and roots of these, in place."""
    x, target, blocked = node.inputs[0], target_of(low), is_blocked(node.type)
    shape, out, window = low.shape(x), low.shape(node.name), window_of(node.attributes, node.type.rank - 2)
    within, root = powers(node)
    powered = low.ref(x)
    if within != ex.var("a0"):
        powered = low.buffer(f"{node.name}~powers", "arena", low.type(x).bytes(shape[0]))
        low.per_image.add(powered.buffer)
        plan = plan_map(target, shape, blocked, [Operand(shape, blocked)], [within])
        emit(low, node, plan, {"a0": low.ref(x), "y0": powered}, ["y0"])
    windows = Pool(shape, out, blocked, window.kernel, window.stride, window.padding, window.dilation)
    y = low.ref(node.name)
    emit(low, node, pool_plan.plan_avgpool(target, windows, True), {"x": powered, "y": y}, ["y"])
    emit(low, node, plan_map(target, out, blocked, [Operand(out, blocked)], [root]), {"a0": y, "y0": y}, ["y0"])


def global_average(low: Lowering, node: Node) -> None:
    x = node.inputs[0]
    shape, blocked = low.shape(x), is_blocked(low.type(x))
    plan = (
        pool_plan.plan_global_average(target_of(low), shape, True)
        if blocked
        else reduce_plan.plan_reduce_axes(target_of(low), shape, range(2, len(shape)), True)
    )
    emit(low, node, plan, {"x": low.ref(x), "y": low.ref(node.name)}, ["y"])
