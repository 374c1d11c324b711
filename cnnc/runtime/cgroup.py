"""What a container allows: the control groups (version 1 or 2) that this process is in."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

PROC = Path("/proc/self")
UNLIMITED = 2**60  # bytes, and more than any machine has: what version 1 says where there is no limit


def _unescaped(text: str) -> str:
    """A path as mountinfo has it: space, tab, newline and backslash are octal."""
    for code in ("040", "011", "012", "134"):
        text = text.replace(f"\\{code}", chr(int(code, 8)))
    return text


def _mounts(controller: str) -> Iterator[tuple[bool, str, Path]]:
    """Of every mounted hierarchy that may have the controller: whether it is version 2, the group that is mounted, where."""
    for line in (PROC / "mountinfo").read_text(errors="surrogateescape").splitlines():
        fields, _, rest = line.partition(" - ")
        root, point = (_unescaped(f) for f in fields.split()[3:5])
        kind, _, options = rest.split()[:3]
        if kind == "cgroup2" or (kind == "cgroup" and controller in options.split(",")):
            yield kind == "cgroup2", root, Path(point)


@lru_cache(maxsize=8)
def folders(controller: str) -> tuple[Path, ...]:
    """The folders of this process's groups for a controller ("cpu", "memory"), each group before the one that it is in; where
    only a part of the tree is mounted, as in most containers, those of that part. Empty where there are none.
    """
    try:
        lines = [x.split(":", 2) for x in (PROC / "cgroup").read_text(errors="surrogateescape").splitlines()]
        mounts = list(_mounts(controller))
    except (OSError, ValueError, IndexError):
        return ()
    found = []
    for new, root, point in mounts:
        for _, names, path in (x for x in lines if len(x) == 3):
            if new != (names == "") or (not new and controller not in names.split(",")):
                continue
            own, top = Path(path), Path(root)
            below = own.relative_to(top) if own.is_relative_to(top) else Path()
            place = point / below if (point / below).is_dir() and ".." not in below.parts else point
            found += [p for p in (place, *place.parents) if p.is_relative_to(point)]
    return tuple(dict.fromkeys(found))


def quota() -> float | None:
    """Cores' worth of time that this process may use, the least of its groups; None where it is not limited."""
    found = []
    for folder in folders("cpu"):
        try:
            if (folder / "cpu.max").exists():
                limit, period = (folder / "cpu.max").read_text().split()
            else:
                limit, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if limit != "max" and int(limit) > 0 and int(period) > 0:
                found.append(int(limit) / int(period))
        except (OSError, ValueError):
            continue
    return min(found, default=None)


def memory() -> tuple[int, Path] | None:
    """Bytes that the groups of this process leave to it, and the group that leaves the least; None where none is limited.
    Files in memory that nobody has used of late give way.
    """
    found = []
    for folder in folders("memory"):
        try:
            new = (folder / "memory.max").exists()
            limit = (folder / ("memory.max" if new else "memory.limit_in_bytes")).read_text().strip()
            used = int((folder / ("memory.current" if new else "memory.usage_in_bytes")).read_text())
            lines = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
            files = {name: int(value) for name, value in (line for line in lines if len(line) == 2)}
            if limit != "max" and int(limit) < UNLIMITED:
                idle = files.get("inactive_file" if new else "total_inactive_file", 0)
                found.append((max(0, int(limit) - used + idle), folder))
        except (OSError, ValueError):
            continue
    return min(found, default=None)
