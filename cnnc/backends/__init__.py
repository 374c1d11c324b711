"""What runs a graph: the reference in NumPy, and the targets. A backend's module is imported only when it is asked for."""

from __future__ import annotations

from importlib import import_module

from cnnc.diagnostics import did_you_mean, error
from cnnc.lowering.target import Backend, Target

NAMES = ("cpu", "cpu-avx512", "cpu-avx2", "cpu-sse2", "cpu-neon", "reference")
ACCELERATORS = ("cuda", "gpu", "rocm", "hip", "mps", "metal", "xpu", "opencl", "vulkan", "tpu", "npu")


def check(name: str) -> None:
    """Raises `CnncError` (E0809) for a name of no target."""
    if isinstance(name, str) and name in NAMES:
        return
    if isinstance(name, str) and name.lower().partition(":")[0] in ACCELERATORS:
        raise error(
            "E0809",
            f"there is no target '{name}': cnnc compiles for the processor, not for accelerators",
            help=f"leave it out, or give one of {', '.join(NAMES)}",
            exit_code=2,
        )
    raise error(
        "E0809",
        f"unknown target {name!r}",
        help=did_you_mean(str(name), NAMES) or f"one of {', '.join(NAMES)}",
        exit_code=2,
    )


def backend(name: str, exact: bool = False, tune: bool = False) -> Backend:
    """The backend of a target; `exact` leaves it only algorithms that round like the direct ones. `tune`: for the machine
    itself (`cpu`, not exact), timed runs decide where the estimates of algorithms are close.

    Raises `CnncError` (E0809) for a name that is none, or one that this machine cannot run.
    """
    check(name)
    try:
        module = import_module(f"cnnc.backends.{name.partition('-')[0]}")
    except ModuleNotFoundError as e:
        raise error(
            "E0809", f"the target '{name}' is not available", f"no module named {e.name}", exit_code=2
        ) from None
    found: Backend = module.backend(name.partition("-")[2], exact, tune)
    reason = found.unavailable()
    if reason is not None:
        raise error("E0809", f"the target '{name}' is not available", reason, exit_code=2)
    return found


def native(exact: bool = False, tune: bool = False) -> Target:
    """The target that graphs are compiled for where none is named. Raises `CnncError` (E0809) where this machine has none."""
    found = backend(NAMES[0], exact, tune).compiler
    assert found is not None
    return found


def families() -> dict[str, Backend]:
    """Every backend, by the first part of its targets' names, whether it can run here or not."""
    names = dict.fromkeys(name.partition("-")[0] for name in NAMES)
    return {name: import_module(f"cnnc.backends.{name}").BACKEND for name in names}


__all__ = ["NAMES", "Backend", "Target", "backend", "families", "native"]
