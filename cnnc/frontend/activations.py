"""`activation name(x, a = 0.5) = expression`: a layer whose expression is made once, of its body, over x and its numbers.

Where it is applied it is one node with the expression, from which gradient and kernels follow as of any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnc.frontend.arithmetic import number
from cnnc.frontend.binding import Application, bind_layer
from cnnc.frontend.elaboration import Failure, Frame
from cnnc.frontend.elementwise import check_float32, expression_of, put_in
from cnnc.frontend.expressions import evaluate, evaluates, made_once
from cnnc.frontend.text import syntax as s
from cnnc.frontend.values import Formula, Given, LayerValue, Value, kind
from cnnc.ir import expression as ex
from cnnc.ir.builder import Builder
from cnnc.ir.layer import LAYERS, Argument, Layer, Site
from cnnc.ir.op import REQUIRED, InferenceError
from cnnc.ir.types import BATCH
from cnnc.ir.types import activation as tensor_type
from cnnc.ops.definitions import DEFINITIONS, Definition
from cnnc.ops.pointwise import expressions, is_pointwise
from cnnc.untrusted import FLOAT32, NORMAL

X = ex.var("a0")


@dataclass(frozen=True, kw_only=True)
class Activation(Layer):
    """The layer of an activation. expression: over a0 and a variable for each argument."""

    expression: ex.Expression

    def __reduce__(self) -> tuple[Any, ...]:
        return layer_of, (self.name, self.arguments, self.expression, self.doc)


def layer_of(name: str, arguments: tuple[Argument, ...], expression: ex.Expression, doc: str) -> Activation:
    def build(site: Site) -> str:
        constants = {_variable(a.name): ex.const(_constant(site.arguments[a.name], a.name)) for a in arguments}
        e = ex.simplify(ex.substitute(expression, constants))
        return site.add("pointwise", site.operands, {"expressions": [ex.text(e)], "name": name})

    given = ", ".join("1" for a in arguments if a.default is REQUIRED)
    return Activation(
        name=name,
        arguments=arguments,
        build=build,
        doc=doc,
        example=f"x -> {name}" + f"({given})" * bool(given),
        expression=expression,
    )


def _variable(name: str) -> str:
    """What an argument is called in the expression: as no operand is."""
    return f"{name}."


def _constant(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InferenceError(f"{name} is a number", name, "E0203")
    if value != 0 and not NORMAL <= abs(value) <= FLOAT32:
        raise InferenceError(f"{name} is {value!r}, which no float32 holds", name, "E0404")
    return float(value)


@evaluates(s.Activation)
def activation(node: s.Activation, frame: Frame) -> LayerValue:
    """An activation of the file as a layer, made when it is first asked for. Raises `Failure`."""
    item, home = frame.module.activations[node.name.name]
    inner = Frame(frame.elaboration, home, frame.scope)
    layer = made_once("activation", item.name, home.made, None, inner, lambda: _made(item, inner))
    if layer is None:
        raise Failure
    return LayerValue(layer)


def _made(item: s.Activation, frame: Frame) -> Layer:
    name = item.name.name
    if not item.parameters or item.parameters[0].default is not None:
        help = f"write: activation {name}(x, ...) = ..."
        frame.fail(item.name, "E0324", f"the first parameter of activation {name} is what it is applied to", help=help)
    arguments: list[Argument] = []
    for parameter in item.parameters:
        if parameter.name.name in frame.names:
            frame.fail(parameter.name, "E0303", f"activation {name} has two parameters {parameter.name.name}")
        if not frame.names:
            frame.names[parameter.name.name] = Formula(X)
            continue
        arguments.append(_argument(parameter, frame))
        frame.names[parameter.name.name] = Formula(ex.var(_variable(parameter.name.name)))
    value = evaluate(item.value, frame)
    if not isinstance(value, Formula):
        frame.fail(
            item.value, "E0324", f"activation {name} gives {kind(value)}, not an expression of its first parameter"
        )
    read = ex.variables(value.expression)
    if X[1] not in read:
        what = f"what activation {name} gives does not depend on {item.parameters[0].name.name}"
        frame.fail(item.value, "E0324", what)
    for parameter, argument in zip(item.parameters[1:], arguments, strict=True):
        if _variable(argument.name) not in read:
            frame.warn(parameter, "W0106", f"the parameter {argument.name} of activation {name} is not used")
    return layer_of(name, tuple(arguments), value.expression, item.doc or f"the activation {name} of this file")


def _argument(parameter: s.Parameter, frame: Frame) -> Argument:
    """A number, whose default sees the file's constants."""
    if parameter.default is None:
        return Argument(parameter.name.name)
    value = evaluate(parameter.default, Frame(frame.elaboration, frame.module, frame.scope))
    number(value, "=", parameter.default, frame)
    check_float32(value, parameter.default, frame)
    return Argument(parameter.name.name, float(value))


# --- layers within a body


def apply_to_formula(callee: LayerValue, application: Application) -> Formula:
    """A layer that works element by element, applied to an expression: its own, with that in its place."""
    frame, layer = application.frame, callee.layer
    (x, *rest), bound = application.positional, dict(callee.arguments)
    if not isinstance(x.value, Formula):
        frame.fail(x, "E0308", f"{layer.name} is applied to an expression here, not to {kind(x.value)}")
    if callee.bare:
        bound = bind_layer(layer, application, rest, plain=False)
    elif rest or application.keywords:
        frame.fail(application, "E0208", f"this {layer.name} has its arguments already")
    constants = {a.name: bound[a.name].value if a.name in bound else a.default for a in layer.arguments}
    if isinstance(layer, Activation):
        parts = {_variable(k): _part(v, k, bound, application) for k, v in constants.items()}
        return put_in(layer.expression, {X[1]: x.value.expression, **parts}, application.span, frame)
    known = DEFINITIONS.get(layer.name)
    if known is not None and layer is LAYERS.get(layer.name) and known.operands == 1 and _is_said(known, constants):
        parts = {k: _part(v, k, bound, application) for k, v in constants.items()}
        return put_in(ex.parse(known.value), {X[1]: x.value.expression, **parts}, application.span, frame)
    return _built(layer, x.value, constants, bound, application)


def _is_said(known: Definition, constants: Mapping[str, Value]) -> bool:
    """Whether the arguments of the layer are the constants of its definition, and none is left out."""
    return set(constants) == set(known.defaults) and None not in constants.values()


def _part(value: Value, name: str, bound: Mapping[str, Given], application: Application) -> ex.Expression:
    if not isinstance(value, Formula):
        where = bound[name].span if name in bound else application.span
        number(value, name, where, application.frame)
    return expression_of(value)


def _built(
    layer: Layer, x: Formula, constants: Mapping[str, Value], bound: Mapping[str, Given], application: Application
) -> Formula:
    """The layer's nodes on a tensor of one number an image, as one expression."""
    frame, what = application.frame, f"{layer.name} does not work element by element"
    for name, value in constants.items():
        if isinstance(value, Formula):
            frame.fail(bound[name], "E0308", f"{name} of {layer.name} is set when it is written, not an expression")
    builder = Builder(layer.name)
    operand = builder.input("x", tensor_type((BATCH, 1)))
    try:
        if layer.operands != 1 or layer.parameters([builder.type(operand)], constants):
            frame.fail(
                application.at, "E0324", what if layer.operands != 1 else f"{layer.name} has parameters of its own"
            )
        result = layer.build(Site(builder, (operand,), {}, constants, "y"))
    except InferenceError as e:
        fault = bound.get(e.argument) if e.argument is not None else None
        frame.fail(fault or application.at, e.code, e.message, help=e.help)
    found = {operand: x.expression}
    for node in builder.nodes[1:]:
        if not is_pointwise(node) or len(node.results) != 1:
            frame.fail(application.at, "E0324", f"{what}: an activation is an expression of single numbers")
        parts = {f"a{i}": found[o] for i, o in enumerate(node.inputs)}
        found[node.name] = put_in(expressions(node)[0], parts, application.span, frame).expression
    if isinstance(result, tuple):
        frame.fail(application.at, "E0324", f"{what}: it gives several")
    return Formula(found[result])
