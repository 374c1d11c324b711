"""What each op becomes on the CPU: planners of the kernels turn shapes into launches, rules put buffers to them."""

from __future__ import annotations

from collections.abc import Callable

from cnnc.backends.cpu import convolution, convolution_space, groups, linear, normalization
from cnnc.backends.cpu.common import Rule, as_result, is_blocked, launch, operand, target_of
from cnnc.ir import expression as ex
from cnnc.ir.graph import Node
from cnnc.ir.types import DTYPES, TensorType, product
from cnnc.kernels.cpu import shapes, shapes_layout, shapes_pool
from cnnc.lowering.plan import Ref
from cnnc.lowering.select import Lowering
from cnnc.ops.pointwise import DEFINITIONS, expressions
from cnnc.ops.pool import window_of
from cnnc.ops.shape import all_axes

# ------------------------------------------------------------------------------------------------ pointwise


def pointwise(low: Lowering, node: Node) -> None:
    shape = as_result(low.shape(node.name))
    plan = shapes.plan_map(
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
            if f"a{j}" not in reuse.values() and low.type(o) == low.type(result) and f"y{i}" not in reuse:
                reuse[f"y{i}"] = f"a{j}"
    launch(low, node, plan, buffers, [f"y{i}" for i in range(len(node.results))], reuse)


def constant(low: Lowering, node: Node) -> None:
    launch(
        low,
        node,
        shapes_layout.plan_fill(target_of(low), 1, float(node.attributes["value"])),
        {"y": low.ref(node.name)},
        ["y"],
    )


def expand(low: Lowering, node: Node) -> None:
    shape = low.shape(node.name)
    plan = shapes.plan_map(
        target_of(low), shape, is_blocked(node.type), [operand(low, node.inputs[0], len(shape))], [ex.var("a0")]
    )
    launch(low, node, plan, {"y0": low.ref(node.name), "a0": low.ref(node.inputs[0])}, ["y0"])


def copy(low: Lowering, node: Node, source: Ref, target: Ref, t: TensorType) -> None:
    size = t.bytes(low.batch) // DTYPES[t.dtype].itemsize
    plan = shapes.plan_map(target_of(low), (size,), False, [shapes.Operand((size,))], [ex.var("a0")])
    launch(low, node, plan, {"y0": target, "a0": source}, ["y0"])


def number(value: Callable[[Lowering, Node], float]) -> Rule:
    """An op whose result follows from shapes alone."""

    def rule(low: Lowering, node: Node) -> None:
        launch(
            low, node, shapes_layout.plan_fill(target_of(low), 1, value(low, node)), {"y": low.ref(node.name)}, ["y"]
        )

    return rule


def values_per_channel(low: Lowering, node: Node) -> float:
    shape = low.shape(node.inputs[0])
    return product(shape) / shape[1] if len(shape) > 1 else float(product(shape))


# ------------------------------------------------------------------------------------------------ sums


def moments(low: Lowering, node: Node) -> None:
    """Few channels and many images are split by images too, so that there is work for all threads."""
    x, target = node.inputs[0], target_of(low)
    shape, blocked = low.shape(x), is_blocked(low.type(x))
    parts = shapes.channel_parts(target, shape, blocked)
    results = dict(zip(("mean", "variance"), map(low.ref, node.results), strict=True))
    partial = (
        results if parts == 1 else {k: low.buffer(f"{node.name}~{k}", "arena", 4 * parts * shape[1]) for k in results}
    )
    plan = shapes.plan_moments(target, shape, blocked, parts)
    if plan.links:
        low.divided.update(ref.buffer for ref in partial.values())
    launch(low, node, plan, {**partial, "a0": low.ref(x)}, list(results))
    if parts > 1:
        buffers = {"means": partial["mean"], "variances": partial["variance"], **results}
        launch(low, node, shapes.plan_combine_moments(target, shape[1], parts), buffers, list(results))


def reduce_channels(low: Lowering, node: Node) -> None:
    target, full = target_of(low), max(node.inputs, key=lambda o: (low.type(o).rank, product(low.shape(o))))
    shape, blocked = low.shape(full), is_blocked(low.type(full))
    parts = shapes.channel_parts(target, shape, blocked)
    es = [ex.parse(t) for t in node.attributes["expressions"]]
    if len(shape) == 2 and not blocked and es == [ex.var("a0")]:  # a linear layer's bias: columns of a matrix
        columns = shapes.plan_reduce_axes(target, shape, (0,), False)
        launch(low, node, columns, {"x": low.ref(full), "y": low.ref(node.results[0])}, ["y"])
        return
    results = {f"y{i}": low.ref(r) for i, r in enumerate(node.results)}
    partial = (
        results if parts == 1 else {k: low.buffer(f"{node.name}~{k}", "arena", 4 * parts * shape[1]) for k in results}
    )
    plan = shapes.plan_reduce_channels(
        target, shape, blocked, [operand(low, o, len(shape)) for o in node.inputs], es, parts=parts
    )
    if plan.links:
        low.divided.update(ref.buffer for ref in partial.values())
    launch(low, node, plan, {**partial, **{f"a{i}": low.ref(o) for i, o in enumerate(node.inputs)}}, list(results))
    if parts > 1:
        for k, result in results.items():
            launch(
                low,
                node,
                shapes.plan_reduce_axes(target, (parts, shape[1]), (0,), False),
                {"x": partial[k], "y": result},
                ["y"],
            )


def reduce_axes(low: Lowering, node: Node) -> None:
    x = node.inputs[0]
    axes = all_axes(node.attributes["axis"], low.type(x).rank)
    plan = shapes.plan_reduce_axes(target_of(low), low.shape(x), axes, node.op == "mean")
    launch(low, node, plan, {"x": low.ref(x), "y": low.ref(node.name)}, ["y"])


# ------------------------------------------------------------------------------------------------ layout and shape


def to_layout(low: Lowering, node: Node) -> None:
    x = node.inputs[0]
    before, after, shape = low.type(x), node.type, low.shape(x)
    if before.layout == after.layout or (product(shape[2:]) == 1 and shape[1] % max(before.block, after.block) == 0):
        low.alias(node.name, x)
        return
    plan = (shapes_layout.plan_block if is_blocked(after) else shapes_layout.plan_unblock)(target_of(low), shape)
    launch(low, node, plan, {"x": low.ref(x), "y": low.ref(node.name)}, ["y"])


def same_memory(low: Lowering, node: Node) -> None:
    low.alias(node.name, node.inputs[0])


def concat(low: Lowering, node: Node) -> None:
    axis = node.attributes.get("axis", 1) % node.type.rank
    plans = shapes_layout.plan_concat(target_of(low), [low.shape(o) for o in node.inputs], axis, is_blocked(node.type))
    for o, plan in zip(node.inputs, plans, strict=True):
        result, part = plan.buffers
        launch(low, node, plan, {part: low.ref(o), result: low.ref(node.name)}, [result])


def slice_(low: Lowering, node: Node) -> None:
    x, axis = node.inputs[0], node.attributes["axis"] % node.type.rank
    start, size, shape = node.attributes["start"], node.attributes["size"], list(low.shape(x))
    if is_blocked(node.type) and axis == 1:
        plan = shapes_layout.plan_move_channels(target_of(low), low.shape(x), start, low.shape(node.name), 0, size)
        launch(low, node, plan, {"x": low.ref(x), "y": low.ref(node.name)}, ["y"])
        return
    if is_blocked(node.type):
        lanes = node.type.block
        shape = [shape[0], -(-shape[1] // lanes), *shape[2:], lanes]
    starts, sizes = [0] * len(shape), list(shape)
    starts[axis], sizes[axis] = start, size
    launch(
        low,
        node,
        shapes_layout.plan_slice(target_of(low), shape, starts, sizes),
        {"a0": low.ref(x), "y0": low.ref(node.name)},
        ["y0"],
    )


# ------------------------------------------------------------------------------------------------ pooling


def pool(low: Lowering, node: Node) -> None:
    if node.name in low.places:  # the convolution before it has written the maxima
        return
    gradient = node.op.endswith("_gradient")
    small, large = (node.inputs[-1], node.name) if gradient else (node.name, node.inputs[0])
    shape, out, rank = low.shape(large), low.shape(small), low.type(small).rank - 2
    window = window_of(node.attributes, rank)
    blocked = is_blocked(low.type(small))
    if node.op.startswith("maxpool"):
        plan = shapes_pool.plan_maxpool(
            target_of(low), shape, out, blocked, window.kernel, window.stride, window.padding, window.dilation, gradient
        )
    else:
        plan = shapes_pool.plan_avgpool(
            target_of(low),
            shape,
            out,
            blocked,
            window.kernel,
            window.stride,
            window.padding,
            node.attributes.get("count_include_pad", True),
            gradient,
        )
    if gradient:
        buffers = {"dy": low.ref(node.inputs[-1]), "dx": low.ref(node.name)}
        if node.op == "maxpool_gradient":
            buffers["x"] = low.ref(node.inputs[0])
        launch(low, node, plan, buffers, ["dx"])
    else:
        launch(low, node, plan, {"x": low.ref(node.inputs[0]), "y": low.ref(node.name)}, ["y"])


def global_average(low: Lowering, node: Node) -> None:
    x = node.inputs[0]
    shape, blocked = low.shape(x), is_blocked(low.type(x))
    plan = (
        shapes_pool.plan_global_average(target_of(low), shape, True)
        if blocked
        else shapes.plan_reduce_axes(target_of(low), shape, range(2, len(shape)), True)
    )
    launch(low, node, plan, {"x": low.ref(x), "y": low.ref(node.name)}, ["y"])


def dropout(low: Lowering, node: Node) -> None:
    x = node.inputs[0]
    if len(node.operands) < 2:
        low.alias(node.name, x)
        return
    plan = shapes_layout.plan_dropout(
        target_of(low),
        low.shape(x),
        is_blocked(node.type),
        node.attributes.get("p", 0.5),
        node.attributes.get("salt", 0),
    )
    launch(low, node, plan, {"state": low.ref(node.inputs[1]), "x": low.ref(x), "y": low.ref(node.name)}, ["y"])


RULES: dict[str, Rule] = {
    **{op: pointwise for op in (*DEFINITIONS, "pointwise", "batchnorm")},
    "constant": constant,
    "expand": expand,
    "copy": copy,
    "count": number(values_per_channel),
    "batch_size": number(lambda low, node: float(low.shape(node.inputs[0])[0])),
    "moments": moments,
    "reduce_channels": reduce_channels,
    "sum": reduce_axes,
    "mean": reduce_axes,
    "to_layout": to_layout,
    "flatten": same_memory,
    "reshape": same_memory,
    "concat": concat,
    "slice": slice_,
    "maxpool": pool,
    "maxpool_gradient": pool,
    "avgpool": pool,
    "avgpool_gradient": pool,
    "global_avgpool": global_average,
    "dropout": dropout,
    **convolution.RULES,
    **groups.RULES,
    **convolution_space.RULES,
    **linear.RULES,
    **normalization.RULES,
}
