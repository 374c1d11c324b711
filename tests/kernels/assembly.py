"""What is looked for in emitted assembly."""

from __future__ import annotations

import re

# A multiply-add of whole vectors, or the product where the target has none.
MULTIPLY_ADD = re.compile(r"\t(?:vfmadd\w+ps|mulps|fmla)\t")
# A vector to or from the stack.
STACK = re.compile(r".*(?:mm\d+.*\(%rsp\)|\(%rsp\).*mm\d+|\tstr\tq\d+, \[sp.*|\tldr\tq\d+, \[sp.*)")


def blocks(assembly: str) -> list[str]:
    """The code from label to label."""
    return re.split(r"\n(?=[.\w$]+:)", assembly)


def sums(block: str) -> int:
    """The multiply-adds of a block."""
    return len(MULTIPLY_ADD.findall(block))


def spills(assembly: str, least: int) -> list[str]:
    """The vector instructions that touch the stack in the blocks that hold at least `least` multiply-adds."""
    return [line for block in blocks(assembly) if sums(block) >= least for line in STACK.findall(block)]


def inner_loops(assembly: str) -> list[str]:
    """The blocks that jump to their own label: loops without another inside."""
    found = []
    for block in blocks(assembly):
        label = re.match(r"\n?([.\w$]+):", block)
        if label and re.search(rf"\t(?:j\w+|b\.?\w*|cbn?z\t\w+,|tbn?z\t\w+, #\d+,)\t? ?{re.escape(label[1])}\b", block):
            found.append(block)
    return found


def hottest_loops(assembly: str, least: int = 4) -> list[str]:
    """The innermost loops with the most multiply-adds, at least `least`: the register tile at full size.

    A loop with AVX2's masked moves is that of the last columns, whose mask takes a register more.
    """
    loops = [loop for loop in inner_loops(assembly) if "vmaskmov" not in loop]
    most = max([least, *map(sums, loops)])
    return [loop for loop in loops if sums(loop) == most]


def loop_spills(assembly: str, least: int = 4) -> list[str]:
    """The vector instructions that touch the stack in the hottest loops."""
    return [line for loop in hottest_loops(assembly, least) for line in STACK.findall(loop)]
