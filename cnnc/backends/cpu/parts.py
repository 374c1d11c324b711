"""What is concatenated is written where it belongs, where that is one piece of memory: nothing is left to copy.

    y = concat(a, b)  -->  a, b are parts of y's memory

That is so along the first axis in memory that is longer than one: along channels for a batch of one. Of values that are
concatenated again and again, each time with one more, all results are beginnings of the last.

Of several images, a part lies in each of them. Convolutions and changes to a plain layout write so, if nothing but the
concatenation reads their result.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate

from cnnc.backends.cpu.context import Lowering, Part
from cnnc.backends.cpu.emit import offset
from cnnc.backends.cpu.problem import Problem
from cnnc.ir.graph import LEAVES, Node
from cnnc.ir.types import product
from cnnc.kernels.cpu.launches import Launch
from cnnc.lowering.plan import Ref


def place_parts(low: Lowering) -> None:
    """Give values that are concatenated places in the result, before any rule asks for theirs."""
    for node in reversed(low.graph.nodes):
        if node.op != "concat":
            continue
        if (found := starts(low, node)) is not None:
            _place(low, node, found)
        elif node.type.rank > 2 and node.attribute("axis") % node.type.rank == 1:
            _divide(low, node)


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


# ------------------------------------------------------------------------------------------------ of several images


def _divide(low: Lowering, node: Node) -> None:
    """Say of what convolutions and changes of layout give, and only this concatenation reads, where it may be written."""
    first, block = 0, node.type.block
    image = product(node.type.memory_shape(low.batch)[1:])
    pixels = product(low.shape(node.name)[2:])
    for o in node.inputs:
        alone = low.graph.only_user(o) == node and node.operands.count(o) == 1
        last = first + low.shape(o)[1]
        whole = first % block == 0 and (last % block == 0 or o == node.inputs[-1])
        if alone and whole and low.graph.node(o).op in ("conv", "to_layout"):
            low.parts[o] = Part(offset(low.ref(node.name), first * pixels), image)
        first = last


def part(low: Lowering, value: str, p: Problem | None = None) -> Part | None:
    """Where a step writes its value, if that is part of another; a convolution's, if it reads nothing that lies like it."""
    if value not in low.parts or (p is not None and "full" in p.epilogue.operands):
        return None
    low.divided.add(value)
    return low.parts[value]


def into(part: Part | None, launch: Launch) -> Launch:
    """The launch that writes its images so far apart."""
    return launch if part is None else replace(launch, arguments={**launch.arguments, "y_image": part.image})
