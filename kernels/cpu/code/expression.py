"""Pointwise expressions, as far as planners and tests need them; `emit.Emitter.expression` turns them into vector code.

An expression is a nested tuple: ("var", name), ("const", number) or (operator, operand, ...).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Expression = tuple[Any, ...]


def variables(*expressions: Expression) -> tuple[str, ...]:
    """The names that the expressions use, in order of their first use."""
    found: dict[str, None] = {}

    def walk(expression: Expression) -> None:
        if expression[0] == "var":
            found[expression[1]] = None
        elif expression[0] != "const":
            for part in expression[1:]:
                walk(part)

    for expression in expressions:
        walk(expression)
    return tuple(found)


def _sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), by exp of the negative size alone, as the vector code has it."""
    power = np.exp(-np.abs(x))
    return np.where(np.less(x, 0), power, 1.0) / (1.0 + power)


_FUNCTIONS: dict[str, Any] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative, "max": np.maximum, "min": np.minimum,
    "exp": np.exp, "expm1": np.expm1, "log": np.log, "sigmoid": _sigmoid, "tanh": np.tanh, "sqrt": np.sqrt, "abs": np.abs,
    "gt": lambda a, b: np.where(np.greater(a, b), 1.0, 0.0), "where": lambda c, a, b: np.where(np.not_equal(c, 0), a, b),
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
