"""Where the buffers of a list of steps lie: which of them are the same memory, which have room in the arena and which in
each worker's own memory, and for how long.

What only the steps of one chain touch, and every link for itself, needs room for one link: a worker keeps it to itself
and uses it again for the next link, so that it stays in the worker's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cnnc.lowering import chain
from cnnc.lowering.memory import Life, aligned, place
from cnnc.lowering.plan import Buffer, Plan, Ref, Step

Outputs = tuple[tuple[str, str], ...]
COPIED = 1 << 16  # bytes of an output that is rather copied out of the arena than written where the caller reads it


@dataclass(frozen=True)
class Work:
    """The steps of a call, in the order in which they were made, and what arranging them has to know.

    per_image: the buffers that hold an equal share for each image of the batch. reuse: for a step's index and a buffer that it
    writes one that it reads and that may be overwritten by it.
    """

    buffers: Mapping[str, Buffer]
    steps: Sequence[Step]
    outputs: Outputs
    per_image: Collection[str]
    reuse: Mapping[tuple[int, str], str]
    batch: int
    workers: int


@dataclass(frozen=True)
class Placed:
    """Buffers with their places, and steps and outputs that name them; bytes of the arena and of a worker's own memory."""

    buffers: tuple[Buffer, ...]
    steps: tuple[Step, ...]
    outputs: Outputs
    arena: int
    own: int

    def most(self, workers: int) -> int:
        """Bytes of it all."""
        return self.arena + workers * self.own


def placed(work: Work, order: Sequence[int], steps: Sequence[Step]) -> Placed:
    """Give every arena buffer a place. `steps` are those of the work in the order of their indices, in chains where they are
    better run so.
    """
    buffers, outputs = work.buffers, work.outputs
    first, last = _uses(steps, outputs, {b.name for b in buffers.values() if b.place == "arena"})
    same = _same(work, order, first, last)

    def root(b: str) -> str:
        return _root(same, b)

    whole = {root(b) for b in first if b not in work.per_image}
    named = tuple((label, root(b)) for label, b in outputs)
    results = {b for _, b in named if b in first and buffers[b].bytes > COPIED}
    steps = _moved(steps, same, root)
    spans = chain.spans(steps)
    shares = {
        b: buffers[b].bytes // steps[first[b]].links
        for b in first
        if b not in same and b not in whole and _owned(steps, spans, first[b], last[b], b, buffers[b].bytes)
    }
    elsewhere = {*same, *shares, *results}
    arena = [_life(spans, b, buffers[b].bytes, first[b], last[b]) for b in first if b not in elsewhere]
    offsets, size = place(arena)
    own_offsets, own = place([Life(b, share, first[b], last[b]) for b, share in shares.items()])

    def found(b: Buffer) -> Buffer:
        if b.name in shares:
            return replace(b, place="own", bytes=shares[b.name], offset=own_offsets[b.name])
        if b.name in results:
            return replace(b, place="result")
        return replace(b, offset=offsets.get(b.name, b.offset))

    kept = tuple(found(b) for b in buffers.values() if b.name not in same)
    return Placed(kept, tuple(steps), named, aligned(size), aligned(own))


def _root(same: Mapping[str, str], b: str) -> str:
    while b in same:
        b = same[b]
    return b


def _same(work: Work, order: Sequence[int], first: Mapping[str, int], last: dict[str, int]) -> dict[str, str]:
    """For a buffer the one whose memory it is in: one that the step that begins it reads for the last time. `last` follows."""
    same: dict[str, str] = {}
    writes = ((at, w, work.reuse.get((i, w))) for at, i in enumerate(order) for w in work.steps[i].writes)
    for position, w, read in writes:
        if read is None or first.get(w) != position:
            continue
        old = _root(same, read)
        if last.get(old) == position and work.buffers[old].bytes == work.buffers[w].bytes and _root(same, w) != old:
            same[w] = old
            last[old] = last[w]
    return same


def _moved(steps: Sequence[Step], same: Collection[str], root: Callable[[str], str]) -> Sequence[Step]:
    """The steps with each buffer by the name of the one that it shares the memory of."""

    def moved(step: Step) -> Step:
        arguments = tuple((k, Ref(root(a.buffer), a.offset) if isinstance(a, Ref) else a) for k, a in step.arguments)
        return replace(step, arguments=arguments, writes=tuple(root(w) for w in step.writes))

    return [moved(s) if any(b in same for b in s.buffers()) else s for s in steps]


def _owned(
    steps: Sequence[Step], spans: Sequence[tuple[int, int]], first: int, last: int, buffer: str, size: int
) -> bool:
    """Whether only one chain touches a buffer and writes it before it reads."""
    return (
        last < len(steps)
        and steps[first].links > 0
        and spans[first] == spans[last]
        and size % steps[first].links == 0
        and buffer in steps[first].writes
    )


def _uses(steps: Iterable[Step], outputs: Outputs, names: Collection[str]) -> tuple[dict[str, int], dict[str, int]]:
    """The first and the last step that touches each of the buffers; outputs are there from the beginning to the end."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    count = 0
    for i, s in enumerate(steps):
        count = i + 1
        for b in s.buffers():
            if b in names:
                first.setdefault(b, i)
                last[b] = i
    for _, b in outputs:
        if b in names:
            first.setdefault(b, 0)
            last[b] = count
    return first, last


def _life(spans: Sequence[tuple[int, int]], name: str, size: int, first: int, last: int) -> Life:
    """The life of a buffer in the arena: all steps of a chain run at once."""
    count = len(spans)
    return Life(name, size, spans[first][0] if first < count else count, spans[last][1] if last < count else count)


def lives_of(plan: Plan, where: str = "arena") -> list[Life]:
    """The lifetimes of the buffers in the arena, or in a worker's own memory, found again from the Plan's steps: what
    `memory.check` walks.
    """
    sizes = {b.name: b.bytes for b in plan.buffers if b.place == where}
    first, last = _uses(plan.steps, plan.outputs, sizes)
    if where == "own":
        return [Life(b, sizes[b], first[b], last[b]) for b in first]
    spans = chain.spans(plan.steps)
    return [_life(spans, b, sizes[b], first[b], last[b]) for b in first]


def apart(plan: Plan) -> Plan:
    """The same steps, none of which follows another: every buffer in the arena, for all links."""
    links = {b: s.links for s in plan.steps for b in s.buffers()}
    buffers = {
        b.name: replace(b, place="arena", bytes=b.bytes * links[b.name]) if b.place == "own" else b
        for b in plan.buffers
    }
    steps = [replace(s, links=0, follows=False) for s in plan.steps]
    found = placed(Work(buffers, steps, plan.outputs, (), {}, plan.batch, 1), range(len(steps)), steps)
    return replace(plan, buffers=found.buffers, steps=found.steps, arena=found.arena, own=0)
