"""Mappings whose values are made, drawn or fetched when they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")


class Named(Mapping[str, T]):
    """A mapping whose names are known before its values are read: `_named` has them."""

    @property
    def _named(self) -> Mapping[str, object]:
        raise NotImplementedError

    def __contains__(self, name: object) -> bool:
        return name in self._named

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)
