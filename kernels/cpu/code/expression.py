"""Pointwise expressions, as far as planners and tests need them; `emit.Emitter.expression` turns them into vector code.

An expression is a nested tuple: ("var", name), ("const", number) or (operator, operand, ...).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Expression = tuple[Any, ...]


def variables(*expressions: Expression) -> tuple[str, ...]:
    """The names that the expressions use, in order of their first use."""

    def names(head: str, *rest: Any) -> tuple[str, ...]:
        return rest if head == "var" else () if head == "const" else variables(*rest)

    return tuple(dict.fromkeys(name for expression in expressions for name in names(*expression)))


def _sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), by exp of the negative size alone, as the vector code has it."""
    power = np.exp(-np.abs(x))
    return np.where(np.less(x, 0), power, 1.0) / (1.0 + power)


def _each(function: Callable[[float], float]) -> Callable[[Any], Any]:
    """A function of Python's numbers on arrays, which keep their precision."""
    return lambda x: np.vectorize(function, otypes=[np.float64])(x).astype(np.result_type(x))


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative, "max": np.maximum, "min": np.minimum,
    "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "sigmoid": _sigmoid, "tanh": np.tanh, "sqrt": np.sqrt,
    "abs": np.abs, "floor": np.floor, "sign": np.sign, "pow": np.power, "softplus": lambda x: np.logaddexp(0, x),
    "erf": _each(math.erf), "normal_cdf": _each(lambda x: math.erfc(-x / math.sqrt(2)) / 2),
    "normal_pdf": lambda x: np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi),
    "gt": lambda a, b: np.where(np.greater(a, b), 1.0, 0.0), "ge": lambda a, b: np.where(np.greater_equal(a, b), 1.0, 0.0),
    "eq": lambda a, b: np.where(np.equal(a, b), 1.0, 0.0), "ne": lambda a, b: np.where(np.not_equal(a, b), 1.0, 0.0),
    "where": lambda c, a, b: np.where(np.not_equal(c, 0), a, b),
}  # fmt: skip


def evaluate(expression: Expression, values: Mapping[str, Any]) -> Any:
    """The definition: the expression in NumPy, in the precision of the values."""
    operator, *parts = expression
    if operator == "var":
        return values[parts[0]]
    if operator == "const":
        return parts[0]
    with np.errstate(all="ignore"):
        return _FUNCTIONS[operator](*(evaluate(part, values) for part in parts))


def keeps_zero(expression: Expression) -> bool:
    """Whether the expression is zero where all its variables are, so that padded lanes stay zero without a mask."""
    return bool(evaluate(expression, {name: np.float64(0) for name in variables(expression)}) == 0)
