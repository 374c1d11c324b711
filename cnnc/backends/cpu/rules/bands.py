"""Sums over neighboring values by tables of weights: interpolation, averages over uneven windows, and their gradients."""

from __future__ import annotations

from collections.abc import Sequence

from cnnc.backends.cpu.context import Lowering
from cnnc.backends.cpu.emit import emit, is_blocked, target_of
from cnnc.ir.graph import Node
from cnnc.kernels.cpu.pool.bands_plan import Band, plan_bands
from cnnc.ops.adaptive_pool import averages
from cnnc.ops.bands import Bands
from cnnc.ops.upsample import interpolations

OPS = {
    **dict.fromkeys(("upsample", "upsample_gradient"), interpolations),
    **dict.fromkeys(("adaptive_avgpool", "adaptive_avgpool_gradient"), averages),
}


def sums(low: Lowering, node: Node) -> None:
    x = node.inputs[0]
    shape, size = low.shape(x), low.shape(node.name)[2:]
    bands: Sequence[Bands]
    if node.op.endswith("_gradient"):
        bands = [b.transposed for b in OPS[node.op](node, size, shape[2:])]
    else:
        bands = OPS[node.op](node, shape[2:], size)
    own = [Band(b.size, b.first, b.count, b.weight) for b in bands]
    plan = plan_bands(target_of(low), shape, is_blocked(node.type), own)
    emit(low, node, plan, {"x": low.ref(x), "y": low.ref(node.name)}, ["y"])
