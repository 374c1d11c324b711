"""What was used last: values within a bound of bytes, of which the least recently used go."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar

from cnnc.locks import Lock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
LEAST = 2  # values that stay whatever their size: two that take turns are not made again and again


@dataclass
class _Entry(Generic[V]):
    value: V
    bytes: int
    parts: Mapping[str, int]
    used: int


class Recent(Generic[K, V]):
    """Values by key. Parts that several values share count once."""

    def __init__(self, limit: int) -> None:
        """limit: bytes of all values."""
        self.limit, self.bytes = limit, 0
        self._entries: dict[K, _Entry[V]] = {}
        self._users: dict[str, int] = {}  # of a part
        self._clock, self._lock = count(), Lock()

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        entry.used = next(self._clock)
        return entry.value

    def put(self, key: K, value: V, bytes: int, parts: Mapping[str, int] | None = None) -> list[str]:
        """Add a value of so many bytes with parts of so many each; the parts that no value has any longer."""
        parts, gone = parts or {}, []
        with self._lock:
            self._entries[key] = _Entry(value, bytes, parts, next(self._clock))
            self.bytes += bytes
            for name, size in parts.items():
                self._users[name] = self._users.get(name, 0) + 1
                self.bytes += size if self._users[name] == 1 else 0
            while self.bytes > self.limit and len(self._entries) > LEAST:
                oldest = min(self._entries, key=lambda k: self._entries[k].used)
                gone += self._remove(self._entries.pop(oldest))
        return gone

    def _remove(self, entry: _Entry[V]) -> list[str]:
        self.bytes -= entry.bytes
        gone = []
        for name, size in entry.parts.items():
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name]
                self.bytes -= size
                gone.append(name)
        return gone

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._users.clear()
            self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)
