"""Forks: they wait for what a child could neither go on with nor begin anew, a kernel half compiled and a module half imported."""

from __future__ import annotations

import os
import sys
import threading
import time
from types import FrameType
from typing import Protocol

PATIENCE = 60.0  # seconds that a fork waits at most
_IMPORT = {"importlib._bootstrap", "_frozen_importlib"}


class Held(Protocol):
    """A lock that a thread may take again; `renew` frees it in a child, where who holds it or waits for it is not."""

    def acquire(self, *, timeout: float) -> bool: ...
    def release(self) -> None: ...
    def renew(self) -> None: ...


_whole: list[Held] = []
_held: dict[int, list[Held]] = {}  # by thread that forks


def hold(lock: Held) -> None:
    """Let forks wait until no other thread holds a lock."""
    _whole.append(lock)


def _imports(frame: FrameType | None) -> bool:
    """Whether a thread imports something, called by this package."""
    inside = False
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name in _IMPORT:
            inside = True
        elif inside and name.partition(".")[0] == "cnnc":
            return True
        frame = frame.f_back
    return False


def _before() -> None:
    """Wait for the locks, and until no other thread imports a module for us: who held a module's lock is not in the child."""
    end, here = time.monotonic() + PATIENCE, threading.get_ident()
    held = _held.setdefault(here, [])
    while time.monotonic() < end:
        held.extend(k for k in _whole[len(held) :] if k.acquire(timeout=PATIENCE))
        importing = any(_imports(frame) for thread, frame in sys._current_frames().items() if thread != here)
        if not importing and len(held) == len(_whole):
            break
        time.sleep(0.001)


def _after() -> None:
    for lock in _held.pop(threading.get_ident(), ()):
        lock.release()


def _in_child() -> None:
    _after()
    _held.clear()  # other threads that were about to fork
    for lock in _whole:
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_in_child)
