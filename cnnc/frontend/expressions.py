"""Compile-time expressions: values that are written out, names, lists and what is in them, attributes of tensors.

Each kind of node has its function in `EVALUATORS`; operators and applications add theirs in `operators.py` and
`application.py`. All values are bounded: lists and texts of at most `ITEMS` items, a budget of steps for a whole model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from cnnc.diagnostics import Span
from cnnc.frontend.elaboration import Failure, Frame, Placed
from cnnc.frontend.limits import STEPS_LIMIT
from cnnc.frontend.text import syntax as s
from cnnc.frontend.values import (
    BATCH_SIZE,
    POISON,
    BlockValue,
    Function,
    Given,
    LayerValue,
    Tensor,
    Value,
    kind,
    show,
    shown_type,
)
from cnnc.ir.layer import LAYERS
from cnnc.ir.op import InferenceError
from cnnc.ir.start import STARTS, Start, start

ITEMS = 20_000
FUNCTIONS = ("len", "min", "max", "int", "round", "where")
ATTRIBUTES = ("channels", "height", "width", "shape", "rank", "batch", "depth")
ELSEWHERE = {"None": "none", "null": "none", "True": "true", "False": "false"}
UNDEFINED = object()  # what a name stands for that nothing defines

T = TypeVar("T")
Evaluator = TypeVar("Evaluator", bound=Callable[[Any, Frame], Value])
EVALUATORS: dict[type, Callable[[Any, Frame], Value]] = {}


def evaluates(*kinds: type) -> Callable[[Evaluator], Evaluator]:
    """The function below evaluates these kinds of nodes."""

    def register(function: Evaluator) -> Evaluator:
        EVALUATORS.update(dict.fromkeys(kinds, function))
        return function

    return register


def evaluate(node: s.Expression, frame: Frame) -> Value:
    """The value of an expression. Raises `Failure` (silently where a poisoned name is read) or `Stop`."""
    elaboration = frame.elaboration
    elaboration.steps += 1
    if elaboration.steps > STEPS_LIMIT:
        frame.spend(node, 0)
    value = EVALUATORS[type(node)](node, frame)
    if value is POISON:
        raise Failure
    return value


def bounded(value: Value, where: Placed | Span, frame: Frame) -> Value:
    """The value, when it is not too large to keep: nested lists are counted in full."""

    def weigh(v: Value, depth: int) -> int:
        if isinstance(v, str):
            return len(v)
        if not isinstance(v, tuple | dict):
            return 1
        if depth > 16:
            frame.stop(where, "E0409", "lists nest deeper than 16")
        total = 1
        for item in v if isinstance(v, tuple) else v.values():
            total += weigh(item, depth + 1)
            if total > ITEMS:
                frame.stop(where, "E0409", f"this value has more than {ITEMS:,} items")
        return total

    frame.spend(where, weigh(value, 1))
    return value


# --- values that are written out


@evaluates(s.Number, s.Text, s.Word)
def literal(node: s.Number | s.Text | s.Word, frame: Frame) -> Value:
    return node.value


@evaluates(s.List)
def list_(node: s.List, frame: Frame) -> Value:
    return bounded(tuple(evaluate(i, frame) for i in node.items), node, frame)


def argument(node: s.Expression, frame: Frame) -> Value:
    """An argument of a layer or a block: in a shape that is written out, N is the batch."""
    if not isinstance(node, s.List) or lookup("N", frame) is not UNDEFINED:
        return evaluate(node, frame)
    return bounded(tuple(BATCH_SIZE if s.is_batch(i) else evaluate(i, frame) for i in node.items), node, frame)


@evaluates(s.Dict)
def dict_(node: s.Dict, frame: Frame, names_are_texts: bool = False) -> Value:
    """A dict; in a `return`, a bare name for a key is the output's name."""
    result: dict[Value, Value] = {}
    for k, v in node.pairs:
        key = k.name if names_are_texts and isinstance(k, s.Name) else evaluate(k, frame)
        if not isinstance(key, str | int | float):
            frame.fail(k, "E0308", f"a key is a number or a text, not {kind(key)}")
        if key in result:
            frame.fail(k, "E0303", f"the key {show(key)} is there already")
        result[key] = evaluate(v, frame)
    return bounded(result, node, frame)


# --- names


@evaluates(s.Name)
def name(node: s.Name, frame: Frame) -> Value:
    value = lookup(node.name, frame)
    if value is UNDEFINED:
        if node.name in ELSEWHERE:
            frame.fail(node, "E0301", f"unknown name '{node.name}'", help=f"write '{ELSEWHERE[node.name]}'")
        if node.name == "N":
            help = "write x.batch; in a list that is a layer's argument, N stands for it: reshape([N, 8, -1])"
            frame.fail(node, "E0318", "the batch N has no name outside a type", help=help)
        frame.unknown(node, "E0301", "unknown name", node.name, names_in(frame))
    return begin(node.name, (), {}, node, frame) if isinstance(value, Function) and node.name in STARTS else value


def names_in(frame: Frame) -> list[str]:
    """All names there are in a frame."""
    m = frame.module
    return [*frame.names, *m.consts, *m.blocks, *m.activations, *LAYERS, *FUNCTIONS, *STARTS]


def lookup(name: str, frame: Frame) -> Value:
    """A variable, then a constant, block or activation of the file, then a function, layer or start; or UNDEFINED."""
    if name in frame.names:
        return frame.names[name]
    module = frame.module
    if name in module.consts:
        return constant(name, frame)
    if name in module.blocks:
        return BlockValue(*module.blocks[name])
    if name in module.activations:
        return EVALUATORS[s.Activation](module.activations[name][0], frame)
    if name in FUNCTIONS:
        return Function(name)
    if name in LAYERS:
        return LayerValue(LAYERS[name])
    return Function(name) if name in STARTS else UNDEFINED


def constant(name: str, frame: Frame) -> Value:
    """The value of a constant of the file, evaluated when it is first asked for."""
    node, module = frame.module.consts[name]
    inner = Frame(frame.elaboration, module, frame.scope)
    return made_once("constant", node.name, module.values, POISON, inner, lambda: evaluate(node.value, inner))


def made_once(what: str, name: s.Name, made: dict[str, T], failed: T, frame: Frame, make: Callable[[], T]) -> T:
    """What the frame's module defines by a name, made when it is first asked for; `failed` where that fails. Raises
    `Failure` where it is defined by itself."""
    pending, key = frame.module.pending, name.name
    if key in pending:
        frame.fail(name, "E0316", f"the {what} {key} is defined by itself")
    if key not in made:
        made[key] = failed
        pending.add(key)
        try:
            made[key] = make()
        finally:
            pending.discard(key)
    return made[key]


def begin(name: str, positional: Sequence[Given], keywords: Mapping[str, Given], where: Placed, frame: Frame) -> Start:
    """The start of a name with its arguments: `normal(std=0.01)`; a name alone has its defaults."""
    names = list(STARTS[name].arguments)
    if len(positional) > len(names):
        frame.fail(positional[len(names)], "E0208", f"{name} takes {len(names)} arguments")
    given = dict(zip(names, positional, strict=False))
    for key, value in keywords.items():
        if key in given:
            frame.fail(value, "E0208", f"the argument {key} is given twice")
        given[key] = value
    try:
        return start(name, **{key: g.value for key, g in given.items()})
    except InferenceError as e:
        frame.fail(given.get(e.argument or "", where), e.code, e.message, help=e.help)


# --- what is in a value


@evaluates(s.Attribute)
def attribute(node: s.Attribute, frame: Frame) -> Value:
    value = evaluate(node.value, frame)
    name = node.name.name
    if not isinstance(value, Tensor):
        help = "tensors have .channels, .height, .width, .shape, .rank and .batch"
        frame.fail(node.name, "E0306", f"{kind(value)} has no attributes", help=help)
    shape = value.type.shape
    axes = {"batch": 0, "channels": 1}
    axes |= dict(zip(("width", "height", "depth"), range(-1, 1 - len(shape), -1), strict=False))
    if name == "shape":
        return tuple(d if isinstance(d, int) else BATCH_SIZE for d in shape)
    if name == "rank":
        return len(shape)
    if name in axes and -len(shape) <= axes[name] < len(shape):
        size = shape[axes[name]]
        return size if isinstance(size, int) else BATCH_SIZE
    if name in ATTRIBUTES:
        frame.fail(node.name, "E0306", f"{shown_type(value.type)} has no {name}")
    frame.unknown(node.name, "E0306", "a tensor has no attribute", name, ATTRIBUTES, "it has")
