"""Chains: steps in a row whose chunks fall into the same number of links, where a link reads nothing that another link
writes. A worker takes a link through all of its steps, so that what one step wrote is read where it still is, in
the worker's own cache, and nobody waits in between.

    step %a * 64;  step %b * 16  -->  step %a * 64 / 16;  then %b * 16 / 16

Links are images: planners say which steps go through the batch image by image, and the type of a value says that its
buffer holds an equal share for each image. Steps that could make a chain are first brought together: in training, what
packs the weights goes ahead of it, and the sums of a batch norm follow the convolution.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

from cnnc.lowering.plan import Buffer, Plan, Step

# Parts of a core's cache: for what all links read, and for a link's intermediate result. Chains that reach far make it
# larger than the cache: still nearer than that of all links, but all of it is there at once.
WHOLE, NEAR, FAR = 0.5, 0.5, 16.0
# Steps that are looked through for one that could follow.
AHEAD = 32
# Fewer links leave workers idle; so do more, where the workers, eight unless they are counted, cannot share them about
# equally.
WORKERS, UNEVEN = 8, 1.25


@dataclass(frozen=True)
class Limits:
    """What chains are made of, and how far they go.

    buffers: all that steps touch. per_image: the names of those that hold an equal share for each of `batch` images, one
    after the other. cache: bytes of a core's own. reach: of the cache, for a link's intermediate result. room: bytes, for all
    that a chain's steps touch in the arena.
    """

    buffers: Mapping[str, Buffer]
    per_image: Collection[str]
    batch: int
    cache: int
    reach: float = NEAR
    room: float = math.inf
    workers: int = WORKERS

    @property
    def balanced(self) -> bool:
        """Whether the workers can share the images about equally."""
        return -(-self.batch // self.workers) * self.workers <= UNEVEN * self.batch

    def whole(self, step: Step) -> int:
        """Bytes that every link of a step reads."""
        return sum(self.buffers[b].bytes for b in step.reads() if b not in self.per_image)


@dataclass
class _Chain:
    limits: Limits
    steps: list[Step] = field(default_factory=list)
    written: set[str] = field(default_factory=set)
    touched: set[str] = field(default_factory=set)
    whole: int = 0  # bytes that every link reads, weights mostly

    def accepts(self, step: Step, feeds: bool = False) -> bool:
        """Whether a step may follow, and gains from it, or `feeds` one that does."""
        limits, buffers = self.limits, self.limits.buffers
        links, between = self.steps[0].links, self.written & set(step.reads())
        meeting = {b for b in step.buffers() if b in self.written or (b in step.writes and b in self.touched)}
        return (
            step.links == links
            and (feeds or bool(between))
            and all(b in limits.per_image for b in (*meeting, *step.writes))
            and sum(buffers[b].bytes for b in between) // links <= limits.reach * limits.cache
            and sum(b.bytes for b in map(buffers.__getitem__, self.touched.union(step.buffers())) if b.place == "arena")
            <= limits.room
            and self.whole + limits.whole(step) <= WHOLE * limits.cache
        )

    def fed(self, step: Step, following: Step) -> bool:
        """Whether a step that reads nothing of the chain may follow, because the one behind it reads what both write."""
        if (
            set(step.writes).isdisjoint(following.reads())
            or not self.accepts(following)
            or not self.accepts(step, feeds=True)
        ):
            return False
        longer = replace(self, steps=[*self.steps], written={*self.written}, touched={*self.touched})
        longer.add(step)
        return longer.accepts(following)

    def add(self, step: Step) -> None:
        self.steps.append(step)
        self.written |= set(step.writes)
        self.touched |= set(step.buffers())
        self.whole += self.limits.whole(step)

    def result(self) -> list[Step]:
        if len(self.steps) == 1:
            return [replace(self.steps[0], links=0)]
        return [replace(s, follows=i > 0) for i, s in enumerate(self.steps)]


def _meet(one: Step, other: Step) -> bool:
    """Whether one of them writes what the other touches: they stay in order."""
    return not (set(one.writes).isdisjoint(other.buffers()) and set(other.writes).isdisjoint(one.buffers()))


def _ahead(step: Step, between: Sequence[Step], chain: Sequence[Step]) -> list[int] | None:
    """Which of the steps between a chain and `step` must go ahead of the chain, so that the step may follow it; None
    where some of them need the chain.
    """
    found, behind = [], [step]
    for i in reversed(range(len(between))):
        if any(_meet(between[i], s) for s in behind):
            if any(_meet(between[i], s) for s in chain):
                return None
            found.append(i)
            behind.append(between[i])
    return found[::-1]


def gather(steps: Sequence[Step], limits: Limits) -> list[int]:
    """An order of the steps that does the same, in which those that `form` makes a chain of stand together."""
    left, order = list(range(len(steps))), list[int]()
    if not limits.balanced:
        return left
    left.reverse()  # the next one is the last
    while left:
        begin = left.pop()
        order.append(begin)
        if steps[begin].links != limits.batch:
            continue
        chain, members, at = _Chain(limits), [begin], 0
        chain.add(steps[begin])
        order.pop()
        while at < min(AHEAD, len(left)):
            window = left[: -at - 2 : -1]
            step = steps[window[-1]]
            ahead = None
            if chain.accepts(step):
                ahead = _ahead(step, [steps[i] for i in window[:-1]], chain.steps)
            if ahead is None:
                at += 1
                continue
            moved = [window[i] for i in ahead]
            gone = {*moved, window[-1]}
            for at, i in enumerate(moved):
                alone = not any(_meet(steps[i], steps[j]) for j in moved[at + 1 :])
                if alone and chain.fed(steps[i], step):
                    chain.add(steps[i])
                    members.append(moved.pop(at))
                    break
            order += moved
            members.append(window[-1])
            chain.add(step)
            left[-len(window) :] = [i for i in reversed(window) if i not in gone]
            at = 0
        order += members
    return order


def form(steps: Sequence[Step], limits: Limits) -> list[Step]:
    """The steps with those that are better run link by link marked so."""
    result: list[Step] = []
    chain: _Chain | None = None
    for step, following in zip_longest(steps, steps[1:]):
        able = limits.balanced and step.links == limits.batch
        accepted = chain is not None and (chain.accepts(step) or (following is not None and chain.fed(step, following)))
        if not (able and accepted):
            result += chain.result() if chain is not None else []
            chain = _Chain(limits) if able else None
        if chain is None:
            result.append(replace(step, links=0))
        else:
            chain.add(step)
    return result + (chain.result() if chain is not None else [])


def spans(steps: Sequence[Step]) -> list[tuple[int, int]]:
    """For each step the first and the last step of its chain, which is the step itself for most."""
    first: list[int] = []
    for i, step in enumerate(steps):
        first.append(first[-1] if step.follows else i)
    last = {begin: i for i, begin in enumerate(first)}
    return [(begin, last[begin]) for begin in first]


def check(plan: Plan) -> None:
    """See that chains are what the driver can run: chunks divide into the links, and so does every buffer by which
    links could meet; what a worker keeps to itself is written by a link before it reads it, and in no other chain. Raises
    AssertionError: a bug of ours.
    """
    sizes = {b.name: b.bytes for b in plan.buffers if b.place != "own"}
    home: dict[str, int] = {}
    for i, (begin, last) in enumerate(spans(plan.steps)):
        step, links = plan.steps[i], plan.steps[begin].links
        assert (step.links > 0) == (last > begin), f"%{step.node} is in a chain of one step, or in none"
        assert not links or (step.links == links and step.chunks % links == 0), f"%{step.node} has not {links} links"
        others = {b for s in plan.steps[begin : last + 1] if s is not step for b in s.buffers()}
        for b in {b for b in step.buffers() if b not in sizes}:
            assert links, f"%{b} is a worker's own, %{step.node} in no chain"
            assert home.setdefault(b, begin) == begin, f"%{b} is a worker's own, but two chains touch it"
            written = any(b in s.writes for s in plan.steps[begin : i + 1])
            assert written, f"%{b} is read by %{step.node} before a link wrote it"
        for b in others & set(step.writes) & set(sizes):
            assert sizes[b] % links == 0, f"%{b} has no equal shares for {links} links"
