"""The standard streams of a command: what becomes of data that cannot be written.

Data that stdout does not take (there is none, or its disk is full) is an error, exit code 3. A reader that has gone, as of
`cnnc summary M.cnn | head -1`, has what it wanted: the command ends there, without a word and with exit code 0. Messages
end nothing; see `cnnc.streams`.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, TypeVar, cast

from cnnc.diagnostics import error

T = TypeVar("T")
DATA = 3


class ReaderGone(Exception):
    """Nobody reads stdout any more."""


class Output:
    """A stdout whose failures are told apart from those of all other files."""

    def __init__(self, stream: IO[Any] | None) -> None:
        self.stream = stream
        self.encoding: str = getattr(stream, "encoding", None) or "utf-8"
        self.errors: str | None = getattr(stream, "errors", None)

    @property
    def buffer(self) -> Output:
        """Where click writes bytes to."""
        return Output(getattr(self.stream, "buffer", None))

    def write(self, text: Any) -> int:
        stream = self.stream
        if stream is None:
            if text:
                raise error("E0601", "cannot write to stdout: there is none", exit_code=DATA)
            return 0
        return attempt(lambda: stream.write(text))

    def flush(self) -> None:
        if self.stream is not None:
            attempt(self.stream.flush)

    def isatty(self) -> bool:
        with suppress(OSError, ValueError, AttributeError):
            return self.stream is not None and self.stream.isatty()
        return False

    def fileno(self) -> int:
        if self.stream is None:
            raise io.UnsupportedOperation("fileno")
        return self.stream.fileno()

    def writable(self) -> bool:
        return True


def attempt(write: Callable[[], T]) -> T:
    """Raises `ReaderGone`, or `CnncError` (E0601, exit code 3) where stdout does not take what is written."""
    try:
        return write()
    except BrokenPipeError:
        raise ReaderGone from None
    except UnicodeError:
        raise
    except (OSError, ValueError) as e:  # ValueError: the file is closed
        why = (e.strerror if isinstance(e, OSError) else None) or str(e)
        raise error("E0601", f"cannot write to stdout: {why.lower()}", exit_code=DATA) from None


@contextmanager
def standard() -> Iterator[None]:
    """`sys.stdout` is an `Output` in the block. A terminal that cannot show a character gets its number."""
    before = sys.stdout
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout = cast(Any, Output(before))
    try:
        yield
    finally:
        sys.stdout = before


def occupy() -> None:
    """Where 0, 1 or 2 is closed, the next file that is opened takes its number, and whatever writes to stdout or stderr
    by number writes into it: an empty device takes the number first."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # the least number that is free


def settle() -> None:
    """What a stream still holds and cannot write would be complained about when the interpreter ends, and change the
    exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)


def stdin() -> IO[bytes]:
    """The bytes of stdin, to be read. Raises `CnncError` (E0601, exit code 3) where there is none."""
    buffer = getattr(sys.stdin, "buffer", None)
    if buffer is None:
        raise error("E0601", "there is no stdin to read", help="name a file", exit_code=DATA)
    return cast(IO[bytes], buffer)
