"""What the commands share: progress and colors, JSON, files that are there, files written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click

from cnnc import files, streams
from cnnc.diagnostics import Diagnostic, did_you_mean, error, render
from cnnc.foreign import refuse


class Verbosity:
    """-1 quiet, 0 as usual, 1 and more: more said on stderr."""

    def __init__(self) -> None:
        self.level = 0


verbosity = Verbosity()


def color(stream: IO[Any]) -> bool:
    """Colors only on a terminal that wants them (https://no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def print_diagnostics(diagnostics: Iterable[Diagnostic]) -> None:
    streams.say("\n\n".join(render(d, color(streams.messages)) for d in diagnostics))


def warn(warnings: Iterable[Diagnostic]) -> None:
    warnings = list(warnings)
    if warnings and verbosity.level >= 0:
        print_diagnostics(warnings)


def say(text: str, level: int = 0) -> None:
    """Progress, on stderr; `level` 1 is shown with -v only."""
    if verbosity.level >= level:
        streams.say(text)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def diagnostic_record(d: Diagnostic) -> dict[str, Any]:
    """A diagnostic as JSON; lines and columns count from 1."""
    record: dict[str, Any] = {"code": d.code, "severity": d.severity, "message": d.message}
    if d.span is not None:
        line, column = d.span.source.position(d.span.start)
        end_line, end_column = d.span.source.position(d.span.end)
        record |= {
            "file": d.span.source.name,
            "line": line,
            "column": column,
            "end_line": end_line,
            "end_column": end_column,
        }
    record |= {"notes": list(d.notes), "help": d.help, "calls": [{"block": b, "at": str(s)} for b, s in d.calls]}
    return record


def diagnostics_json(diagnostics: Iterable[Diagnostic]) -> None:
    print_json({"ok": False, "diagnostics": [diagnostic_record(d) for d in diagnostics]})


# ---------------------------------------------------------------------------------------------- files


def exists(path: str, what: str, folder: bool = False) -> Path:
    """The path of a file (or folder) that is there; else a diagnostic with the name that comes nearest."""
    p = Path(path)
    if p.is_file() or (folder and p.is_dir()):
        return p
    if p.is_dir():
        refuse(p, what)
        raise error("E0601", f"{path} is a folder, not a {what} file", exit_code=3)
    if p.exists():
        raise error("E0601", f"{path} is not a regular file", exit_code=3)
    try:
        near = sorted(q.name for q in p.parent.iterdir()) if p.parent.is_dir() else []
    except OSError:
        near = []
    notes = () if p.parent.is_dir() else (f"the folder {p.parent} does not exist",)
    raise error("E0601", f"there is no {what} file {path}", *notes, help=did_you_mean(p.name, near), exit_code=3)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path`; it takes the place of `path` when the block ends well, and goes when it does
    not. A link stays one, and so does a device or a pipe: what was written is written into it."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise error("E0601", f"{target} is a folder", help="name a file in it", exit_code=3)
    if not target.parent.is_dir():
        raise error(
            "E0601", f"the folder {target.parent} does not exist", help=f"mkdir -p {target.parent}", exit_code=3
        )
    try:
        with files.replacing(target) as temporary:
            yield temporary
    except OSError as e:
        raise error("E0601", f"cannot write {target}: {(e.strerror or str(e)).lower()}", exit_code=3) from None


def write_text(path: str | Path, text: str) -> None:
    """UTF-8, as `replacing` does it."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
