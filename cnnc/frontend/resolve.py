"""Names that nothing defines, in code that elaboration may not reach: blocks that are not applied, branches not taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from cnnc.diagnostics import Span
from cnnc.frontend import syntax as s
from cnnc.frontend.evaluate import Evaluator
from cnnc.frontend.reporting import Failure
from cnnc.frontend.values import Frame, Module, Scope
from cnnc.ir.layer import LAYERS


def check_names(evaluator: Evaluator, module: Module) -> None:
    """Report the unknown names and layers of every block and model of a file and of what it includes."""
    items: list[tuple[s.Block | s.Model, Module]] = [*module.blocks.values(), *module.models.values()]
    for item, home in items:
        frame = Frame(home, Scope(""), dict.fromkeys(_variables(item), None))
        known = set(evaluator.known(frame))
        callables = [*frame.names, *home.blocks, *LAYERS]
        for code, name, span in _names(item):
            if name in known:
                continue
            try:
                if code == "E0302":
                    evaluator.unknown(code, "unknown layer", name, callables, span, listed="the layers are")
                evaluator.evaluate(s.Name(span, name), frame)
            except Failure:
                continue


def _variables(item: s.Block | s.Model) -> Iterator[str]:
    """Parameters, and all names that the body sets anywhere."""
    for parameter in item.parameters:
        yield parameter.name.name
    stack: list[s.Statement] = list(item.body)
    while stack:
        node = stack.pop()
        if isinstance(node, s.Assign):
            yield from (t.name for t in node.targets)
        elif isinstance(node, s.Input):
            yield node.name.name
        elif isinstance(node, s.For):
            yield from (t.name for t in node.targets)
            stack += node.body
        elif isinstance(node, s.If):
            stack += (inner for _, body in node.clauses for inner in body)


def _names(item: s.Block | s.Model) -> Iterator[tuple[str, str, Span]]:
    """(code where it is unknown, name, place) of every name that is read."""
    for parameter in item.parameters:
        if parameter.default is not None:
            yield from _read(parameter.default)
    for statement in item.body:
        yield from _read(statement)


def _read(node: Any) -> Iterator[tuple[str, str, Span]]:
    """Names read within a node. What declares a name, names an argument or an attribute, reads nothing."""
    if isinstance(node, s.Name):
        yield "E0301", node.name, node.span
    elif isinstance(node, s.Call | s.Step) and isinstance(node.callee, s.Name):
        yield "E0302", node.callee.name, node.callee.span
        yield from _each(node.arguments or ())
        if isinstance(node, s.Step) and node.label is not None:
            yield from _each(node.label.parts)
    elif isinstance(node, s.Argument | s.Attribute | s.Setting | s.Assign):
        yield from _read(node.value)
    elif isinstance(node, s.Type):
        yield from _each([d for d in node.dims if not (isinstance(d, s.Name) and d.name == "N")])
    elif isinstance(node, s.Input):
        yield from _read(node.type)
        yield from _each(node.settings)
    elif isinstance(node, s.For):
        yield from _read(node.over)
        yield from _each(node.body)
    elif isinstance(node, s.Return) and len(node.values) == 1 and isinstance(node.values[0], s.Dict):
        yield from _each([v for _, v in node.values[0].pairs])
        yield from _each([k for k, _ in node.values[0].pairs if not isinstance(k, s.Name)])
    elif isinstance(node, tuple):
        yield from _each(node)
    elif is_dataclass(node) and not isinstance(node, Span):
        yield from _each([getattr(node, f.name) for f in fields(node)])


def _each(nodes: Sequence[Any]) -> Iterator[tuple[str, str, Span]]:
    for node in nodes:
        yield from _read(node)
