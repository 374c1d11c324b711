"""The direct convolution, its data gradient and its weight gradient on the CPU; and what does for any rank on plain tensors."""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.backends.cpu import parts
from cnnc.backends.cpu.choice import choose
from cnnc.backends.cpu.context import Lowering, Part
from cnnc.backends.cpu.emit import apart, emit, is_blocked, maybe, merged, offset, packed, target_of
from cnnc.backends.cpu.problem import Problem
from cnnc.ir.graph import Node
from cnnc.ir.types import product
from cnnc.kernels.cpu.conv import gradient_plan as gradient_plans
from cnnc.kernels.cpu.conv import plan as conv_plans
from cnnc.kernels.cpu.conv.arguments import ConvPlan
from cnnc.kernels.cpu.conv.pooled_plan import pooled_plan
from cnnc.kernels.cpu.elementwise import reduce_plan
from cnnc.kernels.cpu.launches import Launch
from cnnc.ops.pool import window_of


@dataclass(frozen=True)
class Offsets:
    """Floats from the start of x, and of y and the operands like it. part: what y is, where it is part of another value."""

    x: int = 0
    y: int = 0
    part: Part | None = None


def step(low: Lowering, node: Node, p: Problem, plan: ConvPlan, note: str = "", at: Offsets = Offsets()) -> None:
    """A step of the direct convolution, with the packing of its weights before it."""
    y = offset(low.ref(node.name) if at.part is None else at.part.ref, at.y)
    buffers = {"x": offset(low.ref(p.x), at.x), "w": packed(low, node, p.weight, plan.weights), "y": y}
    kinds = p.epilogue.operands
    for name, value, kind in zip(p.epilogue.names, p.operands, kinds, strict=True):
        buffers[name] = offset(low.ref(value), at.y if kind == "full" else 0)
    launch, tile = parts.into(at.part, apart(low, p.weight, plan.step)), dict(plan.step.kernel.parameters)
    note = note or f"direct {tile.get('pixels')}x{tile.get('vectors')}"
    emit(low, node, launch, {**buffers, "bias": maybe(low, p.bias)}, ["y"], note=note)


def forward(low: Lowering, node: Node, p: Problem) -> bool:
    """The forward convolution over two axes."""
    if p.transposed:
        return False
    plan = conv_plans.direct_plan(target_of(low), p.two, p.epilogue, plain=not is_blocked(low.type(p.x)))
    step(low, node, p, plan, at=Offsets(part=parts.part(low, node.name, p)))
    return True


def data_gradient(low: Lowering, node: Node, p: Problem) -> bool:
    """The gradient of its input, by residues of the strides."""
    plans = conv_plans.data_gradient_plans(target_of(low), p.two, p.epilogue)
    note = "data gradient" + (f", {len(plans)} parities" if len(plans) > 1 else "")
    for parity in plans:
        step(low, node, p, parity.plan, note, Offsets(y=parity.offset))
    return True


def pooling(low: Lowering, node: Node, p: Problem) -> Node | None:
    """The max pooling by 2 x 2 behind a convolution, where nothing else reads the convolution's result and the step of
    the convolution can take the maxima. The pooling's own rule finds its value already there.
    """
    user, shape = low.graph.only_user(node.name), low.shape(node.name)
    if user is None or user.op != "maxpool" or "full" in p.epilogue.operands:
        return None
    window = window_of(user.attributes, len(shape) - 2)
    regular = window.kernel == window.stride == (2, 2) and window.dilation == (1, 1)
    whole = all(size % 2 == 0 for size in shape[2:]) and all(pad == (0, 0) for pad in window.padding)
    return user if regular and whole and is_blocked(low.type(user.name)) else None


def pooled(low: Lowering, node: Node, p: Problem) -> bool:
    """A convolution of plain channels with the pooling behind it, where there is one."""
    if p.transposed or p.epilogue.operands or is_blocked(low.type(p.x)) or merged(low, p.weight):
        return False
    pool = pooling(low, node, p)
    if pool is None or p.conv.groups > 1 or any(n != 1 for n in (*p.conv.stride, *p.conv.dilation)):
        return False
    plan = pooled_plan(target_of(low), p.two, p.epilogue)
    low.written.add(pool.name)
    buffers = {"x": low.ref(p.x), "w": packed(low, node, p.weight, plan.weights), "y": low.ref(pool.name)}
    tile = f"direct 2x{2 * plan.step.arguments['pairs']}"
    note = f"{tile}, with the maxima of {pool.name}: few channels, read plain"
    emit(low, node, plan.step, {**buffers, "bias": maybe(low, p.bias)}, ["y"], note=note)
    return True


@dataclass(frozen=True)
class Group:
    """One of the groups of a convolution."""

    index: int = 0
    count: int = 1


def parts_of_weights(
    low: Lowering, node: Node, launch: Launch, count: int, note: str = "", group: Group = Group()
) -> None:  # fmt: skip
    """The step that writes dw, or that of one of its groups; or, of several parts of the pixels, the one that writes a dw
    of each, and their sum.
    """
    size = product(low.shape(node.name)) // group.count
    x, dy = (
        offset(low.ref(o), group.index * launch.arguments[f"{name}_image"] // group.count)
        for o, name in zip(node.inputs, ("x", "dy"), strict=True)
    )
    dw = offset(low.ref(node.name), group.index * size)
    partial = dw if count == 1 else low.buffer(f"{node.name}~parts", "arena", 4 * count * size)
    if launch.links:
        low.per_image.add(partial.buffer)
    emit(low, node, launch, {"x": x, "dy": dy, "dw": partial}, ["dw"], note=note)
    if count > 1:
        total = reduce_plan.plan_reduce_axes(target_of(low), (count, size), (0,), False)
        emit(low, node, total, {"x": partial, "y": dw}, ["y"], note=f"sum of {count} parts")


def weight_gradient(low: Lowering, node: Node, p: Problem) -> bool:
    """The gradient of its weights."""
    choice = choose(low, node)
    launch = gradient_plans.weight_gradient_plan(target_of(low), p.two, plain=not is_blocked(low.type(p.x)))
    note = f"direct: {choice.because()}" if choice is not None else ""
    parts_of_weights(low, node, launch, launch.arguments.get("parts", 1), note)
    return True


def plain(low: Lowering, node: Node, p: Problem) -> bool:
    """Any rank and any groups, where the result is plain. The kernels name forward's tensors: x, w, y; in a gradient some of them
    are results.
    """
    gradient = node.op == "conv_weight_gradient"
    if is_blocked(low.type(p.weight if gradient else node.name)):
        return False
    launch = gradient_plans.plain_plan(target_of(low), p.op, p.conv, p.epilogue)
    first, second, result = low.ref(p.x), low.ref(p.weight), low.ref(node.name)
    buffers = {"x": first, "w": result, "y": second} if gradient else {"x": first, "w": second, "y": result}
    buffers |= {name: low.ref(value) for name, value in zip(p.epilogue.names, p.operands, strict=True)}
    emit(low, node, launch, {**buffers, "bias": maybe(low, p.bias)}, ["w" if gradient else "y"], note="generic")
    return True
