"""The arguments of Python callers, checked where they are given: what is wrong is said in words, and not by whatever fails
later for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cnnc.diagnostics import CnncError, error

USAGE = 2  # exit code


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def wrong(name: str, value: Any, wanted: str, help: str | None = None) -> CnncError:
    return error(
        "E0706",
        f"{name} is {shown(value)}, of type {type(value).__name__}; {wanted} is needed",
        help=help,
        exit_code=USAGE,
    )


def of_kind(name: str, value: Any, kinds: type | tuple[type, ...], wanted: str, help: str | None = None) -> None:
    """Raises `CnncError` (E0706) where a value is none of the kinds."""
    if not isinstance(value, kinds):
        raise wrong(name, value, wanted, help)


def as_path(name: str, value: Any) -> Path:
    """The value as a path. Raises `CnncError` (E0706)."""
    if not isinstance(value, str | os.PathLike) or isinstance(os.fspath(value), bytes):
        raise wrong(name, value, "a path, text or pathlib.Path,")
    return Path(value)


def flag(name: str, value: Any) -> None:
    """Raises `CnncError` (E0706) where a switch is neither True nor False."""
    if value is not True and value is not False and type(value).__name__ not in ("bool", "bool_"):
        raise wrong(name, value, "True or False")


def a_call(name: str, value: Any) -> None:
    """Raises `CnncError` (E0706) where a value is neither None nor a function."""
    if value is not None and not callable(value):
        raise wrong(name, value, "a function, or None,")


def seed_of(value: Any) -> int:
    """Raises `CnncError` (E0706) where a seed is no whole number from 0 to 2^63 - 1."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise wrong("seed", value, "a whole number from 0 to 2^63 - 1")
    return value
