"""Blocks applied: their bodies run in scopes of names of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cnnc.frontend.binding import Application, bind_block
from cnnc.frontend.elaboration import Failure, Frame
from cnnc.frontend.expressions import evaluate
from cnnc.frontend.layers import claim, count
from cnnc.frontend.limits import CALLS_LIMIT
from cnnc.frontend.names import labels_in
from cnnc.frontend.statements import run
from cnnc.frontend.text import syntax as s
from cnnc.frontend.values import MISSING, POISON, BlockValue, Given, Scope, Value


def apply_block(callee: BlockValue, application: Application) -> Value:
    frame, span = application.frame, application.span
    block, name = callee.block, callee.block.name
    if len(frame.calls) >= CALLS_LIMIT:
        help = "a block that calls itself needs a condition that ends it; a loop is simpler"
        frame.stop(span, "E0408", f"blocks call each other more than {CALLS_LIMIT} deep", help=help)
    given = bind_block(callee, application)
    count(span, frame)
    scope = _scope(callee, application)
    inner = Frame(frame.elaboration, callee.module, scope, {}, ((name.name, span), *frame.calls))
    _set_parameters(block, given, inner)
    value = run(block.body, inner)
    if value is MISSING:
        inner.fail(name, "E0312", f"block {name.name} returns nothing", help="end it with: return x")
    if value is POISON:
        raise Failure
    return value


def _scope(callee: BlockValue, application: Application) -> Scope:
    """The scope of names of one application; a shared block finds the one of its first."""
    frame, label, block = application.frame, application.label, callee.block
    if label is not None:
        home = (frame.scope, claim(label, frame))
    elif callee.home is None:
        scope = frame.scope if callee.bare or callee.scope is None else callee.scope
        home = (scope, scope.running(block.name.name, application.span))
    if callee.home is None and not callee.bare:
        callee.home = home
    where, name = callee.home if callee.home is not None else home
    memory = where.memory.setdefault(name, {})
    if not isinstance(memory, dict):
        memory = where.memory[name] = {}
    labels = frame.elaboration.labels
    if id(block) not in labels:
        labels[id(block)] = labels_in(block.body)
    return Scope(where.full(name), memory, labels[id(block)])


def _set_parameters(block: s.Block, given: Mapping[str, Given], frame: Frame) -> None:
    """Set the parameters; a default may use those before it."""
    for parameter in block.parameters:
        name = parameter.name.name
        if name in frame.names:
            written = replace(frame, calls=())  # the mistake is in the block, whoever applies it
            written.fail(parameter.name, "E0303", f"block {block.name.name} has two parameters {name}")
        if name in given:
            frame.names[name] = given[name].value
        elif parameter.default is not None:
            frame.names[name] = evaluate(parameter.default, frame)
