; Linux's system calls, through the C library's `syscall`.
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)

; Wakes all who sleep on an int64.
define internal void @rouse(ptr %syscall, ptr %where) {
entry:
  %0 = call i64 (i64, ...) %syscall(i64 ${futex}, ptr %where, i64 129, i64 2147483647, ptr null)
  ret void
}

; Moves a thread to all cores that the caller may use but one, or to that one alone.
define internal void @send(ptr %syscall, i64 %thread, i64 %core, i1 %alone) {
entry:
  %mask = alloca [16 x i64], align 8
  %known = icmp ult i64 %core, 1024
  br i1 %known, label %make, label %end
  ; a set of cores
make:
  call void @llvm.memset.p0.i64(ptr align 8 %mask, i8 0, i64 128, i1 false)
  %word.index = lshr i64 %core, 6
  %word = getelementptr i64, ptr %mask, i64 %word.index
  %place = and i64 %core, 63
  %bit = shl i64 1, %place
  br i1 %alone, label %only, label %others
  ; this core alone
only:
  store i64 %bit, ptr %word
  br label %put
  ; all that the caller may use, without this core
others:
  %0 = call i64 (i64, ...) %syscall(i64 ${getaffinity}, i64 0, i64 128, ptr %mask)
  %cores = load i64, ptr %word
  %without = xor i64 %bit, -1
  %left = and i64 %cores, %without
  store i64 %left, ptr %word
  br label %put
put:
  %1 = call i64 (i64, ...) %syscall(i64 ${setaffinity}, i64 %thread, i64 128, ptr %mask)
  br label %end
end:
  ret void
}
