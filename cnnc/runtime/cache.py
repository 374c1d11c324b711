"""Compiled kernels on disk, as object code.

A kernel is compiled once for all networks. Its file is named by a digest of everything that decides its code: the
kernel, the target, the sources of the kernels and the versions of Python, Numba and llvmlite. The folder and its files
belong to one user; a file of another owner, or one that others may write, is not used. A file says which kernel it is: that,
and the digest of all of it, are checked before it is loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cnnc.storage import folder, get, opened, put, sealed

MAGIC = "cnnc kernel 2"

DAMAGED = "damaged"  # or of another version


@dataclass(frozen=True)
class Entry:
    """A compiled kernel on disk."""

    path: Path
    kernel: str
    target: str
    bytes: int


def _path(name: str, target: str, identity: str) -> Path:
    digest = hashlib.sha256("\n".join([identity, target, name]).encode()).hexdigest()
    return folder() / f"{digest}.o"


def _head(name: str, target: str, identity: str) -> bytes:
    return "\n".join([MAGIC, target, name, identity]).encode()


def _read(name: str, target: str, identity: str) -> bytes | None:
    """The object code of a kernel, or None where there is none that can be trusted."""
    return opened(_head(name, target, identity), get(_path(name, target, identity)))


def known(name: str, target: str, identity: str) -> bool:
    """Whether a kernel is on disk."""
    return _read(name, target, identity) is not None


def keep(name: str, target: str, identity: str, code: bytes) -> None:
    """Put the object code of a kernel on disk."""
    put(_path(name, target, identity), sealed(_head(name, target, identity), code))


def object_code(name: str, target: str, identity: str, build: Callable[[], bytes]) -> bytes:
    """The object code of a kernel: from disk, or built and put there.

    identity: everything else that decides the code, such as a digest of the sources and the versions of the compilers.
    """
    code = _read(name, target, identity)
    if code is None:
        code = build()
        keep(name, target, identity, code)
    return code


def entries() -> list[Entry]:
    """What is on disk, in the order of names; what is no kernel, or not the one that its name says, as damaged."""
    found = []
    for path in sorted(folder().glob("*.o")) if folder().is_dir() else []:
        data = get(path) or b""
        lines = data.partition(b"\n\n")[0].decode("utf-8", "replace").split("\n")
        if len(lines) == 5 and lines[0] == MAGIC and path == _path(lines[2], lines[1], lines[3]):
            target, name = lines[1:3]
            if opened(_head(name, target, lines[3]), data) is not None:
                found.append(Entry(path, name, target, len(data)))
                continue
        found.append(Entry(path, DAMAGED, "", len(data)))
    return sorted(found, key=lambda e: (e.target, e.kernel, e.path.name))


def clear() -> int:
    """Remove every compiled kernel; how many there were."""
    count = 0
    for path in [
        p
        for kind in ("*.o", ".*.tmp", ".tmp-*", "*.tables", "machine-*.json", "decisions-*.json")
        for p in folder().glob(kind)
    ]:
        try:
            path.unlink()
            count += path.suffix == ".o"
        except OSError:
            continue
    return count
