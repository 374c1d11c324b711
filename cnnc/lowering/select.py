"""Nodes to steps: the backend's rule for each op emits kernels over buffers; then constants are hoisted and lifetimes
become offsets.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from cnnc.diagnostics import error
from cnnc.ir.graph import Graph, Node
from cnnc.ir.types import BATCH, TensorType
from cnnc.locks import lazy
from cnnc.lowering import chain
from cnnc.lowering.house import Housed, Outputs, house
from cnnc.lowering.plan import Buffer, KernelName, Plan, Ref, Step

# By the arena's size without chains that reach far: what one of them may touch, tried in turn, and the arena with them.
ROOM, MORE = (math.inf, 1.0, 0.8, 0.6), 1.02


T = TypeVar("T")
LARGEST = 2**62  # bytes of all buffers: addresses stay below 2^63


class Rules(Protocol):
    """What lowering asks of a backend."""

    @property
    def name(self) -> str: ...
    @property
    def cache(self) -> int: ...
    @property
    def target(self) -> Any: ...
    def rule(self, op: str) -> Callable[[Lowering, Node], None]: ...


@dataclass
class Lowering:
    """What a rule works with: types at this batch, buffers for values, and the list of steps that it extends."""

    graph: Graph
    batch: int
    backend: Rules
    workers: int = chain.WORKERS
    places: dict[str, Ref] = field(default_factory=dict)  # value -> memory
    buffers: dict[str, Buffer] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    scratch: int = 0
    divided: set[str] = field(default_factory=set)  # buffers that hold an equal share for each image
    reusable: dict[tuple[int, str], str] = field(default_factory=dict)
    _shared: dict[Any, Any] = field(default_factory=dict)

    @lazy
    def target(self) -> Any:
        """What the backend's rules plan for."""
        return self.backend.target

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
            self._divide(value)
        return self.places[value]

    def _divide(self, value: str) -> None:
        if self.type(value).shape[:1] == (BATCH,):
            self.divided.add(self.places[value].buffer)

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

    def step(
        self,
        node: Node,
        kernel: KernelName,
        arguments: Mapping[str, int | Ref],
        chunks: int,
        writes: Sequence[Ref],
        scratch: int = 0,
        note: str = "",
        reuse: Mapping[str, str] | None = None,
        links: int = 0,
    ) -> None:
        """Append a step. `scratch` is in floats. `reuse` maps a written buffer to one read here that it may overwrite.

        `links`: the chunks divide into as many equal runs, of which the i-th touches the i-th share alone of every
        buffer that has a share for each image.
        """
        if chunks == 0:
            return
        self.scratch = max(self.scratch, scratch)
        for written, read in (reuse or {}).items():
            self.reusable[len(self.steps), written] = read
        self.steps.append(
            Step(
                node.name,
                kernel,
                tuple(arguments.items()),
                chunks,
                tuple(dict.fromkeys(w.buffer for w in writes)),
                note,
                links,
            )
        )


def lower(graph: Graph, batch: int, backend: Rules, workers: int = chain.WORKERS) -> Plan:
    """The Plan of a graph at a batch size, for about so many workers: any number can run it, to the same bits."""
    low = Lowering(graph, batch, backend, workers)
    for node in graph.nodes:
        if node.op in ("input", "param", "state"):
            where = "input" if node.op == "input" else "value"
            low.places[node.name] = low.buffer(node.name, where, node.type.bytes(batch))
            low._divide(node.name)
        else:
            backend.rule(node.op)(low, node)
    _write_updates(low, graph)
    _check_sizes(low)
    setup, steps, indices = _hoist(low)
    outputs = tuple((label, low.ref(value).buffer) for label, value in graph.outputs)
    home = _chained(low, steps, indices, outputs)
    used = {b for s in (*setup, *home.steps) for b in s.buffers()} | {b for _, b in home.outputs}
    kept = tuple(b for b in home.buffers if b.name in used or b.place == "input")
    return Plan(
        graph.name, backend.name, batch, kept, tuple(setup), home.steps, home.outputs, home.arena, home.own, low.scratch
    )


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


def _write_updates(low: Lowering, graph: Graph) -> None:
    """The new value of a param or state is written straight into its memory where the one step that makes it is the
    last to read the old one; elsewhere it is copied at the end.
    """
    uses = _Uses(low)
    outputs, updated = {v for _, v in graph.outputs}, Counter(v for _, v in graph.updates)
    for name, value in graph.updates:
        source, target = low.ref(value), low.ref(name)
        if source.buffer == target.buffer:
            continue
        uses.grow()
        writers, readers = uses.writers(source.buffer), uses.readers(target.buffer)
        simple = (
            low.buffers[source.buffer].place == "arena"
            and len(writers) == 1
            and graph.node(value).op == "pointwise"
            and max(readers, default=-1) <= writers[0]
            and low.type(value).shape == low.type(name).shape
            and value not in outputs
            and updated[value] == 1
        )
        if simple:
            uses.redirect(source.buffer, target)
        else:
            backend_copy(low, graph.node(value), source, target, low.type(name))


def backend_copy(low: Lowering, node: Node, source: Ref, target: Ref, type: TensorType) -> None:
    """A copy by the backend's own rule for it, the pseudo-op `copy`."""
    copy: Any = low.backend.rule("copy")
    copy(low, node, source, target, type)


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


def _hoist(low: Lowering) -> tuple[list[Step], list[Step], list[int]]:
    """Steps that read nothing but values which never change run once. What reads nothing at all does so only as one of
    several writers of a buffer: a constant by itself is sooner written than kept.
    """
    fixed = {
        b.name
        for b in low.buffers.values()
        if b.place == "table" or (b.place == "value" and b.name not in low.changing)
    }
    writers = Counter(w for s in low.steps for w in s.writes)
    done: Counter[str] = Counter()
    once: set[int] = set()
    for i, s in enumerate(low.steps):
        if (
            all(b in fixed for b in s.reads())
            and all(low.buffers[w].place == "arena" for w in s.writes)
            and (any(s.reads()) or all(writers[w] > 1 for w in s.writes))
        ):
            once.add(i)
            done.update(s.writes)
            fixed.update(w for w in s.writes if done[w] == writers[w])
    # A buffer that only some of its writers could fill beforehand stays in the arena, with all its writers.
    once = {i for i in once if fixed.issuperset(low.steps[i].writes)}
    setup = [replace(low.steps[i], links=0) for i in sorted(once)]
    indices = [i for i in range(len(low.steps)) if i not in once]
    steps = [low.steps[i] for i in indices]
    for s in setup:
        for w in s.writes:
            low.buffers[w] = replace(low.buffers[w], place="packed")
    return setup, steps, indices


def _chained(low: Lowering, steps: list[Step], indices: list[int], outputs: Outputs) -> Housed:
    """The steps in chains, and their memory: chains that reach far where they take no more of it."""

    def housed(reach: float, room: float) -> Housed:
        about = (low.buffers, low.divided, low.batch, low.backend.cache, reach, room, low.workers)
        order = chain.gather(steps, *about)
        ordered = chain.form([steps[i] for i in order], *about)
        reuse = {
            (position, w): low.reusable[indices[i], w]
            for position, i in enumerate(order)
            for w in steps[i].writes
            if (indices[i], w) in low.reusable
        }
        return house(low.buffers, ordered, outputs, low.divided, reuse)

    near = housed(chain.NEAR, math.inf)
    tried = (housed(chain.FAR, part * near.most(low.workers)) for part in ROOM)
    return next((far for far in tried if far.most(low.workers) <= MORE * near.most(low.workers)), near)
