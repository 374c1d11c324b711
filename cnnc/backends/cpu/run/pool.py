"""The thread pool of this process: starting helpers, and what becomes of them in a forked child.

Helpers run code of their own (`kernels/cpu/steps/threads.py` says how it works): they know neither Python nor OpenMP, take no signals
and are never waited for, so that the process may end while they run. Where the system gives no thread, calls go on with fewer. A
forked child begins with none and starts its own.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from cnnc.backends.cpu.code import Code
from cnnc.kernels.cpu.steps import threads
from cnnc.locks import Lock
from cnnc.runtime.threads import cores

LINE = 8  # int64s in a cache line
INSIDE, JOINED = 16, 17  # where a run's record has the helpers that may be reading it, and how many joined it
MOST = 256  # helpers
# seconds: spinning between calls, in a step, and before taking what is others'
IDLE, WAITING, PATIENCE = 100e-6, 20e-6, 15e-6
STACK = 1 << 20
FAULTS = {"SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP", "SIGSYS"}  # of the thread that has them


class Pool:
    """The helpers of this process. Its memory is never freed: a helper may look at it at any time.

    epoch: how often the process was forked up to here.
    """

    def __init__(self, parts: Mapping[str, int], words: int) -> None:
        self._library = ctypes.CDLL(None)
        self._helper, self._pauses = parts["helper"], ctypes.CFUNCTYPE(None, ctypes.c_int64)(parts["pauses"])
        self.launch = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)(parts["launch"])
        self._lock = Lock()
        raw = (ctypes.c_int64 * (words + LINE))()
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(raw))
        self.address = -(-ctypes.addressof(raw) // 64) * 64
        self._words = (ctypes.c_int64 * words).from_address(self.address)
        self._rate = 1000 / min(self._seconds(1000) for _ in range(10))
        patience = self.pauses(PATIENCE)  # who sleeps has seen that nothing is left to take
        self.waiting = max(self.pauses(WAITING), patience + 1), patience
        self.syscall = self._address("syscall")
        self._left: deque[tuple[int, int, Any]] = deque()
        self.helpers = self.epoch = 0
        self.most = MOST
        self.clear()

    def _address(self, name: str) -> int:
        return ctypes.cast(getattr(self._library, name), ctypes.c_void_p).value or 0

    def _seconds(self, pauses: int) -> float:
        start = time.perf_counter()
        self._pauses(pauses)
        return time.perf_counter() - start

    def pauses(self, seconds: float) -> int:
        """How many pauses of the processor take so long."""
        return int(seconds * self._rate)

    def clear(self) -> None:
        """No helpers and no open runs."""
        ctypes.memset(self.address, 0, ctypes.sizeof(self._words))
        self.helpers, self.most = 0, MOST
        self._words[1] = -1
        self._words[16:20] = [0, self.pauses(IDLE), self.syscall, self._address("sched_getcpu")]

    def want(self, helpers: int) -> None:
        """See that there are so many, or as many as the system gives."""
        if self.helpers >= min(helpers, self.most):
            return
        with self._lock:
            held = {s for s in signal.valid_signals() if getattr(s, "name", "") not in FAULTS}
            before = signal.pthread_sigmask(signal.SIG_BLOCK, held)  # a new thread begins with its starter's mask
            try:
                self._start(min(helpers, self.most))
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _start(self, helpers: int) -> None:
        attributes = (ctypes.c_char * 256)()
        self._library.pthread_attr_init(attributes)
        self._library.pthread_attr_setdetachstate(attributes, 1)
        self._library.pthread_attr_setstacksize(attributes, ctypes.c_size_t(STACK))
        while self.helpers < helpers:
            index = self.helpers
            self.helpers = index + 1  # a signal's handler may come here too
            at = (4 + index) * LINE
            self._words[at : at + 5] = [0, self.address, 0, -1, 0]
            thread, where = ctypes.c_size_t(), ctypes.c_void_p(self.address + 8 * at)
            if self._create(ctypes.byref(thread), attributes, ctypes.c_void_p(self._helper), where):
                self.most = self.helpers = index  # fewer do as well
                break
            self._words[16] = self.helpers
        self._library.pthread_attr_destroy(attributes)

    def _create(self, *arguments: Any) -> int:
        """pthread_create: 0, or why there is no thread."""
        return int(self._library.pthread_create(*arguments))

    def met(self, others: int, helpers: int) -> None:
        """So many other calls were running beside one that wants helpers: there may be some for each, up to the cores."""
        self.want(max(helpers, min((1 + others) * helpers, cores() - 1)))

    def _read(self, first: int, last: int) -> bool:
        """Whether a helper may be reading a run in [first, last)."""
        return any(first <= self._words[(4 + h) * LINE] < last for h in range(self.helpers))

    def leave(self, first: int, last: int, memory: Any) -> None:
        """Keep the memory of closed runs, which lie in [first, last), while a helper is late in leaving them."""
        for _ in range(len(self._left)):
            earlier = self._left.popleft()
            if self._read(*earlier[:2]):
                self._left.append(earlier)
        if self._read(first, last):
            self._left.append((first, last, memory))


_lock = Lock()
_pool: Pool | None = None


def of(code: Code) -> Pool | None:
    """The pool of this process; None where the system has none of ours."""
    global _pool
    if _pool is None and (parts := code.threads()) is not None:
        with _lock:
            if _pool is None:
                with suppress(OSError, AttributeError):  # a C library that lacks something
                    _pool = Pool(parts, threads.words(MOST))
    return _pool


def _in_child() -> None:
    if _pool is not None:
        _pool.clear()  # the helpers stayed with the parent, and so did other threads' calls
        _pool.epoch += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
