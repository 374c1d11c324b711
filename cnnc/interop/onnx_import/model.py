"""`cnnc.load("net.onnx")`: a model -> a program of ours, with its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cnnc.diagnostics import CnncError, Source, error
from cnnc.frontend.elaborate import Program
from cnnc.frontend.inputs import CHANNELS, Preprocess
from cnnc.interop.onnx_import import activations, norms, rules  # noqa: F401  (registers them)
from cnnc.interop.onnx_import.calls import Call
from cnnc.interop.onnx_import.importer import RULES, Importer, cut, identifier, run
from cnnc.interop.onnx_import.reading import DATA, Tensors, calls, damaged, opset
from cnnc.ir.builder import Builder
from cnnc.ir.graph import Graph
from cnnc.ir.layer import ParameterSpec
from cnnc.ir.legal import check_type
from cnnc.ir.op import InferenceError
from cnnc.ir.types import BATCH, PLAIN, Dim, TensorType
from cnnc.untrusted import Malformed

Array = np.ndarray[Any, Any]
Shapes = Mapping[str, Sequence[int | None]]
BYTES = (2, 3, 4, 5)  # whole numbers of 8 and 16 bits, which floats hold
OF_BYTES = (
    "Cast",
    "DequantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
    "Identity",
)  # what may read them
FLOATS = (1, 9, 10, 11, 16)  # ONNX's element types that are computed in float32: floats, and truths as 0 and 1


@dataclass(frozen=True)
class Imported:
    """What a model holds: the graph, its parameters in the model's order and their values."""

    graph: Graph
    parameters: Mapping[str, ParameterSpec]
    weights: Mapping[str, Array]
    source: Source
    doc: str = ""


def name_of(model: Any) -> str:
    return identifier(model.graph.name) or "network"


def first_size(value: Any) -> int | None:
    """The size of an input's first axis, where the model says it."""
    dims = value.type.tensor_type.shape.dim
    return int(dims[0].dim_value) if dims and dims[0].WhichOneof("value") == "dim_value" else None


def open_shapes(body: Any) -> dict[str, tuple[Dim, ...]]:
    """The shapes of a model's inputs, with names for what is open: the model's own, in letters and digits. A batch of 1
    is taken for one that its exporter did not open."""
    constants = {t.name for t in body.initializer}
    result = {}
    for value in body.input:
        if value.name in constants:
            continue
        shape: list[Dim] = []
        for axis, d in enumerate(value.type.tensor_type.shape.dim):
            size = int(d.dim_value) if d.WhichOneof("value") == "dim_value" else 0
            if axis == 0 and size <= 1:
                shape.append(BATCH)
            elif size > 0:
                shape.append(size)
            else:
                name = re.sub(r"\W", "_", d.dim_param) if d.dim_param not in ("", "?", "-1") else ""
                shape.append(name or f"{identifier(value.name)}_{axis}".replace(".", "_"))
        result[value.name] = tuple(shape)
    return result


def of_model(
    model: Any,
    path: Path,
    shapes: Shapes,
    external_data: bool = False,
    fixed: Mapping[str, Array] | None = None,
) -> Imported:
    """The network of an `onnx.ModelProto` that was read from `path`.

    shapes: sizes of inputs by name, where the file leaves them open or to set others; None is the open batch.
    external_data: whether tensors in other files of its folder are read. fixed: inputs that are constants here.
    Raises `CnncError`: E0653 for operators that are not read (all of them), E0654 for a damaged file, E0655 for sizes
    that are open or do not fit, E0656 for tensors outside of the file.
    """
    version = opset(model, path)
    body = model.graph
    constants, nodes = _contents(body, path, external_data)
    constants |= dict(fixed or {})
    types = _inputs(body, constants, shapes, path)
    tries = [types]
    if not any(BATCH in t.shape for t in types.values()) and not shapes:
        tries.insert(0, _opened(types))  # exporters fix the batch to 1 unless told; most networks do not need that
    for attempt in tries:
        importer = Importer(Builder(identifier(body.name) or "network"), version, dict(constants))
        importer.room += 4 * sum(a.size for a in constants.values())
        importer.kinds |= {v.name: v.type.tensor_type.elem_type for v in body.input}
        problems = _fill(importer, nodes, attempt, path)
        if not problems:
            break
    if problems:
        raise _not_read(problems, path, version)
    graph = _finish(importer, body, path)
    names = [n.name for n in graph.nodes if n.op in ("param", "state")]
    parameters = {n: importer.parameters[n] for n in names}
    source = Source(str(path), "")
    return Imported(graph, parameters, {n: importer.weights[n] for n in names}, source, body.doc_string)


def _contents(body: Any, path: Path, external_data: bool) -> tuple[dict[str, Array], list[Call]]:
    """The tensors that a model holds, and its nodes. Raises `CnncError` (E0654, E0656)."""
    tensors = Tensors(path, external_data)
    try:
        constants = {t.name: tensors.array(t) for t in body.initializer}
        if body.sparse_initializer:
            raise Malformed("it holds sparse tensors, which are not read")
        nodes = list(calls(body, tensors))
    except Malformed as e:
        raise damaged(path, cut(str(e))) from None
    made = {*constants, *(v.name for v in body.input), *(o for n in nodes for o in n.outputs)}
    lost = next((v.name for v in body.output if v.name not in made), None)
    if lost is not None:
        raise damaged(path, f"its output '{lost[:80]}' is made by no node")
    return constants, nodes


def _fill(
    importer: Importer, nodes: Sequence[Call], types: Mapping[str, TensorType], path: Path
) -> list[tuple[Call, str]]:
    for name, type in types.items():
        importer.values[name] = importer.builder.input(importer.builder.fresh(identifier(name) or "input"), type)
    return run(importer, nodes)


def _inputs(body: Any, constants: Mapping[str, Array], shapes: Shapes, path: Path) -> dict[str, TensorType]:
    """The types of what is to be given, with the sizes that were asked for. Raises `CnncError` (E0655)."""
    found = {v.name: v for v in body.input if v.name not in constants}
    for name in shapes:
        if name not in found:
            raise error("E0655", f"{path} has no input '{name}'", f"it has {', '.join(found)}", exit_code=2)
    types = {}
    for name, value in found.items():
        kind = value.type.tensor_type
        if not value.type.HasField("tensor_type"):
            raise error("E0653", f"the input '{name[:80]}' of {path} holds no tensor", exit_code=DATA)
        if not is_data(body, value):
            raise error(
                "E0653",
                f"the input '{name[:80]}' of {path} is of integers or texts; networks read images and other floats",
                exit_code=DATA,
            )
        if not kind.HasField("shape"):
            raise damaged(path, f"its input '{name[:80]}' has no shape")
        shape = [
            d.dim_value if d.WhichOneof("value") == "dim_value" and d.dim_value > 0 else None for d in kind.shape.dim
        ]
        types[name] = _type(name, shape, shapes.get(name), path)
        try:
            check_type(types[name], f"the input '{name[:80]}'")
        except InferenceError as e:
            raise error("E0655", f"{path} cannot be read: {cut(e.message)}", exit_code=DATA) from None
    return types


def _type(name: str, shape: Sequence[int | None], given: Sequence[int | None] | None, path: Path) -> TensorType:
    shown = ", ".join("?" if d is None else str(d) for d in shape)
    if given is not None and len(given) != len(shape):
        raise error("E0655", f"'{name}' is [{shown}]; {len(given)} sizes are given for it", f"in {path}", exit_code=2)
    sizes: list[Dim] = []
    for axis, d in enumerate(shape):
        wanted = given[axis] if given is not None else d
        if wanted is None and axis == 0:
            sizes.append(BATCH)
        elif wanted is None:
            one = ",".join("1" if k == 0 else str(v or 224) for k, v in enumerate(shape))
            raise error(
                "E0655",
                f"the input '{name}' of {path} leaves sizes open: [{shown}]",
                help=f"give them: --input-shape {name}={one}, or shapes={{'{name}': ({one.replace(',', ', ')})}}",
                exit_code=2,
            )
        elif d is not None and wanted is not None and wanted != d and axis and given is not None:
            raise error(
                "E0655", f"'{name}' is [{shown}] in {path}, which sets axis {axis} to {d}, not {wanted}", exit_code=2
            )
        elif not 1 <= wanted < 2**31:
            why = f"'{name}' would have a size of {wanted}"
            raise error("E0655", why, f"in {path}", exit_code=DATA if wanted == d else 2)
        else:
            sizes.append(wanted)
    return TensorType("f32", tuple(sizes), PLAIN.get(len(sizes)))


def _opened(types: Mapping[str, TensorType]) -> dict[str, TensorType]:
    """The same inputs with an open batch."""
    return {
        name: TensorType("f32", (BATCH, *t.shape[1:]), t.layout) if t.rank > 1 and t.shape[0] == 1 else t
        for name, t in types.items()
    }


def _finish(importer: Importer, body: Any, path: Path) -> Graph:
    from cnnc.passes.eliminate_dead import EliminateDead

    outputs, labels = [], set()
    for value in body.output:
        found = importer.values.get(value.name)
        if found is None:
            raise damaged(path, f"its output '{value.name[:80]}' is made by no node")
        label = identifier(value.name) or "output"
        if label in labels:
            raise damaged(path, f"it has two outputs '{label}'")
        labels.add(label)
        importer.label = label
        try:
            made = found if isinstance(found, str) else importer.constant(found, value.name)
        except Malformed as e:
            raise damaged(path, str(e)) from None
        outputs.append((label, made))
    if not outputs:
        raise damaged(path, "it has no outputs")
    graph = EliminateDead().apply(importer.builder.finish(outputs))
    graph = norms.named(graph, importer.parameters, importer.weights)
    return _without_unread(EliminateDead().apply(activations.named(graph)))


def _without_unread(graph: Graph) -> Graph:
    """The graph without parameters that nothing reads."""
    read = {o for n in graph.nodes for o in n.inputs} | set(graph.kept)
    return replace(graph, nodes=tuple(n for n in graph.nodes if n.op not in ("param", "state") or n.name in read))


def _not_read(problems: Sequence[tuple[Call, str]], path: Path, version: int) -> CnncError:
    """E0653: what of a model has no form here; operators that nobody knows all at once."""
    unknown: dict[str, list[str]] = {}
    for call, why in problems:
        if not why:
            unknown.setdefault(f"{call.domain}.{call.operator}".strip("."), []).append(call.name or call.outputs[0])
    if not unknown:
        call, why = problems[0]
        return error("E0653", f"{path} cannot be read: {call}", why, exit_code=DATA)
    notes = [
        f"{operator}, {len(names)} times: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
        for operator, names in list(unknown.items())[:20]
    ]
    what = f"{path} uses {len(unknown)} operator{'s' * (len(unknown) > 1)} of opset {version} that are not read"
    return error(
        "E0653", what, *notes, help=f"{len(RULES)} operators are: those of convolutional networks", exit_code=DATA
    )


def is_data(body: Any, value: Any) -> bool:
    """Whether an input holds what is computed in float32: floats, truths, and bytes that are numbers of their own first."""
    kind = value.type.tensor_type.elem_type
    if kind in BYTES:
        return all(n.op_type in OF_BYTES for n in body.node if value.name in n.input)
    return kind in FLOATS


def program_of(found: Imported) -> Program:
    """The program that a file of ours would give. Inputs with one, three or four channels are taken for images."""
    inputs = {
        n.name: Preprocess(channels=CHANNELS[int(n.type.shape[1])][0])
        for n in found.graph.inputs
        if n.type.rank == 4 and n.type.shape[1] in CHANNELS
    }
    return Program(found.graph, found.parameters, inputs, None, found.graph.name, found.source, doc=found.doc)
