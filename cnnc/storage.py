"""The one folder on disk that cnnc keeps for itself: compiled kernels and compiled grammars, readable by their owner alone."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnc.files import replacing

if TYPE_CHECKING:
    from lark import Lark


def folder() -> Path:
    """CNNC_CACHE_DIR, or `cnnc` in the user's cache folder."""
    given = os.environ.get("CNNC_CACHE_DIR")
    if given:
        return Path(given)
    import platformdirs

    return Path(platformdirs.user_cache_dir("cnnc"))


def private(path: Path) -> bool:
    """Whether a path is there, belongs to this user, and nobody else may write it."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & 0o022)


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
    with suppress(OSError), replacing(path, mode=0o600, durable=False) as temporary:
        temporary.write_bytes(data)


def grammar(name: str, **options: Any) -> Lark:
    """The LALR parser of `grammars/<name>`. Its tables are computed once and kept: that saves 0.15 s of every later process.

    Lark checks the kept tables against the grammar, the options and its own version.
    """
    from lark import Lark

    kept = folder() / f"{name}.tables"
    usable = ready() and (private(kept) or not kept.exists())
    try:
        return Lark.open_from_package(
            "cnnc.grammars", name, parser="lalr", cache=str(kept) if usable else False, **options
        )
    except OSError:
        return Lark.open_from_package("cnnc.grammars", name, parser="lalr", **options)
