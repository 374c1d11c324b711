"""Compile-time expressions: arithmetic, comparisons, lists, names, attributes. What makes layers is in `apply.py`.

All arithmetic is bounded: whole numbers below 2**63, lists and texts of at most `ITEMS` items, a budget of steps for a
whole model.
"""

from __future__ import annotations

import math
from typing import Any

from cnnc.diagnostics import Span, did_you_mean
from cnnc.frontend import syntax as s
from cnnc.frontend.limits import STEPS_LIMIT
from cnnc.frontend.reporting import Failure, Reporter
from cnnc.frontend.values import (
    BATCH_SIZE,
    POISON,
    Batch,
    BlockValue,
    Frame,
    Function,
    LayerValue,
    Poison,
    Tensor,
    Value,
    kind,
    show,
    shown_type,
)

LARGEST = 2**63
ITEMS = 20_000
FUNCTIONS = ("len", "min", "max", "int", "round")


class Evaluator(Reporter):
    """Evaluates expressions in a frame."""

    def __init__(self) -> None:
        super().__init__()
        self._handlers: dict[type, Any] = {
            s.Number: self._literal,
            s.Text: self._literal,
            s.Word: self._literal,
            s.Name: self._name,
            s.List: self._list,
            s.Dict: self._dict,
            s.Attribute: self._attribute,
            s.Index: self._index,
            s.Unary: self._unary,
            s.Chain: self._chain,
            s.Choose: self._choose,
            s.Call: self.call,
            s.Pipe: self.pipe,
            s.Labelled: self.labelled,
        }

    # --- expressions

    def evaluate(self, node: s.Expression, frame: Frame) -> Value:
        """The value of an expression. Raises `Failure` (silently where a poisoned name is read) or `Stop`."""
        self.steps += 1
        if self.steps > STEPS_LIMIT:
            self.spend(0, node.span, frame)
        value = self._handlers[type(node)](node, frame)
        if value is POISON:
            raise Failure
        return value

    def call(self, node: s.Call, frame: Frame) -> Value:
        raise NotImplementedError

    def pipe(self, node: s.Pipe, frame: Frame) -> Value:
        raise NotImplementedError

    def labelled(self, node: s.Labelled, frame: Frame) -> Value:
        raise NotImplementedError

    def arithmetic(
        self, operator: str, left: Value, right: Value, span: Span, frame: Frame, label: s.Label | None = None
    ) -> Value:
        """`left operator right` where one of them is a tensor."""
        raise NotImplementedError

    def _literal(self, node: s.Number | s.Text | s.Word, frame: Frame) -> Value:
        return node.value

    def _list(self, node: s.List, frame: Frame) -> Value:
        return self.bounded(tuple(self.evaluate(i, frame) for i in node.items), node.span, frame)

    def _dict(self, node: s.Dict, frame: Frame) -> Value:
        return self.dict(node, frame, names_are_texts=False)

    def dict(self, node: s.Dict, frame: Frame, names_are_texts: bool) -> Value:
        """A dict; in a `return`, a bare name for a key is the output's name."""
        result: dict[Value, Value] = {}
        for k, v in node.pairs:
            key = k.name if names_are_texts and isinstance(k, s.Name) else self.evaluate(k, frame)
            if not isinstance(key, str | int | float):
                self.fail("E0308", f"a key is a number or a text, not {kind(key)}", k.span, frame)
            if key in result:
                self.fail("E0303", f"the key {show(key)} is there already", k.span, frame)
            result[key] = self.evaluate(v, frame)
        return self.bounded(result, node.span, frame)

    def bounded(self, value: Value, span: Span, frame: Frame) -> Value:
        """The value, when it is not too large to keep: nested lists are counted in full."""

        def weigh(v: Value, depth: int) -> int:
            if isinstance(v, str):
                return len(v)
            if not isinstance(v, tuple | dict):
                return 1
            if depth > 16:
                self.stop("E0409", "lists nest deeper than 16", span, frame)
            total = 1
            for item in v if isinstance(v, tuple) else v.values():
                total += weigh(item, depth + 1)
                if total > ITEMS:
                    self.stop("E0409", f"this value has more than {ITEMS:,} items", span, frame)
            return total

        self.spend(weigh(value, 1), span, frame)
        return value

    def _name(self, node: s.Name, frame: Frame) -> Value:
        value = self.lookup(node.name, frame)
        if value is None and not self.defined(node.name, frame):
            words = {"None": "none", "null": "none", "True": "true", "False": "false"}
            if node.name in words:
                self.fail("E0301", f"unknown name '{node.name}'", node.span, frame, help=f"write '{words[node.name]}'")
            if node.name == "N":
                self.fail("E0318", "the batch N has no name outside a type", node.span, frame, help="write x.batch")
            self.unknown("E0301", "unknown name", node.name, self.known(frame), node.span, frame)
        return value

    def known(self, frame: Frame) -> list[str]:
        """All names there are in a frame."""
        from cnnc.ir.layer import LAYERS

        m = frame.module
        return [*frame.names, *m.consts, *m.blocks, *LAYERS, *FUNCTIONS]

    def defined(self, name: str, frame: Frame) -> bool:
        from cnnc.ir.layer import LAYERS

        return (
            name in frame.names
            or name in frame.module.consts
            or name in frame.module.blocks
            or name in LAYERS
            or name in FUNCTIONS
        )

    def lookup(self, name: str, frame: Frame) -> Value:
        """A variable, then a constant or block of the file, then a layer, then a function; None where there is none."""
        from cnnc.ir.layer import LAYERS

        if name in frame.names:
            return frame.names[name]
        module = frame.module
        if name in module.consts:
            return self.const(name, frame)
        if name in module.blocks:
            return BlockValue(*module.blocks[name])
        if name in LAYERS:
            return LayerValue(LAYERS[name])
        return Function(name) if name in FUNCTIONS else None

    def const(self, name: str, frame: Frame) -> Value:
        """The value of a constant, evaluated when it is first asked for."""
        node, module = frame.module.consts[name]
        if name in module.pending:
            self.fail("E0316", f"the constant {name} is defined by itself", node.name.span)
        if name not in module.values:
            module.values[name] = POISON
            module.pending.add(name)
            try:
                module.values[name] = self.evaluate(node.value, Frame(module, frame.scope))
            finally:
                module.pending.discard(name)
        return module.values[name]

    def _attribute(self, node: s.Attribute, frame: Frame) -> Value:
        value = self.evaluate(node.value, frame)
        name = node.name.name
        if not isinstance(value, Tensor):
            self.fail(
                "E0306",
                f"{kind(value)} has no attributes",
                node.name.span,
                frame,
                help="tensors have .channels, .height, .width, .shape, .rank and .batch",
            )
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
        if name in ("batch", "channels", "height", "width", "depth"):
            self.fail("E0306", f"{shown_type(value.type)} has no {name}", node.name.span, frame)
        self.unknown(
            "E0306",
            "a tensor has no attribute",
            name,
            ("channels", "height", "width", "shape", "rank", "batch", "depth"),
            node.name.span,
            frame,
            "it has",
        )

    def _index(self, node: s.Index, frame: Frame) -> Value:
        value = self.evaluate(node.value, frame)
        index = self.evaluate(node.index, frame)
        if isinstance(value, dict):
            if isinstance(index, tuple | dict) or index not in value:
                near = did_you_mean(index, [k for k in value if isinstance(k, str)]) if isinstance(index, str) else None
                self.fail(
                    "E0309",
                    f"there is no key {show(index)}",
                    node.index.span,
                    frame,
                    f"the keys are {', '.join(map(show, list(value)[:24]))}",
                    help=near,
                )
            return value[index]
        if not isinstance(value, tuple | str):
            help = "x.shape[i] is the size of an axis" if isinstance(value, Tensor) else None
            self.fail("E0308", f"{kind(value)} cannot be indexed", node.value.span, frame, help=help)
        if isinstance(index, bool) or not isinstance(index, int):
            self.fail("E0308", f"an index is a whole number, not {kind(index)} {show(index)}", node.index.span, frame)
        if not -len(value) <= index < len(value):
            self.fail(
                "E0309",
                f"index {index} is outside a list of {len(value)}",
                node.index.span,
                frame,
                help=f"indices run from 0 to {len(value) - 1}" if value else None,
            )
        return value[index]

    def _unary(self, node: s.Unary, frame: Frame) -> Value:
        value = self.evaluate(node.value, frame)
        if node.operator == "not":
            return not self.truth(value, node.value.span, frame)
        if isinstance(value, Tensor):
            return self.arithmetic("neg", value, None, node.span, frame) if node.operator == "-" else value
        self.number(value, node.operator, node.value.span, frame)
        return -value if node.operator == "-" else value

    def _choose(self, node: s.Choose, frame: Frame) -> Value:
        condition = self.truth(self.evaluate(node.condition, frame), node.condition.span, frame)
        return self.evaluate(node.then if condition else node.otherwise, frame)

    def truth(self, value: Value, span: Span, frame: Frame) -> bool:
        """A condition. Numbers are none: `if n != 0`."""
        if not isinstance(value, bool):
            help = f"compare it: {'!= 0' if isinstance(value, int | float) else '== ...'}"
            if isinstance(value, Tensor):
                help = "what a tensor holds is not known at compile time"
            self.fail("E0310", f"a condition is true or false, not {kind(value)}", span, frame, help=help)
        return value

    def number(self, value: Value, operator: str, span: Span, frame: Frame) -> None:
        if isinstance(value, Batch):
            self.fail(
                "E0318",
                "the batch is not known at compile time: nothing can be calculated with it",
                span,
                frame,
                help="the batch stays N to the end; it may stand in a type, as f32[x.batch, 10]",
            )
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fail("E0308", f"'{operator}' takes numbers, not {kind(value)}", span, frame)

    # --- chains

    def _chain(self, node: s.Chain, frame: Frame) -> Value:
        operator = node.rest[0][0]
        if operator in ("and", "or"):
            return self._logic(node, operator, frame)
        if operator in ("==", "!=", "<=", ">=", "<", ">"):
            return self._compare(node, frame)
        value = self.evaluate(node.first, frame)
        span = node.first.span
        for operator, _, term in node.rest:
            value = self.binary(operator, value, self.evaluate(term, frame), span, term.span, frame)
            span = span.to(term.span)
        return value

    def _logic(self, node: s.Chain, operator: str, frame: Frame) -> bool:
        for term in (node.first, *(t for _, _, t in node.rest)):
            if self.truth(self.evaluate(term, frame), term.span, frame) == (operator == "or"):
                return operator == "or"
        return operator == "and"

    def _compare(self, node: s.Chain, frame: Frame) -> bool:
        left, span = self.evaluate(node.first, frame), node.first.span
        for operator, _, term in node.rest:
            right = self.evaluate(term, frame)
            if not self.compare(operator, left, right, span.to(term.span), frame):
                return False
            left, span = right, term.span
        return True

    def compare(self, operator: str, left: Value, right: Value, span: Span, frame: Frame) -> bool:
        if isinstance(left, Tensor) or isinstance(right, Tensor):
            self.fail(
                "E0308",
                "what a tensor holds is not known at compile time: it cannot be compared",
                span,
                frame,
                help="sizes can: x.channels, x.shape[i]",
            )
        equality = operator in ("==", "!=")
        if isinstance(left, Batch) != isinstance(right, Batch) or (isinstance(left, Batch) and not equality):
            self.fail(
                "E0318", "the batch is not known at compile time: it cannot be compared with a number", span, frame
            )
        if equality:
            same = same_value(left, right)
            return same if operator == "==" else not same
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (left, right))
        if not numbers and not (isinstance(left, str) and isinstance(right, str)):
            self.fail("E0308", f"'{operator}' compares numbers, not {kind(left)} and {kind(right)}", span, frame)
        return bool({"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[operator])

    def binary(
        self, operator: str, left: Value, right: Value, left_span: Span, right_span: Span, frame: Frame
    ) -> Value:
        """One operation on two values; tensors make nodes."""
        span = left_span.to(right_span)
        if isinstance(left, Tensor) or isinstance(right, Tensor):
            return self.arithmetic(operator, left, right, span, frame)
        if operator == "+" and isinstance(left, str) and isinstance(right, str):
            return self.bounded(left + right, span, frame)
        if operator == "+" and isinstance(left, tuple) and isinstance(right, tuple):
            return self.bounded(left + right, span, frame)
        if operator == "*":
            for items, times in ((left, right), (right, left)):
                if isinstance(items, str | tuple) and isinstance(times, int) and not isinstance(times, bool):
                    if len(items) * max(times, 0) > ITEMS:
                        self.stop("E0409", f"this value has more than {ITEMS:,} items", span, frame)
                    return self.bounded(items * times, span, frame)
        self.number(left, operator, left_span, frame)
        self.number(right, operator, right_span, frame)
        try:
            value = self._calculate(operator, left, right)
        except ZeroDivisionError:
            self.fail("E0311", f"division by zero: {show(left)} {operator} {show(right)}", right_span, frame)
        except OverflowError:
            value = math.inf
        if isinstance(value, complex) or value != value:
            self.fail("E0311", f"{show(left)} {operator} {show(right)} is not a number", span, frame)
        if abs(value) >= LARGEST if isinstance(value, int) else math.isinf(value):
            self.fail(
                "E0404",
                f"the result of {show(left)} {operator} {show(right)} is too large",
                span,
                frame,
                help="whole numbers are below 2**63, others below 1.8e308",
            )
        return value

    @staticmethod
    def _calculate(operator: str, a: Any, b: Any) -> Any:
        if operator == "**":
            if isinstance(a, int) and isinstance(b, int) and b > 64 and abs(a) > 1:
                raise OverflowError
            return a**b
        return {
            "+": lambda: a + b,
            "-": lambda: a - b,
            "*": lambda: a * b,
            "/": lambda: a / b,
            "//": lambda: a // b,
            "%": lambda: a % b,
        }[operator]()


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
