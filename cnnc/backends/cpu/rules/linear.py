"""Linear layers on the CPU."""

from __future__ import annotations

from cnnc.backends.cpu.context import Lowering
from cnnc.backends.cpu.emit import emit, packed, target_of
from cnnc.backends.cpu.problem import epilogue
from cnnc.ir.graph import Node
from cnnc.kernels.cpu import launches
from cnnc.kernels.cpu.elementwise import layout_plan
from cnnc.kernels.cpu.linear import plan as linear_plan
from cnnc.lowering.plan import Ref


def blocked_rows(low: Lowering, node: Node, x: str) -> Ref:
    """A matrix with its rows as the lanes of blocks: [ceil(N / L), columns, L]."""

    def make() -> Ref:
        plan = layout_plan.plan_block(target_of(low), (1, *low.shape(x)))
        blocked = low.buffer(f"{x}~rows", "arena", 4 * launches.blocked_size((1, *low.shape(x)), target_of(low)))
        emit(low, node, plan, {"x": low.ref(x), "y": blocked}, ["y"], note="rows as lanes")
        return blocked

    return low.once(("rows", x), make)


def linear(low: Lowering, node: Node) -> None:
    x, weight, bias = node.operand("x"), node.operand("weight"), node.optional("bias")
    (n, inputs), outputs = low.shape(x), low.shape(weight)[0]
    behind, extras = epilogue(low, node)
    target, rows, weights = target_of(low), low.ref(x), low.ref(weight)
    if weight not in low.changing:
        form = linear_plan.panel_weights(target, inputs, outputs)
        plan = linear_plan.plan_linear_panels(target, n, form, bias is not None, behind)
        weights = packed(low, node, weight, form)
    else:
        layer = linear_plan.Linear(n, inputs, outputs, bias is not None)
        if linear_plan.batched(target, n):
            rows = blocked_rows(low, node, x)
            plan = linear_plan.plan_linear_batch(target, layer, behind)
        else:
            plan = linear_plan.plan_linear(target, layer, behind)
    buffers = {
        "x": rows,
        "w": weights,
        "y": low.ref(node.name),
        **{f"a{i}": low.ref(o) for i, o in enumerate(extras)},
    }
    if bias is not None:
        buffers["bias"] = low.ref(bias)
    emit(low, node, plan, buffers, ["y"])


def linear_data_gradient(low: Lowering, node: Node) -> None:
    dy, weight = node.inputs
    plan = linear_plan.plan_linear_data_gradient(
        target_of(low), low.shape(dy)[0], low.shape(weight)[1], low.shape(weight)[0]
    )
    emit(low, node, plan, {"a": low.ref(dy), "b": low.ref(weight), "c": low.ref(node.name)}, ["c"])


def linear_weight_gradient(low: Lowering, node: Node) -> None:
    x, dy = node.inputs
    plan = linear_plan.plan_linear_weight_gradient(target_of(low), low.shape(x)[0], low.shape(x)[1], low.shape(dy)[1])
    emit(low, node, plan, {"a": low.ref(dy), "b": low.ref(x), "c": low.ref(node.name)}, ["c"])
