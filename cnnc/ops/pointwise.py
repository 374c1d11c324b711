"""Pointwise ops: each an expression over its operands, from which everything else follows.

Operands broadcast as in NumPy, with one addition: an operand of rank 1 is one value per channel (axis 1) of the result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from cnnc.ir import expression as ex
from cnnc.ir.derivative import differentiate
from cnnc.ir.expression import Expression
from cnnc.ir.graph import Attributes, Node
from cnnc.ir.layer import Argument, Layer, Site, register_layer
from cnnc.ir.op import REQUIRED, InferenceError, Op, Types, defines, register
from cnnc.ir.types import BATCH, PLAIN, Dim, TensorType
from cnnc.ops.checks import show
from cnnc.ops.definitions import DEFINITIONS, Definition

_CALCULATED = "pointwise"  # the op that carries its expressions as attributes


def broadcast_shapes(types: Types, at_least: Sequence[Dim] | None = None) -> tuple[Dim, ...]:
    """The shape of the result. Raises `InferenceError` where operands do not broadcast."""
    given = [t for t in types if t is not None]
    rank = max([t.rank for t in given] + ([len(at_least)] if at_least is not None else []), default=0)
    shape: list[Dim] = [1] * rank if at_least is None else list(at_least)
    for t in given:
        aligned = channel_aligned(t.shape, rank)
        for axis, d in enumerate(aligned):
            if d == BATCH and axis > 0 and t.rank < rank:
                raise InferenceError(
                    f"the batch of {show(t)} would be axis {axis} beside {' and '.join(show(t) for t in given)}",
                    "operands",
                    "E0205",
                    help="give both sides as many axes",
                )
            if d == 1 or shape[axis] == d:
                continue
            if shape[axis] != 1:
                raise InferenceError(
                    f"shapes {' and '.join(show(t) for t in given)} do not match on axis {axis}: {shape[axis]} and {d}",
                    "operands",
                    "E0205",
                    help="both sides need the same size there, or 1",
                )
            shape[axis] = d
    return tuple(shape)


def channel_aligned(shape: Sequence[Dim], rank: int) -> tuple[Dim, ...]:
    """The shape with axes of 1 put in, so that it broadcasts in NumPy's way: one axis means channels."""
    if len(shape) == 1 and rank >= 2:
        return (1, shape[0], *[1] * (rank - 2))
    return (*[1] * (rank - len(shape)), *shape)


def align(array: Any, rank: int) -> Any:
    a = np.asarray(array)
    return a.reshape(channel_aligned(a.shape, rank))


def definition(op: str, attributes: Mapping[str, Any]) -> Expression:
    """The expression of a named op with its attributes put in."""
    return _defined(op, tuple(attributes.get(k, v) for k, v in DEFINITIONS[op].defaults.items()))


@lru_cache(maxsize=1024)
def _defined(op: str, constants: tuple[float, ...]) -> Expression:
    defined = DEFINITIONS[op]
    given = dict(zip(defined.defaults, map(ex.const, constants), strict=True))
    return ex.simplify(ex.substitute(ex.parse(defined.value), given))


def is_pointwise(node: Node) -> bool:
    return node.op in DEFINITIONS or node.op in (_CALCULATED, "batchnorm", "constant")


def expressions(node: Node) -> tuple[Expression, ...]:
    """The expressions of a pointwise node, one a result, over a0, a1, ..."""
    if node.op == _CALCULATED:
        return tuple(ex.parse(t) for t in node.attributes["expressions"])
    if node.op == "batchnorm":
        return (ex.parse(f"(a0 - a3) * (a1 / sqrt(a4 + {node.attribute('eps')!r})) + a2"),)
    if node.op == "constant":
        return (ex.const(node.attributes["value"]),)
    return (definition(node.op, node.attributes),)


def result_type(types: Types, shape: Sequence[Dim] | None = None) -> TensorType:
    given = [t for t in types if t is not None]
    if len(given) == 1 and shape is None and given[0].dtype in ("f32", "f64") and given[0].layout is not None:
        return given[0]
    result = broadcast_shapes(given, shape)
    layouts = {t.layout for t in given if t.rank == len(result) and t.layout}
    if len(layouts) > 1:
        raise InferenceError(
            f"operands have different layouts: {', '.join(sorted(map(str, layouts)))}", "operands", "E0503"
        )
    dtype = "f64" if given and all(t.dtype == "f64" for t in given) else "f32"
    return TensorType(dtype, result, layouts.pop() if layouts else PLAIN.get(len(result)))


def _check_constants(op: str, attributes: Mapping[str, Any]) -> None:
    """Raises `InferenceError` where an op's attributes are no numbers, or not such as it needs."""
    defined = DEFINITIONS[op]
    values = {k: attributes.get(k, v) for k, v in defined.defaults.items()}
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise InferenceError(f"{name} is a number", name, "E0203")
    if defined.needs is not None and not ex.evaluate(ex.parse(defined.needs), values):
        given = ", ".join(f"{k}={v:g}" for k, v in values.items())
        raise InferenceError(f"{op} needs {defined.needs}; here {given}", next(iter(values)), "E0203")


def _infer_named(op: str) -> Any:
    def infer(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
        _check_constants(op, attributes)
        return (result_type(types),)

    return infer


def check_expressions(texts: Any, operands: int) -> None:
    """Raises `InferenceError` where an attribute is no list of expressions over a0, a1, ..."""
    if not isinstance(texts, tuple) or not texts or not all(isinstance(t, str) for t in texts):
        raise InferenceError("expressions is a list of texts", "expressions", "E0502")
    for t in texts:
        try:
            unknown = set(ex.variables(ex.parse(t))) - {f"a{i}" for i in range(operands)}
        except ValueError as e:
            raise InferenceError(str(e), "expressions", "E0502") from None
        if unknown:
            raise InferenceError(
                f"'{t}' names {', '.join(sorted(unknown))}: there are {operands} operands, a0, a1, ...",
                "expressions",
                "E0502",
            )


def _infer_pointwise(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    check_expressions(attributes["expressions"], len(types))
    if not isinstance(attributes.get("name", ""), str | None):
        raise InferenceError("name is a text", "name", "E0502")
    return (result_type(types, attributes.get("shape")),) * len(attributes["expressions"])


def calculate(es: Sequence[Expression], arrays: Sequence[Any], shape: Sequence[int]) -> tuple[Any, ...]:
    values = {f"a{i}": align(a, len(shape)) for i, a in enumerate(arrays)}
    return tuple(np.array(np.broadcast_to(np.asarray(ex.evaluate(e, values), np.float64), shape)) for e in es)


def _reference(op: str) -> Any:
    def reference(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
        es = (
            tuple(ex.parse(t) for t in attributes["expressions"])
            if op == _CALCULATED
            else (definition(op, attributes),)
        )
        return calculate(es, arrays, types[0].sizes)

    return reference


def slope(node: Node, e: Expression, operand: int) -> Expression:
    """The derivative of one of the node's expressions by a_operand, over a0, a1, ...; over y itself too where the op
    says how."""
    defined = DEFINITIONS.get(node.op)
    if defined is None or defined.slope is None or operand > 0:
        return differentiate(e, f"a{operand}")
    constants = {k: ex.const(node.attributes.get(k, v)) for k, v in defined.defaults.items()}
    return ex.substitute(ex.parse(defined.slope), constants)


def gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    """dL/da_i = sum over results and broadcast axes of dL/dy * dy/da_i."""
    es = expressions(node)
    result: list[str | None] = []
    for i, operand in enumerate(node.operands):
        if operand is None or not context.wanted(operand):
            result.append(None)
            continue
        total: str | None = None
        for e, y, dy in zip(es, node.results, gradients, strict=True):
            if dy is None:
                continue
            by_operand = slope(node, e, i)
            names = {**{f"a{j}": o for j, o in enumerate(node.inputs)}, "y": y}
            part = ex.simplify(("mul", ex.var("dy"), by_operand))
            used = {v: names[v] for v in ex.variables(by_operand)}
            total = context.sum(total, context.pointwise(part, {"dy": dy, **used}))
        result.append(context.reduce_to(total, operand) if total is not None else None)
    return result


_by_element = partial(Op, gradient=gradient, layout="any")
for _name, _definition in DEFINITIONS.items():
    _operands = tuple(f"a{i}" for i in range(_definition.operands))
    _op = _by_element(_name, _operands, infer=_infer_named(_name), reference=_reference(_name))
    register(replace(_op, attributes=_definition.defaults, doc=f"y = {_definition.value}"))

register(
    _by_element(
        _CALCULATED,
        ("a*",),
        infer=_infer_pointwise,
        reference=_reference(_CALCULATED),
        attributes={"expressions": REQUIRED, "shape": None, "name": None},
        doc="Results y_i = expressions[i] over operands a0, a1, ...: what pointwise chains fuse into, and activations of a\n"
        "model's own, which have a name.",
    )
)


def _infer_constant(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    value = attributes["value"]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InferenceError(f"a constant is a number, not {value!r}", "value", "E0502")
    return (TensorType("f32", ()),)


@defines(Op("constant", (), infer=_infer_constant, attributes={"value": REQUIRED}, layout="any"))
def _constant(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """A number."""
    return (np.float64(attributes["value"]),)


def _layer(op: str, defined: Definition) -> None:
    """The layer of an op: a bound that is infinite is none there."""

    def build(site: Site) -> str:
        given = {a.name: site.arguments[a.name] for a in arguments}
        if given and all(v is None for v in given.values()):
            raise InferenceError(f"{op} needs {' or '.join(given)}", code="E0207")
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, int | float | None):
                raise InferenceError(f"{name} is a number", name, "E0203")
        return site.add(op, site.operands, {k: float(v) for k, v in given.items() if v is not None})

    arguments = tuple(replace(a, default=None) if _unbounded(a) else a for a in defined.constants)
    needed = ", ".join("2" for a in arguments if a.default is REQUIRED)
    if arguments and all(a.default is None for a in arguments):
        needed = f"{arguments[0].name}=0"
    register_layer(
        Layer(
            name=op,
            arguments=arguments,
            build=build,
            operands=defined.operands,
            doc=defined.doc,
            example=f"x -> {op}" + f"({needed})" * bool(needed),
        )
    )


def _unbounded(argument: Argument) -> bool:
    return isinstance(argument.default, float) and math.isinf(argument.default)


for _name, _definition in DEFINITIONS.items():
    if _definition.doc:
        _layer(_name, _definition)
