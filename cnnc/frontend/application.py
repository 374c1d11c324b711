"""Applications: calls, pipes and labels. What is applied makes layers, runs blocks, or calculates."""

from __future__ import annotations

from collections.abc import Sequence

from cnnc.diagnostics import did_you_mean
from cnnc.frontend.activations import apply_to_formula
from cnnc.frontend.binding import Application, bind_layer, check_keywords
from cnnc.frontend.blocks import apply_block
from cnnc.frontend.elaboration import Failure, Frame
from cnnc.frontend.elementwise import CHOOSING, COMPARISONS, OPERATORS, TURNED, combine, works_on
from cnnc.frontend.expressions import UNDEFINED, argument, evaluate, evaluates, lookup, names_in
from cnnc.frontend.functions import call_function
from cnnc.frontend.layers import apply_layer, claim
from cnnc.frontend.synonyms import written
from cnnc.frontend.text import syntax as s
from cnnc.frontend.values import BlockValue, Formula, Function, Given, LayerValue, Value, kind, tensors_in
from cnnc.ir.layer import LAYERS


@evaluates(s.Call)
def call(node: s.Call, frame: Frame, label: s.Label | None = None) -> Value:
    callee = _callee(node.callee, frame)
    if isinstance(callee, Function) and callee.name not in CHOOSING and label is not None:
        frame.fail(label, "E0314", "only layers and blocks have names")
    positional, keywords = _arguments(node.arguments, frame)
    return apply(Application(callee, positional, keywords, node.span, node.callee.span, frame, label))


@evaluates(s.Labelled)
def labelled(node: s.Labelled, frame: Frame) -> Value:
    """`conv(32, 3) as tower`, `concat([a, b]) as joined`, `a + b as total`."""
    inner = node.value
    if isinstance(inner, s.Call):
        return call(inner, frame, node.label)
    if isinstance(inner, s.Chain) and _is_one_operation(inner):
        *rest, (operator, _, last) = inner.rest
        first = s.Chain(inner.span, inner.first, tuple(rest)) if rest else inner.first
        terms = evaluate(first, frame), evaluate(last, frame)
        if works_on(terms):
            return combine(operator, terms, inner.span, frame, node.label)
    value = evaluate(inner, frame)
    if isinstance(value, LayerValue) and value.bare:
        return _partial(value, Application(value, (), {}, node.span, inner.span, frame, node.label))
    frame.fail(node.label, "E0314", f"only layers and blocks have names, not {kind(value)}")


def _is_one_operation(node: s.Chain) -> bool:
    """Whether the last of a chain is an operation on what stands before it; `a < b < c` is two comparisons."""
    operator = node.rest[-1][0]
    return (operator in OPERATORS or operator in TURNED) and (operator not in COMPARISONS or len(node.rest) == 1)


@evaluates(s.Pipe)
def pipe(node: s.Pipe, frame: Frame) -> Value:
    try:
        value = evaluate(node.start, frame)
    except Failure:
        _check_steps(node.steps, frame)
        raise
    if not tensors_in(value):
        frame.fail(node.start, "E0308", f"'->' applies a layer to a tensor, not to {kind(value)}")
    given = Given(value, node.start.span)
    for i, step in enumerate(node.steps):
        try:
            given = Given(_step(step, given, frame), given.span.to(step.span))
        except Failure:
            _check_steps(node.steps[i + 1 :], frame)
            raise
    return given.value


def _step(step: s.Step, given: Given, frame: Frame) -> Value:
    callee = _callee(step.callee, frame)
    if isinstance(callee, Function) and callee.name in LAYERS:  # `x -> max(1)` is the layer, `max(x, y)` the function
        callee = LayerValue(LAYERS[callee.name])
    if isinstance(callee, Function):
        frame.fail(step.callee, "E0302", f"{callee.name} is no layer")
    positional, keywords = _arguments(step.arguments or (), frame)
    return apply(Application(callee, [given, *positional], keywords, step.span, step.callee.span, frame, step.label))


def _check_steps(steps: Sequence[s.Step], frame: Frame) -> None:
    """What can be said of steps that no tensor reaches: unknown layers, names and arguments."""
    for step in steps:
        try:
            callee = _callee(step.callee, frame)
            positional, keywords = _arguments(step.arguments or (), frame)
            if isinstance(callee, LayerValue) and callee.bare and not any(tensors_in(g.value) for g in positional):
                application = Application(callee, positional, keywords, step.span, step.callee.span, frame)
                bind_layer(callee.layer, application, positional)
        except Failure:
            continue


def _callee(node: s.Expression, frame: Frame) -> LayerValue | BlockValue | Function:
    """What is applied. A variable that is no layer does not hide the layer of its name: `dropout(dropout)`."""
    if isinstance(node, s.Name):
        value = lookup(node.name, frame)
        if not isinstance(value, LayerValue | BlockValue | Function) and node.name in LAYERS:
            return LayerValue(LAYERS[node.name])
        if value is UNDEFINED:
            names = {n: lookup(n, frame) for n in names_in(frame) if n not in frame.module.pending}
            layers = [n for n, v in names.items() if isinstance(v, LayerValue | BlockValue)]
            near = [n for n in layers if n not in LAYERS]  # the model's own blocks come first
            help = did_you_mean(node.name, near) or written(node.name)
            if help is not None:
                frame.fail(node, "E0302", f"unknown layer '{node.name}'", help=help)
            frame.unknown(node, "E0302", "unknown layer", node.name, layers, "the layers are")
        if isinstance(value, Function):
            return value
    value = evaluate(node, frame)
    if isinstance(value, LayerValue | BlockValue | Function):
        return value
    frame.fail(node, "E0302", f"this is {kind(value)}, not a layer")


def _arguments(nodes: Sequence[s.Argument], frame: Frame) -> tuple[list[Given], dict[str, Given]]:
    """Every argument is evaluated, so that all mistakes among them are found."""
    positional: list[Given] = []
    keywords: dict[str, Given] = {}
    failed = False
    for node in nodes:
        try:
            value = argument(node.value, frame)
        except Failure:
            failed = True
            continue
        if node.name is None:
            if keywords:
                frame.fail(node, "E0208", "an argument without a name follows one with a name")
            positional.append(Given(value, node.value.span))
        elif node.name.name in keywords:
            frame.fail(node, "E0208", f"the argument {node.name.name} is given twice")
        else:
            keywords[node.name.name] = Given(value, node.span)
    if failed:
        raise Failure
    return positional, keywords


def apply(application: Application) -> Value:
    """Apply to the tensors among the arguments; without any, the layer or block with its arguments is the value."""
    callee = application.callee
    if isinstance(callee, Function):
        if not (callee.name in LAYERS and application.keywords):  # `max(x, axis=1)` is the layer
            return call_function(callee.name, application)
        callee = LayerValue(LAYERS[callee.name])
    given = (*application.positional, *application.keywords.values())
    if any(isinstance(g.value, Formula) for g in application.positional):
        if isinstance(callee, LayerValue):
            return apply_to_formula(callee, application)
        frame, name = application.frame, callee.block.name.name
        frame.fail(
            application.at, "E0324", f"{name} is a block; an activation is an expression of layers and functions"
        )
    at_once = isinstance(callee, BlockValue) and not callee.block.parameters
    if not at_once and not any(tensors_in(g.value) for g in given):
        return _partial(callee, application)
    return apply_block(callee, application) if isinstance(callee, BlockValue) else apply_layer(callee, application)


def _partial(callee: LayerValue | BlockValue, application: Application) -> LayerValue | BlockValue:
    """A layer or block with the arguments it has been given."""
    frame, label, span = application.frame, application.label, application.span
    scope = frame.scope
    home = None if label is None else (scope, claim(label, frame))
    if isinstance(callee, BlockValue):
        check_keywords(callee, application.keywords, frame)
        positional = (*callee.positional, *application.positional)
        keywords = {**callee.keywords, **application.keywords}
        return BlockValue(callee.block, callee.module, positional, keywords, span=span, scope=scope, home=home)
    if not callee.bare:
        frame.fail(span, "E0208", f"this {callee.layer.name} has its arguments already")
    bound = bind_layer(callee.layer, application, application.positional)
    return LayerValue(callee.layer, bound, span=span, scope=scope, home=home)
