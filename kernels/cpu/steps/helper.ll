; A helper of the pool, for the life of the process. threads.py says what the records hold.
${declare}

define ptr @kernel(ptr %me) {
entry:
  %argument = alloca ptr
  %pool.at = getelementptr i64, ptr %me, i64 1
  %pool = load ptr, ptr %pool.at
  %syscall.at = getelementptr i64, ptr %pool, i64 18
  %syscall = load ptr, ptr %syscall.at
  %core.at = getelementptr i64, ptr %pool, i64 19                      ; sched_getcpu
  %core = load ptr, ptr %core.at
  %caller.at = getelementptr i64, ptr %pool, i64 1                     ; core of the last caller
  %thread.at = getelementptr i64, ptr %me, i64 2
  %thread = call i64 (i64, ...) %syscall(i64 ${gettid})
  store atomic i64 %thread, ptr %thread.at monotonic, align 8
  %last.at = getelementptr i64, ptr %me, i64 3                         ; core on which it fell asleep
  %using.at = getelementptr i64, ptr %me, i64 4                        ; worker record
  %sleepers = getelementptr i64, ptr %pool, i64 8                      ; how many sleep
  %slots = getelementptr i64, ptr %pool, i64 24                        ; slots
  br label %scan
  ; looks through the slots for open runs
scan:
  %idle.at = getelementptr i64, ptr %pool, i64 17                      ; pauses before one sleeps
  %idle = load i64, ptr %idle.at
  %generation = load atomic i64, ptr %pool seq_cst, align 8
  br label %slot
slot:
  %j = phi i64 [ 0, %scan ], [ %j, %left ], [ %j, %late ], [ %j.next, %next ]
  %slot.at = getelementptr i64, ptr %slots, i64 %j
  %run = load atomic ptr, ptr %slot.at seq_cst, align 8
  %empty = icmp eq ptr %run, null
  br i1 %empty, label %next, label %announce
  ; tells which run it will read, and looks again whether it is still open
announce:
  store atomic ptr %run, ptr %me seq_cst, align 8
  %again = load atomic ptr, ptr %slot.at seq_cst, align 8
  %there = icmp eq ptr %run, %again
  br i1 %there, label %enter, label %left
  ; counts itself in, and looks a third time: a call resets only runs with nobody inside
enter:
  %inside.at = getelementptr i64, ptr %run, i64 16                     ; INSIDE
  %joined.at = getelementptr i64, ptr %run, i64 17                     ; JOINED
  %0 = atomicrmw add ptr %inside.at, i64 1 seq_cst
  %third = load atomic ptr, ptr %slot.at seq_cst, align 8
  %open = icmp eq ptr %run, %third
  br i1 %open, label %join, label %late
  ; its number among the workers of the run
join:
  %joined = atomicrmw add ptr %joined.at, i64 1 seq_cst
  %index = add i64 %joined, 1
  %records.at = getelementptr i64, ptr %run, i64 9                     ; first worker record
  %records = load ptr, ptr %records.at
  %workers.at = getelementptr i64, ptr %run, i64 10
  %workers = load i64, ptr %workers.at
  %driver.at = getelementptr i64, ptr %run, i64 11
  %driver = load ptr, ptr %driver.at
  %wanted = icmp slt i64 %index, %workers
  br i1 %wanted, label %work, label %full
  ; there is a record for it: it runs the steps
work:
  %record.index = mul i64 %index, 8
  %record = getelementptr i64, ptr %records, i64 %record.index
  store ptr %record, ptr %argument
  store atomic ptr %record, ptr %using.at seq_cst, align 8
  call void %driver(ptr %argument, ptr null, ptr null, ptr %run)
  store atomic ptr null, ptr %using.at seq_cst, align 8
  br label %full
  ; out again
full:
  %1 = atomicrmw sub ptr %inside.at, i64 1 seq_cst
  store atomic ptr null, ptr %me seq_cst, align 8
  br label %next
  ; closed while it came in
late:
  %2 = atomicrmw sub ptr %inside.at, i64 1 seq_cst
  store atomic ptr null, ptr %me seq_cst, align 8
  br label %slot
  ; closed before it came in
left:
  store atomic ptr null, ptr %me seq_cst, align 8
  br label %slot
next:
  %j.next = add i64 %j, 1
  %more.slots = icmp slt i64 %j.next, ${slots}
  br i1 %more.slots, label %slot, label %rest
  ; nothing is open: it spins, but not on its caller's core
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
  ${pause}
  %turn.next = add i64 %turn, 1
  br label %spin
  ; until the next run is opened; where it slept is remembered
sleep:
  store atomic i64 %here, ptr %last.at monotonic, align 8
  %3 = atomicrmw add ptr %sleepers, i64 1 seq_cst
  %4 = call i64 (i64, ...) %syscall(i64 ${futex}, ptr %pool, i64 128, i64 %generation, ptr null)
  %5 = atomicrmw sub ptr %sleepers, i64 1 seq_cst
  store atomic i64 -1, ptr %last.at monotonic, align 8
  br label %scan
}
