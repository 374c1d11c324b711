"""Operators that work element by element, as expressions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cnnc.interop.onnx_import import known
from cnnc.interop.onnx_import.calls import Call, Unsupported
from cnnc.interop.onnx_import.importer import Importer, Result, Rule, rule
from cnnc.ir.types import product

NAMED = {
    "Abs": "abs",
    "Exp": "exp",
    "Log": "log",
    "Neg": "neg",
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Sqrt": "sqrt",
    "Tanh": "tanh",
}
BINARY = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div"}
EXPRESSIONS = {
    "Reciprocal": "1 / a0",
    "Floor": "floor(a0)",
    "Ceil": "-floor(-a0)",
    "Sign": "where(a0 > 0, 1, where(a0 < 0, -1, 0 * a0))",
    "Erf": "erf(a0)",
    "Sin": "sin(a0)",
    "Cos": "cos(a0)",
    "Not": "where(a0, 0, 1)",
    "Greater": "a0 > a1",
    "Less": "a0 < a1",
    "GreaterOrEqual": "where(a0 < a1, 0, 1)",
    "LessOrEqual": "where(a0 > a1, 0, 1)",
    "Equal": "where(a0 > a1, 0, where(a0 < a1, 0, 1))",
    "And": "where(a0, where(a1, 1, 0), 0)",
    "Or": "where(a0, 1, where(a1, 1, 0))",
    "Xor": "where(a0, where(a1, 0, 1), where(a1, 1, 0))",
    "Where": "where(a0, a1, a2)",
    "Softsign": "a0 / (1 + abs(a0))",
    "Softplus": "max(a0, 0) + log1p(exp(-abs(a0)))",
    "Mish": "a0 * tanh(max(a0, 0) + log1p(exp(-abs(a0))))",
    "HardSwish": "a0 * min(max(a0 / 6 + 0.5, 0), 1)",
}
# of attributes as well, with their defaults
WITH_NUMBERS: dict[str, tuple[str, dict[str, float]]] = {
    "Swish": ("a0 * sigmoid(alpha * a0)", {"alpha": 1.0}),
    "HardSigmoid": ("min(max(alpha * a0 + beta, 0), 1)", {"alpha": 0.2, "beta": 0.5}),
    "ThresholdedRelu": ("where(a0 > alpha, a0, 0)", {"alpha": 1.0}),
    "Celu": ("max(a0, 0) + min(alpha * expm1(a0 / alpha), 0)", {"alpha": 1.0}),
    "Shrink": ("where(a0 < -lambd, a0 + bias, where(a0 > lambd, a0 - bias, 0))", {"lambd": 0.5, "bias": 0.0}),
}
SELU = {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}


def _named(op: str) -> Rule:
    return lambda i, c: i.add(op, [i.tensor(c, 0)])


def _said(text: str, defaults: Mapping[str, float]) -> Rule:
    return lambda i, c: _expression(i, c, text, defaults)


def _between(op: str) -> Rule:
    return lambda i, c: _binary(i, c, op)


def _register() -> None:
    for operator, op in NAMED.items():
        rule(operator)(_named(op))
    for operator, op in BINARY.items():
        rule(operator)(_between(op))
    for operator, text in EXPRESSIONS.items():
        rule(operator)(_said(text, {}))
    for operator, (text, defaults) in WITH_NUMBERS.items():
        rule(operator)(_said(text, defaults))


def _expression(i: Importer, c: Call, text: str, defaults: Mapping[str, float]) -> str:
    from cnnc.ir import expression as ex

    constants = {name: ex.const(c.number(name, value)) for name, value in defaults.items()}
    return i.pointwise(ex.text(ex.substitute(ex.parse(text), constants)), *i.broadcast(c))


def _binary(i: Importer, c: Call, op: str) -> Result:
    """An operation that changes nothing, `x + 0` and `x * 1`, is left out where it does not broadcast either."""
    for at, neutral in ((1, {"add": 0, "sub": 0, "mul": 1, "div": 1}), (0, {"add": 0, "mul": 1})):
        other = c.inputs[1 - at]
        fixed, x = i.fixed(c, at), i.values[other]
        if fixed is not None and isinstance(x, str) and op in neutral and not known.is_open(fixed):
            if np.ndim(fixed) <= i.type(x).rank and np.size(fixed) == 1 and float(fixed.reshape(())) == neutral[op]:
                return x
    return i.add(op, i.broadcast(c))


@rule("Identity", "Dropout", "StringNormalizer")
def identity(i: Importer, c: Call) -> list[Result | None]:
    if c.operator == "Dropout" and c.has(2) and bool(np.any(i.known(c, 2, "mode"))):
        raise Unsupported(c, "it drops values in its training mode; export the network for inference (model.eval())")
    if len(c.outputs) > 1 and c.outputs[1]:
        raise Unsupported(c, "its mask is asked for")
    return [i.values[c.inputs[0]], None][: max(1, len(c.outputs))]


@rule("Cast", "CastLike")
def cast(i: Importer, c: Call) -> str:
    from cnnc.interop.onnx import package

    kinds = package().TensorProto
    to = c.integer("to", kinds.FLOAT)
    x = i.tensor(c, 0)
    if to in (kinds.FLOAT, kinds.FLOAT16, kinds.DOUBLE, kinds.BFLOAT16):
        return x
    if to == kinds.BOOL:
        return i.pointwise("where(a0, 1, 0)", x)
    if to in (kinds.INT8, kinds.INT16, kinds.INT32, kinds.INT64, kinds.UINT8):
        return i.pointwise("where(a0 < 0, -floor(-a0), floor(a0))", x)  # towards 0, kept as a float
    raise Unsupported(c, f"it makes numbers of type {kinds.DataType.Name(to) if to in kinds.DataType.values() else to}")


@rule("LeakyRelu")
def leaky_relu(i: Importer, c: Call) -> str:
    return i.add("leaky_relu", [i.tensor(c, 0)], {"negative_slope": c.number("alpha", 0.01)})


@rule("Elu")
def elu(i: Importer, c: Call) -> str:
    return i.add("elu", [i.tensor(c, 0)], {"alpha": c.number("alpha", 1.0)})


@rule("Selu")
def selu(i: Importer, c: Call) -> str:
    numbers = {name: c.number(name, value) for name, value in SELU.items()}
    if all(abs(numbers[name] - value) < 1e-6 for name, value in SELU.items()):
        return i.add("selu", [i.tensor(c, 0)])
    return _expression(i, c, "gamma * where(a0 < 0, alpha * expm1(a0), a0)", SELU)


@rule("Gelu")
def gelu(i: Importer, c: Call) -> str:
    if c.text("approximate", "none") == "tanh":
        return i.pointwise("0.5 * a0 * (1 + tanh(0.7978845608028654 * (a0 + 0.044715 * a0 * a0 * a0)))", i.tensor(c, 0))
    return i.pointwise("0.5 * a0 * (1 + erf(a0 * 0.7071067811865476))", i.tensor(c, 0))


@rule("PRelu")
def prelu(i: Importer, c: Call) -> str:
    x = i.tensor(c, 0)
    i.layer(c)
    slope = i.values[c.inputs[1]]
    rank = i.type(x).rank
    if not isinstance(slope, str) and slope.size == 1:
        slope = slope.reshape(1)
        return i.pointwise("where(a0 < 0, a1 * a0, a0)", x, i.parameter(slope, c.inputs[1], "weight"))
    if not isinstance(slope, str) and rank >= 2 and product(slope.shape) == i.type(x).shape[1]:
        whole = np.reshape(slope, (*[1] * (rank - slope.ndim), *slope.shape))
        if whole.shape[1] == whole.size:
            return i.pointwise("where(a0 < 0, a1 * a0, a0)", x, i.parameter(whole.reshape(-1), c.inputs[1], "weight"))
    return i.pointwise("where(a0 < 0, a1 * a0, a0)", x, i.aligned(slope, rank, c.inputs[1]))


@rule("Clip")
def clip(i: Importer, c: Call) -> str:
    x = i.tensor(c, 0)
    low, high = (
        float(i.known(c, at, name).reshape(())) if c.has(at) else c.number(name, default)
        for at, name, default in ((1, "min", -np.inf), (2, "max", np.inf))
    )
    if (low, high) == (0.0, 6.0):
        return i.add("relu6", [x])
    text = "a0"
    text = f"max({text}, {low!r})" if low > -3.4e38 else text
    text = f"min({text}, {high!r})" if high < 3.4e38 else text
    return x if text == "a0" else i.pointwise(text, x)


@rule("Pow")
def power(i: Importer, c: Call) -> Result:
    exponent = i.fixed(c, 1)
    if exponent is None or exponent.size != 1:
        raise Unsupported(c, "its exponent is no single number")
    x, n = i.tensor(c, 0), float(exponent.reshape(()))
    if n == 1:
        return x
    if n in (2, 3, 4):
        return i.pointwise(" * ".join(["a0"] * int(n)), x)
    if n == 0.5:
        return i.add("sqrt", [x])
    if n == -1:
        return i.pointwise("1 / a0", x)
    if n == -0.5:
        return i.pointwise("1 / sqrt(a0)", x)
    return i.pointwise(f"pow(a0, {n!r})", x)


@rule("Max", "Min", "Sum", "Mean")
def several(i: Importer, c: Call) -> str:
    operands = i.broadcast(c)
    names = [f"a{k}" for k in range(len(operands))]
    if c.operator in ("Sum", "Mean"):
        text = " + ".join(names)
        text = text if c.operator == "Sum" or len(names) == 1 else f"({text}) / {len(names)}"
    else:
        text = names[0]
        for name in names[1:]:
            text = f"{c.operator.lower()}({text}, {name})"
    return i.pointwise(text, *operands)


@rule("Mod")
def modulo(i: Importer, c: Call) -> str:
    a = i.broadcast(c)
    if c.integer("fmod", 0):
        return i.pointwise("a0 - a1 * where(a0 / a1 < 0, -floor(-a0 / a1), floor(a0 / a1))", *a)
    return i.pointwise("a0 - a1 * floor(a0 / a1)", *a)


@rule("Round")
def rounded(i: Importer, c: Call) -> str:
    """To the nearest whole number, to the even one where two are as near: what adding 1.5 * 2^23 does, kept exact."""
    half = "floor(a0 + 0.5)"
    even = f"where(({half} - a0) > 0.5, {half}, where({half} - a0 < 0.5, {half}, 2 * floor({half} / 2)))"
    return i.pointwise(even, i.tensor(c, 0))


_register()
