"""Operators: signs, chains of arithmetic and comparison, choices. Those on tensors make nodes."""

from __future__ import annotations

from cnnc.diagnostics import Span
from cnnc.frontend.arithmetic import calculate, compare, number, truth
from cnnc.frontend.elaboration import Frame
from cnnc.frontend.elementwise import COMPARISONS, combine, compared, works_on
from cnnc.frontend.expressions import evaluate, evaluates
from cnnc.frontend.text import syntax as s
from cnnc.frontend.values import Given, Value

LOGIC = ("and", "or")


@evaluates(s.Unary)
def unary(node: s.Unary, frame: Frame) -> Value:
    value = evaluate(node.value, frame)
    if node.operator == "not":
        return not truth(value, node.value, frame)
    if works_on((value,)):
        return combine("neg", (value,), node.span, frame) if node.operator == "-" else value
    number(value, node.operator, node.value, frame)
    return -value if node.operator == "-" else value


@evaluates(s.Choose)
def choose(node: s.Choose, frame: Frame) -> Value:
    condition = truth(evaluate(node.condition, frame), node.condition, frame)
    return evaluate(node.then if condition else node.otherwise, frame)


@evaluates(s.Chain)
def chain(node: s.Chain, frame: Frame) -> Value:
    operator = node.rest[0][0]
    if operator in LOGIC:
        return _logic(node, operator, frame)
    if operator in COMPARISONS:
        return _comparisons(node, frame)
    left = Given(evaluate(node.first, frame), node.first.span)
    for operator, _, term in node.rest:
        right = Given(evaluate(term, frame), term.span)
        span = left.span.to(right.span)
        if works_on((left.value, right.value)):
            value: Value = combine(operator, (left.value, right.value), span, frame)
        else:
            value = calculate(operator, left, right, frame)
        left = Given(value, span)
    return left.value


def _logic(node: s.Chain, operator: str, frame: Frame) -> bool:
    for term in (node.first, *(t for _, _, t in node.rest)):
        if truth(evaluate(term, frame), term, frame) == (operator == "or"):
            return operator == "or"
    return operator == "and"


def _comparisons(node: s.Chain, frame: Frame) -> Value:
    """Whether all of a chain holds; of tensors a tensor."""
    left = Given(evaluate(node.first, frame), node.first.span)
    found: list[tuple[str, Value, Value, Span]] = []
    for operator, _, term in node.rest:
        right = Given(evaluate(term, frame), term.span)
        if works_on((left.value, right.value)):
            found.append((operator, left.value, right.value, left.span.to(right.span)))
        elif not compare(operator, left, right, frame):
            return False
        left = right
    return compared(found, frame) if found else True
