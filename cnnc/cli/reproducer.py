"""What an internal error leaves behind: a file with which it happens again."""

from __future__ import annotations

import os
import platform
import re
import shlex
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cnnc import __version__
from cnnc.files import escaped

LARGEST = 2**20  # bytes of a model that goes along
INCLUDE = re.compile(r'^\s*include\s+"([^"]+)"', re.MULTILINE)
PACKAGES = ("numpy", "numba", "llvmlite")


def write(e: BaseException, arguments: Sequence[str]) -> str | None:
    """A new file in the folder of temporary files: the command, versions, where it happened, and what was worked on: the
    graph and the pass that it was given to, else the model. Its path; None where no file can be written.
    """
    attempt = vars(e).get("attempt")
    models = [] if attempt is not None else _models(arguments)
    kind = ".ir" if attempt is not None else ".cnn" if len(models) == 1 else ".txt"
    try:
        handle, path = tempfile.mkstemp(kind, "cnnc-bug-")
    except OSError:
        return None
    if attempt is not None:
        again, text = f"cnnc opt {shlex.quote(path)} --passes {shlex.quote(str(attempt.step))}", str(attempt.graph)
    else:
        again = shlex.join(["cnnc", *([path if a == str(models[0][0]) else a for a in arguments])]) if models else ""
        text = "\n".join(f"## {file}\n{text}" if len(models) > 1 else text for file, text in models)
    lines = [
        *_lines("command", shlex.join(["cnnc", *arguments])),
        *(_lines("again", again) if kind != ".txt" else ()),
        *_lines("versions", _versions()),
        *_lines("error", "".join(traceback.format_exception(e))),
    ]
    with suppress(OSError), os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(escaped("\n".join([*lines, "", text]).rstrip()) + "\n")
        return path
    return None


def _lines(name: str, text: str) -> list[str]:
    """Comments, in models and in IR text alike."""
    return [f"# {name}: {line}" if i == 0 else f"#     {line}" for i, line in enumerate(text.splitlines())]


def _versions() -> str:
    parts = [f"cnnc {__version__}", f"Python {platform.python_version()}"]
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            parts.append(f"{name} {version(name)}")
    return ", ".join([*parts, platform.platform()])


def _models(arguments: Sequence[str]) -> list[tuple[Path, str]]:
    """The models that a command names, and what they include, with their texts."""
    found: dict[Path, str] = {}
    waiting = [Path(a) for a in arguments if a.endswith(".cnn")]
    while waiting:
        path = waiting.pop(0)
        with suppress(OSError, ValueError):
            if path not in found and path.is_file() and path.stat().st_size <= LARGEST:
                found[path] = path.read_text(encoding="utf-8")
                waiting += [path.parent / name for name in INCLUDE.findall(found[path])]
    return list(found.items())
