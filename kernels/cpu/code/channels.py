"""What an epilogue reads of a block of channels besides tensors: one vector of the bias, and of each operand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .emit import F32, Emitter, i64


def gather_body(operands: Sequence[str], bias: int, first: int, panel: int = 1) -> Callable[..., None]:
    """A body: gather(arguments, to, channel, count) copies what `panel` blocks of channels, from `channel` on, have of the bias
    and of every operand that is one number for a "channel", or a "scalar" for all of them. `bias` and `first` are the
    arguments' indices, of the first operand.

    Zeros stand past `count` channels, and for an absent bias. Full operands have their place too, which stays as it is.
    """

    def body(e: Emitter, arguments: Any, to: Any, channel: Any, count: Any) -> None:
        b = e.b
        for position, kind in enumerate(("channel", *operands)):
            if kind == "full":
                continue
            address = b.load(b.gep(arguments, [i64(first + position - 1 if position else bias)]), align=8)
            present = count if position else b.select(b.icmp_signed("==", address, i64(0)), i64(0), count)
            source = b.inttoptr(address, F32.as_pointer())
            for v in range(panel):
                mask = e.first_lanes(b.sub(present, i64(e.lanes * v)))
                if kind == "scalar":
                    value = e.select(mask, e.broadcast(source), e.const(0))
                else:
                    value = e.masked_load(e.at(b.gep(source, [channel]), e.lanes * v), mask)
                e.store(value, to, e.lanes * (panel * position + v))

    return body
