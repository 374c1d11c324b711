"""Maxima, products, their places and running sums on the CPU."""

from __future__ import annotations

from cnnc.backends.cpu.context import Lowering
from cnnc.backends.cpu.emit import emit, target_of
from cnnc.ir import expression as ex
from cnnc.ir.graph import Node
from cnnc.ir.types import product
from cnnc.kernels.cpu.elementwise import fold_plan, map_plan, reduce_plan
from cnnc.ops.checks import all_axes


def fold(low: Lowering, node: Node) -> None:
    """`max`, `min` and `prod`."""
    x = node.inputs[0]
    axes = all_axes(node.attribute("axis"), low.type(x).rank)
    plan = fold_plan.plan_fold_axes(target_of(low), low.shape(x), axes, node.op)
    emit(low, node, plan, {"x": low.ref(x), "y": low.ref(node.name)}, ["y"])


def log_of_powers(low: Lowering, node: Node) -> None:
    """The largest, powers of e of what the others are less, their sum, and its logarithm."""
    x, target, y = node.inputs[0], target_of(low), low.ref(node.name)
    shape = low.shape(x) or (1,)
    axes = all_axes(node.attribute("axis"), len(shape))
    kept = tuple(1 if i in axes else d for i, d in enumerate(shape))
    top, powers = (
        low.buffer(f"{node.name}~{k}", "arena", 4 * product(s)) for k, s in (("top", kept), ("powers", shape))
    )
    emit(low, node, fold_plan.plan_fold_axes(target, shape, axes, "max"), {"x": low.ref(x), "y": top}, ["y"])
    shift = "max(min(a1, 3e38), -3e38)"  # what is infinite stays so
    operands = [map_plan.Operand(shape), map_plan.Operand(kept)]
    plan = map_plan.plan_map(target, shape, False, operands, [ex.parse(f"exp(a0 - {shift})")])
    emit(low, node, plan, {"y0": powers, "a0": low.ref(x), "a1": top}, ["y0"])
    emit(low, node, reduce_plan.plan_reduce_axes(target, shape, axes, False), {"x": powers, "y": y}, ["y"])
    operands = [map_plan.Operand(kept)] * 2
    plan = map_plan.plan_map(target, kept, False, operands, [ex.parse(f"log(a0) + {shift}")])
    emit(low, node, plan, {"y0": y, "a0": y, "a1": top}, ["y0"])


def place(low: Lowering, node: Node) -> None:
    x = node.inputs[0]
    plan = fold_plan.plan_place(target_of(low), low.shape(x), node.attribute("axis"), node.op == "argmax")
    emit(low, node, plan, {"x": low.ref(x), "y": low.ref(node.name)}, ["y"])


def running(low: Lowering, node: Node) -> None:
    x = node.inputs[0]
    plan = fold_plan.plan_running(target_of(low), low.shape(x), *map(node.attribute, ("axis", "reverse")))
    emit(low, node, plan, {"x": low.ref(x), "y": low.ref(node.name)}, ["y"])
