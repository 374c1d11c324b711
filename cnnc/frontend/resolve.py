"""Names that nothing defines, in code that elaboration may not reach: blocks that are not applied, branches not taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any

from cnnc.diagnostics import Span
from cnnc.frontend.elaboration import Elaboration, Failure, Frame
from cnnc.frontend.expressions import evaluate, names_in
from cnnc.frontend.open_sizes import open_names
from cnnc.frontend.text import syntax as s
from cnnc.frontend.values import Module, Scope
from cnnc.ir.layer import LAYERS


def check_names(elaboration: Elaboration, module: Module) -> None:
    """Report the unknown names and layers of every block and model of a file and of what it includes."""
    items: list[tuple[s.Definition, Module]] = [*module.blocks.values(), *module.models.values()]
    for item, home in items:
        frame = Frame(elaboration, home, Scope(""), dict.fromkeys(_variables(item), None))
        defined = set(names_in(frame))
        if isinstance(item, s.Model):
            defined.update(open_names(item, defined))
        for code, name, span in _names(item):
            if name not in defined:
                _report(code, s.Name(span, name), frame)


def _report(code: str, node: s.Name, frame: Frame) -> None:
    """Report a name that nothing defines: E0302 where it is applied, or as evaluating it does."""
    try:
        if code == "E0302":
            layers = [*frame.names, *frame.module.blocks, *LAYERS]
            frame.unknown(node, code, "unknown layer", node.name, layers, "the layers are")
        evaluate(node, frame)
    except Failure:
        pass


def _variables(item: s.Definition) -> Iterator[str]:
    """Parameters, and all names that the body sets anywhere."""
    for parameter in item.parameters:
        yield parameter.name.name
    stack: list[s.Statement] = list(item.body)
    while stack:
        node = stack.pop()
        if isinstance(node, s.Assign):
            yield from (t.name for t in node.targets)
        elif isinstance(node, s.Input | s.Param):
            yield node.name.name
        elif isinstance(node, s.For):
            yield from (t.name for t in node.targets)
            stack += node.body
        elif isinstance(node, s.If):
            stack += (inner for _, body in node.clauses for inner in body)


def _names(item: s.Definition) -> Iterator[tuple[str, str, Span]]:
    """(code where it is unknown, name, place) of every name that is read, in order."""
    waiting: list[Any] = [*reversed(item.body), *(p.default for p in reversed(item.parameters))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, s.Name):
            yield "E0301", node.name, node.span
        elif isinstance(node, s.Call | s.Step) and isinstance(node.callee, s.Name):
            yield "E0302", node.callee.name, node.callee.span
        waiting += reversed(_parts(node))


def _parts(node: Any) -> Sequence[Any]:
    """What may read names within a node. What declares a name, names an argument or an attribute, reads nothing."""
    if isinstance(node, tuple):
        return node
    parts = _PARTS.get(type(node))
    if parts is not None:
        return parts(node)
    return [getattr(node, f.name) for f in fields(node)] if isinstance(node, s.Syntax) else ()


def _call(node: s.Call | s.Step) -> Sequence[Any]:
    label = node.label.parts if isinstance(node, s.Step) and node.label is not None else ()
    callee = () if isinstance(node.callee, s.Name) else (node.callee,)
    return (*callee, *(node.arguments or ()), *label)


def _return(node: s.Return) -> Sequence[Any]:
    """In a dict that is returned, a bare name for a key is the output's name."""
    if len(node.values) != 1 or not isinstance(node.values[0], s.Dict):
        return node.values
    pairs = node.values[0].pairs
    return [*(v for _, v in pairs), *(k for k, _ in pairs if not isinstance(k, s.Name))]


def _but_batch(sizes: Sequence[s.Expression]) -> Sequence[s.Expression]:
    return [d for d in sizes if not s.is_batch(d)]


_PARTS: dict[type, Callable[[Any], Sequence[Any]]] = {
    s.Name: lambda n: (),
    s.Call: _call,
    s.Step: _call,
    s.Argument: lambda n: _but_batch(n.value.items) if isinstance(n.value, s.List) else (n.value,),
    s.Attribute: lambda n: (n.value,),
    s.Setting: lambda n: (n.value,),
    s.Assign: lambda n: (n.value,),
    s.Type: lambda n: _but_batch(n.dims),
    s.Input: lambda n: (n.type, *n.settings),
    s.Param: lambda n: (n.type, n.start),
    s.For: lambda n: (n.over, *n.body),
    s.Return: _return,
}
