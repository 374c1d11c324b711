"""Nothing that tests compare depends on timed runs: tests of those ask for them. Where pytest-xdist is installed, all tests
together run in a process per core; those marked `alone` are timed, and nothing runs beside them.

OpenMP's threads, PyTorch's, spin while they wait for each other: on a machine that has other work, as with a process per core,
that takes the time of who works. With one thread of OpenBLAS the float64 references, small matrices, take down to a hundredth.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

os.environ["CNNC_TUNE"] = "0"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # these are read when NumPy and PyTorch are first imported
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("CNNC_JOBS", "1")  # the other cores have tests of their own to compile for
TESTS = Path(__file__).parent
STATES: dict[str, Any] = {}
PROCESSES = 4  # at most: each may hold a gigabyte or two
# `pytest -m quick`, under a minute: the order of the parts, mistakes in models, passes, references, the command line, and one
# network on every road.
QUICK = (
    "test_imports.py",
    "test_style.py",
    "test_whole.py",
    "cli/test_main.py",
    "frontend/test_elaborate.py",
    "frontend/test_syntax_errors.py",
    "ops/test_cases.py",
    "passes/test_cases.py",
)


def is_worker(config: pytest.Config) -> bool:
    """Whether this is one of the processes that the tests are shared among."""
    return hasattr(config, "workerinput") or "PYTEST_XDIST_WORKER" in os.environ


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """`-n` of the plugin, unless it was given: for the whole suite, since for a file or two another process does not pay."""
    if is_worker(config) or not config.pluginmanager.hasplugin("xdist"):
        return
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS and config.getoption("numprocesses") is None:
        found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if found > 1 and not config.getoption("usepdb"):
            config.option.numprocesses = min(PROCESSES, found)
            config.option.dist = "worksteal"  # neighbors stay together: they share compiled kernels


def is_quick(path: Path) -> bool:
    return path.is_relative_to(TESTS) and path.relative_to(TESTS).as_posix() in QUICK


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Of the quick tests alone, other modules need not be imported."""
    others = config.option.markexpr == "quick" and collection_path.suffix == ".py"
    return True if others and not is_quick(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if is_quick(item.path) and item.get_closest_marker("slow") is None:
            item.add_marker("quick")


@contextmanager
def held(path: Path, exclusive: bool) -> Iterator[None]:
    """A lock between processes, on a file that is there."""
    import fcntl

    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield


def start_over(module: Any) -> None:
    """Put a module's generator `RNG` back to where it was when the module was loaded: what a test draws depends on no other
    test, in whichever order and process they run.
    """
    if (generator := getattr(module, "RNG", None)) is not None:
        generator.bit_generator.state = STATES.setdefault(module.__name__, generator.bit_generator.state)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    start_over(getattr(item, "module", None))
    if not is_worker(item.config) or os.name != "posix":
        return (yield)
    door, room = Path(__file__).with_name("__init__.py"), Path(__file__)
    entering = held(room, exclusive=item.get_closest_marker("alone") is not None)
    with held(door, exclusive=True):  # who waits for the room holds the door, and is not kept waiting by later ones
        entering.__enter__()
    try:
        return (yield)
    finally:
        entering.__exit__(None, None, None)
