"""The writer of ONNX nodes: names, constants, shapes, and pointwise expressions as primitive operators."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnnc.diagnostics import CnncError, error
from cnnc.ir import expression as ex
from cnnc.ir.graph import Graph, Node
from cnnc.ir.types import BATCH, DTYPES, Dim, TensorType
from cnnc.ops.pointwise import channel_aligned


@dataclass
class Writer:
    """The ONNX nodes so far. `names` maps a value of the graph to its name in ONNX."""

    graph: Graph
    onnx: Any
    batch: int | None = None
    nodes: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def fresh(self, stem: str) -> str:
        name, count = stem, 0
        while name in self.taken:
            count += 1
            name = f"{stem}.{count}"
        self.taken.add(name)
        return name

    def add(self, operator: str, inputs: Sequence[str], stem: str, result: str | None = None, **attributes: Any) -> str:
        """A node; the name of its one result: `result`, or a fresh one."""
        result = result or self.fresh(f"{stem}.{operator.lower()}")
        self.nodes.append(self.onnx.helper.make_node(operator, list(inputs), [result], name=result, **attributes))
        return result

    def constant(self, array: Any, stem: str) -> str:
        """An initializer; float64 becomes float32."""
        a = np.asarray(array, order="C")
        name = self.fresh(stem)
        self.weights.append(
            self.onnx.numpy_helper.from_array(a.astype(np.float32) if a.dtype == np.float64 else a, name)
        )
        return name

    def integers(self, values: Sequence[int], stem: str) -> str:
        return self.constant(np.array(values, np.int64), stem)

    def dim(self, d: Dim) -> Dim:
        return self.batch if d == BATCH and self.batch is not None else d

    def shape(self, dims: Sequence[Dim], stem: str) -> str:
        """A shape as a tensor; the batch is read from an input."""
        dims = [self.dim(d) for d in dims]
        if BATCH not in dims:
            return self.integers([int(d) for d in dims], f"{stem}.shape")
        node, axis = next((n, n.type.shape.index(BATCH)) for n in self.graph.inputs if BATCH in n.type.shape)
        n = self.add("Shape", [self.names[node.name]], stem, start=axis, end=axis + 1)
        parts = [n if d == BATCH else self.integers([int(d)], f"{stem}.dim") for d in dims]
        return self.add("Concat", parts, stem, axis=0)

    def reshape(self, x: str, dims: Sequence[Dim], stem: str, result: str | None = None) -> str:
        """`x` in another shape; a batch that occurs once is what is left over."""
        dims = [self.dim(d) for d in dims]
        if dims.count(BATCH) == 1 and 0 not in dims:
            shape = self.integers([-1 if d == BATCH else int(d) for d in dims], f"{stem}.shape")
        else:
            shape = self.shape(dims, stem)
        return self.add("Reshape", [x, shape], stem, result)

    def aligned(self, value: str, rank: int, stem: str) -> str:
        """An operand so that it broadcasts in NumPy's way: a vector holds one value a channel."""
        t = self.graph.type(value)
        if t.rank != 1 or rank <= 2:
            return self.names[value]
        return self.reshape(self.names[value], channel_aligned(t.shape, rank), stem)

    def element(self, dtype: str) -> int:
        return int(self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(DTYPES[dtype])))

    def value_info(self, name: str, type: TensorType) -> Any:
        dims = [self.dim(d) for d in type.shape]
        return self.onnx.helper.make_tensor_value_info(name, self.element(type.dtype), dims)

    # ---- expressions

    def expression(self, e: ex.Expression, values: Mapping[str, str], stem: str, result: str | None = None) -> str:
        """An expression as primitive operators."""
        if e[0] == "var":
            return self.add("Identity", [values[e[1]]], stem, result) if result else values[e[1]]
        if e[0] == "const":
            value = self.constant(np.float32(e[1]), f"{stem}.constant")
            return self.add("Identity", [value], stem, result) if result else value
        if e[0] in ex.COMPARISONS:
            return self.add("Cast", [self.truth(e, values, stem)], stem, result, to=self.element("f32"))
        if e[0] == "where":
            branches = [self.expression(a, values, stem) for a in e[2:]]
            return self.add("Where", [self.truth(e[1], values, stem), *branches], stem, result)
        if e[0] in _COMPOSED:
            return self.expression(ex.substitute(_COMPOSED[e[0]], {"x": e[1]}), values, stem, result)
        if e[0] == "log1p":
            return self.log1p(self.expression(e[1], values, stem), stem, result)
        return self.add(PRIMITIVES[e[0]], [self.expression(a, values, stem) for a in e[1:]], stem, result)

    def log1p(self, x: str, stem: str, result: str | None) -> str:
        """log(1 + x): near 0 as 2 artanh(x / (2 + x)), which keeps its digits."""
        one, two, near = (self.constant(np.float32(v), f"{stem}.constant") for v in (1, 2, 0.5))
        ratio = self.add("Div", [x, self.add("Add", [x, two], stem)], stem)
        exact = self.add("Mul", [self.add("Atanh", [ratio], stem), two], stem)
        small = self.add("Less", [self.add("Abs", [x], stem), near], stem)
        return self.add("Where", [small, exact, self.add("Log", [self.add("Add", [x, one], stem)], stem)], stem, result)

    def truth(self, e: ex.Expression, values: Mapping[str, str], stem: str) -> str:
        """Whether an expression is not 0, as ONNX's truth values."""
        if e[0] in COMPARISONS:
            return self.add(COMPARISONS[e[0]], [self.expression(a, values, stem) for a in e[1:]], stem)
        if e[0] == "ne":
            return self.add("Not", [self.truth(("eq", *e[1:]), values, stem)], stem)
        return self.add("Cast", [self.expression(e, values, stem)], stem, to=self.onnx.TensorProto.BOOL)


# what ONNX has no operator for: the same numbers, and expm1 as exact near 0; of the normal distribution ONNX has only erf,
# which leaves no digits of the lower tail
_COMPOSED = {
    "expm1": ex.parse("tanh(0.5 * x) * (exp(x) + 1)"),
    "normal_cdf": ex.parse(f"0.5 * erf({math.sqrt(0.5)} * x) + 0.5"),
    "normal_pdf": ex.parse(f"exp(-0.5 * x * x) * {1 / math.sqrt(2 * math.pi)}"),
}
COMPARISONS = {"gt": "Greater", "ge": "GreaterOrEqual", "eq": "Equal"}
PRIMITIVES = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "neg": "Neg",
    "max": "Max",
    "min": "Min",
    "exp": "Exp",
    "log": "Log",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "sqrt": "Sqrt",
    "abs": "Abs",
    "softplus": "Softplus",
    "pow": "Pow",
    "sign": "Sign",
    "floor": "Floor",
    "erf": "Erf",
}


def unknown(node: Node, *notes: str) -> CnncError:
    span = node.origin.span if node.origin is not None else None
    return error("E0651", f"'{node.op}' cannot be exported to ONNX", f"at %{node.name}", *notes, span=span)
