"""Many kernels at once, in processes of their own: Numba's front end holds Python's lock, and llvmlite one lock for
all of LLVM, so that threads would not help.

Helpers run `worker.py`. They are started where this process is known to be run by a Python interpreter, import nothing of
the current folder and heed no environment variable of Python or Numba. A helper has no part in the work before it has
answered; what one that dies, says something else or says nothing was to do is done in this process. Kernels of one family
go to one helper where they are few: what Numba makes of a family's function is made once in a process.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pickle
import re
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from .. import Kernel
from ..target import Target
from . import compile
from .worker import answer

WORKER = Path(__file__).with_name("worker.py")
PYTHON = re.compile(r"python(w|[\d.]+[a-z]{0,2})?(\.exe)?", re.IGNORECASE)
# Kernels for which another process pays: it takes a second to start, a kernel a quarter of one.
SHARE = 6
# Kernels of a family that are compiled in one go.
GROUP = 8
# Seconds without an answer after which this process does the work of its helpers.
PATIENCE = 20.0
LONGEST = 2**26  # bytes of a kernel's code

Done = Callable[[Kernel, bytes], None]


def groups(kernels: Sequence[Kernel]) -> list[list[Kernel]]:
    """What is compiled in one go: kernels of one family, the largest groups first."""
    families: dict[str, list[Kernel]] = {}
    for kernel in kernels:
        families.setdefault(kernel.family, []).append(kernel)
    found = [family[i : i + GROUP] for family in families.values() for i in range(0, len(family), GROUP)]
    return sorted(found, key=len, reverse=True)


def build_all(kernels: Sequence[Kernel], target: Target, processes: int, done: Done, here: bool = True) -> None:
    """Compile kernels in this process and in up to `processes - 1` others; `done(kernel, object code)` is called for each.
    What helpers leave undone is compiled in this process, which raises what is wrong with a kernel.

    here: whether this process takes part; otherwise it compiles only what no helper does.
    """
    todo: SimpleQueue[list[Kernel]] = SimpleQueue()
    for several in groups(kernels):
        todo.put(several)
    open_ = dict.fromkeys(kernels)

    def finished(kernel: Kernel, code: bytes) -> None:
        if kernel in open_:
            del open_[kernel]
            done(kernel, code)

    shares = min(processes, len(kernels) // SHARE)
    helpers = _Helpers(todo, target, shares - 1 if here else max(1, shares))
    try:
        while open_:
            group = _taken(todo) if here else None
            if group is None and not helpers.working:
                group = [next(iter(open_))]
            for kernel in group or ():
                if kernel in open_:
                    finished(kernel, compile.build(kernel, target))
                for answered in helpers.answers(0):
                    finished(*answered)
            if group is None:
                for answered in helpers.answers(PATIENCE):
                    finished(*answered)
    finally:
        helpers.close()


def _taken(todo: SimpleQueue[list[Kernel]]) -> list[Kernel] | None:
    try:
        return todo.get_nowait()
    except Empty:
        return None


class _Helpers:
    """Processes that take groups of kernels, each with a thread that speaks to it."""

    def __init__(self, todo: SimpleQueue[list[Kernel]], target: Target, count: int) -> None:
        self._todo, self._target = todo, target
        self._said: SimpleQueue[tuple[Kernel, bytes] | None] = SimpleQueue()
        self._processes: list[Any] = []
        self._over = threading.Event()
        python = interpreter()
        self.working = 0 if python is None else max(0, count)  # that may still answer
        self._threads: list[threading.Thread] = []
        while len(self._threads) < self.working:
            thread = threading.Thread(target=self._feed, args=(python,), daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system gives no more threads: fewer do as well
                self.working = len(self._threads)
                break
            self._threads.append(thread)

    def answers(self, patience: float) -> Iterator[tuple[Kernel, bytes]]:
        """What was answered since. Where nothing is within so many seconds, helpers are not counted on any longer."""
        try:
            said = self._said.get(timeout=patience) if patience else self._said.get_nowait()
        except Empty:
            if patience:
                self.working = 0
            return
        with suppress(Empty):
            while True:
                if said is not None:
                    yield said
                else:
                    self.working = max(0, self.working - 1)
                said = self._said.get_nowait()

    def _feed(self, python: str) -> None:
        """A thread's life: start a helper, and give it groups until there are none or it fails."""
        try:
            word = secrets.token_hex(16)
            process = _start(python, word)
            self._processes.append(process)
            if self._over.is_set() or _read(process, 32) != answer(word):
                return
            _send(process, (places(), compile.__name__))
            while not self._over.is_set() and (group := _taken(self._todo)) is not None:
                _send(process, (self._target, group))
                for kernel in group:
                    length = int.from_bytes(_read(process, 8), "big")
                    digest = _read(process, 32)
                    code = _read(process, length if length <= LONGEST else 0)
                    if not code or hashlib.sha256(code).digest() != digest:
                        return
                    self._said.put((kernel, code))
        except (OSError, ValueError, EOFError):
            pass
        finally:
            self._said.put(None)

    def close(self) -> None:
        """End all processes. Only this thread waits for them, so that their numbers are theirs until then."""
        self._over.set()
        for process in self._processes:
            _kill(process)
        for thread in self._threads:
            thread.join(5)
        for process in self._processes:
            _kill(process)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):
                    pipe.close()


def interpreter() -> str | None:
    """The Python that runs this process, or None where that is another program, which may be anything when it is started."""
    path = sys.executable or ""
    known = PYTHON.fullmatch(os.path.basename(path)) and os.path.isabs(path) and os.access(path, os.X_OK)
    return path if known and not getattr(sys, "frozen", False) and WORKER.is_file() else None


def places() -> dict[str, tuple[str, list[str]]]:
    """Where this process has the packages that kernels are made of: file and folders by name."""
    found = {}
    for name in (__name__.partition(".")[0], "numpy", "numba", "llvmlite"):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            module = sys.modules.get(name)
            folders = getattr(module, "__path__", None) or spec.submodule_search_locations or []
            found[name] = (os.path.abspath(spec.origin), [os.path.abspath(folder) for folder in folders])
    return found


def _start(python: str, word: str) -> Any:
    """A helper: isolated, without the folders of installed packages, in the root folder. Kernels are compiled alike whatever
    this process was told by its environment; and if it is no helper but a program like this one, it starts none.
    """
    flags = ["-I", "-S", *(["-B"] if sys.dont_write_bytecode else [])]
    if sys.pycache_prefix is not None:
        flags += ["-X", f"pycache_prefix={sys.pycache_prefix}"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "NUMBA_"))}
    return subprocess.Popen(
        [python, *flags, str(WORKER), word],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=os.path.abspath(os.sep),
        env={**environment, "CNNC_JOBS": "1"},
        start_new_session=True,
    )


def _send(process: Any, message: Any) -> None:
    data = memoryview(pickle.dumps(message))
    while data:
        data = data[process.stdin.write(data) :]


def _read(process: Any, count: int) -> bytes:
    """So many bytes; EOFError where there are fewer."""
    data = b""
    while len(data) < count:
        more = process.stdout.read(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _kill(process: Any) -> None:
    """End a process that was not waited for, with those that it started."""
    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
