"""Applications, and their arguments bound to the names of what is applied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cnnc.diagnostics import Span
from cnnc.frontend.elaboration import Frame
from cnnc.frontend.text import syntax as s
from cnnc.frontend.values import BlockValue, Function, Given, LayerValue, is_plain, kind
from cnnc.ir.layer import Layer
from cnnc.ir.op import REQUIRED


@dataclass(frozen=True, slots=True)
class Application:
    """`callee(positional, keywords) as label`, in a frame. `span` is all of it, `at` the callee's name."""

    callee: LayerValue | BlockValue | Function
    positional: Sequence[Given]
    keywords: Mapping[str, Given]
    span: Span
    at: Span
    frame: Frame
    label: s.Label | None = None


def bind_layer(
    layer: Layer, application: Application, positional: Sequence[Given], plain: bool = True
) -> dict[str, Given]:
    """The arguments of a layer by name; all of `positional` are arguments, none is an operand. They are numbers and the
    like, unless they need not be `plain`."""
    frame = application.frame
    names = [a.name for a in layer.arguments]
    if len(positional) > len(names):
        takes = f"takes {_count(names)}" if names else "takes no arguments"
        given = "one is given" if len(positional) == 1 else f"{len(positional)} are given"
        frame.fail(positional[len(names)], "E0208", f"{layer.name} {takes}, {given}", *_listed("they", names))
    bound = dict(zip(names, positional, strict=False))
    for name, value in application.keywords.items():
        if name not in names:
            frame.unknown(value, "E0206", f"{layer.name} has no argument", name, names, "it has")
        _add(bound, name, value, frame)
    for argument in layer.arguments:
        if argument.default is REQUIRED and argument.name not in bound:
            notes = _listed("its arguments", names) if len(names) > 1 else ()
            frame.fail(application, "E0207", f"{layer.name} needs {argument.name}", *notes)
    for name, value in bound.items():
        if plain and not is_plain(value.value):
            frame.fail(value, "E0203", f"{name} of {layer.name} cannot be {kind(value.value)}")
    return bound


def bind_block(callee: BlockValue, application: Application) -> dict[str, Given]:
    """The arguments of a block by name. A tensor that a block value is applied to comes before those it has."""
    frame, positional = application.frame, application.positional
    block = callee.block.name.name
    names = [p.name.name for p in callee.block.parameters]
    everything = [*positional[:1], *callee.positional, *positional[1:]]
    if len(everything) > len(names):
        what = f"block {block} takes {_count(names)}, {len(everything)} are given"
        frame.fail(everything[len(names)], "E0208", what, *_listed("they", names))
    bound = dict(zip(names, everything, strict=False))
    keywords = {**callee.keywords, **application.keywords}
    check_keywords(callee, keywords, frame)
    for name, value in keywords.items():
        _add(bound, name, value, frame)
    for parameter in callee.block.parameters:
        if parameter.default is None and parameter.name.name not in bound:
            what = f"block {block} needs {parameter.name.name}"
            frame.fail(application, "E0207", what, *_listed("its arguments", names))
    return bound


def check_keywords(callee: BlockValue, keywords: Mapping[str, Given], frame: Frame) -> None:
    """Fail where a block has no argument of a name."""
    block = callee.block
    names = [p.name.name for p in block.parameters]
    for name, given in keywords.items():
        if name not in names:
            frame.unknown(given, "E0206", f"block {block.name.name} has no argument", name, names, "it has")


def _add(bound: dict[str, Given], name: str, given: Given, frame: Frame) -> None:
    if name in bound:
        frame.fail(given, "E0208", f"the argument {name} is given twice")
    bound[name] = given


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} argument{'s' * (len(names) != 1)}"


def _listed(what: str, names: Sequence[str]) -> tuple[str, ...]:
    return (f"{what} are {', '.join(names)}",) if names else ()
