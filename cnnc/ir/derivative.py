"""Derivatives of expressions, as expressions."""

from __future__ import annotations

import math
from collections.abc import Callable

from cnnc.ir.expression import COMPARISONS, Expression, const, simplify


def differentiate(e: Expression, name: str) -> Expression:
    """The derivative with respect to one variable, simplified. At a kink the value of the right-hand branch of `where`
    counts.
    """
    return simplify(_derivative(e, name))


def _chosen(first: Expression, second: Expression, d: Expression, other: Expression) -> Expression:
    """The derivative of what is chosen of two: their mean where they are equal."""
    mean = ("mul", const(0.5), ("add", d, other))
    return d if d == other else ("where", first, d, ("where", second, other, mean))


def _slope_of_erf(a: Expression) -> Expression:
    """2 / sqrt(pi) e^(-a^2), of which the density is the root."""
    density = ("normal_pdf", a)
    return ("mul", ("mul", const(4 * math.sqrt(math.pi)), density), density)


def _slope_of_sigmoid(a: Expression, e: Expression) -> Expression:
    """s (1 - s), without the difference that has no digits left where s is near 1."""
    return ("mul", e, ("sigmoid", ("neg", a)))


def _slope_of_tanh(a: Expression) -> Expression:
    """1 - tanh^2 = 4 s (1 - s), likewise: s is at most 1/2."""
    s: Expression = ("sigmoid", ("mul", const(-2), ("abs", a)))
    return ("mul", const(4), ("mul", s, ("sub", const(1), s)))


def _sign(a: Expression) -> Expression:
    return ("where", ("gt", a, const(0)), const(1), ("where", ("gt", const(0), a), const(-1), const(0)))


# The derivative of a function of one number, from that of its argument, the argument, and the function itself.
_SLOPES: dict[str, Callable[[Expression, Expression, Expression], Expression]] = {
    "neg": lambda d, a, e: ("neg", d),
    "exp": lambda d, a, e: ("mul", d, e),
    "expm1": lambda d, a, e: ("mul", d, ("exp", a)),
    "log": lambda d, a, e: ("div", d, a),
    "log1p": lambda d, a, e: ("div", d, ("add", const(1), a)),
    "softplus": lambda d, a, e: ("mul", d, ("sigmoid", a)),
    "normal_cdf": lambda d, a, e: ("mul", d, ("normal_pdf", a)),
    "normal_pdf": lambda d, a, e: ("mul", d, ("neg", ("mul", a, e))),
    "erf": lambda d, a, e: ("mul", d, _slope_of_erf(a)),
    "sigmoid": lambda d, a, e: ("mul", d, _slope_of_sigmoid(a, e)),
    "tanh": lambda d, a, e: ("mul", d, _slope_of_tanh(a)),
    "sqrt": lambda d, a, e: ("div", d, ("mul", const(2), e)),
    "abs": lambda d, a, e: ("mul", d, _sign(a)),
}


def _derivative(e: Expression, name: str) -> Expression:
    if e[0] == "var":
        return const(e[1] == name)
    if e[0] == "const":
        return const(0)
    d = [_derivative(a, name) for a in e[1:]]
    if e[0] in _SLOPES:
        return _SLOPES[e[0]](d[0], e[1], e)
    match e:
        case ("add" | "sub" as f, _, _):
            return (f, d[0], d[1])
        case ("mul", a, b):
            return ("add", ("mul", d[0], b), ("mul", a, d[1]))
        case ("div", a, b):
            return ("div", ("sub", d[0], ("mul", ("div", a, b), d[1])), b)
        case ("max", a, b):
            return _chosen(("gt", a, b), ("gt", b, a), *d)
        case ("min", a, b):
            return _chosen(("gt", b, a), ("gt", a, b), *d)
        case ("pow", a, b):
            by_base = ("mul", d[0], ("mul", b, ("pow", a, ("sub", b, const(1)))))
            logarithm = ("log", ("where", ("eq", a, const(0)), const(1), a))  # 0^b does not move with b
            return ("add", by_base, ("mul", d[1], ("mul", e, logarithm)))
        case (f, *_) if f in COMPARISONS or f in ("floor", "sign"):
            return const(0)
        case ("where", c, _, _):
            return ("where", c, d[1], d[2])
    raise AssertionError(f"no derivative of {e[0]}")
