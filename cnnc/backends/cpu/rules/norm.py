"""Softmax, losses and local response norm on the CPU."""

from __future__ import annotations

from cnnc.backends.cpu.context import Lowering
from cnnc.backends.cpu.emit import emit, is_blocked, target_of
from cnnc.ir.graph import Node
from cnnc.kernels.cpu import launches
from cnnc.kernels.cpu.elementwise import layout_plan, loss_plan
from cnnc.lowering.plan import Ref


def lrn(low: Lowering, node: Node) -> None:
    """The kernel works on blocks of channels; a plain tensor is converted for it."""
    target, shape = target_of(low), low.shape(node.name)
    gradient = node.op == "lrn_gradient"
    plan = loss_plan.plan_lrn(target, shape, *map(node.attribute, ("size", "alpha", "beta", "k")), gradient)
    plain = not is_blocked(node.type)

    def operand(value: str) -> Ref:
        if not plain:
            return low.ref(value)
        blocked = low.buffer(f"{node.name}~{value}", "arena", 4 * launches.blocked_size(shape, target))
        emit(low, node, layout_plan.plan_block(target, shape), {"x": low.ref(value), "y": blocked}, ["y"])
        return blocked

    buffers = dict(zip(("x", "y"), map(operand, node.inputs), strict=False))
    result = (
        low.buffer(f"{node.name}~blocked", "arena", 4 * launches.blocked_size(shape, target))
        if plain
        else low.ref(node.name)
    )
    written = "dx" if gradient else "y"
    emit(low, node, plan, {**buffers, written: result}, [written])
    if plain:
        emit(low, node, layout_plan.plan_unblock(target, shape), {"x": result, "y": low.ref(node.name)}, ["y"])


def softmax(low: Lowering, node: Node) -> None:
    """Softmax, its logarithm, and the gradients of both."""
    gradient, log = node.op.endswith("_gradient"), node.op.startswith("log")
    shape, axis = low.shape(node.name), node.attribute("axis")
    plan = loss_plan.plan_softmax(target_of(low), shape, axis, log=log, gradient=gradient)
    names = ("y", "dy", "dx") if gradient else ("x", "y")
    buffers = dict(zip(names, map(low.ref, (*node.inputs, node.name)), strict=True))
    emit(low, node, plan, buffers, [names[-1]])


def cross_entropy(low: Lowering, node: Node) -> None:
    logits, labels = node.inputs
    plan = loss_plan.plan_cross_entropy(target_of(low), *low.shape(logits))
    emit(low, node, plan, {"x": low.ref(logits), "labels": low.ref(labels), "loss": low.ref(node.name)}, ["loss"])


def cross_entropy_gradient(low: Lowering, node: Node) -> None:
    logits, labels, dloss = node.inputs
    plan = loss_plan.plan_cross_entropy_gradient(target_of(low), *low.shape(logits))
    buffers = {"x": low.ref(logits), "labels": low.ref(labels), "scale": low.ref(dloss), "dx": low.ref(node.name)}
    emit(low, node, plan, buffers, ["dx"])


def accuracy(low: Lowering, node: Node) -> None:
    logits, labels = node.inputs
    plan = loss_plan.plan_accuracy(target_of(low), *low.shape(logits))
    emit(low, node, plan, {"x": low.ref(logits), "labels": low.ref(labels), "y": low.ref(node.name)}, ["y"])
