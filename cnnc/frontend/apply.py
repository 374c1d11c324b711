"""Application: layers and blocks on tensors, names of layers, shared parameters, tensor arithmetic."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from cnnc.diagnostics import Origin, Span
from cnnc.frontend import syntax as s
from cnnc.frontend.evaluate import Evaluator, Failure
from cnnc.frontend.functions import call_function
from cnnc.frontend.limits import LAYERS_LIMIT, available_memory
from cnnc.frontend.tiling import leftover
from cnnc.frontend.values import (
    BlockValue,
    Frame,
    Function,
    Given,
    LayerValue,
    Made,
    Scope,
    Tensor,
    Value,
    is_plain,
    kind,
    show,
    shown_type,
    tensors_in,
)
from cnnc.ir.graph import Builder
from cnnc.ir.op import LAYERS, REQUIRED, InferenceError, Layer, ParameterSpec
from cnnc.ir.types import TensorType

OPERATORS = {"+": "add", "-": "sub", "*": "mul", "/": "div", "neg": "neg"}
_LABEL = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
DIMENSION = 2**31


class Applier(Evaluator):
    """Applies layers and blocks; the graph grows in `builder`, the parameters in `parameters`."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.builder = Builder(name)
        self.parameters: dict[str, ParameterSpec] = {}
        self.bytes = 0
        self.memory = available_memory()
        self.layers = 0

    # --- expressions that apply

    def call(self, node: s.Call, frame: Frame, label: s.Label | None = None) -> Value:
        callee = self._callee(node.callee, frame)
        if isinstance(callee, Function):
            if label is not None:
                self.fail("E0314", "only layers and blocks have names", label.span, frame)
            values, keywords = self._arguments(node.arguments, frame)
            return call_function(self, callee.name, values, keywords, node.span, frame)
        positional, keywords = self._arguments(node.arguments, frame)
        return self.apply(callee, positional, keywords, node.span, node.callee.span, frame, label)

    def labelled(self, node: s.Labelled, frame: Frame) -> Value:
        """`conv(32, 3) as tower`, `concat([a, b]) as joined`, `a + b as total`."""
        if isinstance(node.value, s.Call):
            return self.call(node.value, frame, node.label)
        if isinstance(node.value, s.Chain) and node.value.rest[-1][0] in OPERATORS:
            *rest, (operator, _, last) = node.value.rest
            first = s.Chain(node.value.span, node.value.first, tuple(rest)) if rest else node.value.first
            left, right = self.evaluate(first, frame), self.evaluate(last, frame)
            if isinstance(left, Tensor) or isinstance(right, Tensor):
                return self.arithmetic(operator, left, right, node.value.span, frame, node.label)
        value = self.evaluate(node.value, frame)
        if isinstance(value, LayerValue) and value.bare:
            return self._partial(value, (), {}, node.span, frame, node.label)
        self.fail("E0314", f"only layers and blocks have names, not {kind(value)}", node.label.span, frame)

    def pipe(self, node: s.Pipe, frame: Frame) -> Value:
        try:
            value = self.evaluate(node.start, frame)
        except Failure:
            self._check_steps(node.steps, frame)
            raise
        if not tensors_in(value):
            self.fail("E0308", f"'->' applies a layer to a tensor, not to {kind(value)}", node.start.span, frame)
        start = node.start.span
        for i, step in enumerate(node.steps):
            try:
                callee = self._callee(step.callee, frame)
                if isinstance(callee, Function):
                    self.fail("E0302", f"{callee.name} is no layer", step.callee.span, frame)
                positional, keywords = self._arguments(step.arguments or (), frame)
                positional.insert(0, Given(value, start))
                value = self.apply(callee, positional, keywords, step.span, step.callee.span, frame, step.label)
            except Failure:
                self._check_steps(node.steps[i + 1 :], frame)
                raise
            start = start.to(step.span)
        return value

    def _check_steps(self, steps: Sequence[s.Step], frame: Frame) -> None:
        """What can be said of steps that no tensor reaches: unknown layers, names and arguments."""
        for step in steps:
            try:
                callee = self._callee(step.callee, frame)
                positional, keywords = self._arguments(step.arguments or (), frame)
                if isinstance(callee, LayerValue) and callee.bare and not any(tensors_in(g.value) for g in positional):
                    self._bind(callee.layer, positional, keywords, step.span, frame)
            except Failure:
                pass

    def _callee(self, node: s.Expression, frame: Frame) -> LayerValue | BlockValue | Function:
        """What is applied. A variable that is no layer does not hide the layer of its name: `dropout(dropout)`."""
        if isinstance(node, s.Name):
            value = self.lookup(node.name, frame)
            if not isinstance(value, LayerValue | BlockValue | Function) and node.name in LAYERS:
                return LayerValue(LAYERS[node.name])
            if value is None and not self.defined(node.name, frame):
                names = {n: self.lookup(n, frame) for n in self.known(frame)}
                layers = [n for n, v in names.items() if isinstance(v, LayerValue | BlockValue)]
                self.unknown("E0302", "unknown layer", node.name, layers, node.span, frame, "the layers are")
        value = self.evaluate(node, frame)
        if isinstance(value, LayerValue | BlockValue | Function):
            return value
        self.fail("E0302", f"this is {kind(value)}, not a layer", node.span, frame)

    def _arguments(self, nodes: Sequence[s.Argument], frame: Frame) -> tuple[list[Given], dict[str, Given]]:
        """Every argument is evaluated, so that all mistakes among them are found."""
        positional: list[Given] = []
        keywords: dict[str, Given] = {}
        failed = False
        for node in nodes:
            try:
                given = Given(self.evaluate(node.value, frame), node.value.span)
            except Failure:
                failed = True
                continue
            if node.name is None:
                if keywords:
                    self.fail("E0208", "an argument without a name follows one with a name", node.span, frame)
                positional.append(given)
            elif node.name.name in keywords:
                self.fail("E0208", f"the argument {node.name.name} is given twice", node.span, frame)
            else:
                keywords[node.name.name] = Given(given.value, node.span)
        if failed:
            raise Failure
        return positional, keywords

    # --- application

    def apply(
        self,
        callee: LayerValue | BlockValue | Function,
        positional: Sequence[Given],
        keywords: Mapping[str, Given],
        span: Span,
        at: Span,
        frame: Frame,
        label: s.Label | None,
    ) -> Value:
        """Apply to the tensors among the arguments; without any, the layer or block with its arguments is the value."""
        given = [*positional, *keywords.values()]
        if not any(tensors_in(g.value) for g in given):
            if isinstance(callee, BlockValue) and not callee.block.parameters:
                return self.apply_block(callee, positional, keywords, span, frame, label)
            return self._partial(callee, positional, keywords, span, frame, label)
        if isinstance(callee, BlockValue):
            return self.apply_block(callee, positional, keywords, span, frame, label)
        assert isinstance(callee, LayerValue)
        return self.apply_layer(callee, positional, keywords, span, at, frame, label)

    def _partial(
        self,
        callee: Any,
        positional: Sequence[Given],
        keywords: Mapping[str, Given],
        span: Span,
        frame: Frame,
        label: s.Label | None,
    ) -> Value:
        scope, home = frame.scope, None
        if label is not None:
            home = (scope, self.claim(label, frame))
        if isinstance(callee, BlockValue):
            self._no_block_argument(callee, keywords, frame)
            return BlockValue(
                callee.block,
                callee.module,
                (*callee.positional, *positional),
                {**callee.keywords, **keywords},
                span,
                scope,
                home,
            )
        if not callee.bare:
            self.fail("E0208", f"this {callee.layer.name} has its arguments already", span, frame)
        return LayerValue(callee.layer, self._bind(callee.layer, positional, keywords, span, frame), span, scope, home)

    def _bind(
        self, layer: Layer, positional: Sequence[Given], keywords: Mapping[str, Given], span: Span, frame: Frame
    ) -> dict[str, Given]:
        """The arguments by name; all of `positional` are arguments, none is an operand."""
        names = [a.name for a in layer.arguments]
        if len(positional) > len(names):
            takes = f"takes {len(names)} argument{'s' * (len(names) != 1)}" if names else "takes no arguments"
            count = "one is given" if len(positional) == 1 else f"{len(positional)} are given"
            self.fail(
                "E0208",
                f"{layer.name} {takes}, {count}",
                positional[len(names)].span,
                frame,
                *([f"they are {', '.join(names)}"] if names else []),
            )
        bound = dict(zip(names, positional, strict=False))
        for name, given in keywords.items():
            if name not in names:
                self.unknown("E0206", f"{layer.name} has no argument", name, names, given.span, frame, "it has")
            if name in bound:
                self.fail("E0208", f"the argument {name} is given twice", given.span, frame)
            bound[name] = given
        for argument in layer.arguments:
            if argument.default is REQUIRED and argument.name not in bound:
                self.fail(
                    "E0207",
                    f"{layer.name} needs {argument.name}",
                    span,
                    frame,
                    *([f"its arguments are {', '.join(names)}"] if len(names) > 1 else []),
                )
        for name, given in bound.items():
            if isinstance(given.value, LayerValue | BlockValue | Function | dict) or not is_plain(given.value):
                self.fail("E0203", f"{name} of {layer.name} cannot be {kind(given.value)}", given.span, frame)
        return bound

    def apply_layer(
        self,
        callee: LayerValue,
        positional: Sequence[Given],
        keywords: Mapping[str, Given],
        span: Span,
        at: Span,
        frame: Frame,
        label: s.Label | None,
    ) -> Tensor:
        layer = callee.layer
        operands: list[Given] = []
        rest = list(positional)
        while rest and tensors_in(rest[0].value) and (layer.operands is None or len(operands) < layer.operands):
            given = rest.pop(0)
            if isinstance(given.value, Tensor):
                operands.append(given)
                continue
            if not all(isinstance(v, Tensor) for v in given.value):
                self.fail("E0203", f"{layer.name} applies to tensors; this list holds others too", given.span, frame)
            if layer.operands is not None:
                self.fail(
                    "E0203",
                    f"{layer.name} applies to a tensor, not to a list of them",
                    given.span,
                    frame,
                    help="to join them first: concat([...])",
                )
            operands += [Given(v, given.span) for v in given.value]
        if rest and tensors_in(rest[0].value):
            count = "one tensor" if layer.operands == 1 else f"{layer.operands} tensors"
            self.fail("E0208", f"{layer.name} applies to {count}; here is another", rest[0].span, frame)
        if layer.operands is not None and len(operands) < layer.operands:
            self.fail("E0207", f"{layer.name} applies to {layer.operands} tensors, here {len(operands)}", span, frame)
        if callee.bare:
            arguments = self._bind(layer, rest, keywords, span, frame)
        elif rest or keywords:
            extra = rest[0] if rest else next(iter(keywords.values()))
            self.fail("E0208", f"this {layer.name} has its arguments already", extra.span, frame)
        else:
            arguments = dict(callee.arguments)
        return self._layer(callee, operands, arguments, span, at, frame, label)

    def _layer(
        self,
        callee: LayerValue,
        operands: list[Given],
        bound: Mapping[str, Given],
        span: Span,
        at: Span,
        frame: Frame,
        label: s.Label | None,
    ) -> Tensor:
        layer = callee.layer
        self._count(span, frame)
        arguments = {a.name: bound[a.name].value if a.name in bound else a.default for a in layer.arguments}
        types = [o.value.type for o in operands]
        try:
            specs = layer.parameters(types, arguments)
        except InferenceError as e:
            self._inference(e, operands, bound, span, at, frame)
        name = None if label is None else self.claim(label, frame)
        if callee.home is not None:
            home = callee.home
            stem = name if name is not None else home[1]
            node_scope = frame.scope if name is not None else home[0]
        else:
            node_scope = frame.scope if name is not None or not specs or callee.scope is None else callee.scope
            stem = name if name is not None else node_scope.running(layer.name, span)
            home = (node_scope, stem)
            if specs and not callee.bare:
                callee.home = home
        values = self._make(home, specs, span, frame) if specs else {}
        try:
            value = layer.build(
                self.builder,
                [o.value.value for o in operands],
                values,
                arguments,
                node_scope.full(stem),
                Origin(span, frame.calls),
            )
        except InferenceError as e:
            self._inference(e, operands, bound, span, at, frame)
        self._check_size(self.builder.type(value), span, frame)
        self._tiling(layer, arguments, types[0] if types else None, bound, span, frame)
        return Tensor(value, self.builder.type(value))

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

    # --- names

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

    # --- blocks

    def apply_block(
        self,
        callee: BlockValue,
        positional: Sequence[Given],
        keywords: Mapping[str, Given],
        span: Span,
        frame: Frame,
        label: s.Label | None,
    ) -> Value:
        raise NotImplementedError

    def _no_block_argument(self, callee: BlockValue, keywords: Mapping[str, Given], frame: Frame) -> None:
        names = [p.name.name for p in callee.block.parameters]
        for name, given in keywords.items():
            if name not in names:
                self.unknown(
                    "E0206", f"block {callee.block.name.name} has no argument", name, names, given.span, frame, "it has"
                )

    # --- arithmetic on tensors

    def arithmetic(
        self, operator: str, left: Value, right: Value, span: Span, frame: Frame, label: s.Label | None = None
    ) -> Value:
        operands = []
        for value in (left, right) if operator != "neg" else (left,):
            if isinstance(value, Tensor):
                operands.append(value.value)
                continue
            self.number(value, operator, span, frame)
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
