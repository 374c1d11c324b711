"""Two stages side by side."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher, unified_diff
from itertools import zip_longest
from typing import Literal

from cnnc.ir.display import shown
from cnnc.ir.graph import Graph

Kind = Literal["same", "changed", "gone", "new"]
VALUE = re.compile(r"\s*(%[^ ,]+)(?:, %[^ ,]+)* = ")


@dataclass(frozen=True)
class Comparison:
    """What became of one graph in another: `str` has it as a unified diff, a notebook side by side."""

    before: str
    a: Graph
    after: str
    b: Graph

    def rows(self) -> list[tuple[Kind, str, str]]:
        """The lines of both texts beside each other. Those that define a value of one name belong together."""
        left, right = str(self.a).splitlines(), str(self.b).splitlines()
        matcher = SequenceMatcher(None, [_key(t) for t in left], [_key(t) for t in right], autojunk=False)
        result: list[tuple[Kind, str, str]] = []
        for tag, i, j, k, m in matcher.get_opcodes():
            if tag == "equal":
                result += [("same" if x == y else "changed", x, y) for x, y in zip(left[i:j], right[k:m], strict=True)]
            else:
                pairs = zip_longest(left[i:j], right[k:m], fillvalue="")
                result += [row for x, y in pairs for row in _apart(x, y)]
        return result

    def __str__(self) -> str:
        return diff(self.a, self.b, self.before, self.after)

    def _repr_html_(self) -> str:
        return shown("comparison", self)


def diff(a: Graph, b: Graph, before: str = "before", after: str = "after") -> str:
    """What changed from one graph to the next, as a unified diff; empty when nothing did."""
    return "".join(unified_diff(str(a).splitlines(keepends=True), str(b).splitlines(keepends=True), before, after, n=1))


def _key(line: str) -> str:
    found = VALUE.match(line)
    return found[1] if found else line


def _apart(left: str, right: str) -> list[tuple[Kind, str, str]]:
    return [*([("gone", left, "")] if left else []), *([("new", "", right)] if right else [])]  # type: ignore[list-item]
