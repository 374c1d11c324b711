"""The ops of inference in ONNX's operators, one rule each.

Pointwise ops without an operator of their own are written as primitive operators, from the expression that defines
them. Where ONNX, or what its runtimes make of it, differs from an op's definition (ceil mode, padding behind the input,
local response norm over an even number of channels), the definition is spelled out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import cnnc.ops  # noqa: F401  (registers the ops)
from cnnc.diagnostics import CnncError, error
from cnnc.ir import expression as ex
from cnnc.ir.graph import Graph, Node
from cnnc.ir.types import BATCH, DTYPES, Dim, TensorType, product
from cnnc.ops.checks import all_axes
from cnnc.ops.definitions import DEFINITIONS
from cnnc.ops.pointwise import channel_aligned, expressions
from cnnc.ops.pool import divisors, window_of
from cnnc.ops.window import Window, spatial


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

# op: (operator, attributes that it shares with ours under another name)
NAMED: dict[str, tuple[str, dict[str, str]]] = {
    "add": ("Add", {}),
    "sub": ("Sub", {}),
    "mul": ("Mul", {}),
    "div": ("Div", {}),
    "neg": ("Neg", {}),
    "exp": ("Exp", {}),
    "log": ("Log", {}),
    "sqrt": ("Sqrt", {}),
    "abs": ("Abs", {}),
    "relu": ("Relu", {}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": "negative_slope"}),
    "elu": ("Elu", {"alpha": "alpha"}),
    "selu": ("Selu", {}),
    "celu": ("Celu", {"alpha": "alpha"}),
    "mish": ("Mish", {}),
    "softsign": ("Softsign", {}),
    "hardswish": ("HardSwish", {}),
    "maximum": ("Max", {}),
    "minimum": ("Min", {}),
    "sign": ("Sign", {}),
    "floor": ("Floor", {}),
    "erf": ("Erf", {}),
}
CLIPPED = {"relu6": (0, 6), "hardtanh": ("min_val", "max_val"), "clamp": ("min", "max")}
Rule = Callable[[Writer, Node], None]


def _write_pointwise(w: Writer, node: Node) -> None:
    """A named operator where there is one; clipping; a sigmoid under `silu`; else the expressions, broadcast to what
    the node says."""
    rank, stem = node.type.rank, node.name
    values = [w.aligned(o, rank, stem) for o in node.inputs]
    result = w.names[node.name]
    if node.op in NAMED:
        operator, shared = NAMED[node.op]
        w.add(operator, values, stem, result, **{k: float(node.attribute(v)) for k, v in shared.items()})
    elif node.op in CLIPPED:
        limits = [float(node.attribute(v)) if isinstance(v, str) else v for v in CLIPPED[node.op]]
        w.add("Clip", [*values, *(w.constant(np.float32(v), f"{stem}.limit") for v in limits)], stem, result)
    elif node.op == "hardsigmoid":
        w.add("HardSigmoid", values, stem, result, alpha=1 / 6, beta=0.5)
    elif node.op == "silu":
        beta, x = float(node.attribute("beta")), values[0]
        scaled = x if beta == 1 else w.add("Mul", [x, w.constant(np.float32(beta), f"{stem}.beta")], stem)
        w.add("Mul", [x, w.add("Sigmoid", [scaled], stem)], stem, result)
    else:
        named = {f"a{i}": v for i, v in enumerate(values)}
        whole = "shape" in node.attributes
        for e, value in zip(expressions(node), node.results, strict=True):
            if not whole:
                w.expression(e, named, stem, w.names[value])
            else:
                w.add("Expand", [w.expression(e, named, stem), w.shape(node.type.shape, stem)], stem, w.names[value])


def _write_constant(w: Writer, node: Node) -> None:
    w.names[node.name] = w.constant(np.float32(node.attributes["value"]), node.name)


def _pads(padding: Sequence[tuple[int, int]]) -> list[int]:
    return [p[0] for p in padding] + [p[1] for p in padding]


def _epilogue(w: Writer, node: Node, operator: str, inputs: list[str], **attributes: Any) -> None:
    """The operator with the node's name, and behind it the node's epilogue where it has one."""
    text = node.attributes.get("epilogue")
    y = w.add(operator, inputs, node.name, None if text else w.names[node.name], **attributes)
    if text:
        extras = [w.aligned(o, node.type.rank, node.name) for o in node.operands[3:] if o is not None]
        named = {"y": y, **{f"a{i}": v for i, v in enumerate(extras)}}
        w.expression(ex.parse(text), named, node.name, w.names[node.name])


def _write_conv(w: Writer, node: Node) -> None:
    kernel = w.graph.type(node.inputs[1]).sizes[2:]
    window = Window.of(kernel, node.attributes, len(kernel))
    _epilogue(
        w,
        node,
        "Conv",
        [w.names[o] for o in node.operands[:3] if o is not None],
        kernel_shape=kernel,
        strides=window.stride,
        pads=_pads(window.padding),
        dilations=window.dilation,
        group=node.attribute("groups"),
    )


def _write_conv_transpose(w: Writer, node: Node) -> None:
    kernel = w.graph.type(node.inputs[1]).sizes[2:]
    window = Window.of(kernel, node.attributes, len(kernel))
    more = [
        size - (extent - 1) * window.stride[i] - window.reach(i) + sum(window.padding[i])
        for i, (size, extent) in enumerate(zip(spatial(node.type), spatial(w.graph.type(node.inputs[0])), strict=True))
    ]
    _epilogue(
        w,
        node,
        "ConvTranspose",
        [w.names[o] for o in node.operands[:3] if o is not None],
        kernel_shape=kernel,
        strides=window.stride,
        pads=_pads(window.padding),
        dilations=window.dilation,
        output_padding=more,
        group=node.attribute("groups"),
    )


def _write_linear(w: Writer, node: Node) -> None:
    _epilogue(w, node, "Gemm", [w.names[o] for o in node.operands[:3] if o is not None], transB=1)


def _covering(window: Window, size: Sequence[int], out: Sequence[int]) -> list[tuple[int, int]]:
    """The padding with which rounding down gives the windows of `out`."""
    return [
        (before, max(after, (o - 1) * window.stride[i] + window.reach(i) - before - size[i]))
        for i, ((before, after), o) in enumerate(zip(window.padding, out, strict=True))
    ]


def _padded(w: Writer, x: str, padding: Sequence[tuple[int, int]], value: float, stem: str) -> str:
    pads = [0, 0, *(p[0] for p in padding), 0, 0, *(p[1] for p in padding)]
    return w.add("Pad", [x, w.integers(pads, f"{stem}.pads"), w.constant(np.float32(value), f"{stem}.value")], stem)


def _write_maxpool(w: Writer, node: Node) -> None:
    """Ceil mode as padding behind the input; padding beyond the taps, which runtimes refuse, before the pooling."""
    x, size, out = w.names[node.inputs[0]], spatial(w.graph.type(node.inputs[0])), spatial(node.type)
    window = window_of(node.attributes, len(size))
    padding = _covering(window, size, out)
    if any(max(p) >= k for p, k in zip(padding, window.kernel, strict=True)):
        x, padding = _padded(w, x, padding, -np.inf, node.name), [(0, 0)] * len(size)
    shared: dict[str, Any] = {"kernel_shape": window.kernel, "strides": window.stride, "dilations": window.dilation}
    w.add("MaxPool", [x], node.name, w.names[node.name], pads=_pads(padding), **shared)


def _write_avgpool(w: Writer, node: Node) -> None:
    """Runtimes differ in what they divide by where a window leaves the padded input: there the sums are taken over
    explicit zeros, and divided by the definition's counts."""
    x, size, out = w.names[node.inputs[0]], spatial(w.graph.type(node.inputs[0])), spatial(node.type)
    window = window_of(node.attributes, len(size))
    padding = _covering(window, size, out)
    shared: dict[str, Any] = {"kernel_shape": window.kernel, "strides": window.stride}
    if padding == list(window.padding) and all(a == b for a, b in padding):
        include = int(node.attribute("count_include_pad"))
        w.add(
            "AveragePool", [x], node.name, w.names[node.name], pads=_pads(padding), count_include_pad=include, **shared
        )
        return
    mean = w.add("AveragePool", [_padded(w, x, padding, 0.0, node.name)], node.name, **shared)
    scale = product(window.kernel) / divisors(window, node.attribute("count_include_pad"), size, out)
    w.add("Mul", [mean, w.constant(scale, f"{node.name}.scale")], node.name, w.names[node.name])


def _write_lrn(w: Writer, node: Node) -> None:
    """Over an even number of channels, or another rank than 4: the mean of squares as pooling along the channels."""
    x, stem, result, t = w.names[node.inputs[0]], node.name, w.names[node.name], node.type
    size, alpha, beta, k = (node.attribute(name) for name in ("size", "alpha", "beta", "k"))
    if size % 2 and t.rank == 4:
        w.add("LRN", [x], stem, result, size=size, alpha=float(alpha), beta=float(beta), bias=float(k))
        return
    flat = (t.shape[0], 1, t.shape[1], product(tuple(int(d) for d in t.shape[2:])))
    squares = w.reshape(w.add("Mul", [x, x], stem), flat, stem)
    pads = [size // 2, 0, (size - 1) // 2, 0]
    means = w.add("AveragePool", [squares], stem, kernel_shape=[size, 1], pads=pads, count_include_pad=1)
    scaled = w.add("Mul", [w.reshape(means, t.shape, stem), w.constant(np.float32(alpha), f"{stem}.alpha")], stem)
    base = w.add("Add", [scaled, w.constant(np.float32(k), f"{stem}.k")], stem)
    power = w.add("Pow", [base, w.constant(np.float32(beta), f"{stem}.beta")], stem)
    w.add("Div", [x, power], stem, result)


def _write_batchnorm(w: Writer, node: Node) -> None:
    inputs = [w.names[o] for o in node.inputs]
    w.add("BatchNormalization", inputs, node.name, w.names[node.name], epsilon=float(node.attribute("eps")))


def _write_dropout(w: Writer, node: Node) -> None:
    if len(node.inputs) > 1:
        raise unknown(node, "a dropout with a seed belongs to training; export the network as written")
    _write_identity(w, node)


def _write_identity(w: Writer, node: Node) -> None:
    w.add("Identity", [w.names[node.inputs[0]]], node.name, w.names[node.name])


def _write_flatten(w: Writer, node: Node) -> None:
    x = w.names[node.inputs[0]]
    if node.attribute("start") == 1:
        w.add("Flatten", [x], node.name, w.names[node.name], axis=1)
    else:
        w.reshape(x, node.type.shape, node.name, w.names[node.name])


def _write_reshape(w: Writer, node: Node) -> None:
    w.reshape(w.names[node.inputs[0]], node.type.shape, node.name, w.names[node.name])


def _write_concat(w: Writer, node: Node) -> None:
    w.add("Concat", [w.names[o] for o in node.inputs], node.name, w.names[node.name], axis=node.attribute("axis"))


def _write_slice(w: Writer, node: Node) -> None:
    axis, start, size = (node.attributes[k] for k in ("axis", "start", "size"))
    limits = [w.integers([v], f"{node.name}.{k}") for k, v in (("start", start), ("end", start + size), ("axis", axis))]
    w.add("Slice", [w.names[node.inputs[0]], *limits], node.name, w.names[node.name])


def _write_reduction(operator: str) -> Rule:
    def write(w: Writer, node: Node) -> None:
        axes = all_axes(node.attributes["axis"], w.graph.type(node.inputs[0]).rank)
        inputs = [w.names[node.inputs[0]], w.integers(axes, f"{node.name}.axes")]
        w.add(operator, inputs, node.name, w.names[node.name], keepdims=int(node.attribute("keepdim")))

    return write


def _write_expand(w: Writer, node: Node) -> None:
    x = w.aligned(node.inputs[0], node.type.rank, node.name)
    w.add("Expand", [x, w.shape(node.type.shape, node.name)], node.name, w.names[node.name])


def _write_batch_size(w: Writer, node: Node) -> None:
    n = w.add("Shape", [w.names[node.inputs[0]]], node.name, start=0, end=1)
    w.add("Squeeze", [w.add("Cast", [n], node.name, to=w.element("f32"))], node.name, w.names[node.name])


WRITERS: dict[str, Rule] = {
    **dict.fromkeys((*DEFINITIONS, "pointwise"), _write_pointwise),
    "constant": _write_constant,
    "conv": _write_conv,
    "conv_transpose": _write_conv_transpose,
    "linear": _write_linear,
    "maxpool": _write_maxpool,
    "avgpool": _write_avgpool,
    "global_avgpool": lambda w, n: _plain(w, n, "GlobalAveragePool"),
    "lrn": _write_lrn,
    "batchnorm": _write_batchnorm,
    "dropout": _write_dropout,
    "flatten": _write_flatten,
    "reshape": _write_reshape,
    "concat": _write_concat,
    "slice": _write_slice,
    "sum": _write_reduction("ReduceSum"),
    "mean": _write_reduction("ReduceMean"),
    "expand": _write_expand,
    "batch_size": _write_batch_size,
    "softmax": lambda w, n: _plain(w, n, "Softmax", axis=n.attribute("axis")),
    "to_layout": _write_identity,
}


def _plain(w: Writer, node: Node, operator: str, **attributes: Any) -> None:
    w.add(operator, [w.names[o] for o in node.inputs], node.name, w.names[node.name], **attributes)


def unknown(node: Node, *notes: str) -> CnncError:
    span = node.origin.span if node.origin is not None else None
    return error("E0651", f"'{node.op}' cannot be exported to ONNX", f"at %{node.name}", *notes, span=span)
