"""What does not change from call to call is done once, when weights are loaded."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from cnnc.lowering.context import Lowering
from cnnc.lowering.plan import Step


def hoist(low: Lowering) -> tuple[list[Step], list[int]]:
    """Steps that read nothing but values which never change run once. What reads nothing at all does so only as one of
    several writers of a buffer: a constant by itself is sooner written than kept. Those steps, and the indices of the others.
    """
    fixed = {
        b.name
        for b in low.buffers.values()
        if b.place == "table" or (b.place == "value" and b.name not in low.changing)
    }
    writers = Counter(w for s in low.steps for w in s.writes)
    done: Counter[str] = Counter()
    once: set[int] = set()

    def fits(s: Step) -> bool:
        in_arena = all(low.buffers[w].place == "arena" for w in s.writes)
        return in_arena and fixed.issuperset(s.reads()) and (any(s.reads()) or all(writers[w] > 1 for w in s.writes))

    for i, s in enumerate(low.steps):
        if fits(s):
            once.add(i)
            done.update(s.writes)
            fixed.update(w for w in s.writes if done[w] == writers[w])
    # A buffer that only some of its writers could fill beforehand stays in the arena, with all its writers.
    once = {i for i in once if fixed.issuperset(low.steps[i].writes)}
    setup = [replace(low.steps[i], links=0) for i in sorted(once)]
    for s in setup:
        for w in s.writes:
            low.buffers[w] = replace(low.buffers[w], place="packed")
    return setup, [i for i in range(len(low.steps)) if i not in once]
