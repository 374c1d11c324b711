"""Normalizations, softmax and losses on the CPU."""

from __future__ import annotations

from cnnc.backends.cpu.context import Lowering
from cnnc.backends.cpu.emit import emit, is_blocked, target_of
from cnnc.backends.cpu.problem import epilogue
from cnnc.ir import expression as ex
from cnnc.ir.graph import Node
from cnnc.kernels.cpu import launches
from cnnc.kernels.cpu.elementwise import layout_plan, loss_plan, reduce_plan
from cnnc.kernels.cpu.normalize.plan import Normalization, plan_normalize, plan_normalize_gradient
from cnnc.kernels.cpu.problem import Epilogue
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


def _normalization(low: Lowering, node: Node, x: str, weight: str | None) -> Normalization:
    kind = None if weight is None else "channel" if low.type(weight).rank == 1 else "image"
    attributes = map(node.attribute, ("axes", "groups", "eps", "centered"))
    return Normalization(low.shape(x), is_blocked(low.type(x)), *attributes, kind)


def normalize(low: Lowering, node: Node) -> None:
    """Weight and bias are the first two operands of what comes behind the normalized values."""
    x, weight, bias = node.operand("x"), node.optional("weight"), node.optional("bias")
    problem, (behind, extras) = _normalization(low, node, x, weight), epilogue(low, node)
    affine = [v for v in (weight, bias) if v is not None]
    tree = ex.var("y")
    for operation, k in zip(("mul", "add"), range(len(affine)), strict=False):
        tree = (operation, tree, ex.var(f"a{k}"))
    if behind.expression is not None:
        names = {f"a{k}": ex.var(f"a{len(affine) + k}") for k in range(len(extras))}
        tree = ex.substitute(behind.expression, {"y": tree, **names})
    kinds = (*[str(problem.weight)] * len(affine), *behind.operands)
    plan = plan_normalize(target_of(low), problem, Epilogue(tree, kinds))
    buffers = {"x": low.ref(x), "y": low.ref(node.name)}
    buffers |= {f"a{k}": low.ref(v) for k, v in enumerate((*affine, *extras))}
    emit(low, node, plan, buffers, ["y"])


def normalize_gradient(low: Lowering, node: Node) -> None:
    dy, x = node.inputs[:2]
    weight, target = node.optional("weight"), target_of(low)
    plan, parts = plan_normalize_gradient(target, _normalization(low, node, x, weight))
    buffers: dict[str, Ref | None] = {"a0": low.ref(dy), "x": low.ref(x), "y": low.ref(node.name)}
    if weight is None:
        emit(low, node, plan, buffers, ["y"])
        return
    results = dict(zip(("dweight", "dbias"), node.results[1:], strict=False))
    size = low.type(weight).bytes(low.batch)
    found = {
        k: low.ref(v) if parts == 1 else low.buffer(f"{v}~parts", "arena", parts * size) for k, v in results.items()
    }
    if plan.links:
        low.per_image.update(ref.buffer for ref in found.values())
    emit(low, node, plan, {**buffers, "a1": low.ref(weight), "dbias": None, **found}, ["y", *found])
    if parts > 1:
        together = reduce_plan.plan_reduce_axes(target, (parts, size // 4), (0,), False)
        for k, ref in found.items():
            emit(low, node, together, {"x": ref, "y": low.ref(results[k])}, ["y"])


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
