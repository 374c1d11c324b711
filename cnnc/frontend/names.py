"""What statements set, name and return, seen in their syntax, without running them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from cnnc.frontend import syntax as s


def assigned(node: s.Statement) -> list[str]:
    """The names that a statement may set, those of inner statements included."""
    if isinstance(node, s.Assign):
        return [t.name for t in node.targets]
    if isinstance(node, s.Input):
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


def unread(item: s.Model | s.Block) -> list[s.Parameter]:
    """The parameters that nothing in a model or block names."""
    named: set[str] = set()
    waiting: list[Any] = [item.body, *(p.default for p in item.parameters)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, tuple):
            waiting += node
        elif isinstance(node, s.Name):
            named.add(node.name)
        elif type(node).__module__ == s.__name__:
            waiting += [getattr(node, f.name) for f in fields(node)]
    return [p for p in item.parameters if p.name.name not in named]


def labels_in(body: Sequence[s.Statement]) -> frozenset[str]:
    """The labels written out in a body: running numbers step around them."""
    found: set[str] = set()

    def expression(node: s.Expression) -> None:
        if isinstance(node, s.Pipe):
            expression(node.start)
            for step in node.steps:
                take(step.label)
                for argument in step.arguments or ():
                    expression(argument.value)
        elif isinstance(node, s.Labelled):
            take(node.label)
            expression(node.value)
        elif isinstance(node, s.Call):
            for argument in node.arguments:
                expression(argument.value)
        elif isinstance(node, s.Chain):
            expression(node.first)
            for _, _, term in node.rest:
                expression(term)
        elif isinstance(node, s.Choose):
            expression(node.then)
            expression(node.otherwise)
        elif isinstance(node, s.List):
            for item in node.items:
                expression(item)
        elif isinstance(node, s.Dict):
            for _, value in node.pairs:
                expression(value)

    def take(label: s.Label | None) -> None:
        if label is not None and len(label.parts) == 1 and isinstance(label.parts[0], str):
            found.add(label.parts[0])

    def statement(node: s.Statement) -> None:
        if isinstance(node, s.Assign):
            expression(node.value)
        elif isinstance(node, s.Return):
            for value in node.values:
                expression(value)
        elif isinstance(node, s.For):
            for inner in node.body:
                statement(inner)
        elif isinstance(node, s.If):
            for _, inner_body in node.clauses:
                for inner in inner_body:
                    statement(inner)

    for node in body:
        statement(node)
    return frozenset(found)
