"""Statements, and the bodies of blocks and models.

A statement that fails poisons the names it would have set, so that what reads them fails silently and the errors that
are reported are errors of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cnnc.frontend.arithmetic import number, truth
from cnnc.frontend.declarations import declare, expect, parameter
from cnnc.frontend.elaboration import Failure, Frame
from cnnc.frontend.expressions import dict_, evaluate
from cnnc.frontend.limits import ROUNDS_LIMIT
from cnnc.frontend.names import assigned, returns
from cnnc.frontend.text import syntax as s
from cnnc.frontend.values import MISSING, POISON, Batch, Value, kind, show


def run(statements: Sequence[s.Statement], frame: Frame) -> Value:
    """Run statements. The value returned, POISON where its statement failed, or MISSING."""
    for i, statement in enumerate(statements):
        try:
            frame.spend(statement, 1)
            value = STATEMENTS[type(statement)](statement, frame)
        except Failure:
            frame.names.update(dict.fromkeys(assigned(statement), POISON))
            value = POISON if returns(statement) else MISSING
        if value is not MISSING:
            if isinstance(statement, s.Return) and i + 1 < len(statements):
                frame.warn(statements[i + 1], "W0103", "nothing after this return is reached")
            return value
    return MISSING


def assign(node: s.Assign, frame: Frame) -> Value:
    _set(node.targets, evaluate(node.value, frame), node.value, frame)
    return MISSING


def _set(targets: Sequence[s.Name], value: Value, where: s.Expression | s.Range, frame: Frame) -> None:
    """Set one name, or unpack a list into several."""
    if len(targets) == 1:
        frame.names[targets[0].name] = value
        return
    if not isinstance(value, tuple):
        frame.fail(where, "E0308", f"{kind(value)} cannot be unpacked into {len(targets)} names")
    if len(value) != len(targets):
        what = f"{len(value)} values cannot be unpacked into {len(targets)} names"
        frame.fail(where, "E0317", what, f"the values are {show(value)}")
    frame.names.update(zip((t.name for t in targets), value, strict=True))


def branch(node: s.If, frame: Frame) -> Value:
    for condition, body in node.clauses:
        if condition is None or truth(evaluate(condition, frame), condition, frame):
            return run(body, frame)
    return MISSING


def loop(node: s.For, frame: Frame) -> Value:
    for value in _rounds(node.over, frame):
        frame.spend(node, 1)
        _set(node.targets, value, node.over, frame)
        result = run(node.body, frame)
        if result is not MISSING:
            return result
    return MISSING


def _rounds(over: s.Expression | s.Range, frame: Frame) -> Iterable[Value]:
    """What a loop runs over."""
    if isinstance(over, s.Range):
        start, stop = _bound(over.start, frame), _bound(over.stop, frame)
        if stop - start > ROUNDS_LIMIT:
            what = f"this loop would run {stop - start:,} times, more than {ROUNDS_LIMIT:,}"
            frame.stop(over, "E0407", what)
        return range(start, stop)
    value = evaluate(over, frame)
    if not isinstance(value, tuple | dict):
        help = f"write 0..{show(value)}" if isinstance(value, int) and not isinstance(value, bool) else None
        frame.fail(over, "E0308", f"a loop runs over a range or a list, not {kind(value)}", help=help)
    return value


def _bound(end: s.Expression, frame: Frame) -> int:
    value = evaluate(end, frame)
    if isinstance(value, Batch):
        number(value, "..", end, frame)
    if isinstance(value, bool) or not isinstance(value, int):
        frame.fail(end, "E0308", f"a range runs between whole numbers, not {kind(value)} {show(value)}")
    return value


def return_(node: s.Return, frame: Frame) -> Value:
    if len(node.values) == 1 and isinstance(node.values[0], s.Dict):
        return dict_(node.values[0], frame, names_are_texts=True)
    values = tuple(evaluate(v, frame) for v in node.values)
    return values[0] if len(values) == 1 else values


# Each gives the value that is returned, or MISSING.
STATEMENTS: dict[type, Callable[[Any, Frame], Value]] = {
    s.Input: declare,
    s.Param: parameter,
    s.Assign: assign,
    s.For: loop,
    s.If: branch,
    s.Expect: expect,
    s.Return: return_,
}
