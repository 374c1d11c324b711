"""Sleeping until a step is done, as LLVM text: Linux's system calls, and how a caller gets a chunk back from a helper that lost
its core.

A worker that waits sleeps in a futex on the step's count. The caller looks first at the processor time that each helper of its
run has had: who had none in a microsecond or two, and is not asleep, waits for a core with a chunk in its hands. It is called to
the caller's, which becomes free as the caller sleeps, and is sent away from there afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

LINE = 8  # int64s in a cache line
WAIT, WAKE = 128, 129  # FUTEX_WAIT and FUTEX_WAKE in private memory
MASK = 16  # int64s of a set of cores: where the system has more, helpers stay where they are
WATCHED = 16  # helpers at most that a waiting caller looks after
MOMENT = 32  # pauses between two looks at a helper's processor time


@dataclass(frozen=True)
class Machine:
    """How an architecture pauses, and Linux's numbers of its system calls there."""

    declare: str
    pause: str
    futex: int
    gettid: int
    setaffinity: int
    getaffinity: int
    clock: int


MACHINES = {
    "x86_64": Machine(
        "declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()", 202, 186, 203, 204, 228
    ),
    "aarch64": Machine(
        "declare void @llvm.aarch64.hint(i32)", "call void @llvm.aarch64.hint(i32 1)", 98, 178, 122, 123, 113
    ),
}


def field(name: str, of: str, index: int, kind: str = "i64") -> str:
    return f"  %{name}.at = getelementptr i64, ptr %{of}, i64 {index}\n  %{name} = load {kind}, ptr %{name}.at\n"


def line(name: str, index: str) -> str:
    """The address of a helper's line."""
    return (
        f"  %{name}.line = add i64 {index}, 4\n  %{name}.index = mul i64 %{name}.line, {LINE}\n"
        f"  %{name} = getelementptr i64, ptr %pool, i64 %{name}.index\n"
    )


# The system calls. `send` moves a thread to all cores that the caller may use but one, or to that one alone.
SYSTEM = f"""
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)

define internal void @rouse(ptr %syscall, ptr %where) {{{{
entry:
  %0 = call i64 (i64, ...) %syscall(i64 {{futex}}, ptr %where, i64 {WAKE}, i64 2147483647, ptr null)
  ret void
}}}}

define internal void @send(ptr %syscall, i64 %thread, i64 %core, i1 %alone) {{{{
entry:
  %mask = alloca [{MASK} x i64], align 8
  %known = icmp ult i64 %core, {64 * MASK}
  br i1 %known, label %make, label %end
make:
  call void @llvm.memset.p0.i64(ptr align 8 %mask, i8 0, i64 {8 * MASK}, i1 false)
  %word.index = lshr i64 %core, 6
  %word = getelementptr i64, ptr %mask, i64 %word.index
  %place = and i64 %core, 63
  %bit = shl i64 1, %place
  br i1 %alone, label %only, label %others
only:
  store i64 %bit, ptr %word
  br label %put
others:
  %0 = call i64 (i64, ...) %syscall(i64 {{getaffinity}}, i64 0, i64 {8 * MASK}, ptr %mask)
  %cores = load i64, ptr %word
  %without = xor i64 %bit, -1
  %left = and i64 %cores, %without
  store i64 %left, ptr %word
  br label %put
put:
  %1 = call i64 (i64, ...) %syscall(i64 {{setaffinity}}, i64 %thread, i64 {8 * MASK}, ptr %mask)
  br label %end
end:
  ret void
}}}}
"""

# `had`: nanoseconds of processor time of a helper that is awake in this run, else -1.
DOZE = (
    SYSTEM
    + """
define internal i64 @had(ptr %syscall, ptr %line, ptr %data) {{
entry:
  %time = alloca [2 x i64], align 8
  %run = load atomic ptr, ptr %line seq_cst, align 8
  %here = icmp eq ptr %run, %data
  br i1 %here, label %inside, label %none
inside:
"""
    + field("first", "data", 9)
    + field("workers", "data", 10)
    + f"""  %record.at = getelementptr i64, ptr %line, i64 4
  %record = load atomic i64, ptr %record.at seq_cst, align 8
  %bytes = mul i64 %workers, {8 * LINE}
  %behind = sub i64 %record, %first
  %ours = icmp ult i64 %behind, %bytes
  br i1 %ours, label %joined, label %none
joined:
  %worker = inttoptr i64 %record to ptr
  %asleep.at = getelementptr i64, ptr %worker, i64 4
  %asleep = load atomic i64, ptr %asleep.at monotonic, align 8
  %awake = icmp eq i64 %asleep, 0
  br i1 %awake, label %ask, label %none
ask:
"""
    + field("thread", "line", 2)
    + f"""  %inverse = xor i64 %thread, -1
  %shifted = shl i64 %inverse, 3
  %clock = or i64 %shifted, 6
  %failed = call i64 (i64, ...) %syscall(i64 {{clock}}, i64 %clock, ptr %time)
  %told = icmp eq i64 %failed, 0
  br i1 %told, label %tell, label %none
tell:
  %seconds = load i64, ptr %time
  %rest.at = getelementptr i64, ptr %time, i64 1
  %rest = load i64, ptr %rest.at
  %scaled = mul i64 %seconds, 1000000000
  %sum = add i64 %scaled, %rest
  ret i64 %sum
none:
  ret i64 -1
}}}}

define internal void @doze(ptr %data, ptr %done, i64 %claims, ptr %worker) {{{{
entry:
  %times = alloca [{WATCHED} x i64], align 8
"""
    + field("syscall", "data", 6, "ptr")
    + field("records", "data", 9, "ptr")
    + field("pool", "data", 12, "ptr")
    + field("helpers", "pool", 16)
    + field("core", "pool", 19, "ptr")
    + f"""  %asleep.at = getelementptr i64, ptr %worker, i64 4
  store atomic i64 1, ptr %asleep.at monotonic, align 8
  %sleepers.at = getelementptr i64, ptr %done, i64 1
  %0 = atomicrmw add ptr %sleepers.at, i64 1 seq_cst
  %now = load atomic i64, ptr %done seq_cst, align 8
  %over = icmp sge i64 %now, %claims
  br i1 %over, label %end, label %who
who:
  %many = icmp sgt i64 %helpers, {WATCHED}
  %watched = select i1 %many, i64 {WATCHED}, i64 %helpers
  %caller = icmp eq ptr %worker, %records
  br i1 %caller, label %first, label %sleep
first:
  %a = phi i64 [ 0, %who ], [ %a.next, %first ]
"""
    + line("one", "%a")
    + """  %before = call i64 @had(ptr %syscall, ptr %one, ptr %data)
  %kept = getelementptr i64, ptr %times, i64 %a
  store i64 %before, ptr %kept
  %a.next = add i64 %a, 1
  %a.more = icmp slt i64 %a.next, %watched
  br i1 %a.more, label %first, label %pause
pause:
  %p = phi i64 [ 0, %first ], [ %p.next, %pause ]
  {pause}
  %p.next = add i64 %p, 1
  %p.more = icmp slt i64 %p.next, """
    + f"""{MOMENT}"""
    + """
  br i1 %p.more, label %pause, label %place
place:
  %core.here = call i32 %core()
  %here = sext i32 %core.here to i64
  br label %second
second:
  %b = phi i64 [ 0, %place ], [ %b.next, %seen ]
  %moved = phi i64 [ 0, %place ], [ %moved.next, %seen ]
"""
    + line("other", "%b")
    + """  %then.at = getelementptr i64, ptr %times, i64 %b
  %then = load i64, ptr %then.at
  %known = icmp sge i64 %then, 0
  br i1 %known, label %compare, label %seen
compare:
  %after = call i64 @had(ptr %syscall, ptr %other, ptr %data)
  %lost = icmp eq i64 %after, %then
  br i1 %lost, label %call, label %seen
call:
"""
    + field("thread", "other", 2)
    + """  call void @send(ptr %syscall, i64 %thread, i64 %here, i1 true)
  %bit = shl i64 1, %b
  %more.moved = or i64 %moved, %bit
  br label %seen
seen:
  %moved.next = phi i64 [ %moved, %second ], [ %moved, %compare ], [ %more.moved, %call ]
  %b.next = add i64 %b, 1
  %b.more = icmp slt i64 %b.next, %watched
  br i1 %b.more, label %second, label %sleep
sleep:
  %called = phi i64 [ 0, %who ], [ %moved.next, %seen ]
"""
    + f"""  %1 = call i64 (i64, ...) %syscall(i64 {{futex}}, ptr %done, i64 {WAIT}, i64 %now, ptr null)
  %any = icmp ne i64 %called, 0
  br i1 %any, label %woken, label %end
woken:
  %core.then = call i32 %core()
  %there = sext i32 %core.then to i64
  br label %back
back:
  %c = phi i64 [ 0, %woken ], [ %c.next, %passed ]
  %shifted = lshr i64 %called, %c
  %lowest = and i64 %shifted, 1
  %was = icmp ne i64 %lowest, 0
  br i1 %was, label %return, label %passed
return:
"""
    + line("his", "%c")
    + field("his.thread", "his", 2)
    + """  call void @send(ptr %syscall, i64 %his.thread, i64 %there, i1 false)
  br label %passed
passed:
  %c.next = add i64 %c, 1
  %c.more = icmp slt i64 %c.next, %watched
  br i1 %c.more, label %back, label %end
end:
  store atomic i64 0, ptr %asleep.at monotonic, align 8
  ret void
}}
"""
)
