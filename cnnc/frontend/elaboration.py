"""One elaboration: the record that fills while a model unfolds, and the frames that its bodies run in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

from cnnc.diagnostics import LIMIT, Diagnostic, Origin, Span, did_you_mean
from cnnc.frontend.inputs import Preprocess
from cnnc.frontend.limits import STEPS_LIMIT, available_memory
from cnnc.frontend.values import Module, Scope, Value
from cnnc.ir.builder import Builder
from cnnc.ir.layer import ParameterSpec


class Failure(Exception):
    """A statement has failed; its diagnostic is recorded already."""


class Stop(Exception):
    """Enough: a bound is passed, or as many errors are known as one run reports."""


class Placed(Protocol):
    """What has been written somewhere: a node of the syntax tree, an argument."""

    @property
    def span(self) -> Span: ...


@dataclass(eq=False, slots=True)
class Elaboration:
    """The graph grows in `builder`, what it needs in `parameters` and `inputs`; what is wrong gathers in `diagnostics`.

    labels: those written out in each block that was applied, by the block's identity.
    steps, layers, bytes: what has been taken of the budget: expressions and statements, layers, and parameters' bytes,
        of which there may be as many as `memory`.
    """

    builder: Builder
    parameters: dict[str, ParameterSpec] = field(default_factory=dict)
    inputs: dict[str, Preprocess] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    warnings: list[Diagnostic] = field(default_factory=list)
    labels: dict[int, frozenset[str]] = field(default_factory=dict)
    steps: int = 0
    layers: int = 0
    bytes: int = 0
    memory: int = field(default_factory=available_memory)
    reported: set[tuple[str, str, int, int]] = field(default_factory=set)

    def report(self, found: Diagnostic) -> None:
        """Record a diagnostic, once for each code and place."""
        assert found.span is not None
        key = (found.code, found.span.source.name, found.span.start, found.span.end)
        if key in self.reported:
            return
        self.reported.add(key)
        if found.severity == "warning":
            if len(self.warnings) < LIMIT:
                self.warnings.append(found)
            return
        self.diagnostics.append(found)
        if len(self.diagnostics) >= LIMIT:
            raise Stop


@dataclass(eq=False, slots=True)
class Frame:
    """Where a body runs: its variables, the file it is written in, its scope of names, and the calls that led to it.

    What is wrong is said through the frame in which it is found.
    """

    elaboration: Elaboration
    module: Module
    scope: Scope
    names: dict[str, Value] = field(default_factory=dict)
    calls: tuple[tuple[str, Span], ...] = ()
    in_model: bool = False

    def origin(self, span: Span) -> Origin:
        return Origin(span, self.calls)

    def report(self, where: Placed | Span, code: str, message: str, *notes: str, help: str | None = None) -> None:
        span = where if isinstance(where, Span) else where.span
        self.elaboration.report(Diagnostic(code, message, span, notes, help, calls=self.calls))

    def warn(self, where: Placed | Span, code: str, message: str, *notes: str, help: str | None = None) -> None:
        span = where if isinstance(where, Span) else where.span
        self.elaboration.report(Diagnostic(code, message, span, notes, help, "warning", self.calls))

    def fail(self, where: Placed | Span, code: str, message: str, *notes: str, help: str | None = None) -> NoReturn:
        """Report an error and leave the statement."""
        self.report(where, code, message, *notes, help=help)
        raise Failure

    def stop(self, where: Placed | Span, code: str, message: str, *notes: str, help: str | None = None) -> NoReturn:
        """Report an error and leave the model."""
        self.report(where, code, message, *notes, help=help)
        raise Stop

    def unknown(
        self, where: Placed | Span, code: str, what: str, name: str, known: Iterable[str], listed: str | None = None
    ) -> NoReturn:
        """Fail with a did-you-mean, or else with what there is."""
        names = [n for n in dict.fromkeys(known) if n]
        help = did_you_mean(name, names)
        if help is None and listed and names:
            help = f"{listed}: {', '.join(names[:24])}" + (", ..." if len(names) > 24 else "")
        self.fail(where, code, f"{what} '{name}'", help=help)

    def spend(self, where: Placed | Span, amount: int) -> None:
        """Take steps of the budget."""
        self.elaboration.steps += amount
        if self.elaboration.steps > STEPS_LIMIT:
            what = f"this model takes more than {STEPS_LIMIT:,} steps to unfold"
            self.stop(where, "E0407", what, help="a loop runs too often")
