"""The thread pool: helpers that know neither Python nor OpenMP, and the call that they help.

A helper is a thread that the system starts in `helper`. It spins for a bounded time, then sleeps in a futex. A call, `launch`,
*opens* a run in one of the pool's slots, wakes helpers that sleep, runs the step driver itself, and closes the slot again: it
waits neither for a helper that has not come nor for one that has come and holds no chunk. So it takes at most what the caller
takes alone, and the chunk of a helper that lost its core, which `doze` gets back.

    pool:   int64[words(helpers)], never freed:
            line 0: generation (a futex: one more with each run that is opened), core of the last caller
            line 1: helpers asleep
            line 2: helpers, pauses before one sleeps, addresses of the C library's `syscall` and `sched_getcpu`
            line 3: slots, addresses of open runs
            then a line for each helper: the run that it may be reading, the pool, its thread's number, the core on which it
            fell asleep or -1, the worker record that it uses or 0
    job:    int64[JOB]: runs that helpers may join, address of the first run, bytes from one to the next, bytes of a run's
            state; calls that wake nobody from now on, how many that were after the last wake in vain; helpers at most. One more
            run lies behind: for a call without helpers

A helper announces a run before it reads it, and looks again whether the slot still holds it; the memory of a run that nobody
announces may be freed once it is closed. It counts itself INSIDE, and looks a third time; a call picks a run with nobody inside,
so that what it resets is read by nobody. A run that was closed stays all done for a helper that is late in leaving.

A helper that fell asleep on the core where the caller is now is first sent to the others: the system likes to wake a thread where
it last ran, where it would take the caller's time. On its caller's core it does not spin. A wake after which nobody came in time
makes wakes rarer, so that small jobs between pauses run alone. With none but one core for us all that fails, and does no harm.
"""

from __future__ import annotations

import sys

from ..target import Target
from .machines import LINE, MACHINES, built

JOB = 8
SLOTS = 8  # runs that are open at a time: calls beyond that run alone
RAREST = 31  # calls without a wake, at most, after wakes that brought nobody in time


def words(helpers: int) -> int:
    """The int64s of a pool."""
    return (4 + helpers) * LINE  # the texts have the 4 and the 8 as numbers


def available(target: Target) -> bool:
    """Whether the pool can be had in this process: it needs Linux's futex."""
    return sys.platform == "linux" and sys.maxsize > 2**32 and target.architecture in MACHINES


# The files of each part: helper(its line of the pool), launch(pool, job), pauses(how many).
PARTS = {"helper": ("helper",), "launch": ("system", "launch"), "pauses": ("pauses",)}


def build(part: str, target: Target) -> bytes:
    """A part of the pool as an object file of the target, with the symbol `kernel`."""
    return built(target, *PARTS[part], slots=SLOTS, rarest=RAREST)
