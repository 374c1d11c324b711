"""From a planner's launch to a step of the Plan, and tensors as maps see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cnnc.backends.cuda.context import Lowering
from cnnc.ir.graph import Node
from cnnc.ir.types import TensorType
from cnnc.kernels.cpu.launches import Launch
from cnnc.kernels.cuda.elementwise.map_plan import IDENTITY, Space, View, plan_map
from cnnc.lowering.plan import KernelName, Ref, Step
from cnnc.ops.pointwise import channel_aligned


def emit(
    low: Lowering, node: Node, launch: Launch, buffers: Mapping[str, Ref], writes: Iterable[str], note: str = ""
) -> None:
    """A step from a planner's launch. `buffers` and `writes` go by the kernel's argument names; a buffer's number in the launch is
    a byte offset.
    """
    tables = {name: low.table(name, numbers.tolist()) for name, numbers in launch.tables.items()}
    arguments: dict[str, int | Ref] = {}
    for name, number in launch.arguments.items():
        ref = tables.get(name) or buffers.get(name)
        arguments[name] = number if ref is None else Ref(ref.buffer, ref.offset + number)
    assert set(launch.buffers) <= set(buffers), f"{launch.kernel.family}: {launch.buffers} are not {tuple(buffers)}"
    kernel = KernelName(launch.kernel.family, tuple(launch.kernel.parameters))
    written = tuple(dict.fromkeys(buffers[w].buffer for w in writes))
    low.append(Step(node.name, kernel, tuple(arguments.items()), launch.chunks, written, note))


def is_blocked(t: TensorType) -> bool:
    return t.block > 1


def as_result(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape that loops can be made of: a number is a vector of one."""
    return tuple(int(d) for d in shape) or (1,)


Placed = tuple[Ref, View]


def at(
    space: Space,
    ref: Ref,
    shape: Sequence[int],
    blocked: bool = False,
    steps: Sequence[int] | None = None,
    start: int = 0,
) -> Placed:
    """A tensor as a map over the space reads it: its buffer, and the view with all that lies in front. start: in floats."""
    own = tuple(int(d) for d in shape)
    return Ref(ref.buffer), space.view(own, blocked, steps, start + ref.offset // 4)


def value_at(low: Lowering, space: Space, value: str) -> Placed:
    """A value, with axes of 1 put in so that it broadcasts."""
    shape = channel_aligned(low.shape(value), len(space.shape))
    return at(space, low.ref(value), as_result([int(d) for d in shape]), is_blocked(low.type(value)))


def map_to(
    low: Lowering, node: Node, space: Space, results: Sequence[Placed], operands: Sequence[Placed],
    expressions: Sequence[Any] = (IDENTITY,), note: str = "",
) -> None:  # fmt: skip
    """A step that writes expressions of the operands."""
    launch = plan_map(space, [view for _, view in results], [view for _, view in operands], expressions)
    buffers = {f"y{i}": ref for i, (ref, _) in enumerate(results)} | {
        f"a{i}": ref for i, (ref, _) in enumerate(operands)
    }
    emit(low, node, launch, buffers, [f"y{i}" for i in range(len(results))], note)


def scratch(low: Lowering, stem: str, floats: int) -> Ref:
    """Memory for what is between two steps of a node."""
    return low.buffer(stem, "arena", 4 * floats)


def in_blocks(low: Lowering, node: Node, value: str) -> Ref:
    """An activation in blocks of channels: itself, or a copy that its users share."""
    if is_blocked(low.type(value)):
        return low.ref(value)
    shape = as_result(low.shape(value))

    def make() -> Ref:
        space = Space(shape, True)
        size = 1
        for axis in space.axes:
            size *= axis
        ref = scratch(low, f"{value}~blocks", size)
        map_to(
            low,
            node,
            space,
            [at(space, ref, shape, True)],
            [at(space, low.ref(value), shape)],
            note="in blocks of channels",
        )
        return ref

    return low.once(("blocks", value), make)
