"""A graph to a Plan: the target's rule for each op emits kernels over buffers; updates are written where they belong, what
does not change goes into the setup, and the target arranges the rest, by which buffers get their places.
"""

from __future__ import annotations

from cnnc.diagnostics import error
from cnnc.ir.graph import Graph
from cnnc.ir.types import BATCH
from cnnc.lowering import chain
from cnnc.lowering.context import Lowering
from cnnc.lowering.hoist import hoist
from cnnc.lowering.place import Work
from cnnc.lowering.plan import Plan
from cnnc.lowering.target import Target
from cnnc.lowering.updates import write_updates

LARGEST = 2**62  # bytes of all buffers: addresses stay below 2^63


def lower(graph: Graph, batch: int, target: Target, workers: int = chain.WORKERS) -> Plan:
    """The Plan of a graph at a batch size, for about so many workers: any number can run it, to the same bits."""
    low = target.lowering(graph, batch, workers)
    for node in graph.nodes:
        if node.op in ("input", "param", "state"):
            where = "input" if node.op == "input" else "value"
            low.places[node.name] = low.buffer(node.name, where, node.type.bytes(batch))
            low.share(node.name)
        else:
            target.rule(node.op)(low, node)
    write_updates(low, target)
    outputs = tuple((label, _whole(low, target, value)) for label, value in graph.outputs)
    _check_sizes(low)
    setup, each = hoist(low)
    steps = [low.steps[i] for i in each]
    at = {i: position for position, i in enumerate(each)}
    reuse = {(at[i], written): read for (i, written), read in low.reusable.items() if i in at}
    placed = target.arrange(Work(low.buffers, steps, outputs, low.per_image, reuse, batch, workers))
    used = {b for s in (*setup, *placed.steps) for b in s.buffers()} | {b for _, b in placed.outputs}
    kept = tuple(b for b in placed.buffers if b.name in used or b.place == "input")
    return Plan(
        graph.name,
        target.name,
        batch,
        kept,
        tuple(setup),
        placed.steps,
        placed.outputs,
        placed.arena,
        placed.own,
        low.scratch,
    )


def _whole(low: Lowering, target: Target, value: str) -> str:
    """The buffer that holds a value and nothing else: a copy of one that is part of another."""
    place, type = low.ref(value), low.type(value)
    if low.whole(value):
        return place.buffer

    def copied() -> str:
        whole = low.buffer(f"{value}~output", "arena", type.bytes(low.batch))
        if type.shape[:1] == (BATCH,):
            low.per_image.add(whole.buffer)
        target.rule("copy")(low, low.graph.node(value), place, whole, type)
        return whole.buffer

    return low.once(("output", value), copied)


def _check_sizes(low: Lowering) -> None:
    """Raises `CnncError` (E0410, exit code 5) where addresses would pass 64 bits."""
    total = sum(b.bytes for b in low.buffers.values())
    if total >= LARGEST:
        most = max(low.buffers.values(), key=lambda b: b.bytes)
        raise error(
            "E0410",
            f"a batch of {low.batch} needs {total / 2**60:,.0f} EiB of memory",
            f"'{most.name}' takes {most.bytes / 2**60:,.3g} EiB of them",
            help="use a smaller batch" if low.batch > 1 else "make the network smaller",
            exit_code=5,
        )
