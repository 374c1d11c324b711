"""Pointwise maps, numbers, sums and dropout on the CPU."""

from __future__ import annotations

from cnnc.backends.cpu.context import Lowering
from cnnc.backends.cpu.emit import as_result, emit, is_blocked, operand, target_of
from cnnc.ir import expression as ex
from cnnc.ir.graph import Node
from cnnc.ir.types import DTYPES, TensorType, product
from cnnc.kernels.cpu.elementwise import layout_plan, map_plan, reduce_plan
from cnnc.lowering.plan import Ref
from cnnc.ops.checks import all_axes
from cnnc.ops.dropout import dropped_shape
from cnnc.ops.pointwise import expressions


def pointwise(low: Lowering, node: Node) -> None:
    shape = as_result(low.shape(node.name))
    plan = map_plan.plan_map(
        target_of(low),
        shape,
        is_blocked(node.type),
        [operand(low, o, len(shape)) for o in node.inputs],
        expressions(node),
    )
    buffers = {f"y{i}": low.ref(r) for i, r in enumerate(node.results)} | {
        f"a{i}": low.ref(o) for i, o in enumerate(node.inputs)
    }
    reuse: dict[str, str] = {}
    for i, result in enumerate(node.results):
        for j, o in enumerate(node.inputs):
            alike = low.type(o) == low.type(result) and low.whole(o) and low.whole(result)
            if alike and f"a{j}" not in reuse.values() and f"y{i}" not in reuse:
                reuse[f"y{i}"] = f"a{j}"
    emit(low, node, plan, buffers, [f"y{i}" for i in range(len(node.results))], reuse)


def constant(low: Lowering, node: Node) -> None:
    emit(
        low,
        node,
        layout_plan.plan_fill(target_of(low), 1, float(node.attributes["value"])),
        {"y": low.ref(node.name)},
        ["y"],
    )


def expand(low: Lowering, node: Node) -> None:
    shape = low.shape(node.name)
    plan = map_plan.plan_map(
        target_of(low), shape, is_blocked(node.type), [operand(low, node.inputs[0], len(shape))], [ex.var("a0")]
    )
    emit(low, node, plan, {"y0": low.ref(node.name), "a0": low.ref(node.inputs[0])}, ["y0"])


def copy(low: Lowering, node: Node, source: Ref, target: Ref, t: TensorType) -> None:
    size = t.bytes(low.batch) // DTYPES[t.dtype].itemsize
    plan = map_plan.plan_map(target_of(low), (size,), False, [map_plan.Operand((size,))], [ex.var("a0")])
    emit(low, node, plan, {"y0": target, "a0": source}, ["y0"])


def _number(low: Lowering, node: Node, value: float) -> None:
    emit(low, node, layout_plan.plan_fill(target_of(low), 1, value), {"y": low.ref(node.name)}, ["y"])


def count(low: Lowering, node: Node) -> None:
    """How many values a channel has."""
    shape = low.shape(node.inputs[0])
    _number(low, node, product(shape) / shape[1] if len(shape) > 1 else float(product(shape)))


def batch_size(low: Lowering, node: Node) -> None:
    _number(low, node, float(low.shape(node.inputs[0])[0]))


def dropout(low: Lowering, node: Node) -> None:
    x = node.inputs[0]
    if len(node.operands) < 2:
        low.alias(node.name, x)
        return
    if node.attribute("by") != "element":
        _dropout_together(low, node, node.attribute("by"))
        return
    plan = layout_plan.plan_dropout(
        target_of(low),
        low.shape(x),
        is_blocked(node.type),
        node.attribute("p"),
        node.attribute("salt"),
    )
    emit(low, node, plan, {"state": low.ref(node.inputs[1]), "x": low.ref(x), "y": low.ref(node.name)}, ["y"])


def _dropout_together(low: Lowering, node: Node, by: str) -> None:
    """A factor for all that is kept or dropped together, and a map that multiplies by it."""
    target, shape = target_of(low), low.shape(node.name)
    together = tuple(int(d) for d in dropped_shape(shape, by))
    ones, factors = (low.buffer(f"{node.name}~{what}", "arena", 4 * product(together)) for what in ("ones", "factors"))
    emit(low, node, layout_plan.plan_fill(target, product(together), 1.0), {"y": ones}, ["y"])
    draw = layout_plan.plan_dropout(target, together, False, node.attribute("p"), node.attribute("salt"))
    emit(low, node, draw, {"state": low.ref(node.inputs[1]), "x": ones, "y": factors}, ["y"])
    blocked = is_blocked(node.type)
    if by == "row":  # the same memory, image by image, whatever the layout
        size = node.type.bytes(low.batch) // 4 // shape[0]
        shape, together, blocked = (shape[0], size), (shape[0], 1), False
    operands = [map_plan.Operand(shape, blocked), map_plan.Operand(together)]
    plan = map_plan.plan_map(target, shape, blocked, operands, [ex.parse("where(a1 > 0, a0 * a1, 0)")])
    emit(low, node, plan, {"a0": low.ref(node.inputs[0]), "a1": factors, "y0": low.ref(node.name)}, ["y0"])


def moments(low: Lowering, node: Node) -> None:
    """Few channels and many images are split by images too, so that there is work for all threads."""
    x, target = node.inputs[0], target_of(low)
    shape, blocked = low.shape(x), is_blocked(low.type(x))
    parts = reduce_plan.channel_parts(target, shape, blocked)
    results = dict(zip(("mean", "variance"), map(low.ref, node.results), strict=True))
    partial = (
        results if parts == 1 else {k: low.buffer(f"{node.name}~{k}", "arena", 4 * parts * shape[1]) for k in results}
    )
    plan = reduce_plan.plan_moments(target, shape, blocked, parts)
    if plan.links:
        low.per_image.update(ref.buffer for ref in partial.values())
    emit(low, node, plan, {**partial, "a0": low.ref(x)}, list(results))
    if parts > 1:
        buffers = {"means": partial["mean"], "variances": partial["variance"], **results}
        emit(low, node, reduce_plan.plan_combine_moments(target, shape[1], parts), buffers, list(results))


def reduce_channels(low: Lowering, node: Node) -> None:
    target, full = target_of(low), max(node.inputs, key=lambda o: (low.type(o).rank, product(low.shape(o))))
    shape, blocked = low.shape(full), is_blocked(low.type(full))
    parts = reduce_plan.channel_parts(target, shape, blocked)
    es = [ex.parse(t) for t in node.attributes["expressions"]]
    if len(shape) == 2 and not blocked and es == [ex.var("a0")]:  # a linear layer's bias: columns of a matrix
        columns = reduce_plan.plan_reduce_axes(target, shape, (0,), False)
        emit(low, node, columns, {"x": low.ref(full), "y": low.ref(node.results[0])}, ["y"])
        return
    results = {f"y{i}": low.ref(r) for i, r in enumerate(node.results)}
    partial = (
        results if parts == 1 else {k: low.buffer(f"{node.name}~{k}", "arena", 4 * parts * shape[1]) for k in results}
    )
    plan = reduce_plan.plan_reduce_channels(
        target, shape, blocked, [operand(low, o, len(shape)) for o in node.inputs], es, parts=parts
    )
    if plan.links:
        low.per_image.update(ref.buffer for ref in partial.values())
    emit(low, node, plan, {**partial, **{f"a{i}": low.ref(o) for i, o in enumerate(node.inputs)}}, list(results))
    if parts > 1:
        for k, result in results.items():
            emit(
                low,
                node,
                reduce_plan.plan_reduce_axes(target, (parts, shape[1]), (0,), False),
                {"x": partial[k], "y": result},
                ["y"],
            )


def reduce_axes(low: Lowering, node: Node) -> None:
    x = node.inputs[0]
    axes = all_axes(node.attributes["axis"], low.type(x).rank)
    plan = reduce_plan.plan_reduce_axes(target_of(low), low.shape(x), axes, node.op == "mean")
    emit(low, node, plan, {"x": low.ref(x), "y": low.ref(node.name)}, ["y"])
