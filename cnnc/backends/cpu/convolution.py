"""Convolutions on the CPU: the steps of the algorithm that was chosen, and the packing of weights that it wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cnnc.backends.cpu.choice import Choice, Geometry, choose
from cnnc.backends.cpu.common import Rule, epilogue, is_blocked, launch, target_of
from cnnc.backends.cpu.depthwise import depthwise, depthwise_weight_gradient, goes_along, is_depthwise
from cnnc.backends.cpu.steps import apart, emit, further, merged, packed
from cnnc.ir.graph import Node
from cnnc.ir.types import product
from cnnc.kernels.cpu import (
    conv_shapes,
    conv_shapes_pooled,
    shapes,
    winograd_scheme,
    winograd_shapes,
    winograd_shapes_gradient,
)
from cnnc.lowering.plan import Ref
from cnnc.lowering.select import Lowering
from cnnc.ops.pool import window_of


def direct(
    low: Lowering, node: Node, plan: Any, x: str, offset: int = 0, bias: str | None = None, note: str = "", x_offset: int = 0
) -> None:  # fmt: skip
    """A step of the direct convolution, with the packing of its weights before it. offset: in floats, of y and the
    operands like it; x_offset, of x.
    """
    weight = node.operand("weight")
    _, kinds, extras = epilogue(low, node)
    y = further(low.ref(node.name), offset)
    buffers = {"x": further(low.ref(x), x_offset), "w": packed(low, node, weight, plan.weights), "y": y}
    if bias is not None:
        buffers["bias"] = low.ref(bias)
    for i, (o, kind) in enumerate(zip(extras, kinds, strict=True)):
        buffers[f"a{i}"] = further(low.ref(o), offset if kind == "full" else 0)
    step = conv_shapes.KernelPlan(
        plan.step.kernel,
        {**plan.step.arguments, **({} if bias else {"bias": 0})},
        plan.step.tables,
        plan.step.chunks,
        plan.step.scratch,
        plan.step.links,
    )
    order = (*conv_shapes.DIRECT_ARGUMENTS, *(f"a{i}" for i in range(len(extras))))
    emit(
        low,
        node,
        apart(low, weight, step),
        buffers,
        ["y"],
        order,
        note or f"direct {dict(step.kernel.parameters).get('pixels')}x{dict(step.kernel.parameters).get('vectors')}",
    )


def winograd(low: Lowering, node: Node, geometry: Geometry, x: str, bias: str | None, transposed: bool = False) -> bool:
    """The steps of Winograd's convolution, group by group, where that was chosen; whether they are there."""
    choice = choose(low, node)
    if choice is None or choice.scheme is None:
        return False
    groups, scheme, (*_, padding, dilation, _) = geometry.groups, choice.scheme, geometry.sizes
    expression, kinds, _ = epilogue(low, node)
    sizes = (
        target_of(low),
        geometry.images,
        geometry.channels // groups,
        *geometry.sizes[2:4],
        geometry.filters // groups,
    )
    pool = None if transposed or dilation != (1, 1) or scheme.tall % 2 else pooling(low, node)
    plan = winograd_shapes.winograd_plan(
        *sizes, padding, expression, kinds, transposed, scheme, window=2 if pool else 1, dilation=dilation
    )
    y = low.ref(pool.name if pool else node.name)
    note = choice.because() + (f"; with the maxima of {pool.name}" if pool else "")
    winograd_steps(low, node, geometry, plan, scheme, low.ref(x), y, bias, note)
    return True


def winograd_steps(
    low: Lowering, node: Node, geometry: Geometry, plan: Any, scheme: winograd_scheme.Scheme, x: Ref, y: Ref, bias: str | None,
    because: str, offset: int = 0,
) -> None:  # fmt: skip
    """The steps of a plan for the channels of one group, for each of them. offset: in floats, of operands like y."""
    weight, groups, transposed = node.operand("weight"), geometry.groups, node.op == "conv_data_gradient"
    _, kinds, extras = epilogue(low, node)
    order = (*winograd_shapes.WINOGRAD_ARGUMENTS, *(f"a{i}" for i in range(len(extras))))
    what = "data gradient, " if transposed else ""
    results = (geometry.channels if transposed else geometry.filters) // groups

    size = plan.step.arguments
    between = {name: groups * size[name] for name in ("x_image", "y_image")}
    step = apart(low, weight, replace(plan.step, arguments={"bias": 0, **size, **between}))
    note = f"{what}winograd {scheme}: {scheme.fewer:.3g}x fewer products, {because}"
    for group in range(groups):
        starts = {"full": group * size["y_image"], "channel": group * results, "scalar": 0}
        buffers = {
            "x": further(x, group * size["x_image"]),
            "w": packed(low, node, weight, plan.weights, group * product(low.shape(weight)) // groups),
            "y": further(y, starts["full"]),
        }
        if bias is not None:
            buffers["bias"] = further(low.ref(bias), starts["channel"])
        for i, (o, kind) in enumerate(zip(extras, kinds, strict=True)):
            buffers[f"a{i}"] = further(low.ref(o), starts[kind] + (offset if kind == "full" else 0))
        emit(low, node, step, buffers, ["y"], order, note)


def pooling(low: Lowering, node: Node) -> Node | None:
    """The max pooling by 2 x 2 behind a convolution, where nothing else reads the convolution's result and the step of
    the convolution can take the maxima. The pooling's own rule finds its value already there.
    """
    user, shape = low.graph.only_user(node.name), low.shape(node.name)
    if user is None or user.op != "maxpool" or "full" in epilogue(low, node)[1]:
        return None
    window = window_of(user.attributes, len(shape) - 2)
    regular = window.kernel == window.stride == (2, 2) and window.dilation == (1, 1)
    whole = all(size % 2 == 0 for size in shape[2:]) and all(p == (0, 0) for p in window.padding)
    return user if regular and whole and is_blocked(low.type(user.name)) else None


def pooled(low: Lowering, node: Node, geometry: Geometry, x: str, bias: str | None) -> bool:
    """The step of a convolution of plain channels with the pooling behind it, where there is one; whether it is there."""
    pool, window, weight = pooling(low, node), geometry.window, node.operand("weight")
    expression, kinds, _ = epilogue(low, node)
    regular = window.stride == window.dilation == (1, 1) and geometry.groups == 1
    if pool is None or kinds or not regular or is_blocked(low.type(x)):
        return False
    if merged(low, weight):
        return False
    height, width = geometry.size
    plan = conv_shapes_pooled.pooled_plan(
        target_of(low), geometry.images, geometry.channels, height, width, geometry.filters, window.kernel, window.padding,
        expression,
    )  # fmt: skip
    buffers = {"x": low.ref(x), "w": packed(low, node, weight, plan.weights), "y": low.ref(pool.name)}
    if bias is not None:
        buffers["bias"] = low.ref(bias)
    step = replace(plan.step, arguments={"bias": 0, **plan.step.arguments})
    note = f"direct 2x{2 * plan.step.arguments['pairs']}, with the maxima of {pool.name}: few channels, read plain"
    emit(low, node, step, buffers, ["y"], conv_shapes_pooled.POOLED_ARGUMENTS, note)
    return True


def conv(low: Lowering, node: Node) -> None:
    """A convolution, or the gradient of its input, whose x is dy."""
    x, bias = node.inputs[0], node.optional("bias")
    geometry, transposed = Geometry(low, node), node.op == "conv_data_gradient"
    expression, kinds, _ = epilogue(low, node)
    blocked = is_blocked(low.type(x))
    if not is_blocked(node.type):
        plain(low, node, geometry)
    elif not transposed and goes_along(low, node):
        pass
    elif is_depthwise(geometry) and blocked:
        depthwise(low, node, geometry, x, bias, transposed)
    elif winograd(low, node, geometry, x, bias, transposed) or (
        not transposed and pooled(low, node, geometry, x, bias)
    ):
        pass
    elif transposed:
        plans = conv_shapes.data_gradient_plans(target_of(low), *geometry.sizes, expression=expression, operands=kinds)
        note = "data gradient" + (f", {len(plans)} parities" if len(plans) > 1 else "")
        for parity in plans:
            direct(low, node, parity.plan, x, parity.offset, bias, note)
    else:
        plan = conv_shapes.direct_plan(
            target_of(low), *geometry.sizes, plain=not blocked, expression=expression, operands=kinds
        )
        direct(low, node, plan, x, bias=bias)


def conv_weight_gradient(low: Lowering, node: Node) -> None:
    x, dy = node.inputs
    geometry = Geometry(low, node)
    if not is_blocked(low.type(dy)):
        plain(low, node, geometry)
        return
    choice = choose(low, node)
    if choice is not None and choice.scheme is not None:
        winograd_weight_gradient(low, node, geometry, choice)
        return
    unblocked = not is_blocked(low.type(x))
    if is_depthwise(geometry) and not unblocked:
        depthwise_weight_gradient(low, node, geometry)
        return
    plan = conv_shapes.weight_gradient_plan(target_of(low), *geometry.sizes, plain=unblocked)
    order = conv_shapes.PLAIN_WEIGHT_GRADIENT_ARGUMENTS if unblocked else conv_shapes.WEIGHT_GRADIENT_ARGUMENTS
    if "parts" in plan.arguments:
        order = conv_shapes.PIXEL_WEIGHT_GRADIENT_ARGUMENTS
    note = f"direct: {choice.because()}" if choice is not None else ""
    weight_gradient(low, node, plan, order, plan.arguments.get("parts", 1), note)


def weight_gradient(
    low: Lowering, node: Node, plan: Any, order: Sequence[str], parts: int, note: str = "", group: int = 0, groups: int = 1
) -> None:  # fmt: skip
    """The step that writes dw, or that of one of its groups; or, of several parts of the pixels, the one that writes a dw
    of each, and their sum.
    """
    size = product(low.shape(node.name)) // groups
    x, dy = (
        further(low.ref(o), group * plan.arguments[f"{name}_image"] // groups if group else 0)
        for o, name in zip(node.inputs, ("x", "dy"), strict=True)
    )
    dw = further(low.ref(node.name), group * size)
    partial = dw if parts == 1 else low.buffer(f"{node.name}~parts", "arena", 4 * parts * size)
    if plan.links:
        low.divided.add(partial.buffer)
    emit(low, node, plan, {"x": x, "dy": dy, "dw": partial}, ["dw"], order, note)
    if parts > 1:
        total = shapes.plan_reduce_axes(target_of(low), (parts, size), (0,), False)
        launch(low, node, total, {"x": partial, "y": dw}, ["y"], note=f"sum of {parts} parts")


def winograd_weight_gradient(low: Lowering, node: Node, geometry: Geometry, choice: Choice) -> None:
    """The steps of Winograd's weight gradient, group by group."""
    window, groups, scheme = geometry.window, geometry.groups, choice.scheme
    assert scheme is not None
    sizes = (target_of(low), geometry.images, geometry.channels // groups, *geometry.size, geometry.filters // groups)
    plan = winograd_shapes_gradient.gradient_plan(*sizes, window.padding, scheme)
    between = {name: groups * plan.step.arguments[name] for name in ("x_image", "dy_image")}
    step = replace(plan.step, arguments={**plan.step.arguments, **between})
    note = f"weight gradient, winograd {scheme}: {scheme.fewer:.3g}x fewer products, {choice.because()}"
    for group in range(groups):
        weight_gradient(low, node, step, winograd_shapes_gradient.GRADIENT_ARGUMENTS, plan.parts, note, group, groups)


def plain(low: Lowering, node: Node, geometry: Geometry) -> None:
    """Any rank and any groups on plain tensors. The kernels name forward's tensors: x, w, y; in a gradient some of them
    are results.
    """
    expression, kinds, extras = (None, (), []) if node.op == "conv_weight_gradient" else epilogue(low, node)
    what, window = (
        {"conv": "forward", "conv_data_gradient": "data_gradient", "conv_weight_gradient": "weight_gradient"}[node.op],
        geometry.window,
    )
    plan = conv_shapes.plain_plan(
        target_of(low),
        what,
        geometry.images,
        geometry.channels,
        geometry.size,
        geometry.filters,
        window.kernel,
        window.stride,
        window.padding,
        window.dilation,
        geometry.groups,
        expression,
        kinds,
    )
    first, second = (low.ref(o) for o in node.inputs[:2])
    result = low.ref(node.name)
    if node.op == "conv_weight_gradient":
        buffers, writes = {"x": first, "w": result, "y": second}, ["w"]
    else:
        buffers, writes = {"x": first, "w": second, "y": result}, ["y"]
    bias = None if node.op == "conv_weight_gradient" else node.optional("bias")
    if bias is not None:
        buffers["bias"] = low.ref(bias)
    else:
        plan.arguments["bias"] = 0
    buffers |= {f"a{i}": low.ref(o) for i, o in enumerate(extras)}
    emit(
        low,
        node,
        plan,
        buffers,
        writes,
        (*conv_shapes.PLAIN_ARGUMENTS, *(f"a{i}" for i in range(len(extras)))),
        "generic",
    )


RULES: dict[str, Rule] = {
    "conv": conv,
    "conv_data_gradient": conv,
    "conv_weight_gradient": conv_weight_gradient,
}
