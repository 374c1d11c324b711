"""From a planner's launch to a step of the Plan, and the packing of the weights that it wants."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cnnc.backends.cpu.context import Lowering
from cnnc.backends.cpu.why import why
from cnnc.ir.graph import Node
from cnnc.ir.types import TensorType
from cnnc.kernels.cpu import target as targets
from cnnc.kernels.cpu.conv.arguments import PackedWeights, pack_plan
from cnnc.kernels.cpu.conv.bands_plan import BandedWeights, band_pack_plan
from cnnc.kernels.cpu.conv.spread_plan import SpreadWeights, spread_pack_plan
from cnnc.kernels.cpu.elementwise.map_plan import Operand
from cnnc.kernels.cpu.launches import Launch
from cnnc.kernels.cpu.winograd.scheme import WinogradWeights, winograd_pack_plan
from cnnc.lowering.plan import KernelName, Ref, Step
from cnnc.ops.pointwise import channel_aligned

# The step that packs weights into a form.
PACKING: dict[type, Callable[[Any], Launch]] = {
    PackedWeights: pack_plan,
    BandedWeights: band_pack_plan,
    SpreadWeights: spread_pack_plan,
    WinogradWeights: winograd_pack_plan,
}


def target_of(low: Lowering) -> targets.Target:
    """What the work is cut for. (Algorithms are chosen for `low.target`, whatever the number of workers.)"""
    return low.target.shared_by(low.workers)


def emit(
    low: Lowering,
    node: Node,
    launch: Launch,
    buffers: Mapping[str, Ref | None],
    writes: Iterable[str],
    reuse: Mapping[str, str] | None = None,
    note: str = "",
) -> None:
    """A step from a planner's launch. `buffers` and `writes` go by the kernel's argument names; a buffer's number in
    the launch is a byte offset; one that is None is not there, and its address 0. `reuse` maps a written argument to one whose
    memory it may take over.
    """
    tables = {name: low.table(name, numbers.tolist()) for name, numbers in launch.tables.items()}
    arguments: dict[str, int | Ref] = {}
    for name, number in launch.arguments.items():
        ref = tables.get(name) or buffers.get(name)
        arguments[name] = number if ref is None else Ref(ref.buffer, ref.offset + number)
    assert set(launch.buffers) <= set(buffers) or not launch.chunks, (
        f"{launch.kernel.family}: {launch.buffers} are not {tuple(buffers)}"
    )
    there = {name: ref for name, ref in buffers.items() if ref is not None}
    kernel = KernelName(launch.kernel.family, tuple(launch.kernel.parameters))
    written = tuple(dict.fromkeys(there[w].buffer for w in writes))
    note = why(low, node, kernel, note)
    step = Step(node.name, kernel, tuple(arguments.items()), launch.chunks, written, note, launch.links)
    low.append(step, launch.scratch, {there[w].buffer: there[r].buffer for w, r in (reuse or {}).items()})


def is_blocked(t: TensorType) -> bool:
    return t.block > 1


def as_result(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape that loops can be made of: a number is a vector of one."""
    return tuple(shape) or (1,)


def operand(low: Lowering, value: str, rank: int) -> Operand:
    t = low.type(value)
    return Operand(tuple(int(d) for d in channel_aligned(low.shape(value), rank)), is_blocked(t))


def maybe(low: Lowering, value: str | None) -> Ref | None:
    """Where an operand lies that may be absent."""
    return None if value is None else low.ref(value)


def offset(ref: Ref, floats: int) -> Ref:
    """The place that many floats behind another."""
    return Ref(ref.buffer, ref.offset + 4 * floats)


def merged(low: Lowering, weight: str) -> bool:
    """Whether weights are those of several groups made one."""
    return low.graph.node(weight).op == "merge_groups"


def apart(low: Lowering, weight: str, launch: Launch) -> Launch:
    """The step of a convolution with the weights, which lets no value that is not finite into a group merged with its own."""
    if not merged(low, weight):
        return launch
    kernel = replace(launch.kernel, parameters=(*launch.kernel.parameters, ("merged", True)))
    return replace(launch, kernel=kernel)


def packed(low: Lowering, node: Node, weight: str, form: Any, start: int = 0) -> Ref:
    """Weights in the kernel's order, from the float `start` on; convolutions that want the same form of the same
    weights share it.
    """

    def make() -> Ref:
        target = low.buffer(f"{weight}~packed", "arena", 4 * form.floats)
        source = offset(low.ref(weight), start)
        emit(low, node, PACKING[type(form)](form), {"source": source, "packed": target}, ["packed"])
        return target

    return low.once(("packed", weight, form, start), make)
