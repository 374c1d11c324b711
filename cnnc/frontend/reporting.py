"""What is wrong with a model, gathered while it unfolds, and how much more it may unfold."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from cnnc.diagnostics import LIMIT, Diagnostic, Span, did_you_mean
from cnnc.frontend.limits import STEPS_LIMIT
from cnnc.frontend.values import Frame

if TYPE_CHECKING:
    from collections.abc import Iterable


class Failure(Exception):
    """A statement has failed; its diagnostic is recorded already."""


class Stop(Exception):
    """Enough: a bound is passed, or as many errors are known as one run reports."""


class Reporter:
    """Diagnostics, each once, and the steps that were taken."""

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []
        self.warnings: list[Diagnostic] = []
        self.steps = 0
        self._seen: set[tuple[str, str, int, int]] = set()

    def report(
        self,
        code: str,
        message: str,
        span: Span,
        frame: Frame | None = None,
        *notes: str,
        help: str | None = None,
        severity: str = "error",
    ) -> None:
        """Record a diagnostic, once for each code and place."""
        key = (code, span.source.name, span.start, span.end)
        if key in self._seen:
            return
        self._seen.add(key)
        found = Diagnostic(code, message, span, notes, help, severity, frame.calls if frame else ())
        if severity == "warning":
            if len(self.warnings) < LIMIT:
                self.warnings.append(found)
            return
        self.diagnostics.append(found)
        if len(self.diagnostics) >= LIMIT:
            raise Stop

    def fail(
        self, code: str, message: str, span: Span, frame: Frame | None = None, *notes: str, help: str | None = None
    ) -> NoReturn:
        self.report(code, message, span, frame, *notes, help=help)
        raise Failure

    def stop(
        self, code: str, message: str, span: Span, frame: Frame | None = None, *notes: str, help: str | None = None
    ) -> NoReturn:
        self.report(code, message, span, frame, *notes, help=help)
        raise Stop

    def unknown(
        self,
        code: str,
        what: str,
        name: str,
        known: Iterable[str],
        span: Span,
        frame: Frame | None = None,
        listed: str | None = None,
        help: str | None = None,
    ) -> NoReturn:
        """Fail with the help given, a did-you-mean, or else with what there is."""
        names = [n for n in dict.fromkeys(known) if n]
        help = help or did_you_mean(name, names)
        if help is None and listed and names:
            help = f"{listed}: {', '.join(names[:24])}" + (", ..." if len(names) > 24 else "")
        self.fail(code, f"{what} '{name}'", span, frame, help=help)

    def spend(self, amount: int, span: Span, frame: Frame) -> None:
        self.steps += amount
        if self.steps > STEPS_LIMIT:
            self.stop(
                "E0407",
                f"this model takes more than {STEPS_LIMIT:,} steps to unfold",
                span,
                frame,
                help="a loop runs too often",
            )
