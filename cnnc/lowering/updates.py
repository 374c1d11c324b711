"""What a call leaves in params and states."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from cnnc.lowering.context import Lowering
from cnnc.lowering.plan import Ref
from cnnc.lowering.target import Target


def write_updates(low: Lowering, target: Target) -> None:
    """The new value of a param or state is written straight into its memory where the one step that makes it is the
    last to read the old one; elsewhere it is copied at the end.
    """
    uses, graph = _Uses(low), low.graph
    outputs, updated = {v for _, v in graph.outputs}, Counter(v for _, v in graph.updates)
    for name, value in graph.updates:
        new, old = low.ref(value), low.ref(name)
        if new.buffer == old.buffer:
            continue
        uses.grow()
        writers, readers = uses.writers(new.buffer), uses.readers(old.buffer)
        simple = (
            low.buffers[new.buffer].place == "arena"
            and len(writers) == 1
            and graph.node(value).op == "pointwise"
            and max(readers, default=-1) <= writers[0]
            and low.type(value).shape == low.type(name).shape
            and value not in outputs
            and updated[value] == 1
        )
        if simple:
            uses.redirect(new.buffer, old)
        else:
            target.rule("copy")(low, graph.node(value), new, old, low.type(name))


class _Uses:
    """Which steps touch a buffer and which values lie in it, so that an update looks at its own steps alone."""

    def __init__(self, low: Lowering) -> None:
        self.low, self.seen = low, 0
        self.steps: dict[str, list[int]] = {}
        self.values: dict[str, list[str]] = {}
        for value, ref in low.places.items():
            self.values.setdefault(ref.buffer, []).append(value)

    def grow(self) -> None:
        """Take in the steps that were added."""
        for i in range(self.seen, len(self.low.steps)):
            for b in self.low.steps[i].buffers():
                self.steps.setdefault(b, []).append(i)
        self.seen = len(self.low.steps)

    def writers(self, buffer: str) -> list[int]:
        return [i for i in self.steps.get(buffer, ()) if buffer in self.low.steps[i].writes]

    def readers(self, buffer: str) -> list[int]:
        return [i for i in self.steps.get(buffer, ()) if buffer not in self.low.steps[i].writes]

    def redirect(self, old: str, new: Ref) -> None:
        """Everything that is in a buffer is at `new` instead, and the buffer goes."""
        low = self.low

        def moved(a: int | Ref) -> int | Ref:
            return Ref(new.buffer, new.offset + a.offset) if isinstance(a, Ref) and a.buffer == old else a

        touching = self.steps.pop(old, [])
        for i in touching:
            s = low.steps[i]
            arguments = tuple((k, moved(a)) for k, a in s.arguments)
            low.steps[i] = replace(
                s, arguments=arguments, writes=tuple(new.buffer if w == old else w for w in s.writes)
            )
        self.steps[new.buffer] = sorted({*self.steps.get(new.buffer, ()), *touching})
        values = self.values.pop(old, [])
        for value in values:
            low.places[value] = Ref(new.buffer, new.offset + low.places[value].offset)
        self.values.setdefault(new.buffer, []).extend(values)
        del low.buffers[old]
