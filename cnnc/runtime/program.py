"""A Plan bound to memory and machine code: what one call runs.

A `Program` holds what all calls share (machine code, packed weights, tables). A `Frame` holds what one call at a time
needs: the arena, and a runner of the steps over it. Concurrent calls take a frame each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnc.lowering.memory import working
from cnnc.lowering.plan import Plan, Ref
from cnnc.lowering.target import Array, Block, Device, Job, Own, Target
from cnnc.runtime import setup
from cnnc.runtime.results import Results
from cnnc.runtime.values import Values

Result = tuple[np.dtype[Any], tuple[int, ...]]


@dataclass(frozen=True)
class Output:
    """What becomes of a buffer at the end of a call: `read` where that is no array that was bound, else a copy of the
    array or itself.
    """

    label: str
    buffer: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    read: Callable[[], Array] | None
    copied: bool

    def of(self, arrays: Mapping[str, Array]) -> Array:
        found = arrays[self.buffer].view(self.dtype).reshape(self.shape)
        return found.copy() if self.copied else found


class Frame:
    """The memory of one call at a time."""

    def __init__(self, program: Program) -> None:
        plan, device = program.plan, program.device
        behind = working(plan.steps, program.workers) * plan.own  # the workers' own memory
        self.arena = device.block(max(plan.arena + behind, 64))
        base = self.arena.address
        self.buffers = {b.name: b for b in plan.buffers}
        results = [b for b in plan.buffers if b.place == "result"]
        # memory of each call's own, or the frame's where the host cannot read the device's
        self.results = {b.name: Results(b.bytes) for b in results if device.hosted}
        self.copied = {b.name: device.block(b.bytes) for b in results if not device.hosted}

        def where(ref: Ref) -> int:
            return self.memory(ref.buffer, program).address + ref.offset

        bound = {b.name for b in plan.buffers if b.place == "input"} | self.results.keys()
        own = Own({b.name: b for b in plan.buffers if b.place == "own"}, base + plan.arena, plan.own)
        self.runner = device.runner(Job(plan.steps, where, plan.scratch, program.workers, frozenset(bound), own))
        given = set(self.results)  # whose memory the first of the outputs that are it gets
        self.outputs: list[Output] = []
        for (label, name), (dtype, shape) in zip(plan.outputs, program.results, strict=True):
            read = None if name in bound else self.memory(name, program).reader(dtype, shape)
            self.outputs.append(Output(label, name, dtype, shape, read, name not in given))
            given.discard(name)

    def memory(self, buffer: str, program: Program) -> Block:
        """Where a buffer lies that is not bound and no worker's own."""
        b = self.buffers[buffer]
        if b.place == "arena":
            return self.arena.part(b.offset, b.bytes)
        return self.copied[buffer] if b.place == "result" else program.fixed[buffer]

    def bound(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """The inputs, and memory for the results of a call."""
        return {**inputs, **{name: r.take() for name, r in self.results.items()}} if self.results else inputs

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        arrays = self.bound(inputs)
        self.runner.bind(arrays)
        self.runner()
        return {o.label: o.of(arrays) if o.read is None else o.read() for o in self.outputs}


class Program:
    """A Plan with its machine code, its values and its packed weights."""

    def __init__(
        self,
        plan: Plan,
        values: Values,
        target: Target,
        device: Device,
        workers: int,
        packed: setup.Packed,
        results: Sequence[Result],
    ) -> None:
        """results: element type and shape of every output."""
        self.plan, self.device, self.workers, self.results = plan, device, workers, results
        lasting, digests = plan.lasting(), setup.contents(plan)
        todo = setup.pending(plan, digests, packed, lasting)
        target.ready(s.kernel for s in (*todo, *plan.steps))
        setup.run(setup.Setup(plan, digests, lasting, values, packed), todo, device, workers)
        # What a call reads: tables, values and packed weights.
        self.fixed: dict[str, Block] = {
            b.name: device.put(np.array(b.data, np.int64))
            for b in plan.buffers
            if b.place == "table" and b.name in lasting
        }
        self.fixed |= {b.name: values.block(b.name) for b in plan.buffers if b.place == "value" and b.name in lasting}
        self.fixed |= {name: packed[digest] for name, digest in digests.items() if name in lasting}
        self._frames: list[Frame] = [Frame(self)]

    def call(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run once. inputs: contiguous arrays of the right type. The outputs by label, each in memory of its own."""
        try:
            frame = self._frames.pop()  # atomic: a frame belongs to one call at a time
        except IndexError:
            frame = Frame(self)
        try:
            return frame(inputs)
        finally:
            self._frames.append(frame)
