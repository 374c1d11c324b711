"""`cnnc doctor`."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from cnnc.cli.common import color, print_json
from cnnc.cli.options import define, json_option
from cnnc.table import wrapped

NEEDED = ("numpy", "numba", "llvmlite", "lark", "networkx", "click", "rich", "platformdirs", "pillow")
PEERS = ("onnxruntime", "openvino", "torch", "onnx")
GIB = 2**30
MOMENT = 0.3  # seconds in which the machine's load is looked at


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, and what to do where that is wrong."""

    what: str
    found: str
    wrong: str = ""


@define("doctor", "cnnc doctor")
@json_option
@click.option("--measure", is_flag=True, help="Measure the machine's speed again; it is remembered otherwise.")
def command(as_json: bool, measure: bool) -> int:
    """Look at the processor, threads, cache, memory and versions; say what to do about what is wrong."""
    findings = [
        *versions(),
        *processor(),
        *threads(),
        *load(),
        *speed(measure),
        *cache(),
        *memory(),
        *environment(),
    ]
    wrong = [f for f in findings if f.wrong]
    if as_json:
        print_json(
            {
                "ok": not wrong,
                "findings": [{"what": f.what, "found": f.found, "wrong": f.wrong or None} for f in findings],
            }
        )
    else:
        width = max(len(f.what) for f in findings)
        indent = " " * (width + 2)
        for f in findings:
            click.echo("\n".join(wrapped(f"{f.what.ljust(width)}  {f.found}", indent=indent)))
            if f.wrong:
                lines = wrapped(f"{indent}! {f.wrong}", indent=f"{indent}  ")
                click.secho("\n".join(lines), fg="yellow", color=color(sys.stdout))
        click.echo(f"\n{len(wrong)} thing{'s' if len(wrong) > 1 else ''} to put right" if wrong else "\nall is well")
    return 4 if wrong else 0


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def versions() -> list[Finding]:
    from cnnc import __version__

    lines = [
        Finding("cnnc", f"{__version__}, {Path(__file__).parent.parent}"),
        Finding("python", f"{platform.python_version()} ({platform.python_implementation()}), {platform.platform()}"),
    ]
    for name in NEEDED:
        found = _version(name)
        lines.append(Finding(name, found or "not installed", "" if found else f"pip install {name}"))
    there = [f"{name} {found}" for name in PEERS if (found := _version(name))]
    return [*lines, Finding("peers", ", ".join(there) or "none (pip install 'cnnc[bench]' to compare with them)")]


def processor() -> list[Finding]:
    """The processor as LLVM sees it, and the backends that can run on this machine."""
    import llvmlite.binding as llvm

    features = sorted(name for name, has in llvm.get_host_cpu_features().items() if has)
    lines = [
        Finding("processor", f"{llvm.get_host_cpu_name()}, {llvm.get_process_triple()}"),
        Finding("features", " ".join(features)),
    ]
    from cnnc.backends import families

    for name, backend in families().items():
        why = backend.unavailable()
        found = (
            f"not available: {why}"
            if why
            else f"ready, vectors of {backend.lanes} float32"
            if backend.lanes > 1
            else "ready"
        )
        lines.append(Finding(f"target {name}", found))
    return lines


def threads() -> list[Finding]:
    """How many there are by default, and whose pool they are."""
    from cnnc.backends.cpu import BACKEND
    from cnnc.backends.cpu.run import openmp
    from cnnc.runtime.cgroup import quota
    from cnnc.runtime.threads import affinity, cores

    limit = quota()
    held = "" if limit is None else f"; a quota of {limit:.3g} cores' time"
    lines = [
        Finding("cores", f"{cores()} of {os.cpu_count()} used by default: this process may run on {affinity()}{held}")
    ]
    if not BACKEND.unavailable() and BACKEND.code.threads() is not None:
        return [*lines, Finding("threads", "a pool of our own")]
    name = openmp.layer()
    wrong = "no thread pool was found, everything runs on one core; reinstall numba"
    return [*lines, Finding("threads", name, wrong if name == "none" and cores() > 1 else "")]


def load() -> list[Finding]:
    """What others do on the machine at the moment."""
    from cnnc.runtime.load import look
    from cnnc.runtime.threads import cores

    found = look(MOMENT)
    if found is None:
        return []
    busy = found.busy(cores())
    return [Finding("load", f"the machine is busy: {found}; what is timed now says little" if busy else str(found))]


def speed(again: bool) -> list[Finding]:
    """What one core and all threads can do at best; takes about a second where it is not yet known."""
    from cnnc.backends.cpu import BACKEND

    if BACKEND.unavailable():
        return []
    found = BACKEND.speed(again=again)
    busy = found.peak_all < 0.7 * found.threads * found.peak_one
    lines = [
        Finding(
            "peak",
            f"{found.peak_one:.0f} GFLOP/s on one core, {found.peak_all:.0f} on {found.threads} threads"
            + " (if the machine was busy then: cnnc doctor --measure)" * busy,
        )
    ]
    for level in found.levels:
        size = f"{level.bytes / 1024:,.0f} KiB, " if level.bytes else ""
        lines.append(
            Finding(
                f"reads {level.name}",
                f"{size}{level.one:.0f} GB/s on one core, {level.all:.0f} on {found.threads} threads",
            )
        )
    return [*lines, Finding("estimates", _pace())]


def _pace() -> str:
    from cnnc.backends.cpu import TUNED

    pace = TUNED.tuning.pace
    if pace is None:
        return "the first compilation decides what they assume of this machine"
    return (
        f"assume {pace.own:.2g} of the own cache of the machine they were made on; for as many multiply-adds "
        f"{pace.shared:.2g} of the bytes from the caches behind it, {pace.memory:.2g} from memory"
    )


def cache() -> list[Finding]:
    from cnnc.runtime.cache import entries
    from cnnc.storage import folder

    where, found = folder(), entries()
    total = sum(e.bytes for e in found)
    wrong = ""
    nearest = next(p for p in (where, *where.parents) if p.exists())
    if not os.access(nearest, os.W_OK):
        wrong = f"{nearest} cannot be written: every process compiles anew; set CNNC_CACHE_DIR to a folder of your own"
    elif (
        where.exists()
        and hasattr(os, "getuid")
        and (where.stat().st_uid != os.getuid() or where.stat().st_mode & 0o022)
    ):
        wrong = f"others own {where} or may write it, so it is not used: chmod 700 {where}"
    return [Finding("cache", f"{where}, {len(found)} kernels, {total / 2**20:.1f} MiB", wrong)]


def memory() -> list[Finding]:
    try:
        fields = {
            line.split(":")[0]: int(line.split()[1]) * 1024 for line in Path("/proc/meminfo").read_text().splitlines()
        }
        total, free = fields["MemTotal"], fields["MemAvailable"]
    except (OSError, ValueError, KeyError, IndexError):
        return []
    return [
        Finding(
            "memory",
            f"{free / GIB:.1f} GiB free of {total / GIB:.1f}",
            "little is free; training a large network may not fit" if free < GIB else "",
        )
    ]


def environment() -> list[Finding]:
    """Variables that change how cnnc runs."""
    lines = [
        Finding(name, os.environ[name])
        for name in (
            "CNNC_CACHE_DIR",
            "CNNC_DEBUG",
            "CNNC_JOBS",
            "CNNC_OPTIMIZE",
            "CNNC_TUNE",
            "OMP_NUM_THREADS",
            "NO_COLOR",
        )
        if name in os.environ
    ]
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        lines.append(
            Finding(
                "NUMBA_DISABLE_JIT", os.environ["NUMBA_DISABLE_JIT"], "nothing can be compiled; unset NUMBA_DISABLE_JIT"
            )
        )
    return lines
