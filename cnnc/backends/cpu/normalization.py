"""Softmax, losses and local response norm on the CPU."""

from __future__ import annotations

from cnnc.backends.cpu.common import Rule, is_blocked, launch, target_of
from cnnc.ir.graph import Node
from cnnc.kernels.cpu import shapes, shapes_layout, shapes_norm
from cnnc.lowering.plan import Ref
from cnnc.lowering.select import Lowering


def lrn(low: Lowering, node: Node) -> None:
    """The kernel works on blocks of channels; a plain tensor is converted for it."""
    a, target, shape = node.attributes, target_of(low), low.shape(node.name)
    gradient = node.op == "lrn_gradient"
    plan = shapes_norm.plan_lrn(
        target, shape, a["size"], a.get("alpha", 1e-4), a.get("beta", 0.75), a.get("k", 1.0), gradient
    )
    plain = not is_blocked(node.type)

    def operand(value: str) -> Ref:
        if not plain:
            return low.ref(value)
        blocked = low.buffer(f"{node.name}~{value}", "arena", 4 * shapes.blocked_size(shape, target))
        launch(low, node, shapes_layout.plan_block(target, shape), {"x": low.ref(value), "y": blocked}, ["y"])
        return blocked

    buffers = dict(zip(("x", "y"), map(operand, node.inputs), strict=False))
    result = (
        low.buffer(f"{node.name}~blocked", "arena", 4 * shapes.blocked_size(shape, target))
        if plain
        else low.ref(node.name)
    )
    written = "dx" if gradient else "y"
    launch(low, node, plan, {**buffers, written: result}, [written])
    if plain:
        launch(low, node, shapes_layout.plan_unblock(target, shape), {"x": result, "y": low.ref(node.name)}, ["y"])


def softmax(low: Lowering, node: Node) -> None:
    shape, axis = low.shape(node.name), node.attributes.get("axis", 1)
    if node.op == "softmax":
        launch(
            low,
            node,
            shapes_norm.plan_softmax(target_of(low), shape, axis),
            {"x": low.ref(node.inputs[0]), "y": low.ref(node.name)},
            ["y"],
        )
        return
    y, dy = node.inputs
    plan = shapes_norm.plan_softmax(target_of(low), shape, axis, gradient=True)
    launch(low, node, plan, {"y": low.ref(y), "dy": low.ref(dy), "dx": low.ref(node.name)}, ["dx"])


def cross_entropy(low: Lowering, node: Node) -> None:
    logits, labels = node.inputs
    plan = shapes_norm.plan_cross_entropy(target_of(low), *low.shape(logits))
    launch(low, node, plan, {"x": low.ref(logits), "labels": low.ref(labels), "loss": low.ref(node.name)}, ["loss"])


def cross_entropy_gradient(low: Lowering, node: Node) -> None:
    logits, labels, dloss = node.inputs
    plan = shapes_norm.plan_cross_entropy_gradient(target_of(low), *low.shape(logits))
    buffers = {"x": low.ref(logits), "labels": low.ref(labels), "scale": low.ref(dloss), "dx": low.ref(node.name)}
    launch(low, node, plan, buffers, ["dx"])


def accuracy(low: Lowering, node: Node) -> None:
    logits, labels = node.inputs
    plan = shapes_norm.plan_accuracy(target_of(low), *low.shape(logits))
    launch(low, node, plan, {"x": low.ref(logits), "labels": low.ref(labels), "y": low.ref(node.name)}, ["y"])


RULES: dict[str, Rule] = {
    "lrn": lrn,
    "lrn_gradient": lrn,
    "softmax": softmax,
    "softmax_gradient": softmax,
    "cross_entropy": cross_entropy,
    "cross_entropy_gradient": cross_entropy_gradient,
    "accuracy": accuracy,
}
