"""Pointwise ops: each an expression over its operands, from which everything else follows.

Operands broadcast as in NumPy, with one addition: an operand of rank 1 is one value per channel (axis 1) of the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from cnnc.ir import expression as ex
from cnnc.ir.expression import Expression
from cnnc.ir.graph import Attributes, Node
from cnnc.ir.layer import Argument, Layer, Site, register_layer
from cnnc.ir.op import REQUIRED, InferenceError, Op, Types, register
from cnnc.ir.types import BATCH, PLAIN, Dim, TensorType
from cnnc.ops.checks import show

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al., 2017

# s + beta x s (1 - s); beyond +-1000 the product is 0, which inf * 0 is not
_SILU_SLOPE = "sigmoid(beta * a0) * (1 + max(min(beta * a0, 1000), -1000) * sigmoid(-beta * a0))"

# name: (operands, expression over a0, a1, ... and attributes, derivative by a0 over the result y and a0, attributes)
DEFINITIONS: dict[str, tuple[int, str, str | None, dict[str, Any]]] = {
    "add": (2, "a0 + a1", None, {}),
    "sub": (2, "a0 - a1", None, {}),
    "mul": (2, "a0 * a1", None, {}),
    "div": (2, "a0 / a1", None, {}),
    "neg": (1, "-a0", None, {}),
    "exp": (1, "exp(a0)", "y", {}),
    "log": (1, "log(a0)", None, {}),
    "sqrt": (1, "sqrt(a0)", "1 / (2 * y)", {}),
    "abs": (1, "abs(a0)", None, {}),
    "relu": (1, "where(a0 < 0, 0, a0)", "where(y > 0, 1, 0)", {}),
    "relu6": (1, "where(a0 < 0, 0, where(a0 > 6, 6, a0))", "where(y > 0, where(y < 6, 1, 0), 0)", {}),
    "sigmoid": (1, "sigmoid(a0)", None, {}),
    "tanh": (1, "tanh(a0)", None, {}),
    "leaky_relu": (1, "where(a0 < 0, negative_slope * a0, a0)", None, {"negative_slope": 0.01}),
    "elu": (1, "where(a0 < 0, alpha * expm1(a0), a0)", None, {"alpha": 1.0}),
    "selu": (1, f"{SELU_SCALE} * where(a0 < 0, {SELU_ALPHA} * expm1(a0), a0)", None, {}),
    "silu": (1, "a0 * sigmoid(beta * a0)", _SILU_SLOPE, {"beta": 1.0}),
}
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
    return _defined(op, tuple(attributes.get(k, v) for k, v in DEFINITIONS[op][3].items()))


@lru_cache(maxsize=1024)
def _defined(op: str, constants: tuple[float, ...]) -> Expression:
    _, text, _, defaults = DEFINITIONS[op]
    return ex.simplify(ex.substitute(ex.parse(text), dict(zip(defaults, map(ex.const, constants), strict=True))))


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


def _infer_named(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    return (result_type(types),)


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
    _, _, written, defaults = DEFINITIONS.get(node.op, (0, "", None, {}))
    if written is None:
        return ex.differentiate(e, f"a{operand}")
    constants = {k: ex.const(node.attributes.get(k, v)) for k, v in defaults.items()}
    return ex.substitute(ex.parse(written), constants)


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


def _register(name: str, operands: int, defaults: dict[str, Any], doc: str) -> None:
    register(
        Op(
            name=name,
            operands=tuple(f"a{i}" for i in range(operands)),
            infer=_infer_named,
            reference=_reference(name),
            attributes=defaults,
            gradient=gradient,
            layout="any",
            doc=doc,
        )
    )


for _name, (_count, _text, _over, _defaults) in DEFINITIONS.items():
    _register(_name, _count, _defaults, f"y = {_text}")

register(
    Op(
        name=_CALCULATED,
        operands=("a*",),
        infer=_infer_pointwise,
        reference=_reference(_CALCULATED),
        attributes={"expressions": REQUIRED, "shape": None},
        gradient=gradient,
        layout="any",
        doc="Results y_i = expressions[i] over operands a0, a1, ...: what pointwise chains fuse into.",
    )
)


def _infer_constant(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    value = attributes["value"]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InferenceError(f"a constant is a number, not {value!r}", "value", "E0502")
    return (TensorType("f32", ()),)


register(
    Op(
        name="constant",
        operands=(),
        infer=_infer_constant,
        reference=lambda arrays, attributes, types: (np.float64(attributes["value"]),),
        attributes={"value": REQUIRED},
        gradient=lambda context, node, gradients: [],
        layout="any",
        doc="A number.",
    )
)


def _layer(op: str, doc: str) -> None:
    operands, _, _, defaults = DEFINITIONS[op]

    def build(site: Site) -> str:
        for key in defaults:
            if isinstance(site.arguments[key], bool) or not isinstance(site.arguments[key], int | float):
                raise InferenceError(f"{key} is a number", key, "E0203")
        return site.add(op, site.operands, {k: float(site.arguments[k]) for k in defaults})

    register_layer(
        Layer(
            name=op,
            arguments=tuple(Argument(k, v, _CONSTANTS[k]) for k, v in defaults.items()),
            build=build,
            operands=operands,
            doc=doc,
            example=f"x -> {op}",
        )
    )


_CONSTANTS = {
    "negative_slope": "of the part below 0",
    "alpha": "how far results go below 0",
    "beta": "factor of x within the sigmoid",
}
for _name, _doc in {
    "relu": "x, or 0 where it is negative",
    "relu6": "x between 0 and 6",
    "sigmoid": "`1 / (1 + exp(-x))`",
    "tanh": "the hyperbolic tangent",
    "leaky_relu": "x, or `negative_slope * x` where it is negative",
    "elu": "x, or `alpha * (exp(x) - 1)` where it is negative",
    "selu": "elu times a number, with the constants that keep mean and variance",
    "silu": "`x * sigmoid(beta * x)`",
    "exp": "e to the power of x",
    "log": "the natural logarithm",
    "sqrt": "the square root",
    "abs": "the absolute value",
}.items():
    _layer(_name, _doc)
