"""The PTX of kernels: compiled where it is not known, and kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from cnnc.backends.cpu.code import compilers
from cnnc.diagnostics import error
from cnnc.kernels.cpu.code import compile as front
from cnnc.kernels.cuda import Kernel
from cnnc.kernels.cuda.code import sources
from cnnc.kernels.cuda.code.program import Image
from cnnc.kernels.cuda.target import LEAST
from cnnc.locks import Claims
from cnnc.lowering.plan import KernelName
from cnnc.runtime import cache

_claims: Claims[str] = Claims()  # kernels by name
_known: dict[str, Image] = {}


@lru_cache(maxsize=1)
def identity() -> str:
    """What decides the text of kernels besides their names."""
    return f"{sources.digest()} {compilers()}"


@dataclass(frozen=True)
class Code:
    """Kernels as PTX for the least of the chips, which all others take."""

    @property
    def _whose(self) -> str:
        return f"cuda {LEAST.name}"

    def image(self, name: KernelName) -> Image:
        """A kernel, compiled where it is not yet known. Raises `CnncError` (E0812)."""
        key = str(name)
        if key not in _known:
            with _claims.turn(key):
                if key not in _known:
                    text = cache.object_code(key, self._whose, identity(), lambda: _build(name))
                    _known[key] = Image(text.decode())
        return _known[key]

    def missing(self, kernels: Iterable[KernelName]) -> list[KernelName]:
        """The kernels that would have to be compiled."""
        return [
            k
            for k in dict.fromkeys(kernels)
            if str(k) not in _known and not cache.known(str(k), self._whose, identity())
        ]

    def ready(self, kernels: Iterable[KernelName], progress: Callable[[KernelName], None] | None = None) -> None:
        """Compile what is missing. progress: called for each. Raises `CnncError` (E0812)."""
        for kernel in self.missing(kernels):
            self.image(kernel)
            if progress is not None:
                progress(kernel)


def _build(name: KernelName) -> bytes:
    from cnnc.kernels.cuda.code import compile

    try:
        found: bytes = compile.build(Kernel(name.family, name.parameters), LEAST)
    except front.CannotCompileError as e:
        raise error(
            "E0812",
            "kernels cannot be compiled in this process",
            str(e),
            help="leave settings of Numba out",
            exit_code=1,
        ) from None
    return found
