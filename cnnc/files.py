"""Files written whole or not at all, by one way for all that cnnc writes.

A file is written under a name that nobody else has, flushed, and renamed. Whoever writes holds a lock on it, which the
system lets go of when the process ends, however it ends: what is left and not locked is of the dead, and is swept by
the next that writes the same file. Process ids say nothing of this: in a container they come again, and those of
another container are not known.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

UNLOCKED_AGE = 3600.0  # seconds after which a file is left over, where locks do not exist
_NAME_LIMIT = 50  # characters of the name in a temporary one


def _prefix(path: Path) -> str:
    return f".{path.name[:_NAME_LIMIT]}."


def _lock(handle: int, wait: bool) -> bool | None:
    """Whether this process now holds the lock of an open file; None where there are no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True


def _create(path: Path, mode: int) -> tuple[Path, int]:
    """A new file beside `path`, locked."""
    while True:
        temporary = path.with_name(f"{_prefix(path)}{secrets.token_hex(8)}.tmp")
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        if _lock(handle, wait=True) is None or os.fstat(handle).st_nlink:
            return temporary, handle
        os.close(handle)  # swept before it was locked


def sweep(path: Path) -> int:
    """Remove what writers of `path` that have died left beside it; how many files."""
    name = re.compile(re.escape(_prefix(path)) + r"(?:[0-9]+|[0-9a-f]{16})\.tmp")
    count = 0
    try:
        found = [e.path for e in os.scandir(path.parent) if name.fullmatch(e.name) and e.is_file(follow_symlinks=False)]
    except OSError:
        return 0
    for temporary in found:
        with suppress(OSError):
            handle = os.open(temporary, os.O_RDWR)
            try:
                free = _lock(handle, wait=False)
                if free or (free is None and time.time() - os.fstat(handle).st_mtime > UNLOCKED_AGE):
                    os.unlink(temporary)
                    count += 1
            finally:
                os.close(handle)
    return count


def _flush_folder(folder: Path) -> None:
    """So that the new name outlives a loss of power too, where the system can say so."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def replacing(path: str | Path, mode: int = 0o666, durable: bool = True) -> Iterator[Path]:
    """A temporary file beside `path`, empty; it takes the place of `path` when the block ends well, and goes when it
    does not. A link stays one, and so does a device or a pipe: what was written is written into it.

    mode: the permissions, less the umask. durable: wait until the disk has it. Raises OSError.
    """
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / path.name
            temporary.touch()
            yield temporary
            with temporary.open("rb") as source, path.open("wb") as sink:
                shutil.copyfileobj(source, sink)
        return
    sweep(path)
    temporary, handle = _create(path, mode)
    try:
        yield temporary
        if durable:
            os.fsync(handle)
        os.replace(temporary, path)
    finally:
        os.close(handle)
        with suppress(OSError):
            temporary.unlink()
    if durable:
        _flush_folder(path.parent)


def escaped(name: object) -> str:
    """A name or a path as text that can be printed and written: bytes that are no UTF-8 become \\xNN."""
    if (given := str(name)).isascii():
        return given
    text = "".join(f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else c for c in given)
    return text.encode("utf-8", "backslashreplace").decode()


def write_text(path: str | Path, text: str) -> None:
    """UTF-8, whole or not at all. Raises OSError."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
