"""`.cnnx`: a compiled network in one safetensors file.

The tensors are the parameters and running statistics by name, each once and as the network has them. The kernels read
them folded and packed, in another order for each algorithm, and so for each batch size: that is made of them in
milliseconds when a batch size is first met, while what was packed for one size would give nothing to the others. The
metadata hold the graph after all passes, the Plan, and how images become inputs. The file is data: opening it reads the
graph's text, verifies it and lowers it anew; the Plan's text is there to be read by people, never to be run.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnc import __version__
from cnnc.arguments import as_path, of_kind, wrong
from cnnc.backends import native
from cnnc.diagnostics import CnncError, error
from cnnc.frontend.inputs import Preprocess
from cnnc.frontend.inputs import read as preprocess
from cnnc.interop import safetensors
from cnnc.ir.graph import Graph
from cnnc.ir.text import parse_graph
from cnnc.ir.types import TensorType
from cnnc.lowering.lower import lower
from cnnc.lowering.target import Array
from cnnc.passes.manager import Stages
from cnnc.runtime.executable import Executable
from cnnc.runtime.inputs import whole
from cnnc.untrusted import Field, Malformed, read_json

FORMAT = "cnnx 2"
NAMES = 1 << 20  # class names, and characters of one


@dataclass(frozen=True)
class Artifact:
    """An opened artifact: the executable, the Plan's text, and what running on images needs."""

    executable: Executable
    inputs: Mapping[str, Preprocess]
    labels: tuple[str, ...] | None
    batch: int
    plan: str


def save(
    executable: Executable,
    path: str | Path,
    batch: int = 1,
    inputs: Mapping[str, Preprocess] | None = None,
    labels: tuple[str, ...] | None = None,
) -> None:
    """Write an artifact whole or not at all, prepared for a batch size. labels: the names of the classes, those of the
    network unless given. Raises `CnncError` (E0601, E0704, E0706).
    """
    of_kind("executable", executable, Executable, "a compiled network", "cnnc.compile gives one")
    path = as_path("path", path)
    whole("batch", batch)
    _check_inputs(inputs, labels)
    compiled, target = executable.runner, executable.runner.backend.compiler
    if target is None:
        raise error("E0809", "only a network that was compiled for a machine makes an artifact", exit_code=2)
    plan = compiled.plan(batch)
    metadata = {
        "format": FORMAT,
        "cnnc": __version__,
        "target": plan.target,
        "batch": str(batch),
        "exact": str(target.exact).lower(),
        "ir": str(compiled.graph),
        "plan": str(plan),
        "decisions": json.dumps(target.record(compiled.graph, batch)),
        "inputs": json.dumps({k: asdict(v) for k, v in (inputs or {}).items()}),
        "labels": json.dumps(labels if labels is not None else executable.classes),
    }
    safetensors.write_file(path, compiled.values, metadata)


def _check_inputs(inputs: Any, labels: Any) -> None:
    """Raises `CnncError` (E0706) for settings of inputs and names of classes that are none."""
    if inputs is not None and not (
        isinstance(inputs, Mapping) and all(isinstance(v, Preprocess) for v in inputs.values())
    ):
        raise wrong("inputs", inputs, "the mapping net.program.inputs, or None,")
    if labels is not None and not (isinstance(labels, tuple | list) and all(isinstance(n, str) for n in labels)):
        raise wrong("labels", labels, "a tuple of names, or None,")


def open_artifact(path: str | Path, threads: int | None = None) -> Executable:
    """The Executable of an artifact. Raises `CnncError` (E0601, E0610, E0608; exit code 3)."""
    return read(path, threads).executable


def read(path: str | Path, threads: int | None = None) -> Artifact:
    """An artifact with all that it says. Raises `CnncError` (E0601, E0610, E0608; exit code 3)."""
    path = as_path("path", path)
    if threads is not None:
        whole("threads", threads)
    file = safetensors.open_file(path, "artifact")
    file.verify()
    meta = file.metadata
    if meta.get("format") != FORMAT:
        raise error(
            "E0610",
            f"{path} is no artifact of this version of cnnc",
            f"its format is '{meta.get('format', 'unknown')[:40]}', '{FORMAT}' is read",
            help="make it with `cnnc compile`",
            exit_code=3,
        )
    machine = native(meta.get("exact") == "true")
    if meta.get("target") != machine.name:
        raise error(
            "E0608",
            f"{path} was compiled for {meta.get('target', 'nothing')[:40]}, this machine is {machine.name}",
            help="compile the model here",
            exit_code=3,
        )
    try:
        graph = parse_graph(meta.get("ir", ""), f"{path}:ir")
        batch = Field(meta.get("batch"), "batch").decimal(1)
        Field(meta.get("exact"), "exact").one_of(("true", "false"))
        if graph.updates:
            raise Malformed("its graph trains")
        for t in (t for node in graph.nodes for t in node.types):
            if t.dtype == "f64" or t.block not in (1, machine.lanes):
                raise Malformed(f"{t} is in its graph, which {machine.name} does not compute")
        inputs = _inputs(read_json(meta.get("inputs", ""), "inputs"), graph)
        labels = _labels(read_json(meta.get("labels", ""), "labels"))
        machine = machine.tuned(read_json(meta.get("decisions", "{}"), "decisions"))
    except CnncError as e:
        raise CnncError(e.diagnostics, 3) from None
    except Malformed as e:
        raise error("E0610", f"{path} is damaged", str(e), exit_code=3) from None
    values = Stored(file, {n.name: n.type for n in (*graph.parameters, *graph.states)})
    lower(graph, batch, machine)  # what cannot be run is refused now
    executable = Executable(machine.prepare(graph, values, threads), Stages(graph))
    executable.classes = labels
    return Artifact(executable, inputs, labels, batch, meta.get("plan", ""))


def _inputs(settings: Field, graph: Graph) -> dict[str, Preprocess]:
    """How images become the graph's inputs."""
    types = {n.name: n.type for n in graph.inputs}
    given = settings.entries(len(types))
    for name in given:
        Field(name, "an input").one_of(types)
    return {name: preprocess(field, types[name]) for name, field in given.items()}


def _labels(names: Field) -> tuple[str, ...] | None:
    if names.value is None:
        return None
    return tuple(name.text(NAMES) for name in names.items(0, NAMES))


class Stored(Mapping[str, Array]):
    """Values in a file, which stays open. They are mapped when they are read, so that what has been packed is not held in
    two forms. Raises `CnncError` (E0610) for one that is missing, or that is not what the graph reads.
    """

    def __init__(self, file: safetensors.File, types: Mapping[str, TensorType]) -> None:
        wrong = [f"'{n[:80]}' is {e}, which does not belong there" for n, e in file.entries.items() if n not in types]
        for name, type in types.items():
            entry, shape = file.entries.get(name), type.concrete(1)
            if entry is None or entry.dtype != "F32" or entry.shape != shape:
                wrong.append(f"'{name[:80]}' is {entry or 'missing'}, F32[{','.join(map(str, shape))}] is due")
        if wrong:
            raise error("E0610", f"{file.path} is damaged", wrong[0], exit_code=3)
        self._file, self._names = file, tuple(types)
        self._stream = open(file.path, "rb")
        weakref.finalize(self, self._stream.close)

    def __getitem__(self, name: str) -> Array:
        return np.asarray(self._file.read(name, self._stream))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def snapshot(self) -> Stored:
        return self

    def __reduce__(self) -> tuple[type, tuple[dict[str, Array]]]:
        """Another process gets the values themselves."""
        return dict, ({name: np.array(self[name]) for name in self},)
