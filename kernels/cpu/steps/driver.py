"""The step driver: one call runs a list of kernels on all workers, with neither Python nor fork and join in between.

A worker *claims* chunks from an atomic counter and goes on to the next step when the last chunk of this one is done.
A step's chunks lie in as many queues as there are workers, up to QUEUES, an equal run of them each, every queue with a
counter of its own. A worker begins with its own queue and then helps with the others', so that from step to step it meets
about the part of an image that it wrote itself: what another core wrote takes ten times as long to arrive. So it leaves a
queue's last quarter to those whose it is, unless they take long.
Steps that make a chain are claimed together, a link at a time: the worker runs the link's chunks of the first step, then
those of the second, and so on. A value that only a chain knows has room for one link, in memory of the worker's own: the
worker hands its kernels a copy of their arguments in which the value lies so far ahead that the link's share of it falls
there.
A cache line ahead of its scratch a worker keeps a number, zero when it takes its first chunk of a step: a kernel notes there
what the scratch holds, so that the step's next chunk need not make it again.
Nothing is assigned to a thread and there is no barrier to arrive at, so the program completes with any number of
workers, also when fewer come than were asked for, and a slow core takes fewer chunks. A worker that comes late, or that
is late in leaving, touches nothing but counters until it has claimed a chunk. Denormals are flushed to zero while kernels
run; the caller's mode is restored.

Waiting spins for a bounded time. Then a worker of our own pool (`threads.py`) sleeps until the step's last chunk is done.
The caller first looks whether a helper lost its core to somebody else with a chunk in its hands, and calls it to the core
that it leaves: else it would wait for a time slice of the system, in which whole networks run. Where the pool is another's, a
waiting worker yields its core.

The function has the signature of a Numba parallel kernel, `void(char** arguments, int64* dimensions, int64* steps,
void* data)`, so that Numba's thread pool can launch it too: `arguments[0]` is the worker's own record, `data` the run:

    worker record: int64[5] = addresses of its scratch, of its own memory, of room for a step's arguments; its queue; whether
                   it sleeps. The caller's is the first
    run:           int64[RUN] = number of steps, address of the steps, address of the state, address of sched_yield,
                   most arguments of a step, number of queues, address of the C library's `syscall` or 0 where the pool is
                   another's, pauses before a waiting worker sleeps or yields, pauses before it takes what is left in others'
                   queues (fewer), address of the first worker record, number of workers, address of this function, address
                   of our pool; behind these, in a line that changes, JOINED: how many workers joined the caller, and
                   INSIDE: how many helpers may be reading the run
    step:          int64[7] = address of the kernel, address of its arguments, claims, chunks of a claim, steps in the
                   chain that begins here, number of its own values, address of those. Claims are links, or the chunks
                   themselves
    own value:     int64[3] = which argument, offset in the worker's memory, bytes of a link's share
    state:         int64[LINE] for each step and then for each of its queues, zero: claims done, workers that slept or
                   are about to; claims taken
"""

from __future__ import annotations

from ..code.compile import SYMBOL
from ..target import Target
from .machines import LINE, built

QUEUES = 8  # at most: a worker looks at all of them before it waits
STEP = 7
OWN = 3
RUN, INSIDE, JOINED = 24, 16, 17
# A waiting caller looks after so many helpers at most, twice, with so many pauses in between.
WATCHED, MOMENT = 16, 32
SIZES = {"symbol": SYMBOL, "step": STEP, "own": OWN, "joined": JOINED, "watched": WATCHED, "moment": MOMENT}

_X86 = {
    "modes": "declare void @llvm.x86.sse.stmxcsr(ptr)\ndeclare void @llvm.x86.sse.ldmxcsr(ptr)",
    # MXCSR: flush results to zero (bit 15), read denormals as zero (bit 6)
    "enter": """
  %before = alloca i32
  %during = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %before)
  %old = load i32, ptr %before
  %new = or i32 %old, 32832
  store i32 %new, ptr %during
  call void @llvm.x86.sse.ldmxcsr(ptr %during)""",
    "leave": "call void @llvm.x86.sse.ldmxcsr(ptr %before)",
}
_ARM = {
    "modes": "declare i64 @llvm.aarch64.get.fpcr()\ndeclare void @llvm.aarch64.set.fpcr(i64)",
    # FPCR.FZ is bit 24
    "enter": """
  %old = call i64 @llvm.aarch64.get.fpcr()
  %new = or i64 %old, 16777216
  call void @llvm.aarch64.set.fpcr(i64 %new)""",
    "leave": "call void @llvm.aarch64.set.fpcr(i64 %old)",
}


def state_words(queues: int) -> int:
    """The int64s of a step's state."""
    return (1 + queues) * LINE


def build(target: Target) -> bytes:
    """The driver as an object file of the target, with the symbol `kernel`."""
    modes = _X86 if target.architecture == "x86_64" else _ARM
    return built(target, "driver", "system", "doze", **SIZES, **modes)
