; Sleeping until a step is done; and how a caller gets back the chunk of a helper that lost its core.

; The nanoseconds of processor time that a helper has had, where it is awake in this run; else -1.
define internal i64 @had(ptr %syscall, ptr %line, ptr %data) {
entry:
  %time = alloca [2 x i64], align 8
  %run = load atomic ptr, ptr %line seq_cst, align 8
  %here = icmp eq ptr %run, %data
  br i1 %here, label %inside, label %none
  ; it announced this run: is the record that it uses one of this run's?
inside:
  %first.at = getelementptr i64, ptr %data, i64 9                      ; first worker record
  %first = load i64, ptr %first.at
  %workers.at = getelementptr i64, ptr %data, i64 10
  %workers = load i64, ptr %workers.at
  %record.at = getelementptr i64, ptr %line, i64 4                     ; worker record
  %record = load atomic i64, ptr %record.at seq_cst, align 8
  %bytes = mul i64 %workers, 64
  %behind = sub i64 %record, %first
  %ours = icmp ult i64 %behind, %bytes
  br i1 %ours, label %joined, label %none
  ; asleep, it waits for nobody's core
joined:
  %worker = inttoptr i64 %record to ptr
  %asleep.at = getelementptr i64, ptr %worker, i64 4
  %asleep = load atomic i64, ptr %asleep.at monotonic, align 8
  %awake = icmp eq i64 %asleep, 0
  br i1 %awake, label %ask, label %none
  ; the clock of a thread's processor time: its number inverted, shifted by three, with CPUCLOCK_SCHED and PERTHREAD
ask:
  %thread.at = getelementptr i64, ptr %line, i64 2
  %thread = load i64, ptr %thread.at
  %inverse = xor i64 %thread, -1
  %shifted = shl i64 %inverse, 3
  %clock = or i64 %shifted, 6
  %failed = call i64 (i64, ...) %syscall(i64 ${clock}, i64 %clock, ptr %time)
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
}

; A worker sleeps on the step's count of claims that are done. The caller first sees to helpers without a core.
define internal void @doze(ptr %data, ptr %done, i64 %claims, ptr %worker) {
entry:
  %times = alloca [${watched} x i64], align 8
  %syscall.at = getelementptr i64, ptr %data, i64 6
  %syscall = load ptr, ptr %syscall.at
  %records.at = getelementptr i64, ptr %data, i64 9                    ; first worker record
  %records = load ptr, ptr %records.at
  %pool.at = getelementptr i64, ptr %data, i64 12
  %pool = load ptr, ptr %pool.at
  %helpers.at = getelementptr i64, ptr %pool, i64 16
  %helpers = load i64, ptr %helpers.at
  %core.at = getelementptr i64, ptr %pool, i64 19                      ; sched_getcpu
  %core = load ptr, ptr %core.at
  %asleep.at = getelementptr i64, ptr %worker, i64 4
  store atomic i64 1, ptr %asleep.at monotonic, align 8
  %sleepers.at = getelementptr i64, ptr %done, i64 1                   ; workers that sleep
  %0 = atomicrmw add ptr %sleepers.at, i64 1 seq_cst
  %now = load atomic i64, ptr %done seq_cst, align 8
  %over = icmp sge i64 %now, %claims
  br i1 %over, label %end, label %who
  ; the caller alone looks after the others
who:
  %many = icmp sgt i64 %helpers, ${watched}
  %watched = select i1 %many, i64 ${watched}, i64 %helpers
  %caller = icmp eq ptr %worker, %records
  br i1 %caller, label %first, label %sleep
  ; the time that each has had
first:
  %a = phi i64 [ 0, %who ], [ %a.next, %first ]
  %one.line = add i64 %a, 4
  %one.index = mul i64 %one.line, 8
  %one = getelementptr i64, ptr %pool, i64 %one.index
  %before = call i64 @had(ptr %syscall, ptr %one, ptr %data)
  %kept = getelementptr i64, ptr %times, i64 %a
  store i64 %before, ptr %kept
  %a.next = add i64 %a, 1
  %a.more = icmp slt i64 %a.next, %watched
  br i1 %a.more, label %first, label %pause
  ; a moment
pause:
  %p = phi i64 [ 0, %first ], [ %p.next, %pause ]
  ${pause}
  %p.next = add i64 %p, 1
  %p.more = icmp slt i64 %p.next, ${moment}
  br i1 %p.more, label %pause, label %place
  ; the core that becomes free as the caller sleeps
place:
  %core.here = call i32 %core()
  %here = sext i32 %core.here to i64
  br label %second
  ; who has had none since, and is not asleep, waits for a core with a chunk in its hands
second:
  %b = phi i64 [ 0, %place ], [ %b.next, %seen ]
  %moved = phi i64 [ 0, %place ], [ %moved.next, %seen ]
  %other.line = add i64 %b, 4
  %other.index = mul i64 %other.line, 8
  %other = getelementptr i64, ptr %pool, i64 %other.index
  %then.at = getelementptr i64, ptr %times, i64 %b
  %then = load i64, ptr %then.at
  %known = icmp sge i64 %then, 0
  br i1 %known, label %compare, label %seen
compare:
  %after = call i64 @had(ptr %syscall, ptr %other, ptr %data)
  %lost = icmp eq i64 %after, %then
  br i1 %lost, label %call, label %seen
  ; it is called here
call:
  %thread.at = getelementptr i64, ptr %other, i64 2
  %thread = load i64, ptr %thread.at
  call void @send(ptr %syscall, i64 %thread, i64 %here, i1 true)
  %bit = shl i64 1, %b
  %more.moved = or i64 %moved, %bit
  br label %seen
seen:
  %moved.next = phi i64 [ %moved, %second ], [ %moved, %compare ], [ %more.moved, %call ]
  %b.next = add i64 %b, 1
  %b.more = icmp slt i64 %b.next, %watched
  br i1 %b.more, label %second, label %sleep
  ; until the last chunk is done; not at all where it is done since
sleep:
  %called = phi i64 [ 0, %who ], [ %moved.next, %seen ]
  %1 = call i64 (i64, ...) %syscall(i64 ${futex}, ptr %done, i64 128, i64 %now, ptr null)
  %any = icmp ne i64 %called, 0
  br i1 %any, label %woken, label %end
  ; the helpers that were called are sent away again
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
  %his.line = add i64 %c, 4
  %his.index = mul i64 %his.line, 8
  %his = getelementptr i64, ptr %pool, i64 %his.index
  %his.thread.at = getelementptr i64, ptr %his, i64 2                  ; thread
  %his.thread = load i64, ptr %his.thread.at
  call void @send(ptr %syscall, i64 %his.thread, i64 %there, i1 false)
  br label %passed
passed:
  %c.next = add i64 %c, 1
  %c.more = icmp slt i64 %c.next, %watched
  br i1 %c.more, label %back, label %end
end:
  store atomic i64 0, ptr %asleep.at monotonic, align 8
  ret void
}
