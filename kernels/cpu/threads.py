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

from .compile import assembled
from .driver import INSIDE, JOINED
from .sleeping import LINE, MACHINES, SYSTEM, WAIT, WAKE, field, line
from .target import Target

JOB = 8
SLOTS = 8  # runs that are open at a time: calls beyond that run alone
RAREST = 31  # calls without a wake, at most, after wakes that brought nobody in time


def words(helpers: int) -> int:
    """The int64s of a pool."""
    return (4 + helpers) * LINE


def available(target: Target) -> bool:
    """Whether the pool can be had in this process: it needs Linux's futex."""
    return sys.platform == "linux" and sys.maxsize > 2**32 and target.architecture in MACHINES


_HELPER = (
    """
{declare}
define ptr @kernel(ptr %me) {{
entry:
  %argument = alloca ptr
"""
    + field("pool", "me", 1, "ptr")
    + field("syscall", "pool", 18, "ptr")
    + field("core", "pool", 19, "ptr")
    + f"""  %caller.at = getelementptr i64, ptr %pool, i64 1
  %thread.at = getelementptr i64, ptr %me, i64 2
  %thread = call i64 (i64, ...) %syscall(i64 {{gettid}})
  store atomic i64 %thread, ptr %thread.at monotonic, align 8
  %last.at = getelementptr i64, ptr %me, i64 3
  %using.at = getelementptr i64, ptr %me, i64 4
  %sleepers = getelementptr i64, ptr %pool, i64 {LINE}
  %slots = getelementptr i64, ptr %pool, i64 {3 * LINE}
  br label %scan
scan:
"""
    + field("idle", "pool", 17)
    + f"""  %generation = load atomic i64, ptr %pool seq_cst, align 8
  br label %slot
slot:
  %j = phi i64 [ 0, %scan ], [ %j, %left ], [ %j, %late ], [ %j.next, %next ]
  %slot.at = getelementptr i64, ptr %slots, i64 %j
  %run = load atomic ptr, ptr %slot.at seq_cst, align 8
  %empty = icmp eq ptr %run, null
  br i1 %empty, label %next, label %announce
announce:
  store atomic ptr %run, ptr %me seq_cst, align 8
  %again = load atomic ptr, ptr %slot.at seq_cst, align 8
  %there = icmp eq ptr %run, %again
  br i1 %there, label %enter, label %left
enter:
  %inside.at = getelementptr i64, ptr %run, i64 {INSIDE}
  %joined.at = getelementptr i64, ptr %run, i64 {JOINED}
  %0 = atomicrmw add ptr %inside.at, i64 1 seq_cst
  %third = load atomic ptr, ptr %slot.at seq_cst, align 8
  %open = icmp eq ptr %run, %third
  br i1 %open, label %join, label %late
join:
  %joined = atomicrmw add ptr %joined.at, i64 1 seq_cst
  %index = add i64 %joined, 1
"""
    + field("records", "run", 9, "ptr")
    + field("workers", "run", 10)
    + field("driver", "run", 11, "ptr")
    + f"""  %wanted = icmp slt i64 %index, %workers
  br i1 %wanted, label %work, label %full
work:
  %record.index = mul i64 %index, {LINE}
  %record = getelementptr i64, ptr %records, i64 %record.index
  store ptr %record, ptr %argument
  store atomic ptr %record, ptr %using.at seq_cst, align 8
  call void %driver(ptr %argument, ptr null, ptr null, ptr %run)
  store atomic ptr null, ptr %using.at seq_cst, align 8
  br label %full
full:
  %1 = atomicrmw sub ptr %inside.at, i64 1 seq_cst
  store atomic ptr null, ptr %me seq_cst, align 8
  br label %next
late:
  %2 = atomicrmw sub ptr %inside.at, i64 1 seq_cst
  store atomic ptr null, ptr %me seq_cst, align 8
  br label %slot
left:
  store atomic ptr null, ptr %me seq_cst, align 8
  br label %slot
next:
  %j.next = add i64 %j, 1
  %more.slots = icmp slt i64 %j.next, {SLOTS}
  br i1 %more.slots, label %slot, label %rest
rest:
  %core.here = call i32 %core()
  %here = sext i32 %core.here to i64
  %caller = load atomic i64, ptr %caller.at monotonic, align 8
  %crowded = icmp eq i64 %here, %caller
  %bound = select i1 %crowded, i64 0, i64 %idle
  br label %spin
spin:
  %turn = phi i64 [ 0, %rest ], [ %turn.next, %relax ]
  %seen = load atomic i64, ptr %pool seq_cst, align 8
  %same = icmp eq i64 %seen, %generation
  br i1 %same, label %patient, label %scan
patient:
  %early = icmp slt i64 %turn, %bound
  br i1 %early, label %relax, label %sleep
relax:
  {{pause}}
  %turn.next = add i64 %turn, 1
  br label %spin
sleep:
  store atomic i64 %here, ptr %last.at monotonic, align 8
  %3 = atomicrmw add ptr %sleepers, i64 1 seq_cst
  %4 = call i64 (i64, ...) %syscall(i64 {{futex}}, ptr %pool, i64 {WAIT}, i64 %generation, ptr null)
  %5 = atomicrmw sub ptr %sleepers, i64 1 seq_cst
  store atomic i64 -1, ptr %last.at monotonic, align 8
  br label %scan
}}}}
"""
)

# The slot that the call took: above 0 where other calls were running.
_LAUNCH = (
    SYSTEM
    + """
define i64 @kernel(ptr %pool, ptr %job) {{
entry:
  %argument = alloca ptr
  %count = load i64, ptr %job
"""
    + field("runs", "job", 1, "ptr")
    + field("bytes", "job", 2)
    + field("state.bytes", "job", 3)
    + field("skip", "job", 4)
    + field("level", "job", 5)
    + field("wanted", "job", 6)
    + field("helpers", "pool", 16)
    + field("syscall", "pool", 18, "ptr")
    + field("core", "pool", 19, "ptr")
    + f"""  %sleepers.at = getelementptr i64, ptr %pool, i64 {LINE}
  %slots = getelementptr i64, ptr %pool, i64 {3 * LINE}
  %some = icmp sgt i64 %helpers, 0
  %most = select i1 %some, i64 %count, i64 0
  br label %pick
pick:
  %k = phi i64 [ 0, %entry ], [ %k.next, %busy ]
  %offset = mul i64 %k, %bytes
  %run = getelementptr i8, ptr %runs, i64 %offset
  %shared = icmp slt i64 %k, %most
  br i1 %shared, label %ask, label %solo
ask:
  %inside.at = getelementptr i64, ptr %run, i64 {INSIDE}
  %inside = load atomic i64, ptr %inside.at seq_cst, align 8
  %free = icmp eq i64 %inside, 0
  br i1 %free, label %chosen, label %busy
busy:
  %k.next = add i64 %k, 1
  br label %pick
chosen:
"""
    + field("state", "run", 2, "ptr")
    + field("records", "run", 9, "ptr")
    + field("driver", "run", 11, "ptr")
    + f"""  call void @llvm.memset.p0.i64(ptr align 64 %state, i8 0, i64 %state.bytes, i1 false)
  %joined.at = getelementptr i64, ptr %run, i64 {JOINED}
  store atomic i64 0, ptr %joined.at monotonic, align 8
  br label %slot
slot:
  %j = phi i64 [ 0, %chosen ], [ %j.next, %occupied ]
  %slot.at = getelementptr i64, ptr %slots, i64 %j
  %exchange = cmpxchg ptr %slot.at, ptr null, ptr %run seq_cst seq_cst
  %mine = extractvalue {{{{ ptr, i1 }}}} %exchange, 1
  br i1 %mine, label %opened, label %occupied
occupied:
  %j.next = add i64 %j, 1
  %more.slots = icmp slt i64 %j.next, {SLOTS}
  br i1 %more.slots, label %slot, label %solo
solo:
  %last.offset = mul i64 %count, %bytes
  %last = getelementptr i8, ptr %runs, i64 %last.offset
"""
    + field("last.state", "last", 2, "ptr")
    + field("last.records", "last", 9, "ptr")
    + field("last.driver", "last", 11, "ptr")
    + """  call void @llvm.memset.p0.i64(ptr align 64 %last.state, i8 0, i64 %state.bytes, i1 false)
  store ptr %last.records, ptr %argument
  call void %last.driver(ptr %argument, ptr null, ptr null, ptr %last)
  ret i64 0
opened:
  store ptr %records, ptr %argument
  %core.here = call i32 %core()
  %here = sext i32 %core.here to i64
  %caller.at = getelementptr i64, ptr %pool, i64 1
  store atomic i64 %here, ptr %caller.at monotonic, align 8
  %0 = atomicrmw add ptr %pool, i64 1 seq_cst
  %sleepers = load atomic i64, ptr %sleepers.at seq_cst, align 8
  %asleep = icmp sgt i64 %sleepers, 0
  br i1 %asleep, label %weigh, label %go
weigh:
  %due = icmp sle i64 %skip, 0
  br i1 %due, label %place, label %spare
spare:
  %skip.less = sub i64 %skip, 1
  store i64 %skip.less, ptr %skip.at
  br label %go
place:
  %p = phi i64 [ 0, %weigh ], [ %p.next, %placed ]
  %p.more = icmp slt i64 %p, %helpers
  br i1 %p.more, label %see, label %wake
see:
"""
    + line("his", "%p")
    + """  %his.core.at = getelementptr i64, ptr %his, i64 3
  %his.core = load atomic i64, ptr %his.core.at monotonic, align 8
  %meets = icmp eq i64 %his.core, %here
  br i1 %meets, label %move, label %placed
move:
  store atomic i64 -1, ptr %his.core.at monotonic, align 8
"""
    + field("his.thread", "his", 2)
    + f"""  call void @send(ptr %syscall, i64 %his.thread, i64 %here, i1 false)
  br label %placed
placed:
  %p.next = add i64 %p, 1
  br label %place
wake:
  %1 = call i64 (i64, ...) %syscall(i64 {{futex}}, ptr %pool, i64 {WAKE}, i64 %wanted, ptr null)
  br label %go
go:
  %woke = phi i1 [ false, %opened ], [ false, %spare ], [ true, %wake ]
  call void %driver(ptr %argument, ptr null, ptr null, ptr %run)
  store atomic ptr null, ptr %slot.at seq_cst, align 8
  %came = load atomic i64, ptr %joined.at monotonic, align 8
  %nobody = icmp eq i64 %came, 0
  %vain = and i1 %woke, %nobody
  br i1 %vain, label %rarer, label %judge
rarer:
  %twice = shl i64 %level, 1
  %more.level = add i64 %twice, 1
  %too.high = icmp sgt i64 %more.level, {RAREST}
  %new.level = select i1 %too.high, i64 {RAREST}, i64 %more.level
  store i64 %new.level, ptr %level.at
  store i64 %new.level, ptr %skip.at
  br label %over
judge:
  br i1 %nobody, label %over, label %fruitful
fruitful:
  store i64 0, ptr %level.at
  store i64 0, ptr %skip.at
  br label %over
over:
  ret i64 %j
}}}}
"""
)

_PAUSES = """
{declare}
define void @kernel(i64 %n) {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i.next, %loop ]
  {pause}
  %i.next = add i64 %i, 1
  %more = icmp slt i64 %i.next, %n
  br i1 %more, label %loop, label %end
end:
  ret void
}}
"""

# helper(its line of the pool), launch(pool, job), pauses(how many)
PARTS = {"helper": _HELPER, "launch": _LAUNCH, "pauses": _PAUSES}


def build(part: str, target: Target) -> bytes:
    """A part of the pool as an object file of the target, with the symbol `kernel`."""
    return assembled(PARTS[part].format(**vars(MACHINES[target.architecture])), target)
