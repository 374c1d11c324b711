"""Which sources decide a kernel's code: their digest is part of the key under which the code is kept, so that a change to one
family leaves the others' code, and what was timed with it, where it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
ALWAYS = "code/compile.py"  # from a function to machine code
STEPS = {
    "driver": "steps/driver.py",
    "helper": "steps/threads.py",
    "launch": "steps/threads.py",
    "pauses": "steps/threads.py",
}
_FAMILY = re.compile(r'\bFamily\(\s*"(\w+)"')
_IMPORT = re.compile(r"^ *from (\.+)([\w.]*) import (\([^)]*\)|[^\n]*)", re.MULTILINE)


@lru_cache(maxsize=1)
def _sources() -> dict[str, bytes]:
    """The text of every file, by its path in this package."""
    files = sorted(p for p in ROOT.rglob("*") if p.suffix in (".py", ".ll"))
    return {p.relative_to(ROOT).as_posix(): p.read_bytes() for p in files}


@lru_cache(maxsize=1)
def homes() -> dict[str, str]:
    """Where each family is made, and each part of the step driver and the thread pool."""
    found = {family: path for path, text in _sources().items() for family in _FAMILY.findall(text.decode())}
    return {**found, **STEPS}


@lru_cache(maxsize=256)
def _imported(path: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_imports(path)))


def _imports(path: str) -> Iterator[str]:
    """The files that a file imports, wherever it does; the texts that are put together in a folder of such."""
    sources, folder = _sources(), path.split("/")[:-1]
    for dots, module, names in _IMPORT.findall(sources[path].decode()):
        parts = [*folder[: len(folder) + 1 - len(dots)], *(module.split(".") if module else [])]
        inside = [[*parts, name.split()[0]] for name in re.sub(r"[()]|#[^\n]*", "", names).split(",") if name.strip()]
        for found in (parts, *inside):
            yield from (f for f in ("/".join(found) + ".py", "/".join((*found, "__init__.py"))) if f in sources)
    if folder == ["steps"]:
        yield from (f for f in sources if f.startswith("steps/") and f.endswith(".ll"))


def files(family: str) -> list[str]:
    """The files that decide a family's code: its own, that of the compiler, and what they import. All, of an unknown one."""
    home = homes().get(family)
    if home is None:
        return list(_sources())
    todo, found = [home, ALWAYS], set()
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo += _imported(path) if path.endswith(".py") else ()
    return sorted(found)


@lru_cache(maxsize=256)
def _of_file(path: str) -> str:
    return hashlib.sha256(_sources()[path]).hexdigest()


@lru_cache(maxsize=256)
def digest(*families: str) -> str:
    """SHA-256 over the sources that decide the code of some families."""
    paths = sorted({path for family in families for path in files(family)})
    return hashlib.sha256("".join(f"{path} {_of_file(path)}\n" for path in paths).encode()).hexdigest()
