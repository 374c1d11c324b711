"""Pointwise functions of the language and the IR, a line each: everything else about them follows from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnc.ir.layer import Argument
from cnnc.ir.op import REQUIRED

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al., 2017
GELU_CUBE = 0.044715  # Hendrycks and Gimpel, 2016: gelu by a sigmoid of x + 0.044715 x^3


@dataclass(frozen=True)
class Definition:
    """A pointwise op.

    operands: how many, called a0, a1, ... value: an expression over them and the constants. slope: the derivative by a0,
    over the result y too, where it is not to be made of the value: to keep digits, or to need less. constants: its
    attributes, and its arguments as a layer. needs: what must hold of them, an expression. doc: the layer's line in the
    language reference; "" where it is no layer.
    """

    operands: int
    value: str
    slope: str | None = None
    constants: tuple[Argument, ...] = ()
    needs: str | None = None
    doc: str = ""

    @property
    def defaults(self) -> Mapping[str, Any]:
        return {a.name: a.default for a in self.constants}


# s + beta x s (1 - s); beyond +-1000 the product is 0, which inf * 0 is not
_SILU_SLOPE = "sigmoid({0} * a0) * (1 + max(min({0} * a0, 1000), -1000) * sigmoid(-{0} * a0))"
# x tanh(log(1 + u)) with u = e^x is x n / (n + 2) with n = u (u + 2), and 1 to the last digit from x = 20 on
_MISH_U = "exp(min(a0, 20))"
_MISH_N = f"{_MISH_U} * ({_MISH_U} + 2)"
_MISH_SLOPE = (
    f"({_MISH_N} * ({_MISH_N} + 2) + 4 * max(min(a0, 20), -1000) * {_MISH_U} * (1 + {_MISH_U}))"
    f" / (({_MISH_N} + 2) * ({_MISH_N} + 2))"
)
# (1 + tanh(u)) / 2 is sigmoid(2 u)
_GELU_FACTOR = 2 * math.sqrt(2 / math.pi)
_GELU_SIGMOID = f"sigmoid({_GELU_FACTOR} * a0 * (1 + {GELU_CUBE} * a0 * a0))"
_NEAR = "max(min(a0, 50), -50)"  # beyond, what it is multiplied by is 0
_GELU_TANH_SLOPE = (
    f"{_GELU_SIGMOID} * (1 + {_GELU_FACTOR} * {_NEAR} * (1 + {3 * GELU_CUBE} * {_NEAR} * {_NEAR})"
    f" * sigmoid(-{_GELU_FACTOR} * a0 * (1 + {GELU_CUBE} * a0 * a0)))"
)
_BELOW = Argument("alpha", 1.0, "how far results go below 0")

DEFINITIONS: dict[str, Definition] = {
    "add": Definition(2, "a0 + a1"),
    "sub": Definition(2, "a0 - a1"),
    "mul": Definition(2, "a0 * a1"),
    "div": Definition(2, "a0 / a1"),
    "neg": Definition(1, "-a0"),
    "maximum": Definition(2, "max(a0, a1)"),
    "minimum": Definition(2, "min(a0, a1)"),
    "gt": Definition(2, "a0 > a1"),
    "ge": Definition(2, "a0 >= a1"),
    "eq": Definition(2, "a0 == a1"),
    "ne": Definition(2, "a0 != a1"),
    "where": Definition(3, "where(a0, a1, a2)"),
    "relu": Definition(1, "where(a0 < 0, 0, a0)", "where(y > 0, 1, 0)", doc="x, or 0 where it is negative"),
    "relu6": Definition(
        1,
        "where(a0 < 0, 0, where(a0 > 6, 6, a0))",
        "where(y > 0, where(y < 6, 1, 0), 0)",
        doc="x between 0 and 6",
    ),
    "sigmoid": Definition(1, "sigmoid(a0)", doc="`1 / (1 + exp(-x))`"),
    "tanh": Definition(1, "tanh(a0)", doc="the hyperbolic tangent"),
    "leaky_relu": Definition(
        1,
        "where(a0 < 0, negative_slope * a0, a0)",
        constants=(Argument("negative_slope", 0.01, "of the part below 0"),),
        doc="x, or `negative_slope * x` where it is negative",
    ),
    "prelu": Definition(2, "where(a0 > 0, a0, a1 * a0)"),
    "elu": Definition(
        1,
        "where(a0 < 0, alpha * expm1(a0), a0)",
        constants=(_BELOW,),
        doc="x, or `alpha * (exp(x) - 1)` where it is negative",
    ),
    "celu": Definition(
        1,
        "where(a0 < 0, alpha * expm1(a0 / alpha), a0)",
        "where(a0 < 0, exp(a0 / alpha), 1)",
        (_BELOW,),
        "alpha != 0",
        "x, or `alpha * (exp(x / alpha) - 1)` where it is negative",
    ),
    "selu": Definition(
        1,
        f"{SELU_SCALE} * where(a0 < 0, {SELU_ALPHA} * expm1(a0), a0)",
        doc="elu times a number, with the constants that keep mean and variance",
    ),
    "silu": Definition(
        1,
        "a0 * sigmoid(beta * a0)",
        _SILU_SLOPE.format("beta"),
        (Argument("beta", 1.0),),
    ),
    "swish": Definition(2, "a0 * sigmoid(a1 * a0)", _SILU_SLOPE.format("a1")),
    "gelu": Definition(1, "a0 * normal_cdf(a0)", f"normal_cdf(a0) + {_NEAR} * normal_pdf(a0)"),
    "gelu_tanh": Definition(1, f"a0 * {_GELU_SIGMOID}", _GELU_TANH_SLOPE),
    "mish": Definition(1, f"a0 * ({_MISH_N} / ({_MISH_N} + 2))", _MISH_SLOPE, doc="`x * tanh(softplus(x))`"),
    "softplus": Definition(
        1,
        "where(beta * a0 > threshold, a0, softplus(beta * a0) / beta)",
        "where(beta * a0 > threshold, 1, sigmoid(beta * a0))",
        (
            Argument("beta", 1.0, "how sharply it bends"),
            Argument("threshold", 20.0, "of beta * x, above which it is x"),
        ),
        "beta != 0",
        "`log(1 + exp(beta * x)) / beta`",
    ),
    "log_sigmoid": Definition(1, "-softplus(-a0)", "sigmoid(-a0)", doc="the logarithm of sigmoid"),
    "softsign": Definition(
        1, "a0 / (1 + abs(a0))", "1 / (1 + abs(a0)) * (1 / (1 + abs(a0)))", doc="`x / (1 + abs(x))`"
    ),
    "hardsigmoid": Definition(
        1,
        "max(min(a0 + 3, 6), 0) / 6",
        f"where(a0 > -3, where(a0 < 3, {1 / 6}, 0), 0)",
        doc="`(x + 3) / 6` between 0 and 1",
    ),
    "hardswish": Definition(
        1,
        "a0 * (max(min(a0 + 3, 6), 0) / 6)",
        "where(a0 > -3, where(a0 < 3, a0 / 3 + 0.5, 1), 0)",
        doc="`x * hardsigmoid(x)`",
    ),
    "hardtanh": Definition(
        1,
        "where(a0 < min_val, min_val, where(a0 > max_val, max_val, a0))",
        "where(y > min_val, where(y < max_val, 1, 0), 0)",
        (Argument("min_val", -1.0, "the least result"), Argument("max_val", 1.0, "the largest")),
        "min_val < max_val",
        "x between `min_val` and `max_val`",
    ),
    "clamp": Definition(
        1,
        "where(a0 < min, min, where(a0 > max, max, a0))",
        "where(a0 < min, 0, where(a0 > max, 0, 1))",
        (
            Argument("min", -math.inf, "the least result; none for no bound"),
            Argument("max", math.inf, "the largest; none for no bound"),
        ),
        "min <= max",
        "x between `min` and `max`, either of which may be left out",
    ),
    "threshold": Definition(
        1,
        "where(a0 <= threshold, value, a0)",
        "where(a0 <= threshold, 0, 1)",
        (Argument("threshold", REQUIRED, "above which x stays"), Argument("value", REQUIRED, "what others become")),
        doc="x where it is above a threshold, else `value`",
    ),
    "exp": Definition(1, "exp(a0)", "y", doc="e to the power of x"),
    "expm1": Definition(1, "expm1(a0)", doc="`exp(x) - 1`, near 0 too"),
    "log": Definition(1, "log(a0)", doc="the natural logarithm"),
    "log1p": Definition(1, "log1p(a0)", doc="`log(1 + x)`, near 0 too"),
    "sqrt": Definition(1, "sqrt(a0)", "1 / (2 * y)", doc="the square root"),
    "pow": Definition(
        1,
        "pow(a0, exponent)",
        "exponent * pow(a0, exponent - 1)",
        (Argument("exponent", REQUIRED, "a number"),),
        doc="x to the power of a number, as `x ** exponent` is",
    ),
    "abs": Definition(1, "abs(a0)", doc="the absolute value"),
    "sign": Definition(1, "sign(a0)", doc="-1, 0 or 1"),
    "floor": Definition(1, "floor(a0)", doc="the largest whole number up to x"),
    "erf": Definition(1, "erf(a0)", doc="the error function"),
}
