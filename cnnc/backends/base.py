"""The protocol of a backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from cnnc.ir.graph import Graph
from cnnc.runtime.executable import Runnable


class Backend(Protocol):
    """A target. Each module `cnnc/backends/<name>.py` has one as `BACKEND`."""

    name: str

    @property
    def lanes(self) -> int:
        """Channels to a block of the layout it prefers; 1 for plain layouts only."""

    def unavailable(self) -> str | None:
        """Why it cannot run here, or None."""

    def prepare(self, graph: Graph, values: Mapping[str, Any], threads: int | None = None) -> Runnable:
        """Make a graph ready; `values` are its params and states by name."""
