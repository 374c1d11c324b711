"""Normalizations, places of extremes and running sums in ONNX's operators: its own where they mean the same, else spelled out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cnnc.interop.onnx_writer import Writer
from cnnc.ir import expression as ex
from cnnc.ir.graph import Node
from cnnc.ir.types import product

Rule = Callable[[Writer, Node], None]


def _spelled_out(w: Writer, node: Node, x: str) -> str:
    """By means of x over the axes."""
    stem, axes = node.name, w.integers(node.attribute("axes"), f"{node.name}.axes")
    apart = w.add("Sub", [x, w.add("ReduceMean", [x, axes], stem)], stem) if node.attribute("centered") else x
    variance = w.add("ReduceMean", [w.add("Mul", [apart, apart], stem), axes], stem)
    shifted = w.add("Add", [variance, w.constant(np.float32(node.attribute("eps")), f"{stem}.eps")], stem)
    return w.add("Div", [apart, w.add("Sqrt", [shifted], stem)], stem)


def _by_groups(w: Writer, node: Node, x: str) -> str:
    """ONNX normalizes the channels of images: each group as one channel."""
    t, groups = node.type, node.attribute("groups")
    size = product(tuple(int(d) for d in t.shape[1:])) // groups
    flat = w.reshape(x, (t.shape[0], groups, size), node.name)
    ones, zeros = (w.constant(np.full(groups, v, np.float32), f"{node.name}.{v}") for v in (1, 0))
    y = w.add("InstanceNormalization", [flat, ones, zeros], node.name, epsilon=float(node.attribute("eps")))
    return w.reshape(y, t.shape, node.name)


def _write_normalize(w: Writer, node: Node) -> None:
    x, rank, axes = w.names[node.operand("x") or ""], node.type.rank, node.attribute("axes")
    sizes = tuple(int(node.type.shape[a]) for a in axes)
    given = [v for v in (node.optional("weight"), node.optional("bias")) if v is not None]
    along = all(axes == (1,) or w.graph.type(v).rank > 1 for v in given)
    if axes[-1] == rank - 1 and along and node.attribute("centered") and node.attribute("groups") == 1:
        vectors = [w.reshape(w.names[v], sizes, node.name) for v in given]
        vectors = vectors or [w.constant(np.ones(sizes, np.float32), f"{node.name}.ones")]
        y = w.add("LayerNormalization", [x, *vectors], node.name, axis=axes[0], epsilon=float(node.attribute("eps")))
        given = []
    elif node.attribute("groups") > 1:
        y = _by_groups(w, node, x)
    else:
        y = _spelled_out(w, node, x)
    for operator, v in zip(("Mul", "Add"), given, strict=False):
        y = w.add(operator, [y, w.aligned(v, rank, node.name)], node.name)
    extras = [w.aligned(o, rank, node.name) for o in node.operands[3:] if o is not None]
    values = {"y": y, **{f"a{i}": v for i, v in enumerate(extras)}}
    w.expression(ex.parse(node.attribute("epilogue") or "y"), values, node.name, w.names[node.name])


def _write_moments(w: Writer, node: Node) -> None:
    rank, stem = w.graph.type(node.inputs[0]).rank, node.name
    x, axes = w.names[node.inputs[0]], w.integers([0, *range(2, rank)], f"{stem}.axes")
    apart = w.add("Sub", [x, w.add("ReduceMean", [x, axes], stem)], stem)
    for value, result in zip((x, w.add("Mul", [apart, apart], stem)), node.results, strict=True):
        w.add("ReduceMean", [value, axes], stem, w.names[result], keepdims=0)


def _write_place(operator: str) -> Rule:
    def write(w: Writer, node: Node) -> None:
        axis, keep = node.attribute("axis"), int(node.attribute("keepdim"))
        found = w.add(operator, [w.names[node.inputs[0]]], node.name, axis=axis, keepdims=keep)
        w.add("Cast", [found], node.name, w.names[node.name], to=w.element("f32"))

    return write


def _write_running(w: Writer, node: Node) -> None:
    axis = w.constant(np.int64(node.attribute("axis") % node.type.rank), f"{node.name}.axis")
    reverse = int(node.attribute("reverse"))
    w.add("CumSum", [w.names[node.inputs[0]], axis], node.name, w.names[node.name], reverse=reverse)


RULES: dict[str, Rule] = {
    "normalize": _write_normalize,
    "moments": _write_moments,
    "argmax": _write_place("ArgMax"),
    "argmin": _write_place("ArgMin"),
    "cumsum": _write_running,
}
