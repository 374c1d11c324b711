"""A network as an ONNX model: the graph as written, its weights inside, the batch symbolic."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from cnnc import __version__
from cnnc.diagnostics import error
from cnnc.interop.onnx_ops import WRITERS
from cnnc.interop.onnx_writer import Writer, unknown
from cnnc.ir.graph import LEAVES, Graph
from cnnc.ir.types import product

OPSET, IR_VERSION = 18, 8  # of 2022: what any runtime of today reads
LARGEST = 2**31 - 2**20  # bytes of weights; a protobuf message ends at 2 GiB
UNWRITTEN = (*LEAVES, "constant")  # ops that are no ONNX nodes
USAGE, DATA = 2, 3


def package() -> ModuleType:
    """The `onnx` package. Raises `CnncError` (E0650) where it is not installed."""
    try:
        import onnx
        import onnx.helper
        import onnx.numpy_helper
    except ImportError:
        raise error(
            "E0650", "the package onnx is not installed", help="pip install 'cnnc[onnx]'", exit_code=USAGE
        ) from None
    module: ModuleType = onnx
    return module


def _name(w: Writer) -> list[tuple[str, str]]:
    """Give every value its name in ONNX; (name, value) of each output.

    An output goes by its label. A leaf keeps its own name, so that as an output it is copied under another, and so is
    what leaves twice.
    """
    leaves = {n.name for n in w.graph.nodes if n.op in LEAVES}
    w.taken |= leaves
    outputs = []
    for label, value in w.graph.outputs:
        name = w.fresh(f"{label}.output" if label in leaves else label)
        outputs.append((name, value))
        if value not in w.names and w.graph.node(value).op not in UNWRITTEN:
            w.names[value] = name
    w.names.update((name, name) for name in leaves)
    for node in w.graph.nodes:
        for value in node.results:
            if value not in w.names and node.op != "constant":
                w.names[value] = w.fresh(value)
    return outputs


def model(
    graph: Graph, values: Mapping[str, Any], batch: int | None = None, classes: Sequence[str] | None = None
) -> Any:
    """An `onnx.ModelProto` of an inference graph. values: params and states by name; batch: fixes the batch, which is
    symbolic otherwise; classes: their names, which go along as JSON under cnnc.classes in the metadata.

    Raises `CnncError`: E0650 without the package, E0651 for an op that has no form in ONNX, E0652 where the weights are
    too large for one file.
    """
    onnx = package()
    if sum(product(n.type.sizes) * 4 for n in (*graph.parameters, *graph.states)) > LARGEST:
        raise error("E0652", f"the weights of {graph.name} are more than an ONNX file holds, 2 GiB", exit_code=DATA)
    w = Writer(graph, onnx, batch)
    outputs = _name(w)
    for node in graph.nodes:
        if node.op in ("param", "state"):
            w.weights.append(onnx.numpy_helper.from_array(np.asarray(values[node.name], order="C"), node.name))
        elif node.op != "input":
            if node.op not in WRITERS:
                raise unknown(node)
            WRITERS[node.op](w, node)
    for name, value in outputs:
        if w.names[value] != name:
            w.add("Identity", [w.names[value]], name, name)
    leaving = {name for name, _ in outputs}
    inner = [
        w.value_info(w.names[v], t)
        for n in graph.nodes
        if n.op not in UNWRITTEN
        for v, t in zip(n.results, n.types, strict=True)
        if w.names[v] not in leaving
    ]
    body = onnx.helper.make_graph(
        w.nodes,
        graph.name,
        [w.value_info(n.name, n.type) for n in graph.inputs],
        [w.value_info(name, graph.type(value)) for name, value in outputs],
        w.weights,
        value_info=inner,
    )
    made = onnx.helper.make_model(
        body,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="cnnc",
        producer_version=__version__,
    )
    if classes is not None:
        onnx.helper.set_model_props(made, {"cnnc.classes": json.dumps(list(classes), ensure_ascii=False)})
    return made
