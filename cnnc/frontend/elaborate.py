"""Syntax tree -> graph: picks the model, sets its parameters, runs its body, reads the recipe."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cnnc.ops  # noqa: F401  registers the layers
from cnnc.diagnostics import LIMIT, CnncError, Diagnostic, Source, Span
from cnnc.frontend import application, indexing, open_sizes, operators  # noqa: F401  register what evaluates expressions
from cnnc.frontend.activations import activation
from cnnc.frontend.elaboration import Elaboration, Failure, Frame, Stop
from cnnc.frontend.expressions import constant
from cnnc.frontend.inputs import Preprocess
from cnnc.frontend.models import outputs, pick, set_parameters, starts
from cnnc.frontend.modules import root_module
from cnnc.frontend.names import labels_in, unread
from cnnc.frontend.recipes import Recipe, recipe
from cnnc.frontend.resolve import check_names
from cnnc.frontend.statements import run
from cnnc.frontend.text import syntax as s
from cnnc.frontend.values import MISSING, POISON, Module, Scope
from cnnc.ir.builder import Builder
from cnnc.ir.graph import LEAVES, Graph
from cnnc.ir.layer import LAYERS, ParameterSpec
from cnnc.ir.start import Start


@dataclass(frozen=True)
class Program:
    """A model of a file, elaborated.

    parameters: trained parameters and running statistics by name, in the order of the source.
    inputs: how an image becomes each input.
    arguments: the model's parameters and what they were set to.
    starts: of weights and of biases, where a layer does not say how.
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
    starts: tuple[Start | None, Start | None] = (None, None)


@dataclass(frozen=True)
class Choice:
    """What of a file is elaborated: which model, its parameters, and the sizes that its inputs leave open."""

    model: str | None
    parameters: Mapping[str, Any]
    sizes: Mapping[str, int]


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


def first_frame(name: str, module: Module) -> Frame:
    """The frame of an elaboration that begins: no names but the module's."""
    return Frame(Elaboration(Builder(name)), module, Scope(""))


@_no_collection()
def elaborate(
    source: Source,
    path: Path | None = None,
    model: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Program:
    """The program of one model. Raises `CnncError` with up to 20 diagnostics, `OpenSizes` where sizes are not given.

    parameters: the model's, by name; a text is read as an expression of the language unless the default is a text.
    sizes: what its inputs leave open, by name.
    """
    module, diagnostics = root_module(source, path)
    frame = first_frame("model", module)
    found = frame.elaboration.diagnostics
    found += diagnostics[:LIMIT]
    program = None
    try:
        if len(found) < LIMIT:
            with suppress(Failure):
                program = _program(source, path, Choice(model, dict(parameters or {}), dict(sizes or {})), frame)
            check_names(frame.elaboration, module)  # mistakes in what the program does not use
    except Stop:
        pass
    except RecursionError:
        what, help = "blocks within expressions within blocks nest too deeply", "give inner parts names, and use loops"
        found.append(Diagnostic("E0408", what, Span(source, 0, 1), help=help))
    if found or program is None:
        memory = any(d.code == "E0406" for d in found)
        raise CnncError(_in_order(found, source)[:LIMIT], exit_code=5 if memory else 1)
    return program


def _in_order(diagnostics: list[Diagnostic], root: Source) -> list[Diagnostic]:
    """By place: the root file's first."""
    return sorted(
        diagnostics,
        key=lambda d: (d.span.source is not root, d.span.source.name, d.span.start) if d.span else (False, "", 0),
    )


def _program(source: Source, path: Path | None, choice: Choice, root: Frame) -> Program:
    """The program of a model; `root` is the frame of its file. Raises `Failure` where anything is wrong."""
    elaboration, module = root.elaboration, root.module
    node, home = pick(choice.model, source, root)
    elaboration.builder.name = node.name.name
    frame = Frame(elaboration, home, Scope("", {}, labels_in(node.body)), in_model=True)
    for const in home.consts:  # a mistake in one that is not used is found as well
        with suppress(Failure):
            constant(const, frame)
    for item, _ in home.activations.values():
        with suppress(Failure):
            activation(item, frame)
    arguments = set_parameters(node, choice.parameters, frame)
    open_sizes.bind(node, choice.sizes, frame)
    begin = starts(node, arguments, frame)
    value = run(node.body, frame)
    if value is MISSING:
        frame.fail(node.name, "E0312", f"model {node.name.name} returns nothing", help="end it with: return x")
    results = outputs(value, node, frame) if value is not POISON else ()
    trained = None
    if module.trains:
        train, where = module.trains[0]
        outside = Frame(elaboration, where, Scope(""))
        trained = recipe(train, outside, elaboration.parameters if value is not POISON else ())
    if value is POISON or elaboration.diagnostics:
        raise Failure
    graph = elaboration.builder.finish(results)
    _warn_unread(node, root, arguments)
    _warn_unused(graph, root)
    return Program(
        graph,
        dict(elaboration.parameters),
        dict(elaboration.inputs),
        trained,
        node.name.name,
        source,
        path,
        arguments,
        node.doc,
        tuple(elaboration.warnings),
        begin,
    )


def _warn_unread(node: s.Model, root: Frame, arguments: Mapping[str, Any]) -> None:
    """Warn of parameters that change nothing: of the model, and of the blocks in its file."""
    module = root.module
    items: list[s.Definition] = [node, *(b for name, (b, _) in module.blocks.items() if name in module.defined)]
    for item in items:
        what = "model" if item is node else "block"
        for p in unread(item):
            if (
                item is node
                and p.name.name in ("init", "bias_init")
                and isinstance(arguments[p.name.name], Start | None)
            ):
                continue
            root.warn(p, "W0106", f"the parameter {p.name.name} of {what} {item.name.name} is not used")


def _warn_unused(graph: Graph, root: Frame) -> None:
    """Warn of inputs and layers that no output needs."""
    needed = {v for _, v in graph.outputs}
    for n in reversed(graph.nodes):
        if not needed.isdisjoint(n.results):
            needed.update(n.inputs)
    used = {o for n in graph.nodes for o in n.inputs}
    for n in graph.nodes:
        if n.origin is None or n.op in ("param", "state", "constant") or not needed.isdisjoint(n.results):
            continue
        frame = Frame(root.elaboration, root.module, root.scope, calls=n.origin.calls)
        if n.op == "input":
            frame.warn(n.origin, "W0105", f"the input {n.name} is not used")
        elif n.op not in LEAVES and used.isdisjoint(n.results):
            what = n.op if n.op in LAYERS else "operation"
            frame.warn(n.origin, "W0102", f"no output needs the result of this {what}")
