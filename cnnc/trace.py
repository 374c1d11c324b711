"""The inner values of a call: a graph whose outputs they are, and whether there is memory for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cnnc.ir.graph import Graph
from cnnc.ir.types import product
from cnnc.passes.eliminate_dead import EliminateDead
from cnnc.passes.named import chosen, values
from cnnc.runtime import room


def traced(graph: Graph, names: Sequence[str] | None = None) -> Graph:
    """The graph with values as its outputs, all of them unless named. Raises `CnncError` (E0706, E0830)."""
    known = values(graph)
    wanted = known if names is None else chosen("names", names, known)
    return EliminateDead().apply(replace(graph, outputs=tuple((v, v) for v in wanted), updates=()))


def check_room(graph: Graph, batch: int) -> None:
    """Raises `CnncError` (E0410) where the outputs of a graph, as float32, do not fit in what is left."""
    sizes = {v: 4 * product(graph.type(v).concrete(batch)) for _, v in graph.outputs}
    largest = max(sizes, key=lambda name: sizes[name], default="")
    room.check(
        sum(sizes.values()),
        f" for {len(sizes)} values of a batch of {batch}",
        f"the largest is '{largest}', {sizes.get(largest, 0) / 2**20:,.1f} MiB; names=[...] asks for some of them only",
    )
