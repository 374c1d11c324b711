"""What layers and operators make on tensors: nodes of the graph, with their names and parameters, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import prod
from typing import NoReturn

from cnnc.diagnostics import Span
from cnnc.frontend.binding import Application, bind_layer
from cnnc.frontend.elaboration import Frame
from cnnc.frontend.expressions import evaluate
from cnnc.frontend.limits import LAYERS_LIMIT
from cnnc.frontend.text import syntax as s
from cnnc.frontend.tiling import leftover
from cnnc.frontend.values import Given, LayerValue, Made, Scope, Tensor, kind, plain, shown_type, tensors_in
from cnnc.ir.layer import Layer, ParameterSpec, Site, told
from cnnc.ir.op import InferenceError

DIMENSION = 2**31
_LABEL = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")


def apply_layer(callee: LayerValue, application: Application) -> Tensor | tuple[Tensor, ...]:
    """Apply a layer to the tensors that come first among its arguments: what it gives, or all that it gives."""
    operands, rest = _operands(callee.layer, application)
    if callee.bare:
        bound: Mapping[str, Given] = bind_layer(callee.layer, application, rest)
    elif rest or application.keywords:
        extra = rest[0] if rest else next(iter(application.keywords.values()))
        application.frame.fail(extra, "E0208", f"this {callee.layer.name} has its arguments already")
    else:
        bound = callee.arguments
    return _node(callee, application, operands, bound)


def _operands(layer: Layer, application: Application) -> tuple[list[Given], list[Given]]:
    """The tensors that a layer is applied to, lists of them taken apart, and the arguments after them."""
    frame = application.frame
    operands: list[Given] = []
    rest = list(application.positional)
    while rest and tensors_in(rest[0].value) and (layer.operands is None or len(operands) < layer.operands):
        given = rest.pop(0)
        if isinstance(given.value, Tensor):
            operands.append(given)
            continue
        if not all(isinstance(v, Tensor) for v in given.value):
            frame.fail(given, "E0203", f"{layer.name} applies to tensors; this list holds others too")
        if layer.operands is not None:
            what = f"{layer.name} applies to a tensor, not to a list of them"
            frame.fail(given, "E0203", what, help="to join them first: concat([...])")
        operands += [Given(v, given.span) for v in given.value]
    if rest and tensors_in(rest[0].value):
        count = "one tensor" if layer.operands == 1 else f"{layer.operands} tensors"
        frame.fail(rest[0], "E0208", f"{layer.name} applies to {count}; here is another")
    if layer.operands is not None and len(operands) < layer.operands:
        what = f"{layer.name} applies to {layer.operands} tensors, here {len(operands)}"
        frame.fail(application, "E0207", what)
    return operands, rest


def _node(
    callee: LayerValue, application: Application, operands: Sequence[Given], bound: Mapping[str, Given]
) -> Tensor | tuple[Tensor, ...]:
    """Add a layer's parameters and nodes."""
    frame, span = application.frame, application.span
    layer, builder = callee.layer, frame.elaboration.builder
    count(span, frame)
    arguments = {a.name: plain(bound[a.name].value) if a.name in bound else a.default for a in layer.arguments}
    types = [o.value.type for o in operands]
    try:
        specs = told(layer.parameters(types, arguments), arguments)
    except InferenceError as e:
        _refuse(e, application, operands, bound)
    home, (scope, stem) = _home(callee, application, bool(specs))
    values = _parameters(home, specs, span, frame) if specs else {}
    tensors = tuple(o.value.value for o in operands)
    try:
        made = layer.build(Site(builder, tensors, values, arguments, scope.full(stem), frame.origin(span)))
    except InferenceError as e:
        _refuse(e, application, operands, bound)
    results = tuple(Tensor(v, builder.type(v)) for v in (made if isinstance(made, tuple) else (made,)))
    for type in (r.type for r in results):
        if any(isinstance(d, int) and d >= DIMENSION for d in type.shape):
            frame.fail(span, "E0402", f"the result would be {shown_type(type)}; every size is below 2^31")
    found = leftover(arguments, types[0] if types else None, results[0].type)
    if found is not None:
        message, notes, help = found
        frame.warn(bound.get("stride", application), "W0101", f"{layer.name}: {message}", *notes, help=help)
    return results if isinstance(made, tuple) else results[0]


def _refuse(
    e: InferenceError, application: Application, operands: Sequence[Given], bound: Mapping[str, Given]
) -> NoReturn:
    """Point at the argument at fault, and say what the input is."""
    fault = bound.get(e.argument) if e.argument is not None else None
    notes = list(e.notes)
    if operands and not any("input" in n for n in notes):
        types = ", ".join(shown_type(o.value.type) for o in operands[:6])
        notes.append(f"the input is {types}" if len(operands) == 1 else f"the inputs are {types}")
    help = e.help
    given = fault.value if fault is not None else None
    if help is None and isinstance(given, float) and given == int(given):
        help = "for a whole number divide with '//', or write int(...)"
    application.frame.fail(fault or application.at, e.code, e.message, *notes, help=help)


# --- names


def claim(label: s.Label, frame: Frame) -> str:
    """The label as text, checked and taken."""
    text = "".join(map(str, [_part(part, label, frame) for part in label.parts]))
    if not _LABEL.fullmatch(text) or len(text) > 200:
        help = "a name is letters, digits and '_' in parts joined by dots: layer1.0.conv1"
        frame.fail(label, "E0314", f"'{text[:80]}' is no name for a layer", help=help)
    scope = frame.scope
    if text in scope.taken:
        place = scope.taken[text]
        looped = "in a loop, put its variable into the name: {i}" if place == label.span else None
        what = f"the name {scope.full(text)} is taken"
        frame.fail(label, "E0314", what, f"it is used at {place} already", help=looped)
    scope.taken[text] = label.span
    return text


def _part(part: str | s.Expression, label: s.Label, frame: Frame) -> int | str:
    value = part if isinstance(part, str) else evaluate(part, frame)
    if isinstance(value, bool) or not isinstance(value, int | str):
        help = "a name is made of texts and whole numbers"
        frame.fail(label, "E0314", f"{kind(value)} cannot be part of a name", help=help)
    return value


def _home(
    callee: LayerValue, application: Application, has_parameters: bool
) -> tuple[tuple[Scope, str], tuple[Scope, str]]:
    """Where the parameters of a layer are named, and where its node is: scopes and labels.

    A layer that is applied again has its parameters where its first application put them.
    """
    frame, label = application.frame, application.label
    name = None if label is None else claim(label, frame)
    if callee.home is not None:
        return callee.home, callee.home if name is None else (frame.scope, name)
    scope = frame.scope if name is not None or not has_parameters or callee.scope is None else callee.scope
    home = (scope, name if name is not None else scope.running(callee.layer.name, application.span))
    if has_parameters and not callee.bare:
        callee.home = home
    return home, home


# --- parameters


def own_parameter(name: s.Name, spec: ParameterSpec, frame: Frame) -> str:
    """The value of a parameter that a block declares by itself; a shared block finds it again."""
    scope, key = frame.scope, name.name
    if key in scope.taken:
        help = "a name stands for one parameter or layer: a block for what a loop repeats has names of its own"
        frame.fail(
            name, "E0314", f"the name {scope.full(key)} is taken", f"it is used at {scope.taken[key]}", help=help
        )
    scope.taken[key] = name.span
    made = scope.memory.get(f"param {key}")
    if isinstance(made, Made):
        _serves(made, scope.full(key), {key: spec}, name.span, frame)
        return made.values[key]
    value = _parameter(scope.full(key), spec, name.span, frame)
    scope.memory[f"param {key}"] = Made({key: spec}, {key: value}, name.span)
    return value


def _parameters(
    home: tuple[Scope, str], specs: Mapping[str, ParameterSpec], span: Span, frame: Frame
) -> dict[str, str]:
    """The parameters of a layer: made at its first use, found again at the next."""
    scope, label = home
    full = scope.full(label)
    made = scope.memory.get(label)
    if isinstance(made, Made):
        _serves(made, full, specs, span, frame)
        return made.values
    values = {short: _parameter(f"{full}.{short}", spec, span, frame) for short, spec in specs.items()}
    scope.memory[label] = Made(dict(specs), values, span)
    return values


def _serves(made: Made, full: str, specs: Mapping[str, ParameterSpec], span: Span, frame: Frame) -> None:
    """Fail where parameters that are there have other shapes than the ones wanted."""
    for short, spec in specs.items():
        before = made.specs.get(short)
        if before is None or before.shape != spec.shape:
            frame.fail(
                span,
                "E0315",
                f"the shared {full} cannot serve here: its {short} would have another shape",
                f"at {made.span} {short} is {list(before.shape) if before else 'absent'}",
                f"here it would be {list(spec.shape)}",
                help="apply it to inputs of the same channels, or make a second layer",
            )


def _parameter(name: str, spec: ParameterSpec, span: Span, frame: Frame) -> str:
    """Add one parameter."""
    elaboration = frame.elaboration
    builder = elaboration.builder
    shape = list(spec.shape)
    if name in builder:
        frame.fail(span, "E0314", f"the name {name} is taken", help="give one of the two another name")
    if any(d >= DIMENSION for d in shape):
        frame.fail(span, "E0402", f"{name} would have the shape {shape}; every size is below 2^31")
    elaboration.bytes += 4 * prod(shape)
    if elaboration.bytes > elaboration.memory:
        taken, there = elaboration.bytes / 1e9, elaboration.memory / 1e9
        what = f"the parameters up to {name} take {taken:,.1f} GB, more than the {there:,.1f} GB of memory here"
        frame.stop(span, "E0406", what, f"{name} has the shape {shape}")
    add = builder.param if spec.trained else builder.state
    elaboration.parameters[name] = spec
    return add(name, spec.type, frame.origin(span))


# --- the budget


def count(span: Span, frame: Frame) -> None:
    """Take a layer of the budget."""
    frame.elaboration.layers += 1
    if frame.elaboration.layers > LAYERS_LIMIT:
        help = "a loop or a block that calls another unfolds too far"
        frame.stop(span, "E0405", f"this model has more than {LAYERS_LIMIT:,} layers", help=help)
