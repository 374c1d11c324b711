"""Messages go to stderr. One that cannot be written, since there is no stderr, its reader has gone or its disk is full,
ends nothing: what is being done is worth more than a word about it."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import IO, Any, cast


class Messages:
    """The stderr of now, as a file that takes whatever is written."""

    errors = "backslashreplace"

    @property
    def encoding(self) -> str:
        return getattr(sys.stderr, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        with suppress(
            OSError, ValueError, AttributeError
        ):  # a closed file is a ValueError, one that is None has no write
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()

    def isatty(self) -> bool:
        with suppress(OSError, ValueError, AttributeError):
            return sys.stderr.isatty()
        return False

    def writable(self) -> bool:
        return True


messages = cast(IO[Any], Messages())


def say(text: str) -> None:
    """A line on stderr, where that can be written."""
    messages.write(text + "\n")
    messages.flush()
