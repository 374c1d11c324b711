"""The functions on compile-time values: `len`, `min`, `max`, `int`, `round`; starts, which are called like them; and those
that choose between tensors: `where`, `min`, `max`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cnnc.frontend.arithmetic import LARGEST, number
from cnnc.frontend.binding import Application
from cnnc.frontend.elaboration import Frame
from cnnc.frontend.elementwise import CHOOSING, choose, works_on
from cnnc.frontend.expressions import begin
from cnnc.frontend.values import Given, Value, kind
from cnnc.ir.start import STARTS

NUMBERS: dict[str, Callable[[list[Any]], Any]] = {
    "min": min,
    "max": max,
    "int": lambda items: int(items[0]),
    "round": lambda items: round(items[0]),
}


def call_function(name: str, application: Application) -> Value:
    """The result of a function. Fails with E0206, E0207, E0308 or E0404."""
    frame, given = application.frame, application.positional
    if name in STARTS:
        return begin(name, given, application.keywords, application, frame)
    if application.keywords:
        frame.fail(application, "E0206", f"{name} has no argument '{next(iter(application.keywords))}'")
    items = [g.value for g in given]
    several = name in CHOOSING
    if several and len(items) == 1 and isinstance(items[0], tuple):
        items = list(items[0])
    if several and works_on(items):
        return choose(name, items, application, frame, application.label)
    if application.label is not None:
        frame.fail(application.label, "E0314", "only layers, blocks and tensors have names")
    if name == "where":
        choose(name, items, application, frame, None)
    if not several and len(items) != 1:
        frame.fail(application, "E0207", f"{name} takes one argument, not {len(items)}")
    if name == "len":
        return _length(given[0], frame)
    if not items:
        frame.fail(application, "E0207", f"{name} needs at least one number")
    for item in items:
        number(item, name, application, frame)
    value = NUMBERS[name](items)
    if not several and abs(value) >= LARGEST:
        frame.fail(application, "E0404", f"the result of {name} is too large", help="whole numbers are below 2**63")
    return value


def _length(given: Given, frame: Frame) -> int:
    if not isinstance(given.value, tuple | dict | str):
        frame.fail(given, "E0308", f"{kind(given.value)} has no length")
    return len(given.value)
