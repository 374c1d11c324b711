"""Compiled kernels on disk, as object code.

A kernel is compiled once for all networks. Its file is named by a digest of everything that decides its code: the
kernel, the target, the sources of the kernels and the versions of Python, Numba and llvmlite. The folder and its files
belong to one user; a file of another owner, or one that others may write, is not used, and the digest of the code is
checked before it is loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cnnc.storage import folder, private, put

MAGIC = b"cnnc kernel 1\n"


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


def _read(path: Path) -> bytes | None:
    """The object code of a file, or None where there is none that can be trusted."""
    if not private(path.parent) or not private(path):
        return None
    try:
        data = path.read_bytes()
    except OSError:
        return None
    head, _, rest = data.partition(b"\n\n")
    if not head.startswith(MAGIC):
        return None
    digest = head.rsplit(b"\n", 1)[-1].decode("ascii", "replace")
    return rest if hashlib.sha256(rest).hexdigest() == digest else None


def _write(path: Path, name: str, target: str, code: bytes) -> None:
    put(path, MAGIC + f"{target}\n{name}\n{hashlib.sha256(code).hexdigest()}\n\n".encode() + code)


def known(name: str, target: str, identity: str) -> bool:
    """Whether a kernel is on disk."""
    return _read(_path(name, target, identity)) is not None


def keep(name: str, target: str, identity: str, code: bytes) -> None:
    """Put the object code of a kernel on disk."""
    _write(_path(name, target, identity), name, target, code)


def object_code(name: str, target: str, identity: str, build: Callable[[], bytes]) -> bytes:
    """The object code of a kernel: from disk, or built and put there.

    identity: everything else that decides the code, such as a digest of the sources and the versions of the compilers.
    """
    path = _path(name, target, identity)
    code = _read(path)
    if code is None:
        code = build()
        _write(path, name, target, code)
    return code


def entries() -> list[Entry]:
    """What is on disk, in the order of names."""
    found = []
    for path in sorted(folder().glob("*.o")) if folder().is_dir() else []:
        try:
            head = path.read_bytes()[:100_000].partition(b"\n\n")[0].decode("utf-8", "replace").split("\n")
            found.append(
                Entry(path, head[2] if len(head) > 3 else "?", head[1] if len(head) > 3 else "?", path.stat().st_size)
            )
        except OSError:
            continue
    return sorted(found, key=lambda e: (e.target, e.kernel))


def clear() -> int:
    """Remove every compiled kernel; how many there were."""
    count = 0
    for path in [
        p for kind in ("*.o", ".*.tmp", "*.tables", "machine-*.json", "decisions-*.json") for p in folder().glob(kind)
    ]:
        try:
            path.unlink()
            count += path.suffix == ".o"
        except OSError:
            continue
    return count
