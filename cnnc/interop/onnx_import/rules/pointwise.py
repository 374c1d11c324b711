"""Operators that work element by element, as expressions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cnnc.interop.onnx_import import known
from cnnc.interop.onnx_import.calls import Call, Unsupported
from cnnc.interop.onnx_import.importer import Array, Importer, Result, Rule, rule
from cnnc.ir import expression as ex
from cnnc.untrusted import FLOAT32

NAMED = {
    "Abs": "abs",
    "Add": "add",
    "Div": "div",
    "Equal": "eq",
    "Erf": "erf",
    "Exp": "exp",
    "Floor": "floor",
    "Greater": "gt",
    "GreaterOrEqual": "ge",
    "HardSwish": "hardswish",
    "Log": "log",
    "Mish": "mish",
    "Mul": "mul",
    "Neg": "neg",
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Sign": "sign",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Sqrt": "sqrt",
    "Sub": "sub",
    "Tanh": "tanh",
    "Where": "where",
}
NEUTRAL = {"Add": ((1, 0), (0, 0)), "Sub": ((1, 0),), "Mul": ((1, 1), (0, 1)), "Div": ((1, 1),)}  # (operand, number)
# over a0, a1, ...
EXPRESSIONS = {
    "Reciprocal": "1 / a0",
    "Ceil": "-floor(-a0)",
    "Not": "where(a0, 0, 1)",
    "Less": "a1 > a0",
    "LessOrEqual": "a1 >= a0",
    "And": "where(a0, where(a1, 1, 0), 0)",
    "Or": "where(a0, 1, where(a1, 1, 0))",
    "Xor": "where(a0, where(a1, 0, 1), where(a1, 1, 0))",
    "IsNaN": "a0 != a0",
}
# of attributes as well, with their defaults
WITH_NUMBERS: dict[str, tuple[str, dict[str, float]]] = {
    "Shrink": (
        "where(a0 < -lambd, a0 + bias, where(a0 > lambd, a0 - bias, 0))",
        {"lambd": 0.5, "bias": 0.0},
    ),
}
# an op, and what its constants are called there, with ONNX's defaults
WITH_CONSTANTS: dict[str, tuple[str, dict[str, tuple[str, float]]]] = {
    "LeakyRelu": ("leaky_relu", {"alpha": ("negative_slope", 0.01)}),
    "Elu": ("elu", {"alpha": ("alpha", 1.0)}),
    "Celu": ("celu", {"alpha": ("alpha", 1.0)}),
    "Swish": ("silu", {"alpha": ("beta", 1.0)}),
    "ThresholdedRelu": ("threshold", {"alpha": ("threshold", 1.0)}),
}
# to the power of whole numbers, or of any where the base is not negative
_SIZE = "where(a1 == 0, 1, where(a0 == 0, where(a1 > 0, 0, inf), exp(a1 * log(abs(a0)))))"
_SIGN = "where(a0 >= 0, 1, where(floor(a1) != a1, 0 / 0 * a0, where(floor(a1 / 2) * 2 == a1, 1, -1)))"
POWER = f"{_SIZE} * {_SIGN}"
HARD = {"alpha": 0.2, "beta": 0.5}
SELU = {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}


def _named(op: str) -> Rule:
    def build(i: Importer, c: Call) -> Result:
        for place, number in NEUTRAL.get(c.operator, ()):
            fixed, x = i.fixed(c, place), i.values[c.inputs[1 - place]]
            if fixed is not None and isinstance(x, str) and _is_number(fixed, number) and fixed.ndim <= i.type(x).rank:
                return x  # it changes nothing, and does not broadcast either
        return i.add(op, i.broadcast(c))

    return build


def _is_number(array: Array, number: float) -> bool:
    return array.size == 1 and not known.is_open(array) and float(array.reshape(())) == number


def _said(text: str, defaults: Mapping[str, float]) -> Rule:
    def build(i: Importer, c: Call) -> str:
        constants = {name: ex.const(c.number(name, v)) for name, v in defaults.items()}
        return i.pointwise(ex.text(ex.substitute(ex.parse(text), constants)), *i.broadcast(c))

    return build


def _with_constants(op: str, names: Mapping[str, tuple[str, float]]) -> Rule:
    def build(i: Importer, c: Call) -> str:
        constants = {ours: c.number(theirs, default) for theirs, (ours, default) in names.items()}
        return i.add(op, [i.tensor(c, 0)], constants | ({"value": 0.0} if op == "threshold" else {}))

    return build


def _register() -> None:
    for operator, op in NAMED.items():
        rule(operator)(_named(op))
    for operator, text in EXPRESSIONS.items():
        rule(operator)(_said(text, {}))
    for operator, (text, defaults) in WITH_NUMBERS.items():
        rule(operator)(_said(text, defaults))
    for operator, (op, names) in WITH_CONSTANTS.items():
        rule(operator)(_with_constants(op, names))


@rule("Identity", "Dropout")
def identity(i: Importer, c: Call) -> list[Result | None]:
    trains = c.operator == "Dropout" and c.has(2) and bool(np.any(i.known(c, 2, "mode")))
    if trains and (not c.has(1) or np.any(i.known(c, 1, "ratio"))):
        raise Unsupported(c, "it drops values in its training mode; export the network for inference (model.eval())")
    x = i.values[c.inputs[0]]
    if c.operator != "Dropout" or len(c.outputs) < 2 or not c.outputs[1]:
        return [x]
    one = i.builder.add("constant", [], {"value": 1.0}, f"{i.label}.one")  # its mask, of what it keeps: all
    return [x, i.add("expand", [one], {"shape": i.shape(c, 0)})]


@rule("CastLike")
def cast_like(i: Importer, c: Call) -> Result:
    from cnnc.interop.onnx import package

    like, name = i.fixed(c, 1), c.inputs[1] if len(c.inputs) > 1 else ""
    kind = i.kinds.get(name, package().TensorProto.FLOAT)
    if like is not None:
        kind = package().helper.np_dtype_to_tensor_dtype(like.dtype)
    return _as(i, c, kind)


@rule("Cast")
def cast(i: Importer, c: Call) -> Result:
    return _as(i, c, c.integer("to", 1))


def _as(i: Importer, c: Call, to: int) -> Result:
    """Numbers of one of ONNX's types, kept as floats."""
    from cnnc.interop.onnx import package

    kinds, fixed = package().TensorProto, i.fixed(c, 0)
    i.kinds[c.outputs[0]] = to
    if to in (kinds.FLOAT, kinds.FLOAT16, kinds.DOUBLE, kinds.BFLOAT16):
        return i.tensor(c, 0) if fixed is None or known.is_open(fixed) else fixed.astype(np.float32)
    x = i.tensor(c, 0)
    if to == kinds.BOOL:
        return i.pointwise("where(a0, 1, 0)", x)
    if to in (kinds.INT8, kinds.INT16, kinds.INT32, kinds.INT64, kinds.UINT8):
        return i.pointwise("sign(a0) * floor(abs(a0))", x)  # towards 0, kept as a float
    raise Unsupported(c, f"it makes numbers of type {kinds.DataType.Name(to) if to in kinds.DataType.values() else to}")


@rule("HardSigmoid")
def hard_sigmoid(i: Importer, c: Call) -> Result:
    alpha, beta = (c.number(name, v) for name, v in HARD.items())
    if abs(alpha - 1 / 6) < 1e-6 and abs(beta - 0.5) < 1e-6:
        return i.add("hardsigmoid", [i.tensor(c, 0)])
    return i.pointwise(f"min(max({alpha!r} * a0 + {beta!r}, 0), 1)", i.tensor(c, 0))


@rule("Selu")
def selu(i: Importer, c: Call) -> Result | Sequence[Result | None]:
    numbers = {name: c.number(name, value) for name, value in SELU.items()}
    if all(abs(numbers[name] - value) < 1e-6 for name, value in SELU.items()):
        return i.add("selu", [i.tensor(c, 0)])
    return _said("gamma * where(a0 < 0, alpha * expm1(a0), a0)", SELU)(i, c)


@rule("Gelu")
def gelu(i: Importer, c: Call) -> str:
    tanh = c.text("approximate", "none") == "tanh"
    return i.add("gelu_tanh" if tanh else "gelu", [i.tensor(c, 0)])


@rule("PRelu")
def prelu(i: Importer, c: Call) -> str:
    x = i.tensor(c, 0)
    i.layer(c)
    slope, rank = i.values[c.inputs[1]], i.type(x).rank
    if not isinstance(slope, str) and rank >= 2:
        whole = np.reshape(slope, (*[1] * (rank - slope.ndim), *slope.shape))
        legacy = i.opset < 7 and slope.size in (1, i.type(x).shape[1])  # of channels, then
        if whole.size in (1, whole.shape[1]) or legacy:
            return i.add("prelu", [x, i.parameter(whole.reshape(-1), c.inputs[1], "weight")])
    return i.add("prelu", [x, i.aligned(slope, rank, c.inputs[1])])


@rule("Clip")
def clip(i: Importer, c: Call) -> str:
    x = i.tensor(c, 0)
    low, high = (
        float(i.known(c, at, name).reshape(())) if c.has(at) else c.number(name, default)
        for at, name, default in ((1, "min", -np.inf), (2, "max", np.inf))
    )
    if (low, high) == (0.0, 6.0):
        return i.add("relu6", [x])
    if low > high:  # all is the upper bound, by ONNX's definition
        return i.pointwise(f"min(max(a0, {low!r}), {high!r})", x)
    limits = {"min": low} if low > -FLOAT32 else {}
    limits |= {"max": high} if high < FLOAT32 else {}
    return i.add("clamp", [x], limits) if limits else x


@rule("Pow")
def power(i: Importer, c: Call) -> Result:
    exponent = i.fixed(c, 1)
    if exponent is None or exponent.size != 1:
        return i.pointwise(POWER, *i.broadcast(c))
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
    return i.add("pow", [x], {"exponent": n})


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
        return i.pointwise("a0 - a1 * sign(a0 / a1) * floor(abs(a0 / a1))", *a)
    beyond = "where(a0 == 0, a0, where((a0 > 0) == (a1 > 0), a0, a1))"  # of an infinite divisor
    return i.pointwise(f"where(abs(a1) == inf, {beyond}, a0 - a1 * floor(a0 / a1))", *a)


@rule("Round")
def rounded(i: Importer, c: Call) -> str:
    """To the nearest whole number, to the even one where two are as near: what adding 1.5 * 2^23 does, kept exact."""
    half = "floor(a0 + 0.5)"
    even = f"where(({half} - a0) > 0.5, {half}, where({half} - a0 < 0.5, {half}, 2 * floor({half} / 2)))"
    return i.pointwise(even, i.tensor(c, 0))


_register()
