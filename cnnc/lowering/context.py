"""What a rule works with while a graph becomes steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cnnc.ir.graph import Graph
from cnnc.ir.types import BATCH, TensorType
from cnnc.locks import lazy
from cnnc.lowering import chain
from cnnc.lowering.plan import Buffer, Ref, Step

T = TypeVar("T")


@dataclass
class Lowering:
    """Types at this batch, buffers for values, and the list of steps that a rule extends."""

    graph: Graph
    batch: int
    workers: int = chain.WORKERS
    places: dict[str, Ref] = field(default_factory=dict)  # value -> memory
    buffers: dict[str, Buffer] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    scratch: int = 0
    per_image: set[str] = field(default_factory=set)  # buffers that hold an equal share for each image
    reusable: dict[tuple[int, str], str] = field(default_factory=dict)
    _shared: dict[Any, Any] = field(default_factory=dict)

    @lazy
    def changing(self) -> frozenset[str]:
        """The params and states that a call updates."""
        return frozenset(name for name, _ in self.graph.updates)

    def type(self, value: str) -> TensorType:
        return self.graph.type(value)

    def shape(self, value: str) -> tuple[int, ...]:
        """The logical shape with the batch bound."""
        return self.graph.type(value).concrete(self.batch)

    def ref(self, value: str) -> Ref:
        """Where a value lies; a new buffer for one that has none yet."""
        if value not in self.places:
            self.places[value] = self.buffer(value, "arena", self.type(value).bytes(self.batch))
            self.share(value)
        return self.places[value]

    def share(self, value: str) -> None:
        if self.type(value).shape[:1] == (BATCH,):
            self.per_image.add(self.places[value].buffer)

    def whole(self, value: str) -> bool:
        """Whether the buffer that a value lies in holds it and nothing else."""
        place = self.ref(value)
        return place.offset == 0 and self.buffers[place.buffer].bytes == max(self.type(value).bytes(self.batch), 1)

    def alias(self, value: str, operand: str) -> None:
        """`value` is the memory of `operand` under another type."""
        self.places[value] = self.ref(operand)

    def buffer(self, stem: str, where: str, size: int, data: Sequence[int] = ()) -> Ref:
        name, count = stem, 1
        while name in self.buffers:
            name, count = f"{stem}~{count}", count + 1
        self.buffers[name] = Buffer(name, where, max(int(size), 1), 0, tuple(data))
        return Ref(name)

    def table(self, stem: str, numbers: Sequence[int]) -> Ref:
        """int64 constants; equal tables are shared."""
        data = tuple(int(n) for n in numbers)
        return self.once(("table", data), lambda: self.buffer(f"{stem}~table", "table", 8 * len(data), data))

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """What `make` gives, made once for a key: weights packed alike for two convolutions, a converted tensor, what a rule found
        out about a node.
        """
        if key not in self._shared:
            self._shared[key] = make()
        found: T = self._shared[key]
        return found

    def append(self, step: Step, scratch: int = 0, reuse: Mapping[str, str] | None = None) -> None:
        """Take a step that has any chunks. `scratch` is in floats. `reuse` maps a buffer that it writes to one that it reads and
        may overwrite.
        """
        if step.chunks == 0:
            return
        self.scratch = max(self.scratch, scratch)
        for written, read in (reuse or {}).items():
            self.reusable[len(self.steps), written] = read
        self.steps.append(step)
