"""Convolutions over three axes of space: the steps of two-dimensional ones, run by run of slices (`conv_space.py`)."""

from __future__ import annotations

from dataclasses import replace

from cnnc.backends.cpu import convolution, groups
from cnnc.backends.cpu.choice import Choice, Geometry, choose
from cnnc.backends.cpu.common import Rule, epilogue, is_blocked, launch, target_of
from cnnc.backends.cpu.convolution import direct, winograd_steps
from cnnc.backends.cpu.depthwise import is_depthwise
from cnnc.backends.cpu.steps import emit, further, packed
from cnnc.ir.graph import Node
from cnnc.ir.types import product
from cnnc.kernels.cpu import (
    conv_shapes,
    conv_space,
    depthwise_shapes,
    depthwise_space,
    shapes,
    winograd_shapes_gradient,
)
from cnnc.kernels.cpu.conv_space import Volume
from cnnc.lowering.select import Lowering


def conv(low: Lowering, node: Node) -> None:
    """A convolution, or the gradient of its input."""
    geometry, volume, transposed = Geometry(low, node), _volume(low, node), node.op == "conv_data_gradient"
    if volume is None:
        convolution.RULES[node.op](low, node)
        return
    x, weight, bias, target = node.inputs[0], node.operand("weight"), node.optional("bias"), target_of(low)
    expression, kinds, _ = epilogue(low, node)
    choice = choose(low, node)
    if is_depthwise(geometry):
        _depthwise(low, node, volume, x, weight, bias)
        return
    if choice is not None and choice.scheme is not None:
        own = _of_a_group(volume)
        for piece in conv_space.winograd_pieces(target, own, choice.scheme, expression, kinds, transposed):
            there = further(low.ref(x), piece.x), further(low.ref(node.name), piece.y)
            winograd_steps(low, node, geometry, piece.plan, choice.scheme, *there, bias, choice.because(), piece.y)
        return
    if transposed:
        pieces = conv_space.direct_gradient_pieces(target, volume, expression, kinds)
    else:
        pieces = conv_space.direct_pieces(target, volume, not is_blocked(low.type(x)), expression, kinds)
    for piece in pieces:
        note = "data gradient" if transposed else ""
        direct(low, node, piece.plan, x, piece.y, bias, note, piece.x)


def _depthwise(low: Lowering, node: Node, volume: Volume, x: str, weight: str, bias: str | None) -> None:
    """The steps of the planes, each of which adds to what is there."""
    transposed = node.op == "conv_data_gradient"
    expression, kinds, extras = epilogue(low, node)
    for piece, first, last in depthwise_space.depthwise_pieces(target_of(low), volume, expression, kinds, transposed):
        y = further(low.ref(node.name), piece.y)
        buffers = {"x": further(low.ref(x), piece.x), "w": packed(low, node, weight, piece.plan.weights), "y": y}
        if first and bias is not None:
            buffers["bias"] = low.ref(bias)
        operands = [further(low.ref(o), piece.y if k == "full" else 0) for o, k in zip(extras, kinds, strict=True)]
        operands = [*(operands if last else []), *([] if first else [y])]
        buffers |= {f"a{i}": o for i, o in enumerate(operands)}
        order = (*depthwise_shapes.DEPTHWISE_ARGUMENTS, *(f"a{i}" for i in range(len(operands))))
        step = replace(piece.plan.step, arguments={"bias": 0, **piece.plan.step.arguments})
        emit(low, node, step, buffers, ["y"], order, "depthwise" + (" data gradient" if transposed else ""))


def _depthwise_weight_gradient(low: Lowering, node: Node, volume: Volume) -> None:
    """For each plane the step that sums over parts of the images, and the step that adds them."""
    (x, dy), dw = map(low.ref, node.inputs), low.ref(node.name)
    for plane in depthwise_space.depthwise_gradient_planes(target_of(low), volume):
        sums = low.buffer(f"{node.name}~sums", "arena", 4 * plane.plan.floats)
        if plane.plan.parts.links:
            low.divided.add(sums.buffer)
        buffers = {"x": further(x, plane.x), "dy": further(dy, plane.dy), "sums": sums}
        order = depthwise_shapes.DEPTHWISE_WEIGHT_GRADIENT_ARGUMENTS
        emit(low, node, plane.plan.parts, buffers, ["sums"], order, "depthwise weight gradient")
        buffers = {"sums": sums, "dw": further(dw, plane.dw)}
        emit(low, node, plane.plan.total, buffers, ["dw"], depthwise_shapes.DEPTHWISE_SUM_ARGUMENTS, "sum of the parts")


def conv_weight_gradient(low: Lowering, node: Node) -> None:
    volume, choice = _volume(low, node), choose(low, node)
    if volume is None:
        groups.conv_weight_gradient(low, node)
    elif is_depthwise(Geometry(low, node)):
        _depthwise_weight_gradient(low, node, volume)
    elif choice is not None and choice.scheme is not None:
        _winograd_weight_gradient(low, node, volume, choice)
    else:
        plain = not is_blocked(low.type(node.inputs[0]))
        order = conv_shapes.PLAIN_WEIGHT_GRADIENT_ARGUMENTS if plain else conv_shapes.WEIGHT_GRADIENT_ARGUMENTS
        x, dy = map(low.ref, node.inputs)
        for plane in conv_space.weight_gradient_planes(target_of(low), volume, plain):
            buffers = {
                "x": further(x, plane.x),
                "dy": further(dy, plane.dy),
                "dw": further(low.ref(node.name), plane.dw),
            }
            emit(low, node, plane.plan, buffers, ["dw"], order)


def _winograd_weight_gradient(low: Lowering, node: Node, volume: Volume, choice: Choice) -> None:
    """The steps by planes and groups, and the sum of their parts."""
    scheme, size = choice.scheme, product(low.shape(node.name))
    assert scheme is not None
    planes = conv_space.winograd_gradient_planes(target_of(low), _of_a_group(volume), scheme)
    parts, (x, dy), dw = planes[0].plan.parts, map(low.ref, node.inputs), low.ref(node.name)
    partial = dw if parts == 1 else low.buffer(f"{node.name}~parts", "arena", 4 * parts * size)
    note = f"weight gradient, winograd {scheme}: {scheme.fewer:.3g}x fewer products, {choice.because()}"
    for plane in planes:
        own = plane.plan.step.arguments
        whole = {name: volume.groups * own[name] for name in ("x_image", "dy_image", "dw_split")}
        step = replace(plane.plan.step, arguments={**own, **whole})
        for group in range(volume.groups):
            buffers = {
                "x": further(x, group * own["x_image"] + plane.x),
                "dy": further(dy, group * own["dy_image"] + plane.dy),
                "dw": further(partial, group * own["dw_split"] + plane.dw),
            }
            emit(low, node, step, buffers, ["dw"], winograd_shapes_gradient.GRADIENT_ARGUMENTS, note)
    if parts > 1:
        total = shapes.plan_reduce_axes(target_of(low), (parts, size), (0,), False)
        launch(low, node, total, {"x": partial, "y": dw}, ["y"], note=f"sum of {parts} parts")


def _volume(low: Lowering, node: Node) -> Volume | None:
    """The convolution's volume, where its kernels work on blocks of channels and it really has three axes."""
    blocked = node.inputs[1] if node.op == "conv_weight_gradient" else node.name
    return Geometry(low, node).volume if is_blocked(low.type(blocked)) else None


def _of_a_group(volume: Volume) -> Volume:
    channels, filters = volume.channels // volume.groups, volume.filters // volume.groups
    return replace(volume, channels=channels, filters=filters, groups=1)


RULES: dict[str, Rule] = {
    "conv": conv,
    "conv_data_gradient": conv,
    "conv_weight_gradient": conv_weight_gradient,
}
