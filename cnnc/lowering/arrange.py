"""The two ways in which a target arranges the steps of a call: one after the other, or in chains."""

from __future__ import annotations

import math
from dataclasses import replace

from cnnc.lowering import chain
from cnnc.lowering.place import Placed, Work, placed

# By the arena's size without chains that reach far: what one of them may touch, tried in turn, and the arena with them.
ROOM, MORE = (math.inf, 1.0, 0.8, 0.6), 1.02


def in_order(work: Work) -> Placed:
    """The steps as they were made, each after the one before."""
    return placed(work, range(len(work.steps)), [replace(s, links=0) for s in work.steps])


def chained(work: Work, cache: int) -> Placed:
    """The steps in chains, for cores with so many bytes of their own cache: chains that reach far where they take no more
    memory.
    """

    def reaching(reach: float, room: float) -> Placed:
        limits = chain.Limits(work.buffers, work.per_image, work.batch, cache, reach, room, work.workers)
        order = chain.gather(work.steps, limits)
        return placed(work, order, chain.form([work.steps[i] for i in order], limits))

    near = reaching(chain.NEAR, math.inf)
    tried = (reaching(chain.FAR, part * near.most(work.workers)) for part in ROOM)
    return next((far for far in tried if far.most(work.workers) <= MORE * near.most(work.workers)), near)
