"""Syntax tree -> graph: picks the model, sets its parameters, runs its body, reads the recipe."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnc.diagnostics import LIMIT, CnncError, Diagnostic, Source, Span
from cnnc.frontend import syntax as s
from cnnc.frontend.bodies import MISSING, Interpreter
from cnnc.frontend.build import parse_expression
from cnnc.frontend.inputs import Preprocess
from cnnc.frontend.modules import root_module
from cnnc.frontend.names import labels_in, unread
from cnnc.frontend.recipes import Recipe, recipe
from cnnc.frontend.reporting import Failure, Stop
from cnnc.frontend.resolve import check_names
from cnnc.frontend.values import POISON, Frame, Module, Scope, Tensor, Value, kind, show
from cnnc.ir.graph import LEAVES, Graph
from cnnc.ir.layer import LAYERS, ParameterSpec


@dataclass(frozen=True)
class Program:
    """A model of a file, elaborated.

    parameters: trained parameters and running statistics by name, in the order of the source.
    inputs: how an image becomes each input.
    arguments: the model's parameters and what they were set to.
    """

    graph: Graph
    parameters: Mapping[str, ParameterSpec]
    inputs: Mapping[str, Preprocess]
    recipe: Recipe | None
    model: str
    source: Source
    path: Path | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    doc: str = ""
    warnings: tuple[Diagnostic, ...] = ()


@contextmanager
def _no_collection() -> Iterator[None]:
    """Trees and graphs have no cycles to be found, and looking for them takes a third of the time of a large file."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


@_no_collection()
def elaborate(
    source: Source, path: Path | None = None, model: str | None = None, parameters: Mapping[str, Any] | None = None
) -> Program:
    """The program of one model. Raises `CnncError` with up to 20 diagnostics.

    parameters: the model's, by name; a text is read as an expression of the language unless the default is a text.
    """
    import cnnc.ops  # noqa: F401  registers the layers

    module, diagnostics = root_module(source, path)
    run = _Run(module, source)
    run.diagnostics += diagnostics[:LIMIT]
    program = None
    try:
        if len(run.diagnostics) < LIMIT:
            program = run.everything(model, dict(parameters or {}), path)
    except (Failure, Stop):
        pass
    except RecursionError:
        run.diagnostics.append(
            Diagnostic(
                "E0408",
                "blocks within expressions within blocks nest too deeply",
                Span(source, 0, 1),
                help="give inner parts names, and use loops",
            )
        )
    if run.diagnostics or program is None:
        memory = any(d.code == "E0406" for d in run.diagnostics)
        raise CnncError(_in_order(run.diagnostics, source)[:LIMIT], exit_code=5 if memory else 1)
    return program


def _in_order(diagnostics: list[Diagnostic], root: Source) -> list[Diagnostic]:
    """By place: the root file's first."""
    return sorted(
        diagnostics,
        key=lambda d: (d.span.source is not root, d.span.source.name, d.span.start) if d.span else (False, "", 0),
    )


class _Run(Interpreter):
    """One elaboration."""

    def __init__(self, module: Module, source: Source) -> None:
        super().__init__("model")
        self.module, self.source = module, source
        self.arguments: dict[str, Any] = {}

    def everything(self, name: str | None, parameters: dict[str, Any], path: Path | None) -> Program | None:
        """The program; and mistakes in what it does not use."""
        try:
            program = self.program(name, parameters, path)
        except Failure:
            program = None
        check_names(self, self.module)
        return program

    def program(self, name: str | None, parameters: dict[str, Any], path: Path | None) -> Program:
        node, home = self.pick(name)
        self.builder.name = node.name.name
        frame = Frame(home, Scope("", {}, labels_in(node.body)), in_model=True)
        self.consts(frame)
        self.parameters_of(node, parameters, frame)
        value = self.body(node.body, frame)
        if value is MISSING:
            self.fail("E0312", f"model {node.name.name} returns nothing", node.name.span, help="end it with: return x")
        outputs = self.outputs(value, node, frame) if value is not POISON else ()
        made = None
        if self.module.trains:
            train, where = self.module.trains[0]
            made = recipe(self, train, Frame(where, Scope("")), self.parameters if value is not POISON else ())
        if value is POISON or self.diagnostics:
            raise Failure
        graph = self.builder.finish(outputs)
        self.unread(node)
        self.unused(graph)
        return Program(
            graph,
            dict(self.parameters),
            dict(self.inputs),
            made,
            node.name.name,
            self.source,
            path,
            self.arguments,
            node.doc,
            tuple(self.warnings),
        )

    # --- the model

    def pick(self, name: str | None) -> tuple[s.Model, Module]:
        """The model of a name; without one the only model, of the file itself or else of what it includes."""
        models = self.module.models
        start = Span(self.source, 0, 1)
        if name is not None:
            if name not in models:
                self.unknown("E0304", "there is no model", name, models, start, None, "the models are")
            return models[name]
        own = [n for n in models if n in self.module.own] or list(models)
        if len(own) == 1:
            return models[own[0]]
        if not own:
            self.fail(
                "E0304",
                "there is no model in this file",
                start,
                help="write: model name() { input x: f32[N, 3, 224, 224]  return ... }",
            )
        self.fail(
            "E0304",
            f"this file has {len(own)} models",
            models[own[1]][0].name.span,
            None,
            f"they are {', '.join(own)}",
            help=f"pick one: -m {own[0]}",
        )

    def consts(self, frame: Frame) -> None:
        """All constants, so that a mistake in one that is not used is found as well."""
        for name in frame.module.consts:
            try:
                self.const(name, frame)
            except Failure:
                continue

    def parameters_of(self, node: s.Model, given: Mapping[str, Any], frame: Frame) -> None:
        """Set the model's parameters from `-p` and their defaults."""
        names = [p.name.name for p in node.parameters]
        for name in given:
            if name not in names:
                try:
                    if not names:
                        self.fail("E0305", f"model {node.name.name} has no parameters; '{name}' is set", node.name.span)
                    self.unknown(
                        "E0305", f"model {node.name.name} has no parameter", name, names, node.name.span, None, "it has"
                    )
                except Failure:
                    continue
        for parameter in node.parameters:
            name = parameter.name.name
            if name in frame.names:
                self.report("E0303", f"there are two parameters {name}", parameter.name.span)
                continue
            frame.names[name] = POISON
            try:
                default = None if parameter.default is None else self.evaluate(parameter.default, frame)
                if name in given:
                    frame.names[name] = self.argument(parameter, default, given[name], frame)
                elif parameter.default is None:
                    self.fail(
                        "E0305",
                        f"the parameter {name} of model {node.name.name} is not set",
                        parameter.span,
                        help=f"set it: -p {name}=...",
                    )
                else:
                    frame.names[name] = default
                self.arguments[name] = frame.names[name]
            except Failure:
                continue

    def argument(self, parameter: s.Parameter, default: Value, value: Any, frame: Frame) -> Value:
        """A parameter's value as it is given; of the kind of its default."""
        name = parameter.name.name
        if isinstance(value, str) and not isinstance(default, str):
            value = self.expression(name, value, frame)
        value = _plain(value)
        if parameter.default is None or default is None or _same_kind(default, value):
            return self.bounded(value, parameter.span, frame) if _is_value(value) else self.wrong(parameter, value)
        found = kind(value) if _is_value(value) else type(value).__name__
        self.fail(
            "E0305",
            f"{name} is {kind(default)}, not {found}",
            parameter.span,
            None,
            f"its default is {show(default)}",
            f"it is set to {_shown(value)}",
        )

    def wrong(self, parameter: s.Parameter, value: Any) -> Value:
        what = f"{value}; it must be finite" if isinstance(value, float) else f"a value of type {type(value).__name__}"
        self.fail("E0305", f"{parameter.name.name} cannot be {what}", parameter.span)

    def expression(self, name: str, text: str, frame: Frame) -> Value:
        """A value from the command line, as an expression that sees the file's names."""
        source = Source(f"-p {name}", text)
        try:
            node = parse_expression(source)
        except CnncError as e:
            for d in e.diagnostics:
                self.report("E0305", f"the value of {name}: {d.message}", d.span or Span(source, 0, 1))
            raise Failure from None
        return self.evaluate(node, Frame(frame.module, frame.scope))

    # --- what it returns

    def outputs(self, value: Value, node: s.Model, frame: Frame) -> tuple[tuple[str, str], ...]:
        """(label, value) of each output: named by a dict, by the names that are returned, or output0, output1, ..."""
        last = node.body[-1]
        span = node.name.span
        spans: list[Span] = []
        if isinstance(last, s.Return):
            spans = [v.span for v in last.values]
            span = spans[0].to(spans[-1])
            if len(last.values) == 1 and isinstance(last.values[0], s.Dict):
                spans = [v.span for _, v in last.values[0].pairs]
        if isinstance(value, Tensor):
            pairs: list[tuple[str, Value]] = [("output", value)]
        elif isinstance(value, dict):
            pairs = [(k if isinstance(k, str) else show(k), v) for k, v in value.items()]
        elif isinstance(value, tuple):
            names = _returned_names(node.body, len(value))
            pairs = list(zip(names, value, strict=True))
        else:
            self.fail("E0323", f"model {node.name.name} returns {kind(value)}, not a tensor", span)
        if not pairs:
            self.fail("E0323", f"model {node.name.name} returns no tensor", span)
        for i, (label, v) in enumerate(pairs):
            if len(spans) == len(pairs):
                span = spans[i]
            if not isinstance(v, Tensor):
                self.fail("E0323", f"the output {label} is {kind(v)}, not a tensor", span)
            if not label or not all(c.isalnum() or c in "_." for c in label) or not label.isascii() or len(label) > 200:
                self.fail(
                    "E0323",
                    f"{show(label)} is no name for an output",
                    span,
                    help="a name is letters, digits, '_' and '.'",
                )
        return tuple((label, v.value) for label, v in pairs)

    def unread(self, node: s.Model) -> None:
        """Warn of parameters that change nothing: of the model, and of the blocks in its file."""
        items: list[s.Model | s.Block] = [node]
        items += [block for name, (block, _) in self.module.blocks.items() if name in self.module.own]
        for item in items:
            for p in unread(item):
                what = "model" if item is node else "block"
                self.report(
                    "W0106",
                    f"the parameter {p.name.name} of {what} {item.name.name} is not used",
                    p.span,
                    severity="warning",
                )

    def unused(self, graph: Graph) -> None:
        """Warn of inputs and layers that no output needs."""
        needed = {v for _, v in graph.outputs}
        for n in reversed(graph.nodes):
            if any(r in needed for r in n.results):
                needed.update(n.inputs)
        used = {o for n in graph.nodes for o in n.inputs}
        for n in graph.nodes:
            if n.origin is None or n.op in ("param", "state", "constant") or any(r in needed for r in n.results):
                continue
            if n.op == "input":
                self.report("W0105", f"the input {n.name} is not used", n.origin.span, severity="warning")
            elif not any(r in used for r in n.results) and n.op not in LEAVES:
                what = n.op if n.op in LAYERS else "operation"
                frame = Frame(self.module, Scope(""), calls=n.origin.calls)
                self.report(
                    "W0102", f"no output needs the result of this {what}", n.origin.span, frame, severity="warning"
                )


def _returned_names(body: tuple[s.Statement, ...], count: int) -> list[str]:
    last = body[-1] if body else None
    if isinstance(last, s.Return) and len(last.values) == count:
        names = [v.name for v in last.values if isinstance(v, s.Name)]
        if len(set(names)) == count:
            return names
    return [f"output{i}" for i in range(count)]


def _plain(value: Any) -> Any:
    """Python's lists as the language's; whole numbers of NumPy as numbers."""
    if isinstance(value, list | tuple):
        return tuple(_plain(v) for v in value)
    if not isinstance(value, bool | int | float | str) and hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return value.item()
    return value


def _is_value(value: Any) -> bool:
    from cnnc.frontend.values import BlockValue, Function, LayerValue

    if isinstance(value, float) and value - value != 0:
        return False
    if isinstance(value, tuple):
        return all(map(_is_value, value))
    if isinstance(value, dict):
        return all(map(_is_value, value.values()))
    return value is None or isinstance(value, bool | int | float | str | LayerValue | BlockValue | Function)


def _shown(value: Any) -> str:
    return show(value) if _is_value(value) else repr(value)[:60]


def _same_kind(default: Value, value: Value) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, int | float):
        return isinstance(value, int | float)
    from cnnc.frontend.values import BlockValue, LayerValue

    if isinstance(default, LayerValue | BlockValue):
        return isinstance(value, LayerValue | BlockValue)
    return type(default) is type(value)
