"""From a kernel's Python function to machine code of any target, and from machine code to an address.

Numba's front end types and lowers the function; its own optimizer and JIT are left out, because they know only this
machine. The LLVM IR goes through LLVM's -O3 pipeline and code generator of the requested target here. Loading needs
llvmlite alone.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from .. import Kernel
from ..target import Target
from . import link

SYMBOL = "kernel"
_ALLOWED = {"memcpy", "memset", "memmove"}


class CannotCompileError(RuntimeError):
    """Numba does not compile in this process; the text says why."""


class _Turns:
    """A lock that its thread may take again, and that others get in their turn: who builds kernel after kernel leaves it to a
    fork that waits.
    """

    def __init__(self) -> None:
        self._lock, self._next = threading.Lock(), threading.Lock()
        self._owner, self._times = 0, 0

    def renew(self) -> None:
        """In a forked child: nobody has it but this thread if it did, and nobody is next."""
        self._next = threading.Lock()
        if self._owner != threading.get_ident():
            self._lock, self._owner, self._times = threading.Lock(), 0, 0

    def acquire(self, timeout: float = -1) -> bool:
        here = threading.get_ident()
        if self._owner != here:
            if not self._next.acquire(timeout=timeout):
                return False
            try:
                if not self._lock.acquire(timeout=timeout):
                    return False
            finally:
                self._next.release()
            self._owner = here
        self._times += 1
        return True

    def release(self) -> None:
        self._times -= 1
        if not self._times:
            self._owner = 0
            self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


lock = _Turns()  # a forked child needs it free: Numba and LLVM could not go on with half of a kernel
_engines: list[Any] = []


@lru_cache(maxsize=1)
def _initialize() -> Any:
    """LLVM, ready for all targets."""
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm


def machine_of(target: Target) -> Any:
    """LLVM's code generator for the target."""
    llvm = _initialize()
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=target.effort, reloc="pic", codemodel="default"
    )


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without Python's search for cycles: a kernel's hundred thousand objects would make it look at all others hundreds
    of times, a tenth of the compile time.
    """
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def hindrances() -> list[str]:
    """What keeps Numba in this process from its usual work: variables of the environment, a file in the current folder."""
    file = ".numba_config.yaml"
    found = sorted(name for name in os.environ if name.startswith("NUMBA_"))
    numba = sys.modules.get("numba")
    if not found and getattr(getattr(numba, "config", None), "DISABLE_JIT", False):
        found.append("numba.config.DISABLE_JIT")
    return [*found, file] if os.path.exists(file) else found


def check() -> None:
    """Raises `CannotCompileError` where Numba does not compile in this process."""
    try:
        from numba import config
    except (ImportError, ValueError, RuntimeError, OSError) as e:
        raise CannotCompileError(f"Numba cannot be imported: {str(e)[:200]}") from None
    if config.DISABLE_JIT:
        raise CannotCompileError("Numba is told not to compile")


def _lower(function: Any) -> tuple[bytes, str]:
    """Numba's unoptimized LLVM bitcode with all that the function calls, and the name of the function in it."""
    from .lower import lowered
    from .vector import KERNEL

    library, described = lowered(function, KERNEL, apart=True)
    return library._final_module.as_bitcode(), described.mangled_name


_lower_once = lru_cache(maxsize=256)(_lower)


def _module(kernel: Kernel, target: Target) -> Any:
    """The optimized LLVM module of the kernel: one public function `kernel`, and no undefined symbol but memcpy and its
    kin.
    """
    from .. import FAMILIES

    function = FAMILIES[kernel.family].make(target, **dict(kernel.parameters))
    return optimized(function, target)


def optimized(function: Any, target: Target) -> Any:
    """The optimized LLVM module of a kernel function or a `Linked`; a Numba error where it does not compile."""
    from .vector import Linked, define

    llvm = _initialize()
    if isinstance(function, Linked):
        bitcode, name = _lower_once(function.function)
        module = llvm.parse_bitcode(bitcode)
        module.link_in(llvm.parse_assembly(define(target, function.bodies)))
    else:
        bitcode, name = _lower(function)
        module = llvm.parse_bitcode(bitcode)
    wrapper = f"""
declare i32 @{_quoted(name)}(ptr, ptr, ptr, i64, ptr)
define void @{SYMBOL}(ptr noalias %arguments, i64 %chunk, ptr noalias %scratch) {{
  %result = alloca ptr
  %exception = alloca ptr
  %status = call i32 @{_quoted(name)}(ptr %result, ptr %exception, ptr %arguments, i64 %chunk, ptr %scratch)
  ret void
}}
"""
    # Only the text can be given another triple and data layout safely.
    machine = machine_of(target)
    module.link_in(llvm.parse_assembly(wrapper))
    module.triple = target.triple
    module.data_layout = str(machine.target_data)
    for function_ in module.functions:
        if not function_.is_declaration and function_.name != SYMBOL:
            function_.linkage = "internal"
            function_.add_function_attribute("alwaysinline")
    for variable in module.global_variables:
        if not variable.is_declaration:
            variable.linkage = "internal"
    options = llvm.create_pipeline_tuning_options(speed_level=target.effort)
    options.loop_vectorization = False
    options.slp_vectorization = False
    options.loop_unrolling = not isinstance(function, Linked) or function.unrolled
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    module.verify()
    undefined = {f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")} - _ALLOWED
    assert not undefined, f"undefined symbols {sorted(undefined)}"
    return module


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', "\\22") + '"'


def build(kernel: Kernel, target: Target) -> bytes:
    """The kernel as a relocatable object file of the target, with the symbol `kernel`. Raises `CannotCompileError`."""
    check()
    with lock, _uncollected():
        return bytes(machine_of(target).emit_object(_module(kernel, target)))


def assembled(text: str, target: Target) -> bytes:
    """LLVM text as a relocatable object file of the target."""
    with lock:
        return _assembled(text, target)


def _assembled(text: str, target: Target) -> bytes:
    """What llvmlite holds is given back, under a lock of its own, before ours is free."""
    llvm, machine = _initialize(), machine_of(target)
    module = llvm.parse_assembly(text)
    module.triple = target.triple
    module.data_layout = str(machine.target_data)
    module.verify()
    return bytes(machine.emit_object(module))


def assembly(kernel: Kernel, target: Target) -> str:
    """The kernel as assembly text of the target."""
    check()
    with lock, _uncollected():
        return str(machine_of(target).emit_assembly(_module(kernel, target)))


def load(code: bytes) -> int:
    """The address of `kernel` in an object file for this machine. The code stays loaded for the life of the process."""
    with lock:
        try:
            return link.load(code, SYMBOL)
        except link.UnlinkableError:
            return _loaded(code)


def _loaded(code: bytes) -> int:
    """The address, from LLVM's loader."""
    llvm = _initialize()
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(reloc="pic", codemodel="default")
    empty = llvm.parse_assembly("")
    engine = llvm.create_mcjit_compiler(empty, machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    address = int(engine.get_function_address(SYMBOL))
    if not address:
        raise ValueError(f"the object code has no symbol {SYMBOL!r}")
    _engines.append(engine)
    return address
