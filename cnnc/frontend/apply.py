"""Application: layers and blocks on tensors, their arguments, shared parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cnnc.diagnostics import Origin, Span, did_you_mean
from cnnc.frontend import syntax as s
from cnnc.frontend.functions import call_function
from cnnc.frontend.make import OPERATORS, Maker
from cnnc.frontend.reporting import Failure
from cnnc.frontend.synonyms import written
from cnnc.frontend.values import (
    BlockValue,
    Frame,
    Function,
    Given,
    LayerValue,
    Tensor,
    Value,
    is_plain,
    kind,
    tensors_in,
)
from cnnc.ir.layer import LAYERS, Layer, Site
from cnnc.ir.op import REQUIRED, InferenceError


class Applier(Maker):
    """Applies layers and blocks."""

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
                near = [n for n in layers if n not in LAYERS]  # the model's own blocks come first
                help = did_you_mean(node.name, near) or written(node.name)
                self.unknown("E0302", "unknown layer", node.name, layers, node.span, frame, "the layers are", help)
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
                Site(
                    self.builder,
                    tuple(o.value.value for o in operands),
                    values,
                    arguments,
                    node_scope.full(stem),
                    Origin(span, frame.calls),
                )
            )
        except InferenceError as e:
            self._inference(e, operands, bound, span, at, frame)
        self._check_size(self.builder.type(value), span, frame)
        self._tiling(layer, arguments, types[0] if types else None, bound, span, frame)
        return Tensor(value, self.builder.type(value))

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
