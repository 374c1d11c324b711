"""The step driver and the thread pool, as LLVM text."""
