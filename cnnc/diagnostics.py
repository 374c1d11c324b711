"""Where something is in a source text, what is wrong there, and how that is shown.

A `Diagnostic` carries a stable code (`cnnc explain CODE`), the span of the argument at fault, the values involved, the
chain of block calls that led there, and a way out. `CnncError` carries the diagnostics of one run; it is the only
exception that a user's mistake produces.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cnnc.files import escaped
from cnnc.locks import lazy

LIMIT = 20  # errors reported in one run
LONGEST = 2000  # characters of a message


@dataclass(frozen=True)
class Source:
    """A text and the name that it goes by in messages. Its lines end in \\n, whichever of \\r\\n, \\r and \\n the writer's
    program puts there, and a mark of the byte order is no part of it.
    """

    name: str
    text: str = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", escaped(self.name))
        text = self.text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        object.__setattr__(self, "text", text)

    @lazy
    def line_starts(self) -> list[int]:
        return [0, *(i + 1 for i, c in enumerate(self.text) if c == "\n")]

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column, both from 1, of a character offset."""
        offset = max(0, min(offset, len(self.text)))
        line = bisect_right(self.line_starts, offset)
        return line, offset - self.line_starts[line - 1] + 1

    def line(self, number: int) -> str:
        start = self.line_starts[number - 1]
        end = self.line_starts[number] - 1 if number < len(self.line_starts) else len(self.text)
        return self.text[start:end]


@dataclass(frozen=True)
class Span:
    """Characters [start, end) of a source."""

    source: Source = field(repr=False)
    start: int
    end: int

    def to(self, other: Span) -> Span:
        return Span(self.source, self.start, max(self.end, other.end))

    def __str__(self) -> str:
        line, column = self.source.position(self.start)
        return f"{self.source.name}:{line}:{column}"


@dataclass(frozen=True)
class Origin:
    """The span that a node came from and the block calls that led there, innermost first."""

    span: Span
    calls: tuple[tuple[str, Span], ...] = ()


@dataclass(frozen=True)
class Diagnostic:
    code: str
    message: str
    span: Span | None = None
    notes: tuple[str, ...] = ()
    help: str | None = None
    severity: str = "error"
    calls: tuple[tuple[str, Span], ...] = ()

    def __post_init__(self) -> None:
        """Names of files need be no text; what is said of them is."""
        if len(self.message) > LONGEST:  # of a name or a type that a file made up
            object.__setattr__(self, "message", self.message[:LONGEST] + " ...")
        object.__setattr__(self, "message", escaped(self.message))
        object.__setattr__(self, "notes", tuple(escaped(note) for note in self.notes))
        object.__setattr__(self, "help", None if self.help is None else escaped(self.help))

    def __str__(self) -> str:
        return render(self)


class CnncError(Exception):
    """What a user's mistake produces. `diagnostics` holds one or more; `exit_code` is what the command line returns."""

    def __init__(self, diagnostics: Diagnostic | Iterable[Diagnostic], exit_code: int = 1) -> None:
        self.diagnostics: tuple[Diagnostic, ...] = (
            (diagnostics,) if isinstance(diagnostics, Diagnostic) else tuple(diagnostics)
        )
        self.exit_code = exit_code
        super().__init__("\n\n".join(render(d) for d in self.diagnostics))

    def __reduce__(self) -> tuple[Any, ...]:
        """As it was made: a process that sends it to another, such as a worker of a pool, must not stumble over it."""
        return type(self), (self.diagnostics, self.exit_code), self.__dict__


def error(
    code: str, message: str, *notes: str, help: str | None = None, span: Span | None = None, exit_code: int = 1
) -> CnncError:
    """A `CnncError` of one diagnostic."""
    return CnncError(Diagnostic(code, message, span, notes, help), exit_code)


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """`did you mean 'relu'?`, or nothing where no known name is near. Case, `_` and `-` make no difference."""
    from difflib import get_close_matches

    def plain(text: str) -> str:
        return text.lower().replace("_", "").replace("-", "")

    by_plain: dict[str, str] = {}
    for k in known:
        by_plain.setdefault(plain(k), k)
    near = get_close_matches(plain(str(name)), list(by_plain), n=1, cutoff=0.6)
    return f"did you mean '{by_plain[near[0]]}'?" if near else None


_STYLES = {"error": "\x1b[1;31m", "warning": "\x1b[1;33m", "frame": "\x1b[1;34m", "bold": "\x1b[1m", "off": "\x1b[0m"}


def _visible(text: str) -> str:
    """One column a character: tabs and control characters become a space or a replacement mark."""
    return "".join(c if c.isprintable() else " " if c == "\t" else "\ufffd" for c in text)


def render(diagnostic: Diagnostic, color: bool = False) -> str:
    """The diagnostic as text: message, place, source line, caret, notes, block calls, help."""

    def paint(style: str, text: str) -> str:
        return f"{_STYLES[style]}{text}{_STYLES['off']}" if color else text

    d = diagnostic
    lines = [f"{paint(d.severity, f'{d.severity}[{d.code}]')}: {paint('bold', _visible(d.message))}"]
    indent = "  "
    if d.span is not None:
        number, column = d.span.source.position(d.span.start)
        text = _visible(d.span.source.line(number))
        margin = " " * len(str(number))
        indent = margin + " "
        width = max(1, min(d.span.end - d.span.start, len(text) - column + 1))
        begin = max(0, column - 100) if len(text) > 160 else 0  # a very long line is cut around its caret
        shown = text[begin : begin + 160]
        lines += [
            f"{margin}{paint('frame', '-->')} {d.span}",
            f"{margin} {paint('frame', '|')}",
            f"{paint('frame', f'{number} |')} {shown}",
            f"{margin} {paint('frame', '|')} {' ' * (column - 1 - begin)}{paint(d.severity, '^' * min(width, 160))}",
        ]

    def attach(text: str) -> str:
        return f"{indent}{paint('frame', '=')} {text}"

    lines += [attach(note) for note in d.notes]
    shown_calls: Sequence[tuple[str, Span]] = d.calls if len(d.calls) <= 6 else (*d.calls[:3], *d.calls[-3:])
    for i, (block, span) in enumerate(shown_calls):
        if i == 3 and len(d.calls) > 6:
            lines.append(attach(f"... {len(d.calls) - 6} more block calls ..."))
        lines.append(attach(f"in block {block}, called at {span}"))
    if d.help:
        lines.append(attach(f"help: {d.help}"))
    return "\n".join(lines)
