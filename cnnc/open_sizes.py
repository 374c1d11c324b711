"""Networks whose inputs leave sizes open besides the batch: `input image: f32[N, 3, H, W]`, or an ONNX file with such.

A graph has fixed sizes. So an open network makes one for the sizes that it is given, and an open executable one for
each that it meets, of which it keeps the last ones.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnc.diagnostics import CnncError, Diagnostic, error
from cnnc.ir.types import BATCH, Dim
from cnnc.network import Network
from cnnc.runtime.executable import Executable
from cnnc.runtime.inputs import as_array

if TYPE_CHECKING:
    from cnnc.frontend.elaborate import Program
    from cnnc.ir.graph import Graph
    from cnnc.lowering.target import Array

TRIED = (224, 64, 320, 24)  # sizes of which a network is taken for all, where one is enough
KEPT = 8  # sizes for which an executable is kept
Shapes = Mapping[str, tuple[Dim, ...]]
Sizes = tuple[tuple[str, int], ...]
USAGE, DATA = 2, 3


def shown(shape: Sequence[Dim]) -> str:
    return f"[{', '.join(map(str, shape))}]"


class OpenNetwork(Network):
    """A network of open sizes. inputs: their shapes, with names for what is open: {"image": ("N", 3, "H", "W")}.

    net.at(H=480, W=640) is the network of these sizes; all share `weights`. `cnnc.compile(net)` runs for every size.
    """

    def __init__(self, shapes: Shapes, make: Callable[[Mapping[str, int]], Network], name: str) -> None:
        self.shapes = dict(shapes)
        self.measure = self.build = None
        self._make, self._name = make, name
        self._lock = threading.RLock()
        self._networks: dict[Sizes, Network] = {}
        self._first: Network | None = None
        self._at: Sizes = ()

    @property
    def open_sizes(self) -> tuple[str, ...]:
        """The names of the open sizes."""
        names = (d for shape in self.shapes.values() for d in shape if isinstance(d, str) and d != BATCH)
        return tuple(dict.fromkeys(names))

    @property
    def name(self) -> str:
        return self._name

    @property
    def program(self) -> Program:  # type: ignore[override]
        """There is none. Raises `CnncError` (E0655)."""
        raise self.sizes_are_wanted()

    def sizes_are_wanted(self) -> CnncError:
        """E0655: what has to be given before the network is one."""
        what = ", ".join(f"{name} {shown(shape)}" for name, shape in self.shapes.items())
        given = ", ".join(f"{n}=224" for n in self.open_sizes)
        name, shape = next((n, s) for n, s in self.shapes.items() if any(d in self.open_sizes for d in s))
        sizes = ",".join("N" if d == BATCH else "224" if isinstance(d, str) else str(d) for d in shape)
        return error(
            "E0655",
            f"{self._name} leaves the sizes {', '.join(self.open_sizes)} of its input open: {what}",
            help=f"give them: --input-shape {name}={sizes}, or net.at({given}); cnnc.compile(net) and `cnnc run` need none",
            exit_code=USAGE,
        )

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """What is doubtful at whatever size is told of each, net.at(...).warnings."""
        return ()

    def at(self, **sizes: int) -> Network:
        """The network of fixed sizes. Raises `CnncError` (E0655 for a size that is missing, unknown or none, and what
        the network has against it)."""
        for name in (*sizes, *self.open_sizes):
            value = sizes.get(name)
            if (
                name not in self.open_sizes
                or isinstance(value, bool)
                or not isinstance(value, int | np.integer)
                or value < 1
            ):
                what = (
                    "is no open size"
                    if name not in self.open_sizes
                    else f"is {value!r}; it is a whole number from 1 on"
                )
                raise error(
                    "E0655", f"{name} {what}", f"{self._name} leaves {', '.join(self.open_sizes)} open", exit_code=USAGE
                )
        key = tuple((name, int(sizes[name])) for name in self.open_sizes)
        with self._lock:
            if key in self._networks:
                return self._networks[key]
            network = self._make(dict(key))
            if self._first is None:
                self._first, self._at = network, key
            else:
                self._share(network, key)
            if len(self._networks) >= KEPT:
                self._networks.pop(next(iter(self._networks)))
            self._networks[key] = network
            return network

    def _share(self, network: Network, key: Sizes) -> None:
        """Let a network have the weights of all sizes. Raises `CnncError` (E0655) where they would not fit it."""
        assert self._first is not None
        ours, theirs = self._first.weights, network.weights
        for name in ours:
            if name in theirs and ours[name].shape != theirs[name].shape:
                first, now = (", ".join(f"{n}={v}" for n, v in sizes) for sizes in (self._at, key))
                what = f"'{name}' is {list(ours[name].shape)} for {first} and {list(theirs[name].shape)} for {now}"
                help = "sizes may be open where parameters do not depend on them: global_avgpool in place of flatten"
                raise error("E0655", f"{self._name} is not for every size: {what}", help=help, exit_code=USAGE)
        if list(theirs) == list(ours):
            network._weights = ours
            return
        for name in ours:  # constants of a model that follow its sizes are its own
            if name in theirs and ours.changed(name):
                theirs[name] = ours[name]

    def of_shapes(self, given: Mapping[str, Sequence[int | None]]) -> Network:
        """The network for inputs of these shapes. Raises `CnncError` (E0655)."""
        sizes: dict[str, int] = {}
        for name, shape in given.items():
            wanted = self.shapes.get(name)
            if wanted is None:
                raise error(
                    "E0655", f"there is no input '{name}'", f"there are {', '.join(self.shapes)}", exit_code=USAGE
                )
            if len(shape) != len(wanted):
                what = f"'{name}' is {shown(wanted)}; {len(shape)} sizes are given"
                raise error("E0655", what, exit_code=USAGE)
            for d, value in zip(wanted, shape, strict=True):
                clash = isinstance(d, str) and d != BATCH and sizes.get(d, value) != value
                if clash or (isinstance(d, int) and value != d):
                    what = f"'{name}' is {shown(wanted)}; {list(shape)} is given"
                    raise error("E0655", what, f"{d} is {sizes.get(str(d), d)} already", exit_code=USAGE)
                if isinstance(d, str) and d != BATCH and value is not None:
                    sizes[d] = int(value)
        return self.at(**sizes)

    @property
    def representative(self) -> Network:
        """A network of some sizes, for what does not depend on them. Raises `CnncError` where none of a few will do."""
        if self._first is not None:
            return self._first
        refused: CnncError | None = None
        for size in TRIED:
            try:
                return self.at(**{name: 1 if name == "batch" else size for name in self.open_sizes})
            except CnncError as e:
                refused = refused or e
        assert refused is not None
        raise refused

    @property
    def weights(self) -> Any:
        """Parameters and running statistics by name, those of all sizes."""
        return self.representative.weights

    @weights.setter
    def weights(self, values: Mapping[str, Any]) -> None:
        self.representative.weights = values

    @property
    def _weights(self) -> Any:  # type: ignore[override]  # what `Network` reads
        return self.representative.weights

    @property
    def classes(self) -> tuple[str, ...] | None:
        return self.representative.classes

    @classes.setter
    def classes(self, names: Sequence[str] | None) -> None:
        self.representative.classes = names

    def __repr__(self) -> str:
        inputs = ", ".join(f"{name}: {shown(shape)}" for name, shape in self.shapes.items())
        return f"<OpenNetwork {self._name}({inputs})>"

    def _repr_html_(self) -> str:
        return self.representative._repr_html_()


class OpenExecutable(Executable):
    """An open network, compiled for each size that it meets."""

    def __init__(self, network: OpenNetwork, build: Callable[[Network], Executable]) -> None:
        self.network, self._build = network, build
        self._lock = threading.RLock()
        self._executables: dict[int, tuple[Network, Executable]] = {}
        self.classes = None

    def at(self, **sizes: int) -> Executable:
        """The executable of fixed sizes, compiled when it is first asked for."""
        return self._of(self.network.at(**sizes))

    def _of(self, network: Network) -> Executable:
        with self._lock:
            found = self._executables.pop(id(network), None)
            if found is None:
                found = network, self._build(network)
                while len(self._executables) >= KEPT:
                    self._executables.pop(next(iter(self._executables)))
            self._executables[id(network)] = found  # the last one
            return found[1]

    def _for(self, inputs: Sequence[Any], named: Mapping[str, Any]) -> Executable:
        given = dict(zip(self.network.shapes, inputs, strict=False)) | dict(named)
        shapes = {name: as_array(value, name).shape for name, value in given.items() if name in self.network.shapes}
        for name, shape in shapes.items():
            wanted = self.network.shapes[name]
            fits = len(shape) == len(wanted)
            fits = fits and all(isinstance(d, str) or d == a for d, a in zip(wanted, shape, strict=True))
            if not fits:
                what = f"input '{name}' is {list(shape)}; {shown(wanted)} is needed"
                raise error("E0702", what, exit_code=DATA)
        missing = [name for name in self.network.shapes if name not in shapes]
        if missing:
            raise error("E0703", f"input{'s' * (len(missing) > 1)} {', '.join(missing)} missing", exit_code=DATA)
        return self._of(self.network.of_shapes(shapes))

    def __call__(self, *inputs: Any, **named: Any) -> Array | dict[str, Array]:
        return self._for(inputs, named)(*inputs, **named)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return self._for((), inputs).run(inputs)

    @property
    def graph(self) -> Any:
        """Raises `CnncError` (E0655): each size has a graph, exe.at(...).graph."""
        return self.network.program

    @property
    def representative(self) -> Graph:
        return self.network.representative.graph

    @property
    def input_shapes(self) -> dict[str, tuple[Dim, ...]]:
        return dict(self.network.shapes)

    @property
    def runner(self) -> Any:  # type: ignore[override]
        return self.network.program

    @property
    def values(self) -> Any:
        return self.network.program

    def __repr__(self) -> str:
        return f"<cnnc.OpenExecutable of {self.network!r}>"
