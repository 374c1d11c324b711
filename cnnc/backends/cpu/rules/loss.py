"""Losses over classes on the CPU."""

from __future__ import annotations

from cnnc.backends.cpu.context import Lowering
from cnnc.backends.cpu.emit import emit, target_of
from cnnc.ir.graph import Node
from cnnc.kernels.cpu.elementwise import class_loss_plan
from cnnc.lowering.plan import Ref


def _buffers(low: Lowering, node: Node) -> dict[str, Ref]:
    """What is read, and where there is one the gradient that is written."""
    target = "labels" if node.op not in ("cross_entropy_soft", "cross_entropy_soft_gradient") else "target"
    buffers = {"x": low.ref(node.operand("logits")), "target": low.ref(node.operand(target))}
    weight = node.optional("weight") if node.op != "class_hits" else None
    if weight is not None:
        buffers["weight"] = low.ref(weight)
    if node.op.endswith("_gradient"):
        buffers |= {"dterm": low.ref(node.operand("dterm")), "dx": low.ref(node.name)}
    return buffers


def cross_entropy_terms(low: Lowering, node: Node) -> None:
    gradient, buffers = node.op.endswith("_gradient"), _buffers(low, node)
    smoothing, ignored = node.attribute("label_smoothing"), node.attribute("ignore_index")
    shape, weighted = low.shape(node.operand("logits")), "weight" in buffers
    plan = class_loss_plan.plan_cross_entropy_terms(target_of(low), shape, smoothing, ignored, weighted, gradient)
    if not gradient:
        buffers |= dict(zip(("term", "counted"), map(low.ref, node.results), strict=True))
    emit(low, node, plan, buffers, ["dx"] if gradient else ["term", "counted"])


def cross_entropy_soft(low: Lowering, node: Node) -> None:
    gradient, buffers = node.op.endswith("_gradient"), _buffers(low, node)
    shape, weighted = low.shape(node.operand("logits")), "weight" in buffers
    smoothing = node.attribute("label_smoothing")
    plan = class_loss_plan.plan_cross_entropy_soft(target_of(low), shape, smoothing, weighted, gradient)
    if not gradient:
        buffers["term"] = low.ref(node.name)
    emit(low, node, plan, buffers, ["dx" if gradient else "term"])


def multiclass_hinge(low: Lowering, node: Node) -> None:
    gradient, buffers = node.op.endswith("_gradient"), _buffers(low, node)
    rows, size = low.shape(node.operand("logits"))
    margin, p = node.attribute("margin"), node.attribute("p")
    plan = class_loss_plan.plan_multiclass_hinge(target_of(low), rows, size, margin, p, "weight" in buffers, gradient)
    written = {} if gradient else {"term": low.ref(node.name)}
    emit(low, node, plan, {**buffers, **written}, ["dx" if gradient else "term"])


def class_hits(low: Lowering, node: Node) -> None:
    plan = class_loss_plan.plan_class_hits(
        target_of(low), low.shape(node.operand("logits")), node.attribute("ignore_index")
    )
    results = dict(zip(("hit", "counted"), map(low.ref, node.results), strict=True))
    emit(low, node, plan, {**_buffers(low, node), **results}, list(results))


def numbers(low: Lowering, node: Node) -> None:
    emit(low, node, class_loss_plan.plan_numbers(node.attributes["values"]), {"y": low.ref(node.name)}, ["y"])
