"""What differs from one architecture to another in the LLVM texts of this folder, and how these are put together.

`${...}` in a text is a value that is put in. A worker that waits sleeps in a futex on the step's count (`doze.ll`). The caller
looks first at the processor time that each helper of its run has had: who had none in a microsecond or two, and is not asleep,
waits for a core with a chunk in its hands. It is called to the caller's, which becomes free as the caller sleeps, and is sent
away from there afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from string import Template

from ..code.compile import assembled
from ..target import Target

LINE = 8  # int64s in a cache line


@dataclass(frozen=True)
class Machine:
    """How an architecture pauses, and Linux's numbers of its system calls there."""

    declare: str
    pause: str
    futex: int
    gettid: int
    setaffinity: int
    getaffinity: int
    clock: int


MACHINES = {
    "x86_64": Machine(
        "declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()", 202, 186, 203, 204, 228
    ),
    "aarch64": Machine(
        "declare void @llvm.aarch64.hint(i32)", "call void @llvm.aarch64.hint(i32 1)", 98, 178, 122, 123, 113
    ),
}


def built(target: Target, *texts: str, **values: object) -> bytes:
    """The texts of these files, one behind the other, as an object file of the target."""
    folder = Path(__file__).parent
    text = "".join((folder / f"{name}.ll").read_text() for name in texts)
    return assembled(Template(text).substitute(vars(MACHINES[target.architecture]), line=LINE, **values), target)
