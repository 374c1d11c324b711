"""The Executable: a compiled network that is called like a function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnc.arguments import of_kind, wrong
from cnnc.ir.display import shown
from cnnc.ir.graph import Graph
from cnnc.ir.types import Dim
from cnnc.locks import lazy
from cnnc.lowering.memory import Memory
from cnnc.lowering.target import Array, Runnable
from cnnc.passes.manager import Stages
from cnnc.runtime.inputs import Signature, whole


class Executable:
    """A compiled network. Several threads may call it.

    exe(x) takes the inputs in order or by name: arrays [N, ...] of any batch N, converted to the graph's element types
    where they differ. It returns the one output as an ndarray, or a dict of several by name. Each result is memory of
    its own.
    """

    def __init__(self, runner: Runnable, stages: Stages) -> None:
        self.runner = runner
        self.stages = stages
        self.classes: tuple[str, ...] | None = None  # their names, where the network knew them

    @property
    def graph(self) -> Graph:
        """The graph after all passes."""
        return self.runner.graph

    @property
    def representative(self) -> Graph:
        """The graph; of a network with open sizes, that of some."""
        return self.graph

    @property
    def input_shapes(self) -> dict[str, tuple[Dim, ...]]:
        """The shapes of the inputs by name, with names for sizes that are open: "N" is the batch."""
        return {n.name: n.type.shape for n in self.graph.inputs}

    @property
    def values(self) -> Mapping[str, Array]:
        """The live storage of params and states, float32 by name. A graph with updates writes into it."""
        return self.runner.values

    @lazy
    def _signature(self) -> Signature:
        return Signature(self.graph.inputs)

    def __call__(self, *inputs: Any, **named: Any) -> Array | dict[str, Array]:
        """Raises `CnncError` (E07xx) where the inputs do not fit."""
        outputs = self.runner.run(self._signature.gather(inputs, named))
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name, also where there is one. Raises `CnncError` (E07xx) where the inputs do not fit."""
        of_kind("inputs", inputs, Mapping, "a mapping of arrays by name", "exe(x) takes arrays")
        return self.runner.run(self._signature.gather((), inputs))

    def refresh(self, values: Mapping[str, Array]) -> None:
        """Take other weights, params and states by name. Calls that have begun end with the old ones. Raises `CnncError`
        (E0706) where one is missing or of another shape.
        """
        of_kind("values", values, Mapping, "a mapping of arrays by name", "net.weights is one")
        for name, now in self.values.items():
            given = values.get(name)
            if not isinstance(given, np.ndarray) or given.shape != now.shape or given.dtype.kind != "f":
                raise wrong(f"values['{name}']", given, f"a float32 array {list(now.shape)}")
        self.runner.refresh(values)

    def ir(self, after: str | None = None) -> str:
        """The graph as text: after a pass, or after all of them. Raises `CnncError` (E0801) for a pass that was not
        run.
        """
        of_kind("after", after, (str, type(None)), "the name of a pass")
        return str(self.graph if after is None else self.stages.after(after))

    def plan(self, batch: int = 1) -> str:
        """The Plan as text, for a batch size."""
        whole("batch", batch)
        return str(self.runner.plan(batch))

    def memory(self, batch: int = 1) -> Memory:
        """The planned memory of one call at a batch size, in bytes."""
        whole("batch", batch)
        return self.runner.memory(batch)

    def __repr__(self) -> str:
        inputs = ", ".join(f"{n.name}: {n.type}" for n in self.graph.inputs)
        return f"<cnnc.Executable {self.graph.name}({inputs})>"

    def _repr_html_(self) -> str:
        return shown("executable", self)
