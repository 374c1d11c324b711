; One call: opens a run, wakes who sleeps, runs the step driver, and closes the run again.

define i64 @kernel(ptr %pool, ptr %job) {
entry:
  %argument = alloca ptr
  %count = load i64, ptr %job
  %runs.at = getelementptr i64, ptr %job, i64 1
  %runs = load ptr, ptr %runs.at
  %bytes.at = getelementptr i64, ptr %job, i64 2                       ; bytes of a run
  %bytes = load i64, ptr %bytes.at
  %state.bytes.at = getelementptr i64, ptr %job, i64 3                 ; bytes of a state
  %state.bytes = load i64, ptr %state.bytes.at
  %skip.at = getelementptr i64, ptr %job, i64 4                        ; calls without a wake
  %skip = load i64, ptr %skip.at
  %level.at = getelementptr i64, ptr %job, i64 5                       ; and after the next
  %level = load i64, ptr %level.at
  %wanted.at = getelementptr i64, ptr %job, i64 6                      ; helpers wanted
  %wanted = load i64, ptr %wanted.at
  %helpers.at = getelementptr i64, ptr %pool, i64 16
  %helpers = load i64, ptr %helpers.at
  %syscall.at = getelementptr i64, ptr %pool, i64 18
  %syscall = load ptr, ptr %syscall.at
  %core.at = getelementptr i64, ptr %pool, i64 19                      ; sched_getcpu
  %core = load ptr, ptr %core.at
  %sleepers.at = getelementptr i64, ptr %pool, i64 8                   ; how many sleep
  %slots = getelementptr i64, ptr %pool, i64 24                        ; slots
  %some = icmp sgt i64 %helpers, 0
  %most = select i1 %some, i64 %count, i64 0
  br label %pick
  ; a record with nobody inside, else the last one, which no helper may join
pick:
  %k = phi i64 [ 0, %entry ], [ %k.next, %busy ]
  %offset = mul i64 %k, %bytes
  %run = getelementptr i8, ptr %runs, i64 %offset
  %shared = icmp slt i64 %k, %most
  br i1 %shared, label %ask, label %solo
ask:
  %inside.at = getelementptr i64, ptr %run, i64 16                     ; INSIDE
  %inside = load atomic i64, ptr %inside.at seq_cst, align 8
  %free = icmp eq i64 %inside, 0
  br i1 %free, label %chosen, label %busy
busy:
  %k.next = add i64 %k, 1
  br label %pick
  ; made new
chosen:
  %state.at = getelementptr i64, ptr %run, i64 2
  %state = load ptr, ptr %state.at
  %records.at = getelementptr i64, ptr %run, i64 9                     ; first worker record
  %records = load ptr, ptr %records.at
  %driver.at = getelementptr i64, ptr %run, i64 11
  %driver = load ptr, ptr %driver.at
  call void @llvm.memset.p0.i64(ptr align 64 %state, i8 0, i64 %state.bytes, i1 false)
  %joined.at = getelementptr i64, ptr %run, i64 17                     ; JOINED
  store atomic i64 0, ptr %joined.at monotonic, align 8
  br label %slot
  ; a free slot of the pool makes it open
slot:
  %j = phi i64 [ 0, %chosen ], [ %j.next, %occupied ]
  %slot.at = getelementptr i64, ptr %slots, i64 %j
  %exchange = cmpxchg ptr %slot.at, ptr null, ptr %run seq_cst seq_cst
  %mine = extractvalue { ptr, i1 } %exchange, 1
  br i1 %mine, label %opened, label %occupied
occupied:
  %j.next = add i64 %j, 1
  %more.slots = icmp slt i64 %j.next, ${slots}
  br i1 %more.slots, label %slot, label %solo
  ; no record or no slot is free: alone
solo:
  %last.offset = mul i64 %count, %bytes
  %last = getelementptr i8, ptr %runs, i64 %last.offset
  %last.state.at = getelementptr i64, ptr %last, i64 2                 ; state
  %last.state = load ptr, ptr %last.state.at
  %last.records.at = getelementptr i64, ptr %last, i64 9               ; first worker record
  %last.records = load ptr, ptr %last.records.at
  %last.driver.at = getelementptr i64, ptr %last, i64 11               ; driver
  %last.driver = load ptr, ptr %last.driver.at
  call void @llvm.memset.p0.i64(ptr align 64 %last.state, i8 0, i64 %state.bytes, i1 false)
  store ptr %last.records, ptr %argument
  call void %last.driver(ptr %argument, ptr null, ptr null, ptr %last)
  ret i64 0
  ; tells where the caller is, and that there is one run more
opened:
  store ptr %records, ptr %argument
  %core.here = call i32 %core()
  %here = sext i32 %core.here to i64
  %caller.at = getelementptr i64, ptr %pool, i64 1                     ; core of the last caller
  store atomic i64 %here, ptr %caller.at monotonic, align 8
  %0 = atomicrmw add ptr %pool, i64 1 seq_cst
  %sleepers = load atomic i64, ptr %sleepers.at seq_cst, align 8
  %asleep = icmp sgt i64 %sleepers, 0
  br i1 %asleep, label %weigh, label %go
  ; after wakes that brought nobody they are rarer
weigh:
  %due = icmp sle i64 %skip, 0
  br i1 %due, label %place, label %spare
spare:
  %skip.less = sub i64 %skip, 1
  store i64 %skip.less, ptr %skip.at
  br label %go
  ; who fell asleep on this core is sent to the others first
place:
  %p = phi i64 [ 0, %weigh ], [ %p.next, %placed ]
  %p.more = icmp slt i64 %p, %helpers
  br i1 %p.more, label %see, label %wake
see:
  %his.line = add i64 %p, 4
  %his.index = mul i64 %his.line, 8
  %his = getelementptr i64, ptr %pool, i64 %his.index
  %his.core.at = getelementptr i64, ptr %his, i64 3                    ; core on which it fell asleep
  %his.core = load atomic i64, ptr %his.core.at monotonic, align 8
  %meets = icmp eq i64 %his.core, %here
  br i1 %meets, label %move, label %placed
move:
  store atomic i64 -1, ptr %his.core.at monotonic, align 8
  %his.thread.at = getelementptr i64, ptr %his, i64 2                  ; thread
  %his.thread = load i64, ptr %his.thread.at
  call void @send(ptr %syscall, i64 %his.thread, i64 %here, i1 false)
  br label %placed
placed:
  %p.next = add i64 %p, 1
  br label %place
  ; as many as the run has records for
wake:
  %1 = call i64 (i64, ...) %syscall(i64 ${futex}, ptr %pool, i64 129, i64 %wanted, ptr null)
  br label %go
  ; the caller works as the others do; then the run is closed
go:
  %woke = phi i1 [ false, %opened ], [ false, %spare ], [ true, %wake ]
  call void %driver(ptr %argument, ptr null, ptr null, ptr %run)
  store atomic ptr null, ptr %slot.at seq_cst, align 8
  %came = load atomic i64, ptr %joined.at monotonic, align 8
  %nobody = icmp eq i64 %came, 0
  %vain = and i1 %woke, %nobody
  br i1 %vain, label %rarer, label %judge
  ; nobody came in time
rarer:
  %twice = shl i64 %level, 1
  %more.level = add i64 %twice, 1
  %too.high = icmp sgt i64 %more.level, ${rarest}
  %new.level = select i1 %too.high, i64 ${rarest}, i64 %more.level
  store i64 %new.level, ptr %level.at
  store i64 %new.level, ptr %skip.at
  br label %over
judge:
  br i1 %nobody, label %over, label %fruitful
  ; somebody came
fruitful:
  store i64 0, ptr %level.at
  store i64 0, ptr %skip.at
  br label %over
over:
  ret i64 %j
}
