"""A second target: the ops' float64 references as kernels of Plans, over memory that is no array of the host's.

It is all that a target takes (`cnnc/lowering/target.py`). Addresses are numbers of the device's own: nothing but its blocks and its
kernels can make anything of them. Layouts are plain, and there are no chains.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnc.ir.graph import Attributes, Graph, Node
from cnnc.ir.interpret import bind
from cnnc.ir.op import OPS
from cnnc.ir.types import DTYPES, TensorType
from cnnc.lowering.arrange import in_order
from cnnc.lowering.context import Lowering
from cnnc.lowering.figures import Figures
from cnnc.lowering.place import Placed, Work
from cnnc.lowering.plan import KernelName, Ref, Step
from cnnc.lowering.target import Array, Job
from cnnc.passes.manager import Pass
from cnnc.passes.select_layout import SelectLayout
from cnnc.runtime.compiled import Compiled
from cnnc.untrusted import Field

APART = 1 << 40  # addresses from one piece of memory to the next


@dataclass(frozen=True)
class ByteBlock:
    """Bytes of the device."""

    device: ByteDevice
    address: int
    nbytes: int

    def part(self, offset: int, size: int) -> ByteBlock:
        assert 0 <= offset <= offset + size <= self.nbytes
        return ByteBlock(self.device, self.address + offset, size)

    def write(self, array: Array) -> None:
        self.device.store(self.address, array)

    def read(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        return self.device.fetch(self.address, dtype, shape)

    def reader(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Callable[[], Array]:
        return lambda: self.read(dtype, shape)


class ByteDevice:
    """Memory in pieces, each with addresses of its own."""

    hosted = False

    def __init__(self, compiled: Collection[KernelName]) -> None:
        self._pieces: dict[int, bytearray] = {}
        self.compiled = compiled
        self.launches = 0

    def ready(self) -> None:
        pass

    def block(self, size: int) -> ByteBlock:
        number = len(self._pieces) + 1
        self._pieces[number] = bytearray(b"\xff" * size)  # every float32 of it is NaN
        return ByteBlock(self, number * APART, size)

    def put(self, array: Array) -> ByteBlock:
        block = self.block(max(array.nbytes, 1))
        block.write(array)
        return block

    def store(self, address: int, array: Array) -> None:
        piece, at = self._pieces[address // APART], address % APART
        assert at + array.nbytes <= len(piece), "beyond the end"
        piece[at : at + array.nbytes] = np.ascontiguousarray(array).tobytes()

    def fetch(self, address: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        piece, at = self._pieces[address // APART], address % APART
        size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        assert at + size <= len(piece), "beyond the end"
        return np.frombuffer(bytes(piece[at : at + size]), dtype).reshape(shape).copy()

    def runner(self, job: Job) -> ByteRunner:
        assert not job.own.buffers
        assert {s.kernel for s in job.steps} <= set(self.compiled), "a kernel is not ready"
        return ByteRunner(self, job)


class ByteRunner:
    def __init__(self, device: ByteDevice, job: Job) -> None:
        self._device, self._job = device, job
        self._given: dict[str, ByteBlock] = {}

    def bind(self, arrays: Mapping[str, Array]) -> None:
        self._given = {name: self._device.put(arrays[name]) for name in self._job.bound}

    def __call__(self) -> None:
        for step in self._job.steps:
            at = [self._address(a) for _, a in step.arguments]
            kernel(self._device, step.kernel, at)
            self._device.launches += 1

    def _address(self, argument: int | Ref) -> int:
        if isinstance(argument, int):
            return argument
        if argument.buffer in self._given:
            return self._given[argument.buffer].address + argument.offset
        return self._job.where(argument)


Shaped = tuple[str, tuple[int, ...]]  # an element type, and a shape


def kernel(device: ByteDevice, name: KernelName, at: Sequence[int]) -> None:
    """Run a kernel: `at` has the addresses of its operands and of its results, 0 for an operand that is absent."""
    given = dict(name.parameters)
    operands, results = given["operands"], given["results"]
    arrays = [
        None if what is None else device.fetch(place, np.dtype(DTYPES[what[0]]), what[1])
        for what, place in zip(operands, at, strict=False)
    ]
    found: Sequence[Any]
    if name.family == "copy":
        found = [arrays[0].reshape(results[0][1])]  # type: ignore[union-attr]
    else:
        exact = [a if a is None or a.dtype.kind in "iu" else a.astype(np.float64) for a in arrays]
        types = tuple(TensorType(dtype, shape) for dtype, shape in results)
        with np.errstate(all="ignore"):
            found = OPS[name.family].reference(exact, Attributes(dict(given["attributes"])), types)
    for (dtype, shape), place, array in zip(results, at[len(operands) :], found, strict=True):
        with np.errstate(all="ignore"):
            device.store(place, np.asarray(array).astype(DTYPES[dtype]).reshape(shape))


def _shaped(low: Lowering, value: str) -> Shaped:
    t = bind(low.type(value), low.batch)
    return t.dtype, t.sizes


def _step(low: Lowering, node: Node) -> None:
    """One kernel for a node, whatever its op."""
    parameters = (
        ("attributes", tuple(sorted(node.attributes.items()))),
        ("operands", tuple(None if o is None else _shaped(low, o) for o in node.operands)),
        ("results", tuple(_shaped(low, r) for r in node.results)),
    )
    arguments = {f"x{i}": 0 if o is None else low.ref(o) for i, o in enumerate(node.operands)}
    writes = {f"y{i}": low.ref(r) for i, r in enumerate(node.results)}
    made = tuple(dict.fromkeys(ref.buffer for ref in writes.values()))
    low.append(Step(node.name, KernelName(node.op, parameters), (*arguments.items(), *writes.items()), 1, made))


def _copy(low: Lowering, node: Node, source: Ref, target: Ref, type: TensorType) -> None:
    t = bind(type, low.batch)
    shaped = ((t.dtype, t.sizes),)
    name = KernelName("copy", (("operands", shaped), ("results", shaped)))
    low.append(Step(node.name, name, (("x0", source), ("y0", target)), 1, (target.buffer,)))


class ByteTarget:
    name, lanes, exact = "bytes", 1, True

    def __init__(self) -> None:
        self._compiled: dict[KernelName, None] = {}
        self._device = ByteDevice(self._compiled)

    @property
    def compiler(self) -> ByteTarget:
        return self

    def unavailable(self) -> str | None:
        return None

    def layouts(self) -> Sequence[Pass]:
        return (SelectLayout(1),)

    def lowering(self, graph: Graph, batch: int, workers: int) -> Lowering:
        return Lowering(graph, batch, workers)

    def rule(self, op: str) -> Callable[..., None]:
        return _copy if op == "copy" else _step

    def arrange(self, work: Work) -> Placed:
        return in_order(work)

    def missing(self, kernels: Iterable[KernelName]) -> Collection[KernelName]:
        return [k for k in dict.fromkeys(kernels) if k not in self._compiled]

    def ready(self, kernels: Iterable[KernelName], progress: Callable[[KernelName], None] | None = None) -> None:
        for name in self.missing(kernels):
            self._compiled[name] = None
            if progress is not None:
                progress(name)

    def device(self) -> ByteDevice:
        return self._device

    def prepare(self, graph: Graph, values: Mapping[str, Any], threads: int | None = None) -> Compiled:
        return Compiled(graph, values, self, threads)

    def tune(self, graph: Graph, batch: int) -> None:
        pass

    def record(self, graph: Graph, batch: int) -> dict[str, Any]:
        return {}

    def tuned(self, record: Field) -> ByteTarget:
        assert record.entries() == {}
        return self

    def speed(self, threads: int | None = None, again: bool = False) -> Figures:
        return Figures("bytes", self.name, threads or 1, 1.0, 1.0, ())
