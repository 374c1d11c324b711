"""The table of a network: a row per layer, totals, planned memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import cnnc.ops  # noqa: F401  (registers the ops)
from cnnc.describe import Facts, called, computes, facts, padding, per_axis, times
from cnnc.ir.display import shown
from cnnc.ir.graph import Graph, Node
from cnnc.ir.op import OPS
from cnnc.ir.receptive import Field
from cnnc.ir.types import product
from cnnc.locks import lazy
from cnnc.table import Column, Table

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Row:
    """A layer: output shape with the batch bound, trained parameters, multiply-adds of the batch, KiB of float32
    output.

    receptive_field: input pixels that a value sees along an axis; a number for each axis where they differ.
    """

    name: str
    op: str
    output: tuple[int, ...]
    params: int
    macs: int
    output_kib: float
    receptive_field: int | tuple[int, ...]
    facts: Facts


def receptive_fields(graph: Graph) -> dict[str, Field]:
    """The field of every value that an input reaches."""
    fields = {node.name: Field.of_input(node.type) for node in graph.inputs}
    for node in graph.nodes:
        seen = [fields[o] for o in node.inputs if o in fields]
        if seen:
            field = OPS[node.op].field(node, graph.operand_types(node), Field.join(seen))
            fields.update(dict.fromkeys(node.results, field))
    return fields


@dataclass(frozen=True)
class Summary:
    """`memory` gives the planned peak bytes of inference and of a training step (0 where there is none); None where nothing
    plans.
    """

    name: str
    batch: int
    rows: tuple[Row, ...]
    params: int
    plan: Callable[[], tuple[int, int]] | None = field(default=None, compare=False, repr=False)

    @property
    def macs(self) -> int:
        return sum(r.macs for r in self.rows)

    @property
    def output_kib(self) -> float:
        return sum(r.output_kib for r in self.rows)

    @lazy
    def memory(self) -> tuple[int, int] | None:
        return None if self.plan is None else self.plan()

    def to_json(self) -> dict[str, Any]:
        inference, training = self.memory or (None, None)
        return {
            "layers": [
                {
                    "name": r.name,
                    "op": r.op,
                    "output": list(r.output),
                    "params": r.params,
                    "macs": r.macs,
                    "output_kib": r.output_kib,
                    "receptive_field": list(r.receptive_field)
                    if isinstance(r.receptive_field, tuple)
                    else r.receptive_field,
                    "kernel": list(r.facts.kernel),
                    "stride": list(r.facts.stride),
                    "padding": [list(p) for p in r.facts.padding],
                    "dilation": list(r.facts.dilation),
                    "groups": r.facts.groups,
                    "weight": list(r.facts.weight),
                }
                for r in self.rows
            ],
            "totals": {"params": self.params, "macs": self.macs, "output_kib": self.output_kib},
            "memory": {"inference_bytes": inference, "training_bytes": training or None},
        }

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (
                r.name,
                r.op,
                times(r.facts.kernel),
                per_axis(r.facts.stride) if r.facts.stride else "",
                padding(r.facts),
                times(r.facts.weight),
                times(r.output),
                f"{r.params:,}" if r.params else "",
                f"{r.macs:,}" if r.macs else "",
                kib(r.output_kib),
                seen(r.receptive_field),
            )
            for r in self.rows
        ]

    def _footer(self) -> list[str]:
        lines = [
            f"{self.params:,} parameters ({mib(self.params * FLOAT_BYTES)}), "
            f"{self.macs:,} multiply-adds at batch {self.batch}"
        ]
        if self.memory is not None:
            training = f"{mib(self.memory[1])} for a training step" if self.memory[1] else "there is no training step"
            lines.append(f"planned peak memory: {mib(self.memory[0])} for inference, {training}")
        return lines

    def _totals(self) -> tuple[str, ...]:
        return ("total", *("",) * 6, f"{self.params:,}", f"{self.macs:,}", kib(self.output_kib), "")

    def table(self) -> Table:
        return Table(COLUMNS, self._cells(), self.name, self._totals(), self._footer())

    def __str__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return shown("table", self.table())


COLUMNS = (
    Column("layer"),
    Column("op", leaves=2),
    Column("kernel", True, leaves=4),
    Column("stride", True, leaves=5),
    Column("padding", True, leaves=8),
    Column("weight", True, leaves=9),
    Column("output", True, leaves=1),
    Column("parameters", True),
    Column("multiply-adds", True, leaves=3),
    Column("output\nKiB", True, leaves=6),
    Column("receptive\nfield", True, leaves=7),
)


def kib(value: float) -> str:
    return f"{value:,.2f}".rstrip("0").rstrip(".")


def mib(bytes: int) -> str:
    return f"{bytes / 2**20:,.1f} MiB" if bytes >= 2**20 else f"{bytes / 2**10:,.1f} KiB"


def seen(value: int | tuple[int, ...]) -> str:
    return times(value) if isinstance(value, tuple) else str(value) if value else ""


def summarize(graph: Graph, batch: int = 1, plan: Callable[[], tuple[int, int]] | None = None) -> Summary:
    """The summary of a source graph; `plan` is asked for the memory when somebody reads it."""
    trained = {n.name: product(n.type.concrete(1)) for n in graph.parameters}
    fields = receptive_fields(graph)
    rows = tuple(_row(graph, node, batch, trained, fields) for node in graph.nodes if computes(node))
    return Summary(graph.name, batch, rows, sum(trained.values()), plan)


def _row(graph: Graph, node: Node, batch: int, trained: Mapping[str, int], fields: Mapping[str, Field]) -> Row:
    output = node.type.concrete(batch)
    size = fields[node.name].size if node.name in fields else ()
    field: int | tuple[int, ...] = size if len(set(size)) > 1 else max(size, default=0)
    return Row(
        node.name,
        called(node),
        output,
        sum(trained.get(o, 0) for o in dict.fromkeys(node.inputs)),
        OPS[node.op].macs(node, graph.operand_types(node), batch),
        product(output) * FLOAT_BYTES / 1024,
        field,
        facts(graph, node),
    )
