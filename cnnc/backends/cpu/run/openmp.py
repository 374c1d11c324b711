"""Numba's thread pool (OpenMP), reached without importing Numba: for systems that our own pool does not know (`pool.py`).

`parallel_for(function, ...)` is what Numba's own parallel loops call. Loading the extension module alone saves 0.2 s of
a process's start; when Numba is imported later, it gets the same pool, since both load the same library.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import importlib.util
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from cnnc.locks import Lock
from cnnc.runtime.threads import cores

_lock = Lock()
_forked = False


def _in_child() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


@lru_cache(maxsize=1)
def _pool() -> tuple[str, Callable[..., None] | None]:
    """The name of the threading layer and its parallel_for; without one, everything runs on the calling thread."""
    spec = importlib.util.find_spec("numba")
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    for folder in folders:
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            path = Path(folder) / "np" / "ufunc" / f"omppool{suffix}"
            if not path.exists():
                continue
            try:
                loader = importlib.machinery.ExtensionFileLoader("numba.np.ufunc.omppool", str(path))
                found = importlib.util.spec_from_loader(loader.name, loader)
                assert found is not None
                module = importlib.util.module_from_spec(found)
                loader.exec_module(module)
            except ImportError:
                continue
            ctypes.CFUNCTYPE(None, ctypes.c_int)(module.launch_threads)(cores())
            address, word = module.parallel_for, ctypes.c_size_t
            call = ctypes.CFUNCTYPE(
                None,
                ctypes.c_void_p,
                ctypes.c_void_p,
                ctypes.c_void_p,
                ctypes.c_void_p,
                ctypes.c_void_p,
                word,
                word,
                ctypes.c_int,
            )(address)
            return f"OpenMP ({getattr(module, 'openmp_vendor', 'unknown')})", call
    return "none", None


def layer() -> str:
    """The threading layer: "OpenMP (GNU)", or "none"."""
    with _lock:
        return _pool()[0]


def parallel_for() -> Callable[..., None] | None:
    """Numba's parallel_for, or None where work must stay on the calling thread: no pool, or a forked process, since OpenMP's
    threads do not survive a fork, whoever had used them.
    """
    if _forked:
        return None
    with _lock:
        return _pool()[1]


@lru_cache(maxsize=1)
def yield_address() -> int:
    """The address of a function without arguments that gives the core to another thread."""
    try:
        return ctypes.cast(ctypes.CDLL(None).sched_yield, ctypes.c_void_p).value or 0
    except (OSError, AttributeError, TypeError):  # Windows
        return ctypes.cast(ctypes.WinDLL("kernel32").SwitchToThread, ctypes.c_void_p).value or 0  # type: ignore[attr-defined]
