"""What a target must answer: all of it on this page.

    graph --layouts--> its layouts --rule--> steps --arrange--> Plan --ready--> code --device--> memory and launches

`Backend` is what runs graphs, `Target` one that compiles them. The rest of the compiler and of the runtime asks for
nothing else: a target whose memory is not the host's needs no change there. What is the processor's is in
`backends/cpu`; a small target with memory of its own is in tests/backends/byte_target.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from cnnc.ir.graph import Graph
from cnnc.lowering.context import Lowering
from cnnc.lowering.figures import Figures
from cnnc.lowering.memory import Memory
from cnnc.lowering.place import Placed, Work
from cnnc.lowering.plan import Buffer, KernelName, Plan, Ref, Step
from cnnc.passes.manager import Pass
from cnnc.untrusted import Field

Array = np.ndarray[Any, Any]
Rule = Callable[..., None]  # (what `lowering` gave, a node): appends the steps of the node

# ------------------------------------------------------------------------------------------------ running


class Block(Protocol):
    """A piece of a device's memory."""

    @property
    def address(self) -> int:
        """Where it begins, as the device's kernels are told. What lies n bytes into it has that address plus n."""

    @property
    def nbytes(self) -> int: ...

    def part(self, offset: int, size: int) -> Block:
        """Some bytes of it."""

    def write(self, array: Array) -> None:
        """Put the numbers of an array there, from the beginning on."""

    def read(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        """The numbers at the beginning: the memory itself where that is the host's, a copy elsewhere."""

    def reader(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Callable[[], Array]:
        """What gives a copy of the numbers at the beginning, as they are when it is called."""


class Runner(Protocol):
    """A list of steps, ready to be launched."""

    def bind(self, arrays: Mapping[str, Array]) -> None:
        """Take what is bound at the next launch: contiguous arrays by buffer. Inputs stay as they are until it is over."""

    def __call__(self) -> None:
        """Run the steps, one after the other, and wait for the last."""


@dataclass(frozen=True)
class Own:
    """The buffers that each worker keeps to itself, by name; the first worker's memory, and bytes from one to the next.
    Only targets whose `arrange` makes chains have any.
    """

    buffers: Mapping[str, Buffer] = field(default_factory=dict)
    address: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Job:
    """Steps to launch, and the memory that they work in.

    where: the address of what is neither bound nor a worker's own. scratch: floats that each of the workers has to itself.
    bound: buffers that are told at each launch: inputs, and results where memory is the host's.
    """

    steps: tuple[Step, ...]
    where: Callable[[Ref], int]
    scratch: int
    workers: int
    bound: frozenset[str] = frozenset()
    own: Own = field(default_factory=Own)


class Device(Protocol):
    """Memory, and what launches kernels over it."""

    @property
    def hosted(self) -> bool:
        """Whether its memory is the host's: results are written where the caller reads them."""

    def ready(self) -> None:
        """Compile what every launch needs, where that is not done yet."""

    def block(self, size: int) -> Block:
        """So many bytes, whatever they hold. Raises `CnncError` (E0410, exit code 5) where there is no memory for them."""

    def put(self, array: Array) -> Block:
        """The numbers of a contiguous array, which nobody changes: the array itself where memory is the host's."""

    def runner(self, job: Job) -> Runner:
        """A launch of steps whose kernels are ready."""


class Runnable(Protocol):
    """What a backend makes of a graph."""

    @property
    def graph(self) -> Graph: ...
    @property
    def backend(self) -> Backend: ...
    @property
    def values(self) -> Mapping[str, Array]:
        """Params and states by name, as they are now."""

    def assign(self, name: str, value: Array) -> None:
        """Set a param or state that calls update."""

    def refresh(self, values: Mapping[str, Array]) -> None:
        """Take other values."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]: ...

    def prepare(self, batch: int) -> None:
        """Make ready for calls of this batch."""

    def plan(self, batch: int) -> Plan:
        """Raises `CnncError` (E0809) where the graph is interpreted; so does `memory`."""

    def memory(self, batch: int) -> Memory: ...


# ------------------------------------------------------------------------------------------------ compiling


class Backend(Protocol):
    """What runs graphs."""

    @property
    def name(self) -> str: ...

    @property
    def lanes(self) -> int:
        """Channels to a block of the layout it prefers; 1 for plain layouts only."""

    @property
    def compiler(self) -> Target | None:
        """Itself, where it compiles graphs; None where it interprets them."""

    def unavailable(self) -> str | None:
        """Why it cannot run here, or None."""

    def layouts(self) -> Sequence[Pass]:
        """The passes behind those of all targets, which give tensors its layouts."""

    def prepare(self, graph: Graph, values: Mapping[str, Array], threads: int | None = None) -> Runnable:
        """Make a graph ready that has gone through all passes; `values` are its params and states by name."""


class Target(Backend, Protocol):
    """What compiles graphs to Plans, and runs them."""

    @property
    def exact(self) -> bool:
        """Whether it takes only algorithms that round like the direct ones."""

    def lowering(self, graph: Graph, batch: int, workers: int) -> Lowering:
        """What its rules work with: `Lowering`, or more of the target's own."""

    def rule(self, op: str) -> Rule:
        """How a node of an op becomes steps. The rule of `copy`, which is no op, is given (..., source, target, type) besides:
        two places, and the type of the value that it copies.
        """

    def arrange(self, work: Work) -> Placed:
        """The steps of a call in order, in chains or in none (`arrange.chained`, `arrange.in_order`), and their memory."""

    def missing(self, kernels: Iterable[KernelName]) -> Collection[KernelName]:
        """The kernels that would have to be compiled."""

    def ready(self, kernels: Iterable[KernelName], progress: Callable[[KernelName], None] | None = None) -> None:
        """Compile what is missing. progress: called for each of them. Raises `CnncError` (E0812)."""

    def device(self) -> Device:
        """Where its Plans run."""

    def tune(self, graph: Graph, batch: int) -> None:
        """Measure and time what is to be known before a graph is lowered to what runs."""

    def record(self, graph: Graph, batch: int) -> dict[str, Any]:
        """What was measured and decided for a graph, as JSON, for `tuned`."""

    def tuned(self, record: Field) -> Target:
        """This target as another was tuned. Raises `Malformed` for what is no record."""

    def speed(self, threads: int | None = None, again: bool = False) -> Figures:
        """What the machine can do at best, as it was measured before unless again."""
