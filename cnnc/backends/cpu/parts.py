"""What is concatenated is written where it belongs, where that is one piece of memory: nothing is left to copy.

    y = concat(a, b)  -->  a, b are parts of y's memory

That is so along the first axis in memory that is longer than one: along channels for a batch of one. Of values that are
concatenated again and again, each time with one more, all results are beginnings of the last.
"""

from __future__ import annotations

from itertools import accumulate

from cnnc.backends.cpu.context import Lowering
from cnnc.ir.graph import LEAVES, Node
from cnnc.ir.types import product
from cnnc.lowering.plan import Ref


def place_parts(low: Lowering) -> None:
    """Give values that are concatenated places in the result, before any rule asks for theirs."""
    for node in reversed(low.graph.nodes):
        if node.op == "concat" and (found := starts(low, node)) is not None:
            _place(low, node, found)


def starts(low: Lowering, node: Node) -> list[int] | None:
    """The byte of the result at which each operand begins; None where operands are in several pieces there."""
    axis, stored = node.attribute("axis") % node.type.rank, node.type.memory_shape(low.batch)
    block = node.type.block if axis == 1 else 1
    if product(stored[:axis]) != 1 or any(low.shape(o)[axis] % block for o in node.inputs[:-1]):
        return None
    return list(accumulate((low.type(o).bytes(low.batch) for o in node.inputs[:-1]), initial=0))


def at(ref: Ref, start: int) -> Ref:
    return Ref(ref.buffer, ref.offset + start)


def _place(low: Lowering, node: Node, starts: list[int]) -> None:
    whole = low.places.get(node.name)
    if whole is None:
        first = low.places.get(node.inputs[0])
        places = [None if first is None else at(first, start) for start in starts]
        if first is not None and [low.places.get(o) for o in node.inputs] == places:
            low.places[node.name] = first
            return
        whole = low.ref(node.name)
    for o, start in zip(node.inputs, starts, strict=True):
        if o not in low.places and low.graph.node(o).op not in LEAVES:
            low.places[o] = at(whole, start)
            low.share(o)
