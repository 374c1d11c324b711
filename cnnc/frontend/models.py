"""The model of a file that is elaborated: which one, what its parameters are set to, what it returns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from cnnc.diagnostics import CnncError, Source, Span
from cnnc.frontend.elaboration import Failure, Frame
from cnnc.frontend.expressions import bounded, evaluate
from cnnc.frontend.text import syntax as s
from cnnc.frontend.text.tree import parse_expression
from cnnc.frontend.values import POISON, BlockValue, Function, LayerValue, Module, Tensor, Value, kind, show
from cnnc.ir.start import Start, unfit_default

_OUTPUT = re.compile(r"[A-Za-z0-9_.]+")


def pick(name: str | None, source: Source, frame: Frame) -> tuple[s.Model, Module]:
    """The model of a name; without one the only model, of the file itself or else of what it includes."""
    models = frame.module.models
    start = Span(source, 0, 1)
    if name is not None:
        if name not in models:
            frame.unknown(start, "E0304", "there is no model", name, models, "the models are")
        return models[name]
    names = [n for n in models if n in frame.module.defined] or list(models)
    if not names:
        help = "write: model name() { input x: f32[N, 3, 224, 224]  return ... }"
        frame.fail(start, "E0304", "there is no model in this file", help=help)
    if len(names) > 1:
        second, there = models[names[1]][0], f"they are {', '.join(names)}"
        frame.fail(second.name, "E0304", f"this file has {len(names)} models", there, help=f"pick one: -m {names[0]}")
    return models[names[0]]


# --- its parameters


def set_parameters(node: s.Model, given: Mapping[str, Any], frame: Frame) -> dict[str, Any]:
    """Set the model's parameters from `-p` and their defaults; gives those that are good."""
    names = [p.name.name for p in node.parameters]
    for name in given:
        if name not in names:
            with suppress(Failure):
                _refuse(name, names, node, frame)
    arguments: dict[str, Any] = {}
    for parameter in node.parameters:
        name = parameter.name.name
        if name in frame.names:
            frame.report(parameter.name, "E0303", f"there are two parameters {name}")
            continue
        frame.names[name] = POISON
        with suppress(Failure):
            frame.names[name] = arguments[name] = _parameter(parameter, node, given, frame)
    return arguments


def _refuse(name: str, names: Sequence[str], node: s.Model, frame: Frame) -> None:
    what = f"model {node.name.name} has no parameter"
    if not names:
        frame.fail(node.name, "E0305", f"{what}s; '{name}' is set")
    frame.unknown(node.name, "E0305", what, name, names, "it has")


def _parameter(parameter: s.Parameter, node: s.Model, given: Mapping[str, Any], frame: Frame) -> Value:
    """What a parameter is set to, or else its default."""
    name = parameter.name.name
    default = None if parameter.default is None else evaluate(parameter.default, frame)
    if name in given:
        return _argument(parameter, default, given[name], frame)
    if parameter.default is None:
        what = f"the parameter {name} of model {node.name.name} is not set"
        frame.fail(parameter, "E0305", what, help=f"set it: -p {name}=...")
    return default


def _argument(parameter: s.Parameter, default: Value, value: Any, frame: Frame) -> Value:
    """A parameter's value as it is given; of the kind of its default."""
    name = parameter.name.name
    if isinstance(value, str) and not isinstance(default, str):
        value = _expression(name, value, frame)
    value = _plain(value)
    good = _is_value(value)
    if parameter.default is not None and default is not None and not _same_kind(default, value):
        what = f"{name} is {kind(default)}, not {kind(value) if good else type(value).__name__}"
        shown = show(value) if good else repr(value)[:60]
        frame.fail(parameter, "E0305", what, f"its default is {show(default)}", f"it is set to {shown}")
    if not good:
        what = f"{value}; it must be finite" if isinstance(value, float) else f"a value of type {type(value).__name__}"
        frame.fail(parameter, "E0305", f"{name} cannot be {what}")
    return bounded(value, parameter, frame)


def _expression(name: str, text: str, frame: Frame) -> Value:
    """A value from the command line, as an expression that sees the file's names."""
    source = Source(f"-p {name}", text)
    try:
        node = parse_expression(source)
    except CnncError as e:
        for d in e.diagnostics:
            frame.report(d.span or Span(source, 0, 1), "E0305", f"the value of {name}: {d.message}")
        raise Failure from None
    return evaluate(node, Frame(frame.elaboration, frame.module, frame.scope))


def _plain(value: Any) -> Any:
    """Python's lists as the language's; whole numbers of NumPy as numbers."""
    if isinstance(value, list | tuple):
        return tuple(_plain(v) for v in value)
    if not isinstance(value, bool | int | float | str) and hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return value.item()
    return value


def _is_value(value: Any) -> bool:
    if isinstance(value, float) and value - value != 0:
        return False
    if isinstance(value, tuple):
        return all(map(_is_value, value))
    if isinstance(value, dict):
        return all(map(_is_value, value.values()))
    return value is None or isinstance(value, bool | int | float | str | LayerValue | BlockValue | Function | Start)


def _same_kind(default: Value, value: Value) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    for kinds in (int | float, LayerValue | BlockValue):
        if isinstance(default, kinds):
            return isinstance(value, kinds)
    return type(default) is type(value)


def starts(node: s.Model, arguments: Mapping[str, Any], frame: Frame) -> tuple[Start | None, Start | None]:
    """The starts of weights and of biases that a model has for its layers: its parameters `init` and `bias_init`, where
    these are starts."""
    found: list[Start | None] = []
    for name in ("init", "bias_init"):
        value = arguments.get(name)
        begin = value if isinstance(value, Start) else None
        refused = unfit_default(name, begin) if begin is not None else None
        if begin is not None and begin.name == "lsuv":
            refused = "the recipe's, which has data,"
        if refused is not None:
            where = next(p for p in node.parameters if p.name.name == name)
            frame.fail(where, "E0305", f"{name} is {begin}; {refused} is needed")
        found.append(begin)
    return found[0], found[1]


# --- what it returns


def outputs(value: Value, node: s.Model, frame: Frame) -> tuple[tuple[str, str], ...]:
    """(label, value) of each output: named by a dict, by the names that are returned, or output0, output1, ..."""
    last = node.body[-1]
    returned: Sequence[s.Expression] = last.values if isinstance(last, s.Return) else ()
    where = returned[0].span.to(returned[-1].span) if returned else node.name.span
    pairs = _pairs(value, returned)
    if pairs is None:
        frame.fail(where, "E0323", f"model {node.name.name} returns {kind(value)}, not a tensor")
    if not pairs:
        frame.fail(where, "E0323", f"model {node.name.name} returns no tensor")
    one = returned[0] if len(returned) == 1 else None
    values = [v for _, v in one.pairs] if isinstance(one, s.Dict) else returned
    places = [v.span for v in values] if len(values) == len(pairs) else [where] * len(pairs)
    for (label, v), place in zip(pairs, places, strict=True):
        if not isinstance(v, Tensor):
            frame.fail(place, "E0323", f"the output {label} is {kind(v)}, not a tensor")
        if len(label) > 200 or not _OUTPUT.fullmatch(label):
            help = "a name is letters, digits, '_' and '.'"
            frame.fail(place, "E0323", f"{show(label)} is no name for an output", help=help)
    return tuple((label, v.value) for label, v in pairs)


def _pairs(value: Value, returned: Sequence[s.Expression]) -> list[tuple[str, Value]] | None:
    """What is returned, with its labels; None where it is no tensor, list or dict."""
    if isinstance(value, Tensor):
        return [("output", value)]
    if isinstance(value, dict):
        return [(k if isinstance(k, str) else show(k), v) for k, v in value.items()]
    if not isinstance(value, tuple):
        return None
    names = [v.name for v in returned if isinstance(v, s.Name)]
    if not len(set(names)) == len(returned) == len(value):
        names = [f"output{i}" for i in range(len(value))]
    return list(zip(names, value, strict=True))
