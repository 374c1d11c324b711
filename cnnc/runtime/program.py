"""A Plan bound to memory and machine code: what one call runs.

A `Program` holds what all calls share (machine code, packed weights, tables). A `Frame` holds what one call at a time
needs: the arena, the argument blocks, the counters of the step driver. Concurrent calls take a frame each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnc.lowering.plan import Plan, Ref
from cnnc.runtime import setup
from cnnc.runtime.launch import Array, Machine, Own, Runner, address, aligned_empty, working


class Frame:
    """The memory of one call at a time."""

    def __init__(self, program: Program) -> None:
        plan = program.plan
        own = working(plan.steps, program.workers) * plan.own
        self.arena = aligned_empty(max(plan.arena + own, 64))  # the workers' own memory lies behind
        base = self.arena.ctypes.data
        self.buffers = {b.name: b for b in plan.buffers}

        def where(ref: Ref) -> int:
            b = self.buffers[ref.buffer]
            return (base + b.offset if b.place == "arena" else program.fixed[b.name].ctypes.data) + ref.offset

        names = frozenset(b.name for b in plan.buffers if b.place == "input")
        self.runner = Runner(
            plan.steps,
            where,
            program.machine,
            plan.scratch,
            program.workers,
            names,
            Own({b.name: b for b in plan.buffers if b.place == "own"}, base + plan.arena, plan.own),
        )
        # an output that is an input is copied from what the caller gave
        self.outputs = [
            (label, None if name in names else self._view(name, program).view(dtype).reshape(shape), name, dtype, shape)
            for (label, name), (dtype, shape) in zip(plan.outputs, program.results, strict=True)
        ]

    def _view(self, buffer: str, program: Program) -> Array:
        """The bytes of a buffer."""
        b = self.buffers[buffer]
        return (
            self.arena[b.offset : b.offset + b.bytes]
            if b.place == "arena"
            else program.fixed[buffer].reshape(-1).view(np.uint8)
        )


class Program:
    """A Plan with its machine code, its values and its packed weights."""

    def __init__(
        self,
        plan: Plan,
        values: Mapping[str, Array],
        machine: Machine,
        workers: int,
        packed: setup.Packed,
        results: Sequence[tuple[np.dtype[Any], tuple[int, ...]]],
    ) -> None:
        """results: element type and shape of every output."""
        self.plan, self.machine, self.workers, self.results = plan, machine, workers, results
        lasting, digests = plan.lasting(), setup.contents(plan)
        todo = setup.pending(plan, digests, packed, lasting)
        machine.ready(s.kernel for s in (*todo, *plan.steps))
        setup.run(plan, todo, digests, lasting, values, packed, machine, workers)
        # What a call reads: tables, values and packed weights.
        self.fixed = {
            b.name: np.array(b.data, np.int64) for b in plan.buffers if b.place == "table" and b.name in lasting
        }
        self.fixed |= {b.name: values[b.name] for b in plan.buffers if b.place == "value" and b.name in lasting}
        self.fixed |= {name: packed[digest] for name, digest in digests.items() if name in lasting}
        self._frames: list[Frame] = [Frame(self)]

    def call(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run once. inputs: contiguous arrays of the right type. The outputs by label, each in memory of its own."""
        try:
            frame = self._frames.pop()  # atomic: a frame belongs to one call at a time
        except IndexError:
            frame = Frame(self)
        try:
            for name in frame.runner.slots:
                frame.runner.bind(name, address(inputs[name]))
            frame.runner()
            return {
                label: (inputs[name].view(dtype).reshape(shape) if data is None else data).copy()
                for label, data, name, dtype, shape in frame.outputs
            }
        finally:
            self._frames.append(frame)
