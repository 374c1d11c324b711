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

from .compile import SYMBOL, assembled
from .sleeping import DOZE, LINE, MACHINES
from .target import Target

QUEUES = 8  # at most: a worker looks at all of them before it waits
STEP = 7
OWN = 3
RUN, INSIDE, JOINED = 24, 16, 17

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
_TEXT = """
{declare}
{modes}
define void @{symbol}(ptr %arguments, ptr %dimensions, ptr %strides, ptr %data) {{
entry:{enter}
  %worker = load ptr, ptr %arguments
  %scratch = load ptr, ptr %worker
  %own.at = getelementptr i64, ptr %worker, i64 1
  %own = load i64, ptr %own.at
  %room.at = getelementptr i64, ptr %worker, i64 2
  %room = load ptr, ptr %room.at
  %count = load i64, ptr %data
  %steps.at = getelementptr i64, ptr %data, i64 1
  %steps = load ptr, ptr %steps.at
  %states.at = getelementptr i64, ptr %data, i64 2
  %states = load ptr, ptr %states.at
  %yield.at = getelementptr i64, ptr %data, i64 3
  %yield = load ptr, ptr %yield.at
  %width.at = getelementptr i64, ptr %data, i64 4
  %width = load i64, ptr %width.at
  %queues.at = getelementptr i64, ptr %data, i64 5
  %queues = load i64, ptr %queues.at
  %home.at = getelementptr i64, ptr %worker, i64 3
  %home = load i64, ptr %home.at
  %syscall.at = getelementptr i64, ptr %data, i64 6
  %syscall = load ptr, ptr %syscall.at
  %spins.at = getelementptr i64, ptr %data, i64 7
  %spins = load i64, ptr %spins.at
  %patience.at = getelementptr i64, ptr %data, i64 8
  %patience = load i64, ptr %patience.at
  %joined.at = getelementptr i64, ptr %data, i64 {joined}
  %lines = add i64 %queues, 1
  %state = mul i64 %lines, {line}
  %note = getelementptr i64, ptr %scratch, i64 -{line}
  %any = icmp sgt i64 %count, 0
  br i1 %any, label %step, label %end
step:
  %s = phi i64 [ 0, %entry ], [ %following, %advance ]
  %record.index = mul i64 %s, {step}
  %record = getelementptr i64, ptr %steps, i64 %record.index
  %state.index = mul i64 %s, %state
  %done = getelementptr i64, ptr %states, i64 %state.index
  %claims.at = getelementptr i64, ptr %record, i64 2
  %claims = load i64, ptr %claims.at
  %length.at = getelementptr i64, ptr %record, i64 4
  %length = load i64, ptr %length.at
  %chained = icmp sgt i64 %length, 1
  %joined = load atomic i64, ptr %joined.at monotonic, align 8
  %alone = icmp eq i64 %joined, 0
  br label %queue
queue:
  %turn = phi i64 [ 0, %step ], [ %turn.next, %exhausted ], [ 0, %again ]
  %own.done = phi i64 [ 0, %step ], [ %taken, %exhausted ], [ 0, %again ]
  %hurry = phi i1 [ %alone, %step ], [ %hurry, %exhausted ], [ true, %again ]
  %begun = phi i1 [ false, %step ], [ %began, %exhausted ], [ %began, %again ]
  %q.far = add i64 %home, %turn
  %q.over = icmp sge i64 %q.far, %queues
  %q.back = select i1 %q.over, i64 %queues, i64 0
  %q = sub i64 %q.far, %q.back
  %q.next = add i64 %q, 1
  %lower.scaled = mul i64 %q, %claims
  %lower = udiv i64 %lower.scaled, %queues
  %upper.scaled = mul i64 %q.next, %claims
  %upper = udiv i64 %upper.scaled, %queues
  %size = sub i64 %upper, %lower
  %line.index = mul i64 %q.next, {line}
  %claimed = getelementptr i64, ptr %done, i64 %line.index
  %seen = load atomic i64, ptr %claimed monotonic, align 8
  %remaining = sub i64 %size, %seen
  %quarter = sdiv i64 %size, 4
  %at.home = icmp eq i64 %turn, 0
  %freely = or i1 %hurry, %at.home
  %few = select i1 %freely, i64 0, i64 %quarter
  %enough = icmp sgt i64 %remaining, %few
  br i1 %enough, label %claim, label %exhausted
claim:
  %sofar = phi i64 [ %own.done, %queue ], [ %sofar.next, %finish ]
  %ticket = atomicrmw add ptr %claimed, i64 1 acq_rel
  %link = add i64 %lower, %ticket
  %some = icmp slt i64 %ticket, %size
  br i1 %some, label %claimed.one, label %exhausted
claimed.one:
  %second = icmp sgt i64 %sofar, 0
  %kept = or i1 %begun, %second
  br i1 %kept, label %member, label %clean
clean:
  store i64 0, ptr %note
  br label %member
exhausted:
  %taken = phi i64 [ %own.done, %queue ], [ %sofar, %claim ]
  %did.some = icmp sgt i64 %taken, 0
  %began = or i1 %begun, %did.some
  %turn.next = add i64 %turn, 1
  %more.queues = icmp slt i64 %turn.next, %queues
  br i1 %more.queues, label %queue, label %report
report:
  %waited = select i1 %hurry, i64 %patience, i64 0
  br i1 %did.some, label %tell, label %wait
tell:
  %before.these = atomicrmw add ptr %done, i64 %taken seq_cst
  %reached = add i64 %before.these, %taken
  %complete = icmp sge i64 %reached, %claims
  br i1 %complete, label %look, label %wait
look:
  %sleepers.at = getelementptr i64, ptr %done, i64 1
  %sleepers = load atomic i64, ptr %sleepers.at seq_cst, align 8
  %asleep = icmp sgt i64 %sleepers, 0
  br i1 %asleep, label %rouse, label %wait
rouse:
  call void @rouse(ptr %syscall, ptr %done)
  br label %wait
member:
  %m = phi i64 [ 0, %claimed.one ], [ 0, %clean ], [ %m.next, %after ]
  %member.index = mul i64 %m, {step}
  %member.record = getelementptr i64, ptr %record, i64 %member.index
  %kernel = load ptr, ptr %member.record
  %block.at = getelementptr i64, ptr %member.record, i64 1
  %shared = load ptr, ptr %block.at
  %each.at = getelementptr i64, ptr %member.record, i64 3
  %each = load i64, ptr %each.at
  %first = mul i64 %link, %each
  %last = add i64 %first, %each
  %owned.at = getelementptr i64, ptr %member.record, i64 5
  %owned = load i64, ptr %owned.at
  %values.at = getelementptr i64, ptr %member.record, i64 6
  %values = load ptr, ptr %values.at
  %owns = icmp sgt i64 %owned, 0
  br i1 %chained, label %another, label %same
another:
  store i64 0, ptr %note
  br label %same
same:
  br i1 %owns, label %copy, label %ready
copy:
  %c = phi i64 [ 0, %same ], [ %c.next, %copy ]
  %argument.at = getelementptr i64, ptr %shared, i64 %c
  %argument = load i64, ptr %argument.at
  %copied.at = getelementptr i64, ptr %room, i64 %c
  store i64 %argument, ptr %copied.at
  %c.next = add i64 %c, 1
  %more.arguments = icmp slt i64 %c.next, %width
  br i1 %more.arguments, label %copy, label %shift
shift:
  %v = phi i64 [ 0, %copy ], [ %v.next, %shift ]
  %value.index = mul i64 %v, {own}
  %which.at = getelementptr i64, ptr %values, i64 %value.index
  %which = load i64, ptr %which.at
  %offset.at = getelementptr i64, ptr %which.at, i64 1
  %offset = load i64, ptr %offset.at
  %share.at = getelementptr i64, ptr %which.at, i64 2
  %share = load i64, ptr %share.at
  %before.link = mul i64 %link, %share
  %within = add i64 %own, %offset
  %address = sub i64 %within, %before.link
  %shifted.at = getelementptr i64, ptr %room, i64 %which
  store i64 %address, ptr %shifted.at
  %v.next = add i64 %v, 1
  %more.values = icmp slt i64 %v.next, %owned
  br i1 %more.values, label %shift, label %ready
ready:
  %block = phi ptr [ %shared, %same ], [ %room, %shift ]
  br label %run
run:
  %chunk = phi i64 [ %first, %ready ], [ %chunk.next, %run ]
  call void %kernel(ptr %block, i64 %chunk, ptr %scratch)
  %chunk.next = add i64 %chunk, 1
  %inside = icmp slt i64 %chunk.next, %last
  br i1 %inside, label %run, label %after
after:
  %m.next = add i64 %m, 1
  %more.members = icmp slt i64 %m.next, %length
  br i1 %more.members, label %member, label %finish
finish:
  %sofar.next = add i64 %sofar, 1
  br label %claim
wait:
  %turns = phi i64 [ %waited, %report ], [ %waited, %tell ], [ %waited, %look ], [ %waited, %rouse ], [ %more, %again ]
  %finished = load atomic i64, ptr %done acquire, align 8
  %all = icmp sge i64 %finished, %claims
  br i1 %all, label %advance, label %relax
relax:
  {pause}
  %patient = icmp slt i64 %turns, %spins
  br i1 %patient, label %again, label %give
give:
  %ours = icmp ne ptr %syscall, null
  br i1 %ours, label %doze, label %offer
offer:
  %0 = call i32 %yield()
  br label %again
doze:
  call void @doze(ptr %data, ptr %done, i64 %claims, ptr %worker)
  br label %again
again:
  %more = add i64 %turns, 1
  %help = icmp eq i64 %more, %patience
  br i1 %help, label %queue, label %wait
advance:
  %following = add i64 %s, %length
  %left = icmp slt i64 %following, %count
  br i1 %left, label %step, label %end
end:
  {leave}
  ret void
}}
"""


def state_words(queues: int) -> int:
    """The int64s of a step's state."""
    return (1 + queues) * LINE


def build(target: Target) -> bytes:
    """The driver as an object file of the target, with the symbol `kernel`."""
    modes = _X86 if target.architecture == "x86_64" else _ARM
    sizes = {"symbol": SYMBOL, "step": STEP, "own": OWN, "line": LINE, "joined": JOINED}
    return assembled((_TEXT + DOZE).format(**sizes, **modes, **vars(MACHINES[target.architecture])), target)
