"""A file -> what is in it, within bounds. Nothing is read outside of the file unless that was asked for, and then only
below the file's folder.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cnnc.diagnostics import CnncError, error
from cnnc.interop.onnx import package
from cnnc.interop.onnx_import.calls import Call
from cnnc.ir.types import product
from cnnc.untrusted import DEEPEST, Malformed

Array = np.ndarray[Any, Any]
LARGEST = 2**31  # bytes of a file: a protobuf message ends there
CALLS = 15_000  # of a chain of them it takes 1.7 s to read
SCOPES = "pkg.torch.onnx.name_scopes"
NAME = 1000  # characters of a node's name that are read
OLDEST = 6  # opset
DATA = 3


def damaged(path: Path | str, why: str) -> CnncError:
    return error("E0654", f"{path} is no valid ONNX model", why, exit_code=DATA)


@dataclass
class Tensors:
    """Where the tensors of a model lie: in the file, or, where that is allowed, in others of its folder."""

    path: Path
    external: bool = False
    _opened: dict[Path, Array] = field(default_factory=dict)

    def array(self, tensor: Any) -> Array:
        """The array of a tensor. Raises `Malformed`, and `CnncError` (E0656) for one that lies outside of the file."""
        onnx = package()
        dims = tuple(int(d) for d in tensor.dims)
        if any(d < 0 for d in dims) or product(dims) >= 2**31:
            raise Malformed(f"the tensor '{tensor.name[:80]}' has the shape {list(dims)[:8]}")
        try:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                return self._outside(tensor, dims)
            self._check_length(tensor, dims)
            return np.asarray(onnx.numpy_helper.to_array(tensor))
        except (ValueError, TypeError, KeyError, OverflowError, NotImplementedError, AttributeError) as e:
            if isinstance(e, Malformed):
                raise
            raise Malformed(f"the tensor '{tensor.name[:80]}' cannot be read: {str(e)[:100]}") from None

    def _check_length(self, tensor: Any, dims: tuple[int, ...]) -> None:
        """That its numbers are there, before memory is taken for them. Raises `Malformed`."""
        fields = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
        given = len(tensor.raw_data) if tensor.HasField("raw_data") else max(len(getattr(tensor, f)) for f in fields)
        if product(dims) > 8 * given:  # nothing is packed denser than a bit
            raise Malformed(f"the tensor '{tensor.name[:80]}' has the shape {list(dims)}, and its data are missing")

    def _outside(self, tensor: Any, dims: tuple[int, ...]) -> Array:
        onnx = package()
        entries = {e.key: e.value for e in tensor.external_data}
        location = entries.get("location", "")
        if not self.external:
            raise error(
                "E0656",
                f"'{tensor.name[:80]}' lies in another file, '{location[:80]}'",
                f"{self.path} keeps tensors outside of itself",
                help="allow it with --external-data, or external_data=True; only files of the model's folder are read",
                exit_code=DATA,
            )
        try:
            offset, length = int(entries.get("offset", 0)), entries.get("length")
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        except (ValueError, KeyError) as e:
            raise Malformed(f"the tensor '{tensor.name[:80]}' says where it lies as nobody does: {e}") from None
        content = self._content(location)
        size = product(dims) * dtype.itemsize
        if offset < 0 or offset + size > len(content) or (length is not None and int(length) != size):
            raise Malformed(f"the tensor '{tensor.name[:80]}' is {size} bytes from {offset} on, beyond '{location}'")
        return np.frombuffer(content[offset : offset + size].tobytes(), dtype.newbyteorder("<")).reshape(dims)

    def _content(self, location: str) -> Array:
        """A file below the model's folder, mapped. Raises `CnncError` (E0656): by no path, no link and no second name
        can it lie elsewhere.
        """
        folder = self.path.resolve().parent
        found = folder / location
        if found in self._opened:
            return self._opened[found]
        try:
            outside = not location or found.resolve() != Path(os.path.normpath(found))
            outside = outside or not found.resolve().is_relative_to(folder)
            status = os.lstat(found)
            if outside or not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                raise error(
                    "E0656",
                    f"'{location[:80]}' is no plain file below {folder}",
                    "tensors outside of the model's file are read from its folder alone, and through no link",
                    exit_code=DATA,
                )
            self._opened[found] = np.memmap(found, np.uint8, "r") if status.st_size else np.zeros(0, np.uint8)
        except (OSError, ValueError, RuntimeError) as e:
            if isinstance(e, CnncError):
                raise
            raise error("E0656", f"'{location[:80]}' cannot be read: {e}", exit_code=DATA) from None
        return self._opened[found]


def read(path: Path) -> Any:
    """The model of a file: an `onnx.ModelProto`, its functions written out. Raises `CnncError` (E0601, E0650, E0654)."""
    onnx = package()
    try:
        if path.stat().st_size >= LARGEST:
            raise damaged(path, f"it has {path.stat().st_size:,} bytes; a model has less than 2 GiB")
        content = path.read_bytes()
    except OSError as e:
        raise error("E0601", f"{path} cannot be read", e.strerror or str(e), exit_code=DATA) from None
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception as e:  # protobuf has an exception of its own in each of its versions
        raise damaged(path, str(e).splitlines()[0][:160]) from None
    if not model.HasField("graph"):
        raise damaged(path, "it has no graph")
    if not all(isinstance(text, str) for text in _texts(model)):
        raise damaged(path, "it has names that are no UTF-8")
    if model.functions:
        return _inlined(model, path)
    return model


def _texts(model: Any) -> Iterator[Any]:
    """The names of a model; protobuf gives bytes for what is no UTF-8."""
    graph = model.graph
    yield from (graph.name, graph.doc_string, *(o.domain for o in model.opset_import))
    for node in (*graph.node, *(n for f in model.functions for n in f.node)):
        yield from (node.op_type, node.domain, node.name, *node.input, *node.output, *(a.name for a in node.attribute))
    for function in model.functions:
        yield from (function.name, function.domain, *function.input, *function.output, *function.attribute)
    for value in (*graph.input, *graph.output):
        yield from (value.name, *(d.dim_param for d in value.type.tensor_type.shape.dim))
    for tensor in graph.initializer:
        yield from (tensor.name, *(t for e in tensor.external_data for t in (e.key, e.value)))


def _inlined(model: Any, path: Path) -> Any:
    """The model with what its functions stand for in their places. Raises `CnncError` (E0654)."""
    from onnx import inliner

    functions = {(f.domain, f.name): f for f in model.functions}
    counts: dict[tuple[str, str], int] = {}

    def count(nodes: Any, above: tuple[tuple[str, str], ...]) -> int:
        """How many nodes that would be."""
        total = 0
        for node in nodes:
            key = node.domain, node.op_type
            if key in functions and key not in counts:
                if key in above or len(above) >= DEEPEST:
                    raise damaged(path, f"its function '{node.op_type[:80]}' calls itself, or is too deep")
                counts[key] = count(functions[key].node, (*above, key))
            total = min(total + counts.get(key, 1), CALLS + 1)
        return total

    if count(model.graph.node, ()) > CALLS:
        raise damaged(path, f"it has more than {CALLS:,} nodes when its functions are written out")
    try:
        return inliner.inline_local_functions(model)
    except Exception as e:  # ONNX's own, of a compiled module
        raise damaged(path, f"its functions cannot be written out: {str(e)[:100]}") from None


def opset(model: Any, path: Path | str) -> int:
    """The version of ONNX's operators that a model uses. Raises `CnncError` (E0654)."""
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    version = versions[0] if versions else 1
    if version < OLDEST:
        raise damaged(path, f"it uses the operators of version {version} (opset); from {OLDEST} on they are read")
    return int(version)


def calls(graph: Any, tensors: Tensors) -> Iterator[Call]:
    """The nodes of a graph, in their order, with Python's values as attributes. Raises `Malformed`."""
    if len(graph.node) > CALLS:
        raise Malformed(f"it has {len(graph.node):,} nodes; {CALLS:,} are the limit")
    for node in graph.node:
        attributes = {a.name: _attribute(a, tensors) for a in node.attribute}
        domain = "" if node.domain == "ai.onnx" else node.domain
        yield Call(node.op_type, tuple(node.input), tuple(node.output), attributes, _name(node), domain)


def _name(node: Any) -> str:
    """The name of a node, or the path of modules that it came from, where PyTorch's exporter notes it beside the node."""
    scopes = next((p.value for p in node.metadata_props if p.key == SCOPES), "")
    path = re.findall(r"'([\w.]*)'", scopes[:NAME]) if isinstance(scopes, str) else []
    return f"/{'/'.join(path)}" if any(path[:-1]) else str(node.name[:NAME])


def _attribute(a: Any, tensors: Tensors) -> Any:
    kinds = package().AttributeProto
    match a.type:
        case kinds.FLOAT:
            return shortest(a.f)
        case kinds.INT:
            return int(a.i)
        case kinds.STRING:
            return a.s.decode("utf-8", "replace")
        case kinds.FLOATS:
            return tuple(map(shortest, a.floats))
        case kinds.INTS:
            return tuple(int(v) for v in a.ints)
        case kinds.STRINGS:
            return tuple(v.decode("utf-8", "replace") for v in a.strings)
        case kinds.TENSOR:
            return tensors.array(a.t)
        case kinds.GRAPH:
            return a.g
    return a


def shortest(value: float) -> float:
    """A float32 as the shortest decimal that stands for it: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))
