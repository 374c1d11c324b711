"""`.cnnx`: a compiled network in one safetensors file.

The tensors are weights in the order that the kernels read (`packed/<digest> <name>`), and those that they read as they
are, or that layers pack, since another batch size may want them otherwise (`value/<name>`). The metadata hold the graph
after all passes, the Plan, and how images become inputs. The file is data: opening it reads the graph's text, verifies it
and lowers it anew; the Plan's text is there to be read by people, never to be run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from cnnc import __version__
from cnnc.backends import backend
from cnnc.diagnostics import CnncError, error
from cnnc.frontend.inputs import Preprocess
from cnnc.frontend.inputs import read as preprocess
from cnnc.interop import safetensors
from cnnc.ir.graph import Graph
from cnnc.ir.text import parse_graph
from cnnc.ir.types import DTYPES, TensorType
from cnnc.passes.manager import Stages
from cnnc.runtime.compiled import Compiled
from cnnc.runtime.executable import Executable
from cnnc.runtime.inputs import whole
from cnnc.runtime.launch import Array
from cnnc.runtime.setup import check, contents
from cnnc.untrusted import Field, Malformed, read_json

FORMAT = "cnnx 1"
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
    """Write an artifact whole or not at all. Raises `CnncError` (E0601)."""
    compiled = executable.runner
    if not isinstance(compiled, Compiled):
        raise error("E0809", "only a network that was compiled for a machine makes an artifact", exit_code=2)
    program, machine = compiled.program(batch), cast(Any, compiled.backend)
    plan = program.plan
    digests, packed = contents(plan), compiled.everything(batch)
    tensors: dict[str, Array] = {}
    layers = (s for s in plan.setup if compiled.graph.node(s.node).op in ("conv", "linear"))
    # another batch size may want these packed otherwise, or not at all
    begin = {name for s in layers for name in s.reads() if name in compiled.values}
    for b in plan.buffers:
        if b.place == "packed":
            tensors[f"packed/{digests[b.name]} {b.name}"] = packed[digests[b.name]].view(np.float32)
        elif b.place == "value" and (b.name in program.fixed or b.name in begin):
            tensors[f"value/{b.name}"] = compiled.values[b.name]
    metadata = {
        "format": FORMAT,
        "cnnc": __version__,
        "target": plan.target,
        "batch": str(batch),
        "exact": str(getattr(compiled.backend, "exact", False)).lower(),
        "ir": str(compiled.graph),
        "plan": str(plan),
        "decisions": json.dumps(machine.decisions(compiled.graph, batch)),
        "inputs": json.dumps({k: asdict(v) for k, v in (inputs or {}).items()}),
        "labels": json.dumps(labels),
    }
    safetensors.write_file(path, tensors, metadata)


def open_artifact(path: str | Path, threads: int | None = None) -> Executable:
    """The Executable of an artifact. Raises `CnncError` (E0601, E0610, E0608; exit code 3)."""
    return read(path, threads).executable


def read(path: str | Path, threads: int | None = None) -> Artifact:
    """An artifact with all that it says. Raises `CnncError` (E0601, E0610, E0608; exit code 3)."""
    if threads is not None:
        whole("threads", threads)
    file = safetensors.open_file(path, "artifact")
    meta = file.metadata
    if meta.get("format") != FORMAT:
        raise error(
            "E0610",
            f"{path} is no artifact of this version of cnnc",
            f"its format is '{meta.get('format', 'unknown')[:40]}', '{FORMAT}' is read",
            help="make it with `cnnc compile`",
            exit_code=3,
        )
    machine: Any = backend("cpu", meta.get("exact") == "true")
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
        inputs = _inputs(read_json(meta.get("inputs", ""), "inputs"), graph)
        labels = _labels(read_json(meta.get("labels", ""), "labels"))
        machine = machine.with_decisions(read_json(meta.get("decisions", "{}"), "decisions"))
    except CnncError as e:
        raise CnncError(e.diagnostics, 3) from None
    except Malformed as e:
        raise error("E0610", f"{path} is damaged", str(e), exit_code=3) from None
    values, packed = _tensors(file, {n.name: n.type for n in (*graph.parameters, *graph.states)})
    plan = machine.plan(graph, batch)
    check(plan, contents(plan), packed)
    compiled = Compiled(graph, values, machine, threads, packed)
    return Artifact(Executable(compiled, Stages(graph)), inputs, labels, batch, meta.get("plan", ""))


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


def _tensors(file: safetensors.File, types: Mapping[str, TensorType]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Values by name and packed weights by digest, mapped from the file."""
    values: dict[str, Array] = {}
    packed: dict[str, Array] = {}
    for name, entry in file.entries.items():
        kind, _, rest = name.partition("/")
        if kind == "packed" and entry.dtype == "F32":
            packed[rest.partition(" ")[0]] = file.read(name).view(np.uint8)
        elif kind == "value" and rest in types and entry.dtype == "F32" and entry.shape == types[rest].concrete(1):
            values[rest] = np.asarray(file.read(name), DTYPES["f32"])
        else:
            raise error(
                "E0610",
                f"{file.path} is damaged",
                f"'{name[:80]}' is {entry}, which does not belong there",
                exit_code=3,
            )
    return values, packed
