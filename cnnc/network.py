"""A network: the graph of a program and the values of its parameters."""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnc.arguments import as_path, flag, of_kind, seed_of, wrong
from cnnc.diagnostics import CnncError, Diagnostic, did_you_mean, error
from cnnc.files import escaped
from cnnc.interop import safetensors
from cnnc.ir.graph import Graph
from cnnc.ir.layer import ParameterSpec
from cnnc.ir.start import Site, Start, drawn, unfit_default
from cnnc.ir.types import product
from cnnc.loaded import Loaded
from cnnc.runtime import room
from cnnc.runtime.named import Named
from cnnc.weight_files import CLASSES, IGNORED, open_weights

if TYPE_CHECKING:
    from cnnc.frontend.elaborate import Program
    from cnnc.runtime.executable import Executable
    from cnnc.summary import Summary

Floats = NDArray[np.float32]
# (network, batch) -> planned peak bytes of inference and of training; (graph, values, target, threads) -> executable
Measure = Callable[["Network", int], "tuple[int, int]"]
Build = Callable[..., "Executable"]
Starts = tuple[Start | None, Start | None]  # of weights and of biases, where a layer does not say how


def initial(spec: ParameterSpec, begin: Start, name: str, seed: int) -> Floats:
    """The first value of a parameter: float32 of the spec's shape, drawn as `begin` says.

    The generator is Philox under the key (seed, name), so a value depends on no other parameter and on no order.
    """
    digest = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    generator = np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, digest], np.uint64)))
    return drawn(begin, Site(spec.shape, spec.fan_in, spec.groups), generator)


def as_float32(value: Any, name: str) -> Floats:
    """A new, contiguous, native float32 copy. Raises `CnncError` (E0613) with the reason where that would lose what
    matters."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as e:
        raise error("E0613", f"'{name}' is no array: {e}", exit_code=safetensors.DATA) from None
    if array.dtype.kind not in "fiu":
        why = {
            "c": "its imaginary part would be lost",
            "b": "true and false are no weights",
            "O": "it holds Python objects",
        }
        reason = why.get(array.dtype.kind, "it holds no numbers")
        raise error("E0613", f"'{name}' is {array.dtype}, float32 is needed: {reason}", exit_code=safetensors.DATA)
    with np.errstate(over="ignore"):
        result = np.array(array, np.float32, order="C")
    if array.dtype.itemsize > 4 and array.dtype.kind == "f" and np.any(np.isinf(result) & np.isfinite(array)):
        raise error(
            "E0613",
            f"'{name}' is {array.dtype} and holds values beyond float32's range, 3.4e38",
            exit_code=safetensors.DATA,
        )
    return result


def frozen(array: Floats) -> Floats:
    """The array, no longer writable: an executable may hold it, and an edit in place would go unnoticed there."""
    array.flags.writeable = False
    return array


class Drawn:
    """What a seed gives for every parameter, drawn when it is asked for and kept as long as somebody holds it."""

    def __init__(self, specs: Mapping[str, ParameterSpec], seed: int, starts: Starts) -> None:
        self._specs, self._seed, self._starts = specs, seed, starts
        self._held: weakref.WeakValueDictionary[str, Floats] = weakref.WeakValueDictionary()

    def __reduce__(self) -> tuple[Any, ...]:
        return Drawn, (self._specs, self._seed, self._starts)

    def __call__(self, name: str) -> Floats:
        value = self._held.get(name)
        if value is None:
            spec = self._specs[name]
            value = self._held[name] = frozen(initial(spec, spec.start(*self._starts), name, self._seed))
        return value


class Snapshot(Named[Floats]):
    """The values of weights at one time, for which those that were drawn are not held."""

    def __init__(self, names: tuple[str, ...], values: Mapping[str, Floats], drawn: Drawn) -> None:
        self._names, self._values, self._drawn = dict.fromkeys(names), values, drawn

    def __getitem__(self, name: str) -> Floats:
        if name not in self._names:
            raise KeyError(name)
        return self._values[name] if name in self._values else self._drawn(name)

    @property
    def _named(self) -> Mapping[str, object]:
        return self._names


class Weights(Named[Floats], MutableMapping[str, Floats]):
    """Parameters and running statistics by name, in the order of the source. A value that nobody has set is drawn
    when it is read, the same each time.

    Assignment copies, and checks shape and element type: raises `CnncError` (E0611, E0613).
    """

    def __init__(self, specs: Mapping[str, ParameterSpec], seed: int, starts: Starts) -> None:
        self._specs = dict(specs)
        self._values: dict[str, Floats] = {}
        self._sources: dict[str, Callable[[], Floats]] = {}
        self._drawn = Drawn(self._specs, seed, starts)

    def __getitem__(self, name: str) -> Floats:
        if not isinstance(name, str) or name not in self._specs:
            raise KeyError(f"{name}: no such parameter; {did_you_mean(name, self._specs) or 'see list(net.weights)'}")
        if name not in self._values:
            if name not in self._sources:
                return self._drawn(name)
            self._values[name] = frozen(self._sources[name]())
        return self._values[name]

    def __getstate__(self) -> dict[str, Any]:
        """The values of now: what is deferred is fetched, what is drawn is drawn again."""
        for name in self._sources:
            self[name]
        return {"_specs": self._specs, "_values": dict(self._values), "_sources": {}, "_drawn": self._drawn}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        for value in self._values.values():
            frozen(value)

    def snapshot(self) -> Snapshot:
        """The values of now, whatever is assigned later."""
        for name in self._sources:
            self[name]  # fetched now
        return Snapshot(tuple(self._specs), dict(self._values), self._drawn)

    def __setitem__(self, name: str, value: Any) -> None:
        if not isinstance(name, str) or name not in self._specs:
            raise error(
                "E0611",
                f"the network has no parameter '{name}'",
                help=did_you_mean(name, self._specs),
                exit_code=safetensors.DATA,
            )
        array, shape = as_float32(value, name), self._specs[name].shape
        if array.shape != shape:
            raise error(
                "E0611",
                f"'{name}' is {list(shape)}, the value given is {list(array.shape)}",
                exit_code=safetensors.DATA,
            )
        self._values[name] = frozen(array)

    def defer(self, sources: Mapping[str, Callable[[], Floats]]) -> None:
        """Forget the values of these parameters; each is fetched from its source when it is read, unless another is
        assigned."""
        self._sources |= sources
        for name in sources:
            self._values.pop(name, None)

    def changed(self, name: str) -> bool:
        """Whether a parameter has been assigned, or read since it was deferred."""
        return name in self._values

    @property
    def drawn(self) -> bool:
        """Whether there are some, and all of them are as a seed gives them."""
        return len(self) > 0 and not self._values and not self._sources

    def restart(self, seed: int, starts: Starts) -> None:
        """Start over with what `seed` gives, where layers do not say how by these starts of weights and of biases."""
        deferred, self._sources, self._drawn = self._sources, {}, Drawn(self._specs, seed, starts)
        self._values = {name: self._drawn(name) for name in deferred}

    def __delitem__(self, name: str) -> None:
        raise TypeError("a network keeps all its parameters; assign another value instead")

    @property
    def _named(self) -> Mapping[str, object]:
        return self._specs

    def __repr__(self) -> str:
        return "{" + ", ".join(f"'{name}': float32{list(spec.shape)}" for name, spec in self._specs.items()) + "}"


class Network:
    """A program's graph with weights. `weights` start as PyTorch would start them, drawn from `seed`. `classes` are the
    names of what the network tells apart, where they are known: training on class folders sets them, and they are
    saved and loaded with the weights."""

    def __init__(
        self, program: Program, seed: int = 0, measure: Measure | None = None, build: Build | None = None
    ) -> None:
        self.program = program
        self.measure, self.build = measure, build
        self._classes: tuple[str, ...] | None = None
        leaves = [n.name for n in program.graph.nodes if n.op in ("param", "state")]
        self._weights = Weights({name: program.parameters[name] for name in leaves}, seed, program.starts)

    @property
    def weights(self) -> Weights:
        """Parameters and running statistics by name, in the order of the source; assignable singly or all at once."""
        return self._weights

    @weights.setter
    def weights(self, values: Mapping[str, Any]) -> None:
        if values is self._weights:
            return
        of_kind("weights", values, Mapping, "a mapping of arrays by name", "net.load_weights reads a file")
        missing = [name for name in self._weights if name not in values]
        if missing:
            raise error(
                "E0611",
                f"no value for '{missing[0]}'",
                f"{len(missing)} of {len(self._weights)} are missing",
                exit_code=safetensors.DATA,
            )
        for name, value in values.items():
            self._weights[name] = value

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of what the network tells apart, in the order of its outputs. Raises `CnncError` (E0706) for what is
        assigned and is no list of names."""
        return self._classes

    @classes.setter
    def classes(self, names: Sequence[str] | None) -> None:
        if names is not None and not (isinstance(names, tuple | list) and all(isinstance(n, str) for n in names)):
            raise wrong("classes", names, "a list of names, or None,")
        self._classes = None if names is None else tuple(escaped(n) for n in names)

    @property
    def open_sizes(self) -> tuple[str, ...]:
        """The names of sizes that inputs leave open besides the batch; `cnnc.open_sizes.OpenNetwork` has some."""
        return ()

    @property
    def representative(self) -> Network:
        """The network; of one with open sizes, that of some."""
        return self

    @property
    def graph(self) -> Graph:
        return self.program.graph

    @property
    def name(self) -> str:
        return self.program.graph.name

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        return tuple(self.program.warnings)

    def initialize(self, seed: int, init: Start | None = None, bias_init: Start | None = None) -> None:
        """Start over: every weight drawn from a seed, as its layer says; else by `init`, and biases by `bias_init`, of
        which `cnnc.start` makes one; else as the model says; else as PyTorch would. Raises `CnncError` (E0706)."""
        for name, begin in (("init", init), ("bias_init", bias_init)):
            if begin is not None:
                of_kind(name, begin, Start, "a start", 'cnnc.start("kaiming_normal") is one')
                refused = unfit_default(name, begin)
                if refused is not None:
                    raise wrong(name, str(begin), refused)
        weight, bias = self.program.starts
        self.weights.restart(seed_of(seed), (init or weight, bias_init or bias))

    def load_weights(self, path: str | Path, strict: bool = True, map: Mapping[str, str] | None = None) -> Loaded:
        """Take the weights of a safetensors or `.npz` file by name; nothing changes unless all that is taken can be read.

        strict: anything missing, unexpected or mismatched is an error; otherwise what fits is taken, and the rest
        returned. map: how names begin in the file, and how they do in the network: {"backbone.": "features."}. float16,
        bfloat16, float64 and integers are converted. Raises `CnncError` (E0601, E0604, E0610 to E0613, E0620, E0625, E0626;
        exit code 3; E0706).
        """
        flag("strict", strict)
        file = open_weights(as_path("path", path), map)
        present = {n: s for n, s in file.shapes.items() if n.rpartition(".")[2] != IGNORED or n in self.weights}
        shapes = {n: s.shape for n, s in self.weights._specs.items()}
        report = Loaded.of(shapes, present)
        if strict and report:
            raise CnncError(report.diagnostic(file.path, len(shapes)), safetensors.DATA)
        taken = [n for n, s in shapes.items() if present.get(n) == s]
        room.check(4 * sum(product(shapes[n]) for n in taken), " for the weights")
        self.weights._values |= {n: frozen(as_float32(value, n)) for n, value in file.read(set(taken))}
        if not report.missing and not report.mismatched:
            self.classes = file.classes
        return report

    def save_weights(self, path: str | Path) -> None:
        """Write all weights to a safetensors file, whole or not at all. Raises `CnncError` (E0601)."""
        names = {} if self.classes is None else {CLASSES: json.dumps(self.classes)}
        safetensors.write_file(as_path("path", path), dict(self.weights), {"format": "pt", "model": self.name, **names})

    def parameter_count(self) -> int:
        """Trained numbers, shared ones once; running statistics do not count."""
        return sum(product(tuple(int(d) for d in n.type.shape)) for n in self.graph.parameters)

    def summary(self, batch: int = 1) -> Summary:
        """A row per layer; totals; planned memory."""
        from cnnc.runtime.inputs import whole
        from cnnc.summary import summarize

        whole("batch", batch)
        measure = self.measure
        return summarize(self.graph, batch, None if measure is None else partial(measure, self, batch))

    def trace(
        self,
        *inputs: Any,
        names: Sequence[str] | None = None,
        target: str = "cpu",
        threads: int | None = None,
        **named: Any,
    ) -> dict[str, Floats]:
        """Every named value of a call, as the network predicts: {"image": ..., "conv1": ..., "relu1": ...}, in the order of
        the source, by the names that `cnnc ir` prints.

        inputs: as an executable takes them. names: only these values, which need less memory. Arrays of the values'
        shapes: float32 by compiled kernels, which make each value by itself; float64 by target "reference". Raises
        `CnncError` (E0830 for a name that there is not, with the nearest; E0410 with the bytes where the values would
        not fit in memory; E07xx for inputs that do not fit).
        """
        from cnnc.runtime.inputs import batch_of, gather
        from cnnc.trace import check_room, traced

        graph = traced(self.graph, names)
        assert self.build is not None, "networks of cnnc.load and cnnc.parse can be compiled"
        given = gather(graph.inputs, inputs, named)
        check_room(graph, batch_of(given, graph.inputs))
        return self.build(graph, self.weights, target, threads).run(given)

    def __repr__(self) -> str:
        return f"<Network {self.name}: {len(self.graph.nodes)} nodes, {self.parameter_count():,} parameters>"

    def _repr_html_(self) -> str:
        from cnnc.drawing import svg

        return f"<details open='open'><summary>{self.name}</summary>{svg(self.graph)}</details>{self.summary()._repr_html_()}"

    def _repr_svg_(self) -> str:
        from cnnc.drawing import svg

        return svg(self.graph)
