"""What application makes: nodes of the graph with their names and parameters, checked; tensor arithmetic."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from cnnc.diagnostics import Origin, Span
from cnnc.frontend import syntax as s
from cnnc.frontend.evaluate import Evaluator
from cnnc.frontend.limits import LAYERS_LIMIT, available_memory
from cnnc.frontend.tiling import leftover
from cnnc.frontend.values import (
    Frame,
    Given,
    Made,
    Scope,
    Tensor,
    Value,
    kind,
    show,
    shown_type,
)
from cnnc.ir.builder import Builder
from cnnc.ir.layer import Layer, ParameterSpec
from cnnc.ir.op import InferenceError
from cnnc.ir.types import TensorType
from cnnc.untrusted import FLOAT32, NORMAL

OPERATORS = {"+": "add", "-": "sub", "*": "mul", "/": "div", "neg": "neg"}
_LABEL = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
DIMENSION = 2**31


class Maker(Evaluator):
    """Adds nodes; the graph grows in `builder`, the parameters in `parameters`."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.builder = Builder(name)
        self.parameters: dict[str, ParameterSpec] = {}
        self.bytes = 0
        self.memory = available_memory()
        self.layers = 0

    def _count(self, span: Span, frame: Frame) -> None:
        self.layers += 1
        if self.layers > LAYERS_LIMIT:
            self.stop(
                "E0405",
                f"this model has more than {LAYERS_LIMIT:,} layers",
                span,
                frame,
                help="a loop or a block that calls another unfolds too far",
            )

    def _inference(
        self,
        e: InferenceError,
        operands: Sequence[Given],
        bound: Mapping[str, Given],
        span: Span,
        at: Span,
        frame: Frame,
    ) -> NoReturn:
        """Point at the argument at fault, and say what the input is."""
        fault = bound.get(e.argument) if e.argument is not None else None
        where = fault.span if fault is not None else at
        notes = list(e.notes)
        if operands and not any("input" in n for n in notes):
            if len(operands) == 1:
                notes.append(f"the input is {shown_type(operands[0].value.type)}")
            else:
                notes.append("the inputs are " + ", ".join(shown_type(o.value.type) for o in operands[:6]))
        help = e.help
        given = fault.value if fault is not None else None
        if help is None and isinstance(given, float) and given == int(given):
            help = "for a whole number divide with '//', or write int(...)"
        self.fail(e.code, e.message, where, frame, *notes, help=help)

    def _make(
        self, home: tuple[Scope, str], specs: Mapping[str, ParameterSpec], span: Span, frame: Frame
    ) -> dict[str, str]:
        """The parameters of a layer: made at its first use, found again at the next."""
        scope, label = home
        made = scope.memory.get(label)
        full = scope.full(label)
        if isinstance(made, Made):
            for short, spec in specs.items():
                before = made.specs.get(short)
                if before is None or before.shape != spec.shape:
                    self.fail(
                        "E0315",
                        f"the shared {full} cannot serve here: its {short} would have another shape",
                        span,
                        frame,
                        f"at {made.span} {short} is {list(before.shape) if before else 'absent'}",
                        f"here it would be {list(spec.shape)}",
                        help="apply it to inputs of the same channels, or make a second layer",
                    )
            return made.values
        values: dict[str, str] = {}
        for short, spec in specs.items():
            name = f"{full}.{short}"
            if name in self.builder:
                self.fail("E0314", f"the name {name} is taken", span, frame, help="give one of the two another name")
            if any(d >= DIMENSION for d in spec.shape):
                self.fail(
                    "E0402", f"{name} would have the shape {list(spec.shape)}; every size is below 2^31", span, frame
                )
            count = 4
            for d in spec.shape:
                count *= d
            self.bytes += count
            if self.bytes > self.memory:
                self.stop(
                    "E0406",
                    f"the parameters up to {name} take {self.bytes / 1e9:,.1f} GB, "
                    f"more than the {self.memory / 1e9:,.1f} GB of memory here",
                    span,
                    frame,
                    f"{name} has the shape {list(spec.shape)}",
                )
            origin = Origin(span, frame.calls)
            add = self.builder.param if spec.trained else self.builder.state
            values[short] = add(name, spec.type, origin)
            self.parameters[name] = spec
        scope.memory[label] = Made(dict(specs), values, span)
        return values

    def _check_size(self, type: TensorType, span: Span, frame: Frame) -> None:
        if any(isinstance(d, int) and d >= DIMENSION for d in type.shape):
            self.fail("E0402", f"the result would be {shown_type(type)}; every size is below 2^31", span, frame)

    def _tiling(
        self,
        layer: Layer,
        arguments: Mapping[str, Any],
        type: TensorType | None,
        bound: Mapping[str, Given],
        span: Span,
        frame: Frame,
    ) -> None:
        found = leftover(arguments, type)
        if found is not None:
            message, notes, help = found
            at = bound["stride"].span if "stride" in bound else span
            self.report("W0101", f"{layer.name}: {message}", at, frame, *notes, help=help, severity="warning")

    def claim(self, label: s.Label, frame: Frame) -> str:
        """The label as text, checked and taken."""
        parts = []
        for part in label.parts:
            value = part if isinstance(part, str) else self.evaluate(part, frame)
            if isinstance(value, bool) or not isinstance(value, int | str):
                self.fail(
                    "E0314",
                    f"{kind(value)} cannot be part of a name",
                    label.span,
                    frame,
                    help="a name is made of texts and whole numbers",
                )
            parts.append(str(value))
        text = "".join(parts)
        if not _LABEL.fullmatch(text) or len(text) > 200:
            self.fail(
                "E0314",
                f"'{text[:80]}' is no name for a layer",
                label.span,
                frame,
                help="a name is letters, digits and '_' in parts joined by dots: layer1.0.conv1",
            )
        scope = frame.scope
        if text in scope.taken:
            place = scope.taken[text]
            self.fail(
                "E0314",
                f"the name {scope.full(text)} is taken",
                label.span,
                frame,
                f"it is used at {place} already",
                help="in a loop, put its variable into the name: {i}" if place == label.span else None,
            )
        scope.taken[text] = label.span
        return text

    def arithmetic(
        self, operator: str, left: Value, right: Value, span: Span, frame: Frame, label: s.Label | None = None
    ) -> Value:
        operands = []
        for value in (left, right) if operator != "neg" else (left,):
            if isinstance(value, Tensor):
                operands.append(value.value)
                continue
            self.number(value, operator, span, frame)
            if value != 0 and not NORMAL <= abs(value) <= FLOAT32:
                held = "infinite" if abs(value) > FLOAT32 else "zero"
                limits = f"numbers beside tensors are 0 or from {NORMAL:.4g} to {FLOAT32:.4g}"
                self.fail("E0404", f"{show(value)} is {held} in float32", span, frame, help=limits)
            if operator in OPERATORS:
                name = frame.scope.full(frame.scope.running("constant", span))
                operands.append(
                    self.builder.add("constant", [], {"value": float(value)}, name, Origin(span, frame.calls))
                )
        if operator not in OPERATORS:
            help = {"**": "write x * x", "//": "'/' divides", "%": None}.get(operator)
            self.fail("E0308", f"'{operator}' does not work on tensors", span, frame, help=help)
        if operator == "/" and not isinstance(right, Tensor) and right == 0:
            self.fail("E0311", f"division by zero: a tensor / {show(right)}", span, frame)
        self._count(span, frame)
        op = OPERATORS[operator]
        name = frame.scope.full(self.claim(label, frame) if label else frame.scope.running(op, span))
        try:
            value = self.builder.add(op, operands, None, name, Origin(span, frame.calls))
        except InferenceError as e:
            notes = [
                f"{side} is {shown_type(v.type)}"
                for side, v in (("left", left), ("right", right))
                if isinstance(v, Tensor)
            ]
            self.fail(e.code, e.message, span, frame, *notes, help=e.help)
        return Tensor(value, self.builder.type(value))
