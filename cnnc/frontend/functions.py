"""The functions on compile-time values: `len`, `min`, `max`, `int`, `round`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cnnc.diagnostics import Span
from cnnc.frontend.evaluate import Evaluator
from cnnc.frontend.values import Frame, Given, Value, kind


def call_function(
    evaluator: Evaluator, name: str, values: Sequence[Given], keywords: Mapping[str, Given], span: Span, frame: Frame
) -> Value:
    """The result of a function. Fails with E0206, E0207 or E0308."""
    if keywords:
        evaluator.fail("E0206", f"{name} has no argument '{next(iter(keywords))}'", span, frame)
    items = [v.value for v in values]
    if name in ("min", "max") and len(items) == 1 and isinstance(items[0], tuple):
        items = list(items[0])
    elif name in ("len", "int", "round") and len(items) != 1:
        evaluator.fail("E0207", f"{name} takes one argument, not {len(items)}", span, frame)
    if name == "len":
        if not isinstance(items[0], tuple | dict | str):
            evaluator.fail("E0308", f"{kind(items[0])} has no length", values[0].span, frame)
        return len(items[0])
    if not items:
        evaluator.fail("E0207", f"{name} needs at least one number", span, frame)
    for item in items:
        evaluator.number(item, name, span, frame)
    if name in ("min", "max"):
        return min(items) if name == "min" else max(items)
    value = int(items[0]) if name == "int" else round(items[0])
    if abs(value) >= 2**63:
        evaluator.fail("E0404", f"the result of {name} is too large", span, frame, help="whole numbers are below 2**63")
    return value
