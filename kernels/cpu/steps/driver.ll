; The step driver. driver.py says what the records hold. The values of names in braces are put in there.
${declare}
${modes}

define void @${symbol}(ptr %arguments, ptr %dimensions, ptr %strides, ptr %data) {
entry:${enter}
  %worker = load ptr, ptr %arguments
  %scratch = load ptr, ptr %worker
  %own.at = getelementptr i64, ptr %worker, i64 1                      ; memory of its own
  %own = load i64, ptr %own.at
  %room.at = getelementptr i64, ptr %worker, i64 2                     ; room for arguments
  %room = load ptr, ptr %room.at
  %count = load i64, ptr %data
  %steps.at = getelementptr i64, ptr %data, i64 1                      ; where they are
  %steps = load ptr, ptr %steps.at
  %states.at = getelementptr i64, ptr %data, i64 2
  %states = load ptr, ptr %states.at
  %yield.at = getelementptr i64, ptr %data, i64 3                      ; sched_yield
  %yield = load ptr, ptr %yield.at
  %width.at = getelementptr i64, ptr %data, i64 4                      ; most arguments
  %width = load i64, ptr %width.at
  %queues.at = getelementptr i64, ptr %data, i64 5
  %queues = load i64, ptr %queues.at
  %home.at = getelementptr i64, ptr %worker, i64 3                     ; queue
  %home = load i64, ptr %home.at
  %syscall.at = getelementptr i64, ptr %data, i64 6
  %syscall = load ptr, ptr %syscall.at
  %spins.at = getelementptr i64, ptr %data, i64 7                      ; pauses before it sleeps
  %spins = load i64, ptr %spins.at
  %patience.at = getelementptr i64, ptr %data, i64 8
  %patience = load i64, ptr %patience.at
  %joined.at = getelementptr i64, ptr %data, i64 ${joined}
  %lines = add i64 %queues, 1
  %state = mul i64 %lines, ${line}
  %note = getelementptr i64, ptr %scratch, i64 -${line}
  %any = icmp sgt i64 %count, 0
  br i1 %any, label %step, label %end
  ; the step that begins at record s, a chain where its length is above 1. Alone, as long as nobody joined: nothing is left to others
step:
  %s = phi i64 [ 0, %entry ], [ %following, %advance ]
  %record.index = mul i64 %s, ${step}
  %record = getelementptr i64, ptr %steps, i64 %record.index
  %state.index = mul i64 %s, %state
  %done = getelementptr i64, ptr %states, i64 %state.index
  %claims.at = getelementptr i64, ptr %record, i64 2
  %claims = load i64, ptr %claims.at
  %length.at = getelementptr i64, ptr %record, i64 4                   ; length of the chain
  %length = load i64, ptr %length.at
  %chained = icmp sgt i64 %length, 1
  %joined = load atomic i64, ptr %joined.at monotonic, align 8
  %alone = icmp eq i64 %joined, 0
  br label %queue
  ; looks at the queues in turn, its own first; `hurry`: takes also the last quarter of what is others'
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
  %line.index = mul i64 %q.next, ${line}
  %claimed = getelementptr i64, ptr %done, i64 %line.index
  %seen = load atomic i64, ptr %claimed monotonic, align 8
  %remaining = sub i64 %size, %seen
  %quarter = sdiv i64 %size, 4
  %at.home = icmp eq i64 %turn, 0
  %freely = or i1 %hurry, %at.home
  %few = select i1 %freely, i64 0, i64 %quarter
  %enough = icmp sgt i64 %remaining, %few
  br i1 %enough, label %claim, label %exhausted
  ; takes a claim of this queue; none may be left by now
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
  ; the first claim of a step: the note ahead of the scratch is zero
clean:
  store i64 0, ptr %note
  br label %member
  ; on to the next queue
exhausted:
  %taken = phi i64 [ %own.done, %queue ], [ %sofar, %claim ]
  %did.some = icmp sgt i64 %taken, 0
  %began = or i1 %begun, %did.some
  %turn.next = add i64 %turn, 1
  %more.queues = icmp slt i64 %turn.next, %queues
  br i1 %more.queues, label %queue, label %report
  ; who looked everywhere has waited its patience already
report:
  %waited = select i1 %hurry, i64 %patience, i64 0
  br i1 %did.some, label %tell, label %wait
  ; counts what it did
tell:
  %before.these = atomicrmw add ptr %done, i64 %taken seq_cst
  %reached = add i64 %before.these, %taken
  %complete = icmp sge i64 %reached, %claims
  br i1 %complete, label %look, label %wait
  ; the last one of the step: does anybody sleep?
look:
  %sleepers.at = getelementptr i64, ptr %done, i64 1                   ; workers that sleep
  %sleepers = load atomic i64, ptr %sleepers.at seq_cst, align 8
  %asleep = icmp sgt i64 %sleepers, 0
  br i1 %asleep, label %rouse, label %wait
rouse:
  call void @rouse(ptr %syscall, ptr %done)
  br label %wait
  ; the steps of the chain, in turn, for this claim
member:
  %m = phi i64 [ 0, %claimed.one ], [ 0, %clean ], [ %m.next, %after ]
  %member.index = mul i64 %m, ${step}
  %member.record = getelementptr i64, ptr %record, i64 %member.index
  %kernel = load ptr, ptr %member.record
  %block.at = getelementptr i64, ptr %member.record, i64 1             ; arguments
  %shared = load ptr, ptr %block.at
  %each.at = getelementptr i64, ptr %member.record, i64 3              ; chunks of a claim
  %each = load i64, ptr %each.at
  %first = mul i64 %link, %each
  %last = add i64 %first, %each
  %owned.at = getelementptr i64, ptr %member.record, i64 5             ; own values
  %owned = load i64, ptr %owned.at
  %values.at = getelementptr i64, ptr %member.record, i64 6            ; where they are
  %values = load ptr, ptr %values.at
  %owns = icmp sgt i64 %owned, 0
  br i1 %chained, label %another, label %same
  ; a chain's next step finds no note of the one before
another:
  store i64 0, ptr %note
  br label %same
same:
  br i1 %owns, label %copy, label %ready
  ; a step with values of its own has its arguments copied
copy:
  %c = phi i64 [ 0, %same ], [ %c.next, %copy ]
  %argument.at = getelementptr i64, ptr %shared, i64 %c
  %argument = load i64, ptr %argument.at
  %copied.at = getelementptr i64, ptr %room, i64 %c
  store i64 %argument, ptr %copied.at
  %c.next = add i64 %c, 1
  %more.arguments = icmp slt i64 %c.next, %width
  br i1 %more.arguments, label %copy, label %shift
  ; each own value lies so far ahead that this link's share of it falls into the worker's memory
shift:
  %v = phi i64 [ 0, %copy ], [ %v.next, %shift ]
  %value.index = mul i64 %v, ${own}
  %which.at = getelementptr i64, ptr %values, i64 %value.index
  %which = load i64, ptr %which.at
  %offset.at = getelementptr i64, ptr %which.at, i64 1
  %offset = load i64, ptr %offset.at
  %share.at = getelementptr i64, ptr %which.at, i64 2                  ; bytes of a share
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
  ; the chunks of the claim
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
  ; until all claims of the step are done
wait:
  %turns = phi i64 [ %waited, %report ], [ %waited, %tell ], [ %waited, %look ], [ %waited, %rouse ], [ %more, %again ]
  %finished = load atomic i64, ptr %done acquire, align 8
  %all = icmp sge i64 %finished, %claims
  br i1 %all, label %advance, label %relax
relax:
  ${pause}
  %patient = icmp slt i64 %turns, %spins
  br i1 %patient, label %again, label %give
  ; it has spun long enough
give:
  %ours = icmp ne ptr %syscall, null
  br i1 %ours, label %doze, label %offer
  ; another's pool: yield the core
offer:
  %0 = call i32 %yield()
  br label %again
doze:
  call void @doze(ptr %data, ptr %done, i64 %claims, ptr %worker)
  br label %again
  ; out of patience: once more through all queues, in a hurry
again:
  %more = add i64 %turns, 1
  %help = icmp eq i64 %more, %patience
  br i1 %help, label %queue, label %wait
  ; on to the step behind the chain
advance:
  %following = add i64 %s, %length
  %left = icmp slt i64 %following, %count
  br i1 %left, label %step, label %end
end:
  ${leave}
  ret void
}
