"""What the rules share: launches of kernels as steps, and operands as the planners want them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cnnc.backends.cpu.why import why
from cnnc.ir import expression as ex
from cnnc.ir.graph import Node
from cnnc.ir.types import TensorType
from cnnc.kernels.cpu import shapes
from cnnc.kernels.cpu import target as targets
from cnnc.lowering.plan import KernelName, Ref
from cnnc.lowering.select import Lowering
from cnnc.ops.pointwise import channel_aligned

Rule = Callable[..., None]


def target_of(low: Lowering) -> targets.Target:
    """What the work is cut for. (Algorithms are chosen for `low.target`, whatever the number of workers.)"""
    target: targets.Target = low.target
    return target.shared_by(low.workers)


def kernel_name(kernel: Any) -> KernelName:
    return KernelName(kernel.family, tuple(kernel.parameters))


def launch(
    low: Lowering,
    node: Node,
    plan: shapes.Launch,
    buffers: Mapping[str, Ref],
    writes: Iterable[str],
    reuse: Mapping[str, str] | None = None,
    note: str = "",
) -> None:
    """A step from a planner's launch. `buffers` and `writes` go by the kernel's argument names; a buffer's number in
    the launch is a byte offset. `reuse` maps a written argument to one whose memory it may take over.
    """
    arguments: dict[str, int | Ref] = {}
    for name, number in plan.arguments.items():
        ref = buffers.get(name)
        arguments[name] = number if ref is None else Ref(ref.buffer, ref.offset + number)
    assert set(plan.buffers) <= set(buffers) or not plan.chunks, (
        f"{plan.kernel.family}: {plan.buffers} are not {tuple(buffers)}"
    )
    kernel = kernel_name(plan.kernel)
    low.step(
        node,
        kernel,
        arguments,
        plan.chunks,
        [buffers[w] for w in writes],
        plan.scratch,
        why(low, node, kernel, note),
        {buffers[w].buffer: buffers[r].buffer for w, r in (reuse or {}).items()},
        plan.links,
    )


def is_blocked(t: TensorType) -> bool:
    return t.block > 1


def as_result(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape that loops can be made of: a number is a vector of one."""
    return tuple(shape) or (1,)


def operand(low: Lowering, value: str, rank: int) -> shapes.Operand:
    t = low.type(value)
    return shapes.Operand(tuple(int(d) for d in channel_aligned(low.shape(value), rank)), is_blocked(t))


def epilogue(low: Lowering, node: Node) -> tuple[Any, tuple[str, ...], list[str]]:
    """The expression behind a contraction, the kinds of its operands, and the operands."""
    extras = [o for o in node.operands[3:] if o is not None]
    kinds = tuple("full" if low.type(o).rank > 1 else "channel" if low.type(o).rank == 1 else "scalar" for o in extras)
    text = node.attributes.get("epilogue")
    return (ex.parse(text) if text is not None else None), kinds, extras
