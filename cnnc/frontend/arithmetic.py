"""Arithmetic, comparison and truth of compile-time values. Whole numbers stay below `LARGEST`."""

from __future__ import annotations

import math
import operator as op
from collections.abc import Callable
from typing import Any

from cnnc.diagnostics import Span
from cnnc.frontend.elaboration import Frame, Placed
from cnnc.frontend.expressions import ITEMS, bounded
from cnnc.frontend.values import Batch, BlockValue, Formula, Given, LayerValue, Poison, Tensor, Value, kind, show

LARGEST = 2**63
COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {"<": op.lt, "<=": op.le, ">": op.gt, ">=": op.ge}
OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "+": op.add,
    "-": op.sub,
    "*": op.mul,
    "/": op.truediv,
    "//": op.floordiv,
    "%": op.mod,
}


def truth(value: Value, where: Placed | Span, frame: Frame) -> bool:
    """A condition. Numbers are none: `if n != 0`."""
    if not isinstance(value, bool):
        help = f"compare it: {'!= 0' if isinstance(value, int | float) else '== ...'}"
        if isinstance(value, Tensor | Formula):
            help = "what a tensor holds is not known at compile time: where(c, a, b) chooses element by element"
        frame.fail(where, "E0310", f"a condition is true or false, not {kind(value)}", help=help)
    return value


def number(value: Value, operator: str, where: Placed | Span, frame: Frame) -> None:
    """Fail where a value is no number."""
    if isinstance(value, Batch):
        frame.fail(
            where,
            "E0318",
            "the batch is not known at compile time: nothing can be calculated with it",
            help="the batch stays N to the end; it may stand in a type, as f32[x.batch, 10]",
        )
    if isinstance(value, bool) or not isinstance(value, int | float):
        frame.fail(where, "E0308", f"'{operator}' takes numbers, not {kind(value)}")


def compare(operator: str, one: Given, other: Given, frame: Frame) -> bool:
    left, right, span = one.value, other.value, one.span.to(other.span)
    equality = operator in ("==", "!=")
    if isinstance(left, Batch) != isinstance(right, Batch) or (isinstance(left, Batch) and not equality):
        frame.fail(span, "E0318", "the batch is not known at compile time: it cannot be compared with a number")
    if equality:
        return same_value(left, right) == (operator == "==")
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (left, right))
    if not numbers and not (isinstance(left, str) and isinstance(right, str)):
        frame.fail(span, "E0308", f"'{operator}' compares numbers, not {kind(left)} and {kind(right)}")
    return bool(COMPARISONS[operator](left, right))


def same_value(left: Value, right: Value) -> bool:
    """Equality. Values of different kinds differ; layers and blocks are the same when they are written alike."""
    if isinstance(left, LayerValue) and isinstance(right, LayerValue):
        return left is right or (left.bare and right.bare and left.layer is right.layer)
    if isinstance(left, BlockValue) and isinstance(right, BlockValue):
        return left is right or (left.bare and right.bare and left.block is right.block)
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(same_value(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, bool) != isinstance(right, bool) or isinstance(left, Poison):
        return False
    return bool(left == right)


def calculate(operator: str, left: Given, right: Given, frame: Frame) -> Value:
    """One operation on two values, neither of which is a tensor."""
    span = left.span.to(right.span)
    joined = _joined(operator, left.value, right.value, span, frame)
    if joined is not None:
        return joined
    for term in (left, right):
        number(term.value, operator, term, frame)
    try:
        value = _power(left.value, right.value) if operator == "**" else OPERATIONS[operator](left.value, right.value)
    except ZeroDivisionError:
        frame.fail(right, "E0311", f"division by zero: {_written(operator, left, right)}")
    except OverflowError:
        value = math.inf
    if isinstance(value, complex) or value != value:
        frame.fail(span, "E0311", f"{_written(operator, left, right)} is not a number")
    if abs(value) >= LARGEST if isinstance(value, int) else math.isinf(value):
        help = "whole numbers are below 2**63, others below 1.8e308"
        frame.fail(span, "E0404", f"the result of {_written(operator, left, right)} is too large", help=help)
    return value


def _written(operator: str, left: Given, right: Given) -> str:
    return f"{show(left.value)} {operator} {show(right.value)}"


def _joined(operator: str, left: Value, right: Value, span: Span, frame: Frame) -> Value:
    """Lists or texts joined or repeated; None where they are neither."""
    if operator == "+":
        alike = any(isinstance(left, t) and isinstance(right, t) for t in (str, tuple))
        return bounded(left + right, span, frame) if alike else None
    if operator != "*":
        return None
    for items, times in ((left, right), (right, left)):
        if isinstance(items, str | tuple) and isinstance(times, int) and not isinstance(times, bool):
            if len(items) * max(times, 0) > ITEMS:
                frame.stop(span, "E0409", f"this value has more than {ITEMS:,} items")
            return bounded(items * times, span, frame)
    return None


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(base, int) and isinstance(exponent, int) and exponent > 64 and abs(base) > 1:
        raise OverflowError
    return base**exponent
