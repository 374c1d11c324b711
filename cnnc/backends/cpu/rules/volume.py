"""Convolutions over three axes of space: the steps of two-dimensional ones, run by run of slices (`kernels/cpu/volume/plan.py`)."""

from __future__ import annotations

from dataclasses import replace

from cnnc.backends.cpu.choice import choose
from cnnc.backends.cpu.context import Lowering
from cnnc.backends.cpu.emit import emit, is_blocked, offset, packed, target_of
from cnnc.backends.cpu.problem import Problem
from cnnc.backends.cpu.rules import direct, winograd
from cnnc.ir.graph import Node
from cnnc.ir.types import product
from cnnc.kernels.cpu.elementwise import reduce_plan
from cnnc.kernels.cpu.volume import depthwise as depthwise_volume
from cnnc.kernels.cpu.volume import plan as volume_plans


def _applies(low: Lowering, node: Node, p: Problem) -> bool:
    """Whether there really are three axes, and the kernels work on blocks of channels."""
    return p.flat is None and is_blocked(low.type(p.weight if p.op == "conv_weight_gradient" else node.name))


def convolution(low: Lowering, node: Node, p: Problem) -> bool:
    """A convolution, or the gradient of its input."""
    if not _applies(low, node, p):
        return False
    target, choice = target_of(low), choose(low, node)
    if p.conv.depthwise:
        _depthwise(low, node, p)
    elif choice is not None and choice.scheme is not None:
        own = p.conv.of_group
        for piece in volume_plans.winograd_pieces(target, own, choice.scheme, p.epilogue, p.transposed):
            at = winograd.Places(offset(low.ref(p.x), piece.x), offset(low.ref(node.name), piece.y), piece.y)
            winograd.steps(low, node, p, piece.plan, at, choice.because())
    else:
        if p.transposed:
            pieces = volume_plans.direct_gradient_pieces(target, p.conv, p.epilogue)
        else:
            pieces = volume_plans.direct_pieces(target, p.conv, not is_blocked(low.type(p.x)), p.epilogue)
        note = "data gradient" if p.transposed else ""
        for piece in pieces:
            direct.step(low, node, p, piece.plan, note, direct.Offsets(piece.x, piece.y))
    return True


def _depthwise(low: Lowering, node: Node, p: Problem) -> None:
    """The steps of the planes, each of which adds to what is there."""
    pieces = depthwise_volume.depthwise_pieces(target_of(low), p.conv, p.epilogue, p.transposed)
    for piece, first, last in pieces:
        y = offset(low.ref(node.name), piece.y)
        buffers = {
            "x": offset(low.ref(p.x), piece.x),
            "w": packed(low, node, p.weight, piece.plan.weights),
            "y": y,
            "bias": low.ref(p.bias) if first and p.bias is not None else None,
        }
        kinds = zip(p.operands, p.epilogue.operands, strict=True)
        operands = [offset(low.ref(o), piece.y if kind == "full" else 0) for o, kind in kinds]
        operands = [*(operands if last else []), *([] if first else [y])]
        buffers |= {f"a{i}": o for i, o in enumerate(operands)}
        note = "depthwise" + (" data gradient" if p.transposed else "")
        emit(low, node, piece.plan.step, buffers, ["y"], note=note)


def weight_gradient(low: Lowering, node: Node, p: Problem) -> bool:
    """The gradient of its weights, plane by plane."""
    if not _applies(low, node, p):
        return False
    choice = choose(low, node)
    if p.conv.depthwise:
        _depthwise_weight_gradient(low, node, p)
    elif choice is not None and choice.scheme is not None:
        _winograd_weight_gradient(low, node, p)
    else:
        for plane in volume_plans.weight_gradient_planes(target_of(low), p.conv, not is_blocked(low.type(p.x))):
            buffers = {
                "x": offset(low.ref(p.x), plane.x),
                "dy": offset(low.ref(p.weight), plane.dy),
                "dw": offset(low.ref(node.name), plane.dw),
            }
            emit(low, node, plane.plan, buffers, ["dw"])
    return True


def _depthwise_weight_gradient(low: Lowering, node: Node, p: Problem) -> None:
    """For each plane the step that sums over parts of the images, and the step that adds them."""
    (x, dy), dw = map(low.ref, node.inputs), low.ref(node.name)
    for plane in depthwise_volume.depthwise_gradient_planes(target_of(low), p.conv):
        sums = low.buffer(f"{node.name}~sums", "arena", 4 * plane.plan.floats)
        if plane.plan.parts.links:
            low.per_image.add(sums.buffer)
        buffers = {"x": offset(x, plane.x), "dy": offset(dy, plane.dy), "sums": sums}
        emit(low, node, plane.plan.parts, buffers, ["sums"], note="depthwise weight gradient")
        buffers = {"sums": sums, "dw": offset(dw, plane.dw)}
        emit(low, node, plane.plan.total, buffers, ["dw"], note="sum of the parts")


def _winograd_weight_gradient(low: Lowering, node: Node, p: Problem) -> None:
    """The steps by planes and groups, and the sum of their parts."""
    choice, size, groups = choose(low, node), product(low.shape(node.name)), p.conv.groups
    assert choice is not None
    assert choice.scheme is not None
    planes = volume_plans.winograd_gradient_planes(target_of(low), p.conv.of_group, choice.scheme)
    parts, (x, dy), dw = planes[0].plan.parts, map(low.ref, node.inputs), low.ref(node.name)
    partial = dw if parts == 1 else low.buffer(f"{node.name}~parts", "arena", 4 * parts * size)
    for plane in planes:
        own = plane.plan.step.arguments
        whole = {name: groups * own[name] for name in ("x_image", "dy_image", "dw_split")}
        launch = replace(plane.plan.step, arguments={**own, **whole})
        for group in range(groups):
            buffers = {
                "x": offset(x, group * own["x_image"] + plane.x),
                "dy": offset(dy, group * own["dy_image"] + plane.dy),
                "dw": offset(partial, group * own["dw_split"] + plane.dw),
            }
            emit(low, node, launch, buffers, ["dw"], note=winograd.gradient_note(choice))
    if parts > 1:
        total = reduce_plan.plan_reduce_axes(target_of(low), (parts, size), (0,), False)
        emit(low, node, total, {"x": partial, "y": dw}, ["y"], note=f"sum of {parts} parts")
