"""The one folder on disk that cnnc keeps for itself: compiled kernels and compiled grammars, readable by their owner alone."""

from __future__ import annotations

import hashlib
import importlib.resources
import io
import os
import stat
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnc.files import replacing

if TYPE_CHECKING:
    from lark import Lark

LARGEST = 2**26  # bytes of a file of the folder


def folder() -> Path:
    """CNNC_CACHE_DIR, or `cnnc` in the user's cache folder; where the user has no home, a folder of their own among the
    temporary ones.
    """
    given = os.environ.get("CNNC_CACHE_DIR")
    if given:
        return Path(os.path.expanduser(given))  # a shell leaves ~ alone where it stands in quotes
    import platformdirs

    with suppress(RuntimeError):  # some versions raise it, others leave ~ as it is
        usual = Path(platformdirs.user_cache_dir("cnnc"))
        if usual.is_absolute():
            return usual
    try:
        return Path(tempfile.gettempdir()) / f"cnnc-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"
    except FileNotFoundError:  # no folder can be written
        return Path(os.devnull) / "cnnc"


def private(path: Path) -> bool:
    """Whether a path is a file or folder that belongs to this user, and nobody else may write it."""
    try:
        return _trusted(path.lstat(), stat.S_ISREG, stat.S_ISDIR)
    except OSError:
        return False


def _trusted(status: os.stat_result, *kinds: Callable[[int], bool]) -> bool:
    ours = not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & 0o022)
    return ours and any(kind(status.st_mode) for kind in kinds)


def get(path: Path) -> bytes | None:
    """The bytes of a file of the folder, or None where there is none to be trusted: it is a regular file, no link and no
    pipe, and it and its folder are this user's, to be written by nobody else.
    """
    flags = os.O_RDONLY | sum(getattr(os, f"O_{name}", 0) for name in ("NONBLOCK", "NOFOLLOW", "CLOEXEC", "BINARY"))
    try:
        handle = os.open(path, flags)
    except OSError:
        return None
    try:
        status = os.fstat(handle)
        if not _trusted(status, stat.S_ISREG) or status.st_size > LARGEST or not private(path.parent):
            return None
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read()
    except OSError:
        return None
    finally:
        os.close(handle)


def ready() -> bool:
    """Whether the folder can be written by this user and by nobody else; it is made where it is missing."""
    try:
        folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return private(folder()) and os.access(folder(), os.W_OK)


def put(path: Path, data: bytes) -> None:
    """Write a file of the folder whole or not at all. Where it cannot be written the next process does the work again."""
    if not ready():
        return
    with suppress(OSError):
        if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
            os.unlink(path)  # a link, a pipe: what is written would go elsewhere
        with replacing(path, mode=0o600, durable=False) as temporary:
            temporary.write_bytes(data)


def sealed(head: bytes, data: bytes) -> bytes:
    """Data that say what they are, with a digest of both: `opened` gives them back."""
    return head + b"\n" + hashlib.sha256(head + b"\n" + data).hexdigest().encode() + b"\n\n" + data


def opened(head: bytes, found: bytes | None) -> bytes | None:
    """The data that were sealed under a head; None where these are others, or damaged."""
    start = len(head) + 67  # a digest, and the ends of lines around it
    if found is None or found[:start] != sealed(head, found[start:])[:start]:
        return None
    return found[start:]


def grammar(name: str, **options: Any) -> Lark:
    """The LALR parser of `grammars/<name>`. Its tables are computed once and kept: that saves 0.15 s of every later process."""
    import lark

    source = importlib.resources.files("cnnc.grammars").joinpath(name).read_bytes()
    what = repr((name, sorted(options.items()), lark.__version__, sys.version_info[:2])).encode()
    head = b"cnnc grammar 1 " + hashlib.sha256(what + source).hexdigest().encode()
    kept = folder() / f"{name}.tables"
    tables = opened(head, get(kept))
    if tables is not None:
        return lark.Lark.load(io.BytesIO(tables))
    parser = lark.Lark.open_from_package("cnnc.grammars", name, parser="lalr", **options)
    buffer = io.BytesIO()
    parser.save(buffer)
    put(kept, sealed(head, buffer.getvalue()))
    return parser
