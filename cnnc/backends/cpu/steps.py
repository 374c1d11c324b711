"""Steps of convolutions: from a plan to a step, and the packing of the weights that it wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from cnnc.backends.cpu.common import kernel_name
from cnnc.backends.cpu.why import why
from cnnc.ir.graph import Node
from cnnc.kernels.cpu import conv_shapes, conv_shapes_bands, conv_shapes_spread, winograd_scheme
from cnnc.lowering.plan import Ref
from cnnc.lowering.select import Lowering

# The step that packs weights into a form, and the order of its kernel's arguments.
PACKING: dict[type, tuple[Callable[[Any], conv_shapes.KernelPlan], Sequence[str]]] = {
    conv_shapes.PackedWeights: (conv_shapes.pack_plan, conv_shapes.PACK_ARGUMENTS),
    conv_shapes_bands.BandedWeights: (conv_shapes_bands.band_pack_plan, conv_shapes_bands.BAND_PACK_ARGUMENTS),
    conv_shapes_spread.SpreadWeights: (conv_shapes_spread.spread_pack_plan, conv_shapes_spread.SPREAD_PACK_ARGUMENTS),
    winograd_scheme.WinogradWeights: (winograd_scheme.winograd_pack_plan, winograd_scheme.PACK_ARGUMENTS),
}


def emit(
    low: Lowering,
    node: Node,
    plan: Any,
    buffers: dict[str, Ref],
    writes: Sequence[str],
    order: Sequence[str],
    note: str = "",
) -> None:
    """A step from a plan that names its integers and tables; `order` is that of the kernel's arguments."""
    known: dict[str, int | Ref] = {**plan.arguments, **buffers}
    for name, numbers in plan.tables.items():
        known[name] = low.table(name, numbers.tolist())
    kernel = kernel_name(plan.kernel)
    low.step(
        node,
        kernel,
        {name: known[name] for name in order},
        plan.chunks,
        [buffers[w] for w in writes],
        plan.scratch,
        why(low, node, kernel, note),
        links=plan.links,
    )


def merged(low: Lowering, weight: str) -> bool:
    """Whether weights are those of several groups made one."""
    return low.graph.node(weight).op == "merge_groups"


def apart(low: Lowering, weight: str, step: Any) -> Any:
    """The step of a convolution with the weights, which lets no value that is not finite into a group merged with its own."""
    if not merged(low, weight):
        return step
    return replace(step, kernel=replace(step.kernel, parameters=(*step.kernel.parameters, ("merged", True))))


def further(ref: Ref, floats: int) -> Ref:
    """The place that many floats behind another."""
    return Ref(ref.buffer, ref.offset + 4 * floats)


def packed(low: Lowering, node: Node, weight: str, form: Any, start: int = 0) -> Ref:
    """Weights in the kernel's order, from the float `start` on; convolutions that want the same form of the same
    weights share it.
    """

    def make() -> Ref:
        target = low.buffer(f"{weight}~packed", "arena", 4 * form.floats)
        plan, order = PACKING[type(form)]
        emit(low, node, plan(form), {"source": further(low.ref(weight), start), "packed": target}, ["packed"], order)
        return target

    return low.once(("packed", weight, form, start), make)
