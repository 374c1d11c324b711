"""Running a Plan: the kernel cache, the thread pool, the Executable."""
