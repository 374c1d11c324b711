"""What statements set, name and return, seen in their syntax, without running them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Any

from cnnc.frontend.text import syntax as s


def assigned(node: s.Statement) -> list[str]:
    """The names that a statement may set, those of inner statements included."""
    if isinstance(node, s.Assign):
        return [t.name for t in node.targets]
    if isinstance(node, s.Input | s.Param):
        return [node.name.name]
    if isinstance(node, s.For):
        return [*(t.name for t in node.targets), *(n for inner in node.body for n in assigned(inner))]
    if isinstance(node, s.If):
        return [n for _, body in node.clauses for inner in body for n in assigned(inner)]
    return []


def returns(node: s.Statement) -> bool:
    """Whether a statement may return."""
    if isinstance(node, s.For):
        return any(map(returns, node.body))
    if isinstance(node, s.If):
        return any(returns(inner) for _, body in node.clauses for inner in body)
    return isinstance(node, s.Return)


def unread(item: s.Definition) -> list[s.Parameter]:
    """The parameters that nothing in a model or block names."""
    named: set[str] = set()
    waiting: list[Any] = [item.body, *(p.default for p in item.parameters)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, tuple):
            waiting += node
        elif isinstance(node, s.Name):
            named.add(node.name)
        elif isinstance(node, s.Syntax):
            waiting += [getattr(node, f.name) for f in fields(node)]
    return [p for p in item.parameters if p.name.name not in named]


# The parts of a node in which a label is looked for.
_PARTS: dict[type, Callable[[Any], Iterable[Any]]] = {
    s.Assign: lambda n: (n.value,),
    s.Param: lambda n: (n.start,),
    s.Return: lambda n: n.values,
    s.For: lambda n: n.body,
    s.If: lambda n: (inner for _, body in n.clauses for inner in body),
    s.Pipe: lambda n: (n.start, *n.steps),
    s.Step: lambda n: n.arguments or (),
    s.Call: lambda n: n.arguments,
    s.Argument: lambda n: (n.value,),
    s.Labelled: lambda n: (n.value,),
    s.Chain: lambda n: (n.first, *(term for _, _, term in n.rest)),
    s.Choose: lambda n: (n.then, n.otherwise),
    s.List: lambda n: n.items,
    s.Dict: lambda n: (value for _, value in n.pairs),
}


def labels_in(body: Sequence[s.Statement]) -> frozenset[str]:
    """The labels written out in a body: running numbers step around them."""
    found: set[str] = set()
    waiting: list[Any] = list(body)
    while waiting:
        node = waiting.pop()
        label = node.label if isinstance(node, s.Step | s.Labelled) else None
        if label is not None and len(label.parts) == 1 and isinstance(label.parts[0], str):
            found.add(label.parts[0])
        waiting += _PARTS.get(type(node), lambda n: ())(node)
    return frozenset(found)
