"""Linear layers on the CPU."""

from __future__ import annotations

from cnnc.backends.cpu.context import Lowering
from cnnc.backends.cpu.emit import emit, packed, target_of
from cnnc.backends.cpu.problem import epilogue
from cnnc.ir.graph import Node
from cnnc.ir.types import BATCH, product
from cnnc.kernels.cpu import launches
from cnnc.kernels.cpu.elementwise import layout_plan
from cnnc.kernels.cpu.linear import plan as linear_plan
from cnnc.lowering.plan import Ref


def as_matrix(low: Lowering, x: str) -> tuple[int, int]:
    """Rows and columns: all axes but the last are rows."""
    *rows, columns = low.shape(x)
    return product(tuple(rows)), columns


def blocked_rows(low: Lowering, node: Node, x: str) -> Ref:
    """A matrix with its rows as the lanes of blocks: [ceil(N / L), columns, L]."""

    def make() -> Ref:
        shape = (1, *as_matrix(low, x))
        plan = layout_plan.plan_block(target_of(low), shape)
        blocked = low.buffer(f"{x}~rows", "arena", 4 * launches.blocked_size(shape, target_of(low)))
        emit(low, node, plan, {"x": low.ref(x), "y": blocked}, ["y"], note="rows as lanes")
        return blocked

    return low.once(("rows", x), make)


def linear(low: Lowering, node: Node) -> None:
    x, weight, bias = node.operand("x"), node.operand("weight"), node.optional("bias")
    (n, inputs), outputs = as_matrix(low, x), low.shape(weight)[0]
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
    (n, outputs), inputs = as_matrix(low, dy), low.shape(weight)[1]
    plan = linear_plan.plan_linear_data_gradient(target_of(low), n, inputs, outputs)
    emit(low, node, plan, {"a": low.ref(dy), "b": low.ref(weight), "c": low.ref(node.name)}, ["c"])


def linear_weight_gradient(low: Lowering, node: Node) -> None:
    x, dy = node.inputs
    (n, inputs), outputs = as_matrix(low, x), low.shape(dy)[-1]
    plan = linear_plan.plan_linear_weight_gradient(target_of(low), n, inputs, outputs)
    emit(low, node, plan, {"a": low.ref(dy), "b": low.ref(x), "c": low.ref(node.name)}, ["c"])


def matmul(low: Lowering, node: Node) -> None:
    """Of one second matrix for all first ones, rows of these are rows of one."""
    a, b = node.inputs
    ta, tb = node.attribute("transpose_a"), node.attribute("transpose_b")
    rows, columns = low.shape(node.name)[-2:]
    depth = low.shape(a)[-2 if ta else -1]
    batch, of_a, of_b = ((1, 1, *low.shape(v)[:-2])[-2:] for v in (node.name, a, b))
    types = [low.type(v) for v in (node.name, a, b)]
    images = low.batch if types[0].rank > 2 and types[0].shape[0] == BATCH else 0
    if any(BATCH in t.shape[1:] for t in types):
        images = 0
    if of_b == (1, 1) and of_a == batch and not ta:
        batch, of_a, rows, images = (1, 1), (1, 1), batch[0] * batch[1] * rows, 0
    problem = linear_plan.Matmul(batch, of_a, of_b, rows, depth, columns, ta, tb)
    plan = linear_plan.plan_matmul(target_of(low), problem, images)
    emit(low, node, plan, {"a": low.ref(a), "b": low.ref(b), "c": low.ref(node.name)}, ["c"])
