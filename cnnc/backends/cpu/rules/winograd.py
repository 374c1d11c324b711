"""Winograd's convolution, its data gradient and its weight gradient on the CPU, group by group."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cnnc.backends.cpu import parts
from cnnc.backends.cpu.choice import Choice, choose
from cnnc.backends.cpu.context import Lowering, Part
from cnnc.backends.cpu.emit import apart, emit, offset, packed, target_of
from cnnc.backends.cpu.problem import Problem
from cnnc.backends.cpu.rules.direct import Group, parts_of_weights, pooling
from cnnc.ir.graph import Node
from cnnc.ir.types import product
from cnnc.kernels.cpu.winograd.gradient_plan import GradientProblem, gradient_plan
from cnnc.kernels.cpu.winograd.plan import Problem as Winograd
from cnnc.kernels.cpu.winograd.plan import WinogradPlan, winograd_plan
from cnnc.lowering.plan import Ref


@dataclass(frozen=True)
class Places:
    """Where what is read and written begins; floats from the start of operands like y. part: what y is."""

    x: Ref
    y: Ref
    offset: int = 0
    part: Part | None = None


def steps(low: Lowering, node: Node, p: Problem, plan: WinogradPlan, at: Places, because: str) -> None:
    """The steps of a plan for the channels of one group, for each of them."""
    scheme, groups, size = plan.weights.scheme, p.conv.groups, plan.step.arguments
    results = (p.conv.channels if p.transposed else p.conv.filters) // groups
    between = {name: groups * size[name] for name in ("x_image", "y_image")}
    launch = parts.into(at.part, apart(low, p.weight, replace(plan.step, arguments={**size, **between})))
    what = "data gradient, " if p.transposed else ""
    note = f"{what}winograd {scheme}: {scheme.fewer:.3g}x fewer products, {because}"
    for group in range(groups):
        starts = {"full": group * size["y_image"], "channel": group * results, "scalar": 0}
        buffers: dict[str, Ref | None] = {
            "x": offset(at.x, group * size["x_image"]),
            "w": packed(low, node, p.weight, plan.weights, group * product(low.shape(p.weight)) // groups),
            "y": offset(at.y, starts["full"]),
            "bias": None if p.bias is None else offset(low.ref(p.bias), starts["channel"]),
        }
        for name, value, kind in zip(p.epilogue.names, p.operands, p.epilogue.operands, strict=True):
            buffers[name] = offset(low.ref(value), starts[kind] + (at.offset if kind == "full" else 0))
        emit(low, node, launch, buffers, ["y"], note=note)


def convolution(low: Lowering, node: Node, p: Problem) -> bool:
    """The convolution or the gradient of its input, where that was chosen; with the maxima of a pooling behind it."""
    choice = choose(low, node)
    if choice is None or choice.scheme is None:
        return False
    conv, scheme = p.two.of_group, choice.scheme
    pool = None if p.transposed or conv.dilation != (1, 1) or scheme.tall % 2 else pooling(low, node, p)
    plan = winograd_plan(Winograd(target_of(low), scheme, conv, p.transposed), p.epilogue, window=2 if pool else 1)
    if pool:
        low.written.add(pool.name)
    part = None if pool else parts.part(low, node.name, p)
    y = low.ref(pool.name if pool else node.name) if part is None else part.ref
    because = choice.because() + (f"; with the maxima of {pool.name}" if pool else "")
    steps(low, node, p, plan, Places(low.ref(p.x), y, part=part), because)
    return True


def gradient_note(choice: Choice) -> str:
    assert choice.scheme is not None
    return f"weight gradient, winograd {choice.scheme}: {choice.scheme.fewer:.3g}x fewer products, {choice.because()}"


def weight_gradient(low: Lowering, node: Node, p: Problem) -> bool:
    """The gradient of the weights, where that was chosen."""
    choice = choose(low, node)
    if choice is None or choice.scheme is None:
        return False
    groups, plan = p.conv.groups, gradient_plan(GradientProblem(target_of(low), choice.scheme, p.two.of_group))
    between = {name: groups * plan.step.arguments[name] for name in ("x_image", "dy_image")}
    launch = replace(plan.step, arguments={**plan.step.arguments, **between})
    for group in range(groups):
        parts_of_weights(low, node, launch, plan.parts, gradient_note(choice), Group(group, groups))
    return True
