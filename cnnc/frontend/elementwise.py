"""Operators and functions that work element by element: on tensors they make nodes, in an activation's body formulas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

from cnnc.diagnostics import Span
from cnnc.frontend.arithmetic import number
from cnnc.frontend.elaboration import Frame, Placed
from cnnc.frontend.layers import claim, count
from cnnc.frontend.text import syntax as s
from cnnc.frontend.values import Formula, Tensor, Value, kind, show, shown_type
from cnnc.ir import expression as ex
from cnnc.ir.op import InferenceError
from cnnc.ops.definitions import DEFINITIONS
from cnnc.untrusted import FLOAT32, NORMAL

# the op of an operator or a function
OPERATORS = {
    "+": "add", "-": "sub", "*": "mul", "/": "div", "neg": "neg", "**": "pow", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne",
    "max": "maximum", "min": "minimum", "where": "where",
}  # fmt: skip
TURNED = {"<": ">", "<=": ">="}  # the other way round
COMPARISONS = ("==", "!=", "<=", ">=", "<", ">")
CHOOSING = ("max", "min", "where")  # functions that work on tensors as well


def works_on(values: Sequence[Value]) -> bool:
    """Whether one of the values is a tensor or a formula, so that an operator on them works element by element."""
    return any(isinstance(v, Tensor | Formula) for v in values)


def combine(
    operator: str, values: Sequence[Value], span: Span, frame: Frame, label: s.Label | None = None
) -> Tensor | Formula:
    """`left operator right`, `function(values)`, or "neg" of one value, where one of them is a tensor or a formula."""
    for value in values:
        if not isinstance(value, Tensor | Formula):
            number(value, operator, span, frame)
            check_float32(value, span, frame)
    if operator not in OPERATORS and operator not in TURNED:
        help = {"//": "'/' divides, and floor(x) rounds down"}.get(operator)
        frame.fail(span, "E0308", f"'{operator}' does not work on tensors", help=help)
    if operator == "/" and values[1] == 0:
        what = "a tensor" if isinstance(values[0], Tensor) else "x"
        frame.fail(span, "E0311", f"division by zero: {what} / {show(values[1])}")
    if any(isinstance(v, Formula) for v in values):
        return _formula(operator, values, span, frame)
    return _node(operator, values, span, frame, label)


def compared(
    chain: Sequence[tuple[str, Value, Value, Span]], frame: Frame, label: s.Label | None = None
) -> Tensor | Formula:
    """A chain of comparisons of tensors or formulas: 1 where all of them hold, 0 elsewhere."""
    if len(chain) == 1:
        operator, left, right, span = chain[0]
        return combine(operator, (left, right), span, frame, label)
    *most, last = chain
    first = compared(most, frame)
    whole = most[0][3].to(last[3])
    return combine("*", (first, compared([last], frame)), whole, frame, label)


def choose(name: str, values: Sequence[Value], where: Placed, frame: Frame, label: s.Label | None) -> Tensor | Formula:
    """`max`, `min` and `where` of tensors or formulas."""
    if name == "where":
        if len(values) != 3:
            frame.fail(where, "E0207", f"where takes a condition and two values, not {len(values)}")
        if not works_on(values[:1]):
            what = f"the condition of where is a tensor, as x > 0 is, not {kind(values[0])}"
            frame.fail(where, "E0308", what, help="at compile time c ? a : b chooses")
        return combine(name, values, where.span, frame, label)
    if len(values) < 2:
        what = f"{name} takes two values or more"
        frame.fail(
            where,
            "E0207",
            what,
            help=f"it is the {name}imum of two tensors, element by element; over axes write x -> {name}(axis)",
        )
    *most, last = values
    first = (
        most[0] if len(most) == 1 else choose(name, most, where, frame, None) if works_on(most) else _best(name, most)
    )
    return combine(name, (first, last), where.span, frame, label)


def _best(name: str, numbers: Sequence[Value]) -> Value:
    return max(numbers) if name == "max" else min(numbers)


def check_float32(value: int | float, where: Placed | Span, frame: Frame) -> None:
    """Fail where a number is not one of float32."""
    if value != 0 and not NORMAL <= abs(value) <= FLOAT32:
        held = "infinite" if abs(value) > FLOAT32 else "zero"
        limits = f"numbers beside tensors are 0 or from {NORMAL:.4g} to {FLOAT32:.4g}"
        frame.fail(where, "E0404", f"{show(value)} is {held} in float32", help=limits)


# --- tensors


def _node(operator: str, values: Sequence[Value], span: Span, frame: Frame, label: s.Label | None) -> Tensor:
    builder, scope, origin = frame.elaboration.builder, frame.scope, frame.origin(span)
    turned = operator in TURNED
    op = OPERATORS[TURNED.get(operator, operator)]
    attributes: dict[str, float] = {}
    if op == "pow":
        base, exponent = values
        if isinstance(exponent, Tensor):
            help = "of x above 0 it is exp(y * log(x))"
            frame.fail(span, "E0308", "the exponent of '**' is a number, not a tensor", help=help)
        values, attributes = (base,), {"exponent": float(exponent)}
    operands = []
    for value in values:
        if isinstance(value, Tensor):
            operands.append(value.value)
        else:
            name = scope.full(scope.running("constant", span))
            operands.append(builder.add("constant", [], {"value": float(value)}, name, origin))
    count(span, frame)
    name = scope.full(claim(label, frame) if label else scope.running(op, span))
    try:
        result = builder.add(op, operands[::-1] if turned else operands, attributes, name, origin)
    except InferenceError as e:
        sides = zip(("left", "right") if len(values) < 3 else ("condition", "first", "second"), values, strict=False)
        notes = [f"{side} is {shown_type(v.type)}" for side, v in sides if isinstance(v, Tensor)]
        frame.fail(span, e.code, e.message, *notes, help=e.help)
    return Tensor(result, builder.type(result))


# --- formulas


def expression_of(value: Value) -> ex.Expression:
    """A number or a formula as an expression."""
    return value.expression if isinstance(value, Formula) else ex.const(float(value))


def _formula(operator: str, values: Sequence[Value], span: Span, frame: Frame) -> Formula:
    turned = operator in TURNED
    op = OPERATORS[TURNED.get(operator, operator)]
    parts = [expression_of(v) for v in (values[::-1] if turned else values)]
    if op == "pow":
        return put_in(("pow", ex.var("a0"), ex.var("a1")), {"a0": parts[0], "a1": parts[1]}, span, frame)
    return put_in(ex.parse(DEFINITIONS[op].value), {f"a{i}": p for i, p in enumerate(parts)}, span, frame)


def put_in(e: ex.Expression, parts: Mapping[str, ex.Expression], where: Placed | Span, frame: Frame) -> Formula:
    """A formula with others in place of its variables; not larger than the IR takes."""
    size = ex.substituted_size(e, {name: ex.size(part) for name, part in parts.items()})
    if size > ex.LARGEST:
        too_large(size, where, frame)
    return Formula(ex.substitute(e, parts))


def too_large(size: int, where: Placed | Span, frame: Frame) -> NoReturn:
    what = f"this activation has {size} functions with what it calls written out; {ex.LARGEST} are the limit"
    frame.fail(where, "E0324", what, help="write part of it as a block")
