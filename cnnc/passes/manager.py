"""Passes: functions from graph to graph, run in a row, verified and watched.

A pass is a frozen dataclass. Its fields are its options, and its text is its command-line form:
`fuse-epilogues{max=2}`. Its docstring is its algebra. The manager hands every (before, pass, after, seconds) to one
observer: dumps, diffs and the check of results are observers.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from cnnc.diagnostics import CnncError, Diagnostic, Source, Span, did_you_mean, error
from cnnc.files import write_text
from cnnc.ir.display import shown
from cnnc.ir.graph import Graph
from cnnc.ir.text import print_value
from cnnc.ir.verify import Verifier
from cnnc.passes.compare import Comparison, diff

REPORT = "this is a mistake in cnnc; please report it with the model"


class Form(Enum):
    """What is true of a graph at some place of a pipeline. A graph as it is written is PLAIN, SEPARATE and ONCE."""

    PLAIN = "activations are in plain layouts"
    LAID_OUT = "the layouts of activations are chosen"
    SEPARATE = "nothing is fused"
    READ = "every node is read"
    ONCE = "nothing is computed again on purpose"
    ORDERED = "parameters are updated as soon as they can be"


Forms = frozenset[Form]
Limits = Mapping[str, tuple[int, int | None]]


@dataclass(frozen=True)
class Pass:
    """A rewrite of whole graphs. `apply` gives the same object back where nothing is to be done.

    A pipeline has a pass only where the graph is what it `needs`; what it `ends` is not true any more behind it, and what
    it `gives` is. By itself it may be applied to any graph. `within`: the least and, where there is one, the greatest value
    of an option; others raise ValueError.
    """

    name: ClassVar[str]
    needs: ClassVar[Forms] = frozenset()
    ends: ClassVar[Forms] = frozenset()
    gives: ClassVar[Forms] = frozenset()
    within: ClassVar[Limits] = {}

    def __post_init__(self) -> None:
        for option, (least, most) in self.within.items():
            value = getattr(self, option)
            if value < least or (most is not None and value > most):
                limits = f"at least {least}" if most is None else f"from {least} to {most}"
                raise ValueError(f"{option} is {value}; it must be {limits}")

    def apply(self, graph: Graph) -> Graph:
        raise NotImplementedError

    def __str__(self) -> str:
        """The form that `parse_passes` reads; options at their defaults are left out."""
        options = [
            f"{f.name}={print_value(getattr(self, f.name))}"
            for f in dataclasses.fields(self)
            if getattr(self, f.name) != f.default
        ]
        return self.name + (f"{{{','.join(options)}}}" if options else "")


class Fusion(Pass):
    """A pass that makes one node of several, while layouts are not yet chosen."""

    needs = frozenset((Form.PLAIN, Form.READ))
    ends = frozenset((Form.SEPARATE, Form.ORDERED))


PASSES: dict[str, type[Pass]] = {}
P = TypeVar("P", bound=Pass)


def register_pass(kind: type[P]) -> type[P]:
    PASSES[kind.name] = kind
    return kind


Observer = Callable[[Graph, Pass, Graph, float], None]


@dataclass(frozen=True)
class Attempt:
    """A pass and the graph that it is given. An exception that leaves the block has it as `attempt`, for a report."""

    step: Pass
    graph: Graph

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, e: BaseException | None, trace: object) -> None:
        if e is not None:
            vars(e).setdefault("attempt", self)


class PassManager:
    """Runs passes in order. With `verify`, each result must be a well-formed graph; `observer` sees each step."""

    def __init__(self, passes: Iterable[Pass], verify: bool = True, observer: Observer | None = None) -> None:
        self.passes = tuple(passes)
        self.verify = verify
        self.observer = observer
        self.seconds: list[tuple[str, float]] = []

    def run(self, graph: Graph) -> Graph:
        """The graph after all passes. Raises `CnncError` (E0805, exit code 70) where a pass broke the graph."""
        self.seconds = []
        verify = Verifier()
        for p in self.passes:
            with Attempt(p, graph):
                start = time.perf_counter()
                after = p.apply(graph)
                seconds = time.perf_counter() - start
                self.seconds.append((str(p), seconds))
                if self.verify and after is not graph:
                    _verified(verify, p, after)
            if self.observer is not None:
                self.observer(graph, p, after, seconds)
            graph = after
        return graph


def _verified(verify: Verifier, p: Pass, after: Graph) -> None:
    try:
        verify(after)
    except CnncError as e:
        notes = tuple(d.message for d in e.diagnostics[:10])
        raise CnncError(Diagnostic("E0805", f"{p} left a broken graph", notes=notes, help=REPORT), exit_code=70) from e


# ------------------------------------------------------------------------------------------------ observers


def observers(*several: Observer | None) -> Observer:
    """One observer that calls several; those that are None are left out."""

    def observe(before: Graph, p: Pass, after: Graph, seconds: float) -> None:
        for o in several:
            if o is not None:
                o(before, p, after, seconds)

    return observe


class Stages:
    """Keeps every stage: [(title, graph), ...], where the title is the pass's text."""

    def __init__(self, graph: Graph | None = None, earlier: Sequence[tuple[str, Graph]] = ()) -> None:
        """graph: the one to begin with; or `earlier`, the stages that led to it."""
        self.stages: list[tuple[str, Graph]] = [*earlier] or ([] if graph is None else [("source", graph)])

    def __call__(self, before: Graph, p: Pass, after: Graph, seconds: float) -> None:
        self.stages.append((str(p), after))

    def after(self, name: str) -> Graph:
        """The graph after the last run of a pass, by its name or its full text. Raises `CnncError` (E0801)."""
        for title, graph in reversed(self.stages):
            if name in (title, title.partition("{")[0]):
                return graph
        names = list(dict.fromkeys(title.partition("{")[0] for title, _ in self.stages))
        raise error(
            "E0801",
            f"no pass '{name}' was run",
            f"the stages are {', '.join(names)}",
            help=did_you_mean(name, names),
            exit_code=2,
        )

    def compare(self, before: str, after: str) -> Comparison:
        """Two stages, by the names of their passes, beside each other. Raises `CnncError` (E0801)."""
        return Comparison(before, self.after(before), after, self.after(after))

    def __repr__(self) -> str:
        return f"<Stages {', '.join(title for title, _ in self.stages)}>"

    def _repr_html_(self) -> str:
        return shown("stages", self)


class Dump:
    """Writes each stage to a numbered file: `03-fuse-epilogues.ir`; with `diffs`, what the pass changed to
    `03-fuse-epilogues.diff`.
    """

    def __init__(self, folder: Path | str, graph: Graph | None = None, diffs: bool = False) -> None:
        self.folder, self.diffs, self.count = Path(folder), diffs, 0
        self.folder.mkdir(parents=True, exist_ok=True)
        if graph is not None:
            self.write("source.ir", str(graph))

    def __call__(self, before: Graph, p: Pass, after: Graph, seconds: float) -> None:
        self.count += 1
        self.write(f"{p.name}.ir", str(after))
        if self.diffs:
            self.write(f"{p.name}.diff", diff(before, after, before="before", after=str(p)))

    def write(self, name: str, text: str) -> None:
        write_text(self.folder / f"{self.count:02}-{name}", text)


# ------------------------------------------------------------------------------------------------ the command-line form

_ITEM = re.compile(r"\s*([A-Za-z][\w-]*)\s*(?:\{([^{}]*)\})?\s*")


def parse_passes(text: str) -> list[Pass]:
    """`fold-batchnorm,fuse-epilogues{max=2}` as passes. Raises `CnncError` (E0801 unknown pass, E0802 option, E0803
    syntax).
    """
    source = Source("<passes>", text)
    found: list[Pass] = []
    at = 0
    while text.strip():
        match = _ITEM.match(text, at)
        if match is None:
            shown = repr(text[at]) if at < len(text) else "the end"
            raise _failure(
                "E0803",
                f"{shown} is unexpected here; a pass was expected",
                source,
                at,
                at + 1,
                help="passes are written name or name{option=value}, separated by commas",
            )
        found.append(_one(match, source))
        at = match.end()
        if at == len(text):
            break
        if text[at] != ",":
            raise _failure("E0803", f"{text[at]!r} is unexpected here; ',' was expected", source, at, at + 1)
        at += 1
    return found


def _failure(code: str, message: str, source: Source, start: int, end: int, help: str | None = None) -> CnncError:
    return CnncError(Diagnostic(code, message, Span(source, start, end), help=help), exit_code=2)


def _one(match: re.Match[str], source: Source) -> Pass:
    name, options = match[1], match[2]
    kind = PASSES.get(name)
    if kind is None:
        raise _failure(
            "E0801",
            f"unknown pass '{name}'",
            source,
            *match.span(1),
            help=did_you_mean(name, PASSES) or f"the passes are {', '.join(sorted(PASSES))}",
        )
    given: dict[str, Any] = {}
    known = {f.name: f for f in dataclasses.fields(kind)}
    for item in re.finditer(r"[^,]+", options or ""):
        key, equal, value = (part.strip() for part in item[0].partition("="))
        span = (match.start(2) + item.start(), match.start(2) + item.end())
        if not equal or not key or not value:
            raise _failure(
                "E0803", f"'{item[0].strip()}' is no option", source, *span, help="an option is written name=value"
            )
        if key not in known:
            many = f"its options are {', '.join(known)}" if known else "it has no options"
            raise _failure(
                "E0802", f"{name} has no option '{key}'", source, *span, help=did_you_mean(key, known) or many
            )
        if key in given:
            raise _failure("E0802", f"option '{key}' is given twice", source, *span)
        given[key] = _value(value, known[key].default, name, key, source, span)
    try:
        return kind(**given)
    except ValueError as e:
        raise _failure("E0802", f"{name}: {e}", source, *match.span()) from None


def _value(text: str, default: object, name: str, key: str, source: Source, span: tuple[int, int]) -> Any:
    if isinstance(default, bool):
        if text in ("true", "false"):
            return text == "true"
        raise _failure("E0802", f"{key} of {name} is true or false, not '{text}'", source, *span)
    kind = type(default)
    if kind in (int, float):
        try:
            return kind(text) if len(text) <= 20 else int("")
        except ValueError:
            word = "a whole number" if kind is int else "a number"
            raise _failure("E0802", f"{key} of {name} is {word}, not '{text[:40]}'", source, *span) from None
    return text.strip('"')


# ------------------------------------------------------------------------------------------------ running a list and its check


def run_passes(graph: Graph, passes: Sequence[Pass], observer: Observer | None = None) -> Graph:
    """`PassManager(passes, observer=observer).run(graph)`."""
    return PassManager(passes, observer=observer).run(graph)
