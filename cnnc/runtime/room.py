"""How much memory is left: what is not there is refused before it is used, since the system ends a process that uses it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cnnc.diagnostics import error
from cnnc.runtime import cgroup

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

MEMINFO = Path("/proc/meminfo")
STATM = Path("/proc/self/statm")
SMALL = 1 << 20  # bytes that are not asked about


def _limits() -> Iterator[tuple[int, str]]:
    """Bytes that each limit leaves, and its name."""
    group = cgroup.memory()
    if group is not None:
        yield group[0], f"by the control group {group[1]}"
    try:
        lines = (line.split() for line in MEMINFO.read_text().splitlines())
        kib = {line[0]: int(line[1]) for line in lines if len(line) > 1}
        yield 1024 * (kib["MemAvailable:"] + kib.get("SwapFree:", 0)), "by this machine"
    except (OSError, ValueError, KeyError):
        pass
    limit = resource.getrlimit(resource.RLIMIT_AS)[0] if resource is not None else -1
    if limit >= 0 and (resource is None or limit != resource.RLIM_INFINITY):
        try:
            used = int(STATM.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError, IndexError):
            used = 0
        yield max(0, limit - used), "by the limit of address space (ulimit -v)"


def left() -> int:
    """Bytes that are left; very many where nothing is known."""
    return min(_limits(), default=(cgroup.UNLIMITED, ""))[0]


def check(size: int, what: str = "", *notes: str) -> None:
    """Raises `CnncError` (E0410, exit code 5) where so many bytes are not left."""
    if size < SMALL:
        return
    left, whose = min(_limits(), default=(size, ""))
    if size > left:
        raise refused(size, what, f"{left / 2**20:,.0f} MiB are left {whose}", *notes)


def refused(size: int, what: str = "", *notes: str) -> Exception:
    """The error of memory that is not there."""
    return error(
        "E0410",
        f"{size / 2**20:,.0f} MiB of memory are needed{what} and not there",
        *notes,
        help="use a smaller batch, or a machine or container with more memory",
        exit_code=5,
    )
