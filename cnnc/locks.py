"""Locks that a forked child can use, whoever held them when the process was forked."""

from __future__ import annotations

import os
import threading
from weakref import WeakSet

_all: WeakSet[Lock] = WeakSet()


class Lock:
    """A lock that its thread may take again. In a forked child nobody holds it, but the thread that forked if it did: the
    others are not there to release it. What it guards must be whole after each single step of whoever holds it.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _all.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Take it from a thread that is gone."""
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:
            self._lock = threading.RLock()


def _in_child() -> None:
    for lock in list(_all):
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
