"""A Plan bound to memory and machine code: what one call runs.

A `Program` holds what all calls share (machine code, packed weights, tables). A `Frame` holds what one call at a time
needs: the arena, and a runner of the steps over it. Concurrent calls take a frame each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cnnc.lowering.memory import working
from cnnc.lowering.plan import Plan, Ref
from cnnc.lowering.target import Array, Block, Device, Job, Own, Target
from cnnc.runtime import setup
from cnnc.runtime.values import Values

Result = tuple[np.dtype[Any], tuple[int, ...]]


class Frame:
    """The memory of one call at a time."""

    def __init__(self, program: Program) -> None:
        plan, device = program.plan, program.device
        behind = working(plan.steps, program.workers) * plan.own  # the workers' own memory
        self.arena = device.block(max(plan.arena + behind, 64))
        base = self.arena.address
        self.buffers = {b.name: b for b in plan.buffers}

        def where(ref: Ref) -> int:
            b = self.buffers[ref.buffer]
            return (base + b.offset if b.place == "arena" else program.fixed[b.name].address) + ref.offset

        names = frozenset(b.name for b in plan.buffers if b.place == "input")
        own = Own({b.name: b for b in plan.buffers if b.place == "own"}, base + plan.arena, plan.own)
        self.runner = device.runner(Job(plan.steps, where, plan.scratch, program.workers, names, own))
        # an output that is an input is copied from what the caller gave
        self.outputs: list[tuple[str, Callable[[], Array] | None, str, Result]] = [
            (label, None if name in names else self.memory(name, program).reader(*result), name, result)
            for (label, name), result in zip(plan.outputs, program.results, strict=True)
        ]

    def memory(self, buffer: str, program: Program) -> Block:
        """Where a buffer of the arena lies, or one that all calls share."""
        b = self.buffers[buffer]
        return self.arena.part(b.offset, b.bytes) if b.place == "arena" else program.fixed[buffer]


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
            frame.runner.bind(inputs)
            frame.runner()
            return {
                label: inputs[name].view(result[0]).reshape(result[1]).copy() if read is None else read()
                for label, read, name, result in frame.outputs
            }
        finally:
            self._frames.append(frame)
