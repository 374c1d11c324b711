"""A kernel as its family makes it, and as it is launched. Nothing here imports Numba."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Program:
    """function: `function(arguments, block, _)`, where `arguments` has an int64 for each of `buffers` (addresses) and `sizes` (which
    are int32), in this order. threads: of a block. shared: bytes of shared memory. resident: blocks that a multiprocessor
    should hold at once at least; 0: as it comes.
    """

    function: Callable[..., Any]
    buffers: tuple[str, ...]
    sizes: tuple[str, ...]
    threads: int
    shared: int = 0
    resident: int = 0


@dataclass(frozen=True)
class Image:
    """A compiled kernel, `SYMBOL` in its text: how it is launched stands in the first line."""

    text: str

    @property
    def threads(self) -> int:
        return self._number("threads")

    @property
    def shared(self) -> int:
        return self._number("shared")

    @property
    def addresses(self) -> int:
        """How many of the arguments are u64 addresses; the others are s32."""
        return self._number("addresses")

    def _number(self, name: str) -> int:
        found = re.match(rf"// .*\b{name} (\d+)", self.text)
        if found is None:
            raise ValueError("a compiled kernel does not say how it is launched")
        return int(found[1])


def heading(program: Program) -> str:
    return f"// threads {program.threads}, shared {program.shared}, addresses {len(program.buffers)}\n"
