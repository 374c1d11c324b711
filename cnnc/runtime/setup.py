"""The setup of a Plan: weights are folded and packed once, layer after layer, so that little more memory is held meanwhile
than what calls need afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnc.lowering.memory import Life, aligned, place
from cnnc.lowering.plan import Buffer, Plan, Ref, Step
from cnnc.lowering.target import Block, Device, Job
from cnnc.runtime.values import Values

Packed = dict[str, Block]  # digest of what is in a packed buffer -> the buffer
TOGETHER = 8 << 20  # bytes of values that are held for steps that run in one go


def contents(plan: Plan) -> dict[str, str]:
    """A digest for each packed buffer of what is in it: the steps that make it, and the values and tables that they
    read.

    Plans of several batch sizes share packed weights by it.
    """
    tables = {b.name: b.data for b in plan.buffers if b.place == "table"}
    made: dict[str, str] = {}

    def content(argument: int | Ref, writes: tuple[str, ...]) -> Any:
        if isinstance(argument, int):
            return argument
        if argument.buffer in writes:
            return "result", writes.index(argument.buffer), argument.offset
        return made.get(argument.buffer, tables.get(argument.buffer, argument.buffer)), argument.offset

    for s in plan.setup:
        key = (str(s.kernel), tuple((k, content(a, s.writes)) for k, a in s.arguments), s.chunks)
        for i, w in enumerate(s.writes):
            text = repr((made.get(w), key, i))
            made[w] = hashlib.sha256(text.encode()).hexdigest()
    return made


def pending(plan: Plan, digests: Mapping[str, str], packed: Packed, wanted: Iterable[str]) -> tuple[Step, ...]:
    """The setup steps that make what is wanted and not packed yet."""
    needed, todo = set(wanted), []
    for s in reversed(plan.setup):
        if any(w in needed and digests[w] not in packed for w in s.writes):
            todo.append(s)
            needed.update(s.buffers())
    return tuple(reversed(todo))


@dataclass(frozen=True)
class Setup:
    """What setup steps read, and where what is wanted of them goes: `packed`, by the digests of `contents`."""

    plan: Plan
    digests: Mapping[str, str]
    wanted: Container[str]
    values: Values
    packed: Packed


def run(setup: Setup, todo: tuple[Step, ...], device: Device, workers: int) -> None:
    """Run steps that are pending. What is wanted is put into `packed`; what is between lies in memory that later steps
    use again, and values are held while they are read.
    """
    plan, buffers = setup.plan, {b.name: b for b in setup.plan.buffers}
    made = {w for s in todo for w in s.writes if setup.digests[w] not in setup.packed}
    kept = [b for b in plan.buffers if b.name in made and b.name in setup.wanted]
    memory = _memory(setup, todo, made, kept, device)
    first = 0
    while first < len(todo):
        last = first
        held: dict[str, Block] = {}
        while last < len(todo) and sum(b.nbytes for b in held.values()) < TOGETHER:
            read = (b for b in todo[last].buffers() if buffers[b].place == "value" and b not in held)
            held |= {b: setup.values.block(b) for b in read}
            last += 1

        def where(ref: Ref, held: Mapping[str, Block] = held) -> int:
            return (held[ref.buffer] if ref.buffer in held else memory[ref.buffer]).address + ref.offset

        device.runner(Job(todo[first:last], where, plan.scratch, workers))()
        first = last
    setup.packed.update((setup.digests[b.name], memory[b.name]) for b in kept)


def _memory(
    setup: Setup, todo: Sequence[Step], made: Container[str], kept: Sequence[Buffer], device: Device
) -> dict[str, Block]:
    """Where all lies that steps touch but values: what they make to keep, what is between, tables, and what is packed."""
    digests, buffers = setup.digests, {b.name: b for b in setup.plan.buffers}
    used: dict[str, list[int]] = {}
    for i, s in enumerate(todo):
        for name in s.buffers():
            used.setdefault(name, []).append(i)
    between = [Life(b, buffers[b].bytes, used[b][0], used[b][-1]) for b in used if b in made and b not in setup.wanted]
    offsets, size = place(between)
    passing = device.block(size)
    memory = {name: passing.part(at, buffers[name].bytes) for name, at in offsets.items()}
    # One block, whose pages may be large.
    block, at = device.block(sum(aligned(b.bytes) for b in kept)), 0
    for b in kept:
        memory[b.name] = block.part(at, b.bytes)
        at += aligned(b.bytes)
    tables = {name: np.array(buffers[name].data, np.int64) for name in used if buffers[name].place == "table"}
    memory |= {name: device.put(table) for name, table in tables.items()}
    return memory | {name: setup.packed[digests[name]] for name in used if name in digests and name not in made}
