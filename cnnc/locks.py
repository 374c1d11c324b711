"""What threads wait for each other by. A forked child can use it, whoever had it when the process was forked.

A thread that holds one lock while it takes another waits for ever where a second thread takes them the other way round. So a
`Lock` guards a few statements that take no other, and what takes longer is claimed: `Claims` of one thing come before those
of another, executables' before decisions', these before kernels', and no thread waits for a claim while it has a later one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar, overload
from weakref import WeakSet

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
_all: WeakSet[Lock] = WeakSet()
_claims: WeakSet[Claims[Any]] = WeakSet()


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


class Claims(Generic[K]):
    """Which thread makes what. A thread may claim again what it has, as a signal's handler does. In a forked child nobody
    makes anything.
    """

    def __init__(self) -> None:
        self.renew()
        _claims.add(self)

    def renew(self) -> None:
        self._lock = threading.RLock()
        self._claimed: dict[K, tuple[threading.Event, int]] = {}

    @contextmanager
    def some(self, keys: Iterable[K]) -> Iterator[list[K]]:
        """Claim the keys that no other thread has, until the block ends. Where others have all of them, none, after one of
        those has ended.
        """
        done, me, claimed = threading.Event(), threading.get_ident(), self._claimed
        with self._lock:
            wanted = list(keys)
            fresh = [key for key in wanted if key not in claimed]
            mine = [key for key in wanted if key not in claimed or claimed[key][1] == me]
            theirs = None if mine or not wanted else claimed[wanted[0]][0]
            claimed.update(dict.fromkeys(fresh, (done, me)))
        if theirs is not None:
            theirs.wait()
        try:
            yield mine
        finally:
            for key in fresh:
                claimed.pop(key, None)
            done.set()

    @contextmanager
    def turn(self, key: K) -> Iterator[None]:
        """Claim one key, after all who have it."""
        while True:
            with self.some([key]) as mine:
                if mine:
                    yield
                    return


class lazy(Generic[T]):
    """A property that is computed when it is first read and kept in the instance. Threads that come together may each compute
    it: unlike `functools.cached_property` of Python 3.11 it has no lock, which all instances of a class would share.
    """

    def __init__(self, function: Callable[[Any], T]) -> None:
        self._function, self.__doc__ = function, function.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> lazy[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> lazy[T] | T:
        if instance is None:
            return self
        value: T = instance.__dict__.setdefault(self._function.__name__, self._function(instance))
        return value


def _in_child() -> None:
    for lock in list(_all):
        lock.renew()
    for claims in list(_claims):
        claims.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
