"""The ops of inference in ONNX's operators, one rule each.

Pointwise ops without an operator of their own are written as primitive operators, from the expression that defines
them. Where ONNX, or what its runtimes make of it, differs from an op's definition (ceil mode, padding behind the input,
local response norm over an even number of channels), the definition is spelled out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import cnnc.ops  # noqa: F401  (registers the ops)
from cnnc.interop import onnx_norm, onnx_space
from cnnc.interop.onnx_moves import MOVING
from cnnc.interop.onnx_writer import Writer, unknown
from cnnc.ir import expression as ex
from cnnc.ir.graph import Node
from cnnc.ir.types import product
from cnnc.ops.checks import all_axes
from cnnc.ops.definitions import DEFINITIONS
from cnnc.ops.pointwise import expressions
from cnnc.ops.window import Window, spatial

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
CLIPPED: dict[str, tuple[float | str, ...]] = {
    "relu6": (0, 6),
    "hardtanh": ("min_val", "max_val"),
    "clamp": ("min", "max"),
}
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
        limits = [float(node.attribute(v) if isinstance(v, str) else v) for v in CLIPPED[node.op]]
        w.add("Clip", [*values, *(w.constant(np.float32(v), f"{stem}.limit") for v in limits)], stem, result)
    elif node.op == "prelu":  # its slope broadcasts from behind
        w.add("PRelu", values, stem, result)
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


def _epilogue(w: Writer, node: Node, operator: str, inputs: list[str], **attributes: Any) -> None:
    """The operator with the node's name, and behind it the node's epilogue where it has one."""
    text = node.attributes.get("epilogue")
    y = w.add(operator, inputs, node.name, None if text else w.names[node.name], **attributes)
    if text:
        extras = [w.aligned(o, node.type.rank, node.name) for o in node.operands[3:] if o is not None]
        named = {"y": y, **{f"a{i}": v for i, v in enumerate(extras)}}
        w.expression(ex.parse(text), named, node.name, w.names[node.name])


def _window(w: Writer, node: Node) -> Window:
    kernel = w.graph.type(node.inputs[1]).sizes[2:]
    return Window.of(kernel, node.attributes, len(kernel))


def _windowed(w: Writer, node: Node, operator: str, **more: Any) -> None:
    """An operator with a window, weights and maybe a bias."""
    window = _window(w, node)
    _epilogue(
        w,
        node,
        operator,
        [w.names[o] for o in node.operands[:3] if o is not None],
        kernel_shape=window.kernel,
        strides=window.stride,
        pads=onnx_space.pads_of(window.padding),
        dilations=window.dilation,
        **more,
        group=node.attribute("groups"),
    )


def _write_conv(w: Writer, node: Node) -> None:
    _windowed(w, node, "Conv")


def _write_conv_transpose(w: Writer, node: Node) -> None:
    window = _window(w, node)
    more = [
        size - (extent - 1) * window.stride[i] - window.reach(i) + sum(window.padding[i])
        for i, (size, extent) in enumerate(zip(spatial(node.type), spatial(w.graph.type(node.inputs[0])), strict=True))
    ]
    _windowed(w, node, "ConvTranspose", output_padding=more)


def _write_linear(w: Writer, node: Node) -> None:
    x, weight, *bias = (w.names[o] for o in node.operands[:3] if o is not None)
    if node.type.rank == 2:
        _epilogue(w, node, "Gemm", [x, weight, *bias], transB=1)
        return
    inputs = [x, w.add("Transpose", [weight], node.name, perm=[1, 0])]
    if bias:
        _epilogue(w, node, "Add", [w.add("MatMul", inputs, node.name), *bias])
    else:
        _epilogue(w, node, "MatMul", inputs)


def _write_matmul(w: Writer, node: Node) -> None:
    operands = []
    for o, name in zip(node.inputs, ("transpose_a", "transpose_b"), strict=True):
        rank = w.graph.type(o).rank
        order = [*range(rank - 2), rank - 1, rank - 2]
        turned = node.attribute(name)
        operands.append(w.add("Transpose", [w.names[o]], node.name, perm=order) if turned else w.names[o])
    w.add("MatMul", operands, node.name, w.names[node.name])


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
    **onnx_norm.RULES,
    **dict.fromkeys((*DEFINITIONS, "pointwise"), _write_pointwise),
    "constant": _write_constant,
    "conv": _write_conv,
    "conv_transpose": _write_conv_transpose,
    "linear": _write_linear,
    "matmul": _write_matmul,
    "maxpool": onnx_space.write_maxpool,
    "avgpool": onnx_space.write_avgpool,
    "global_avgpool": lambda w, n: _plain(w, n, "GlobalAveragePool"),
    "lrn": _write_lrn,
    "batchnorm": _write_batchnorm,
    "dropout": _write_dropout,
    "flatten": _write_flatten,
    "reshape": _write_reshape,
    "concat": _write_concat,
    "sum": _write_reduction("ReduceSum"),
    "mean": _write_reduction("ReduceMean"),
    "max": _write_reduction("ReduceMax"),
    "min": _write_reduction("ReduceMin"),
    "prod": _write_reduction("ReduceProd"),
    "logsumexp": _write_reduction("ReduceLogSumExp"),
    "expand": _write_expand,
    "batch_size": _write_batch_size,
    "upsample": onnx_space.write_upsample,
    "adaptive_avgpool": onnx_space.write_adaptive,
    "adaptive_maxpool": onnx_space.write_adaptive,
    "unpool": onnx_space.write_unpool,
    "lppool": onnx_space.write_lppool,
    "softmax": lambda w, n: _plain(w, n, "Softmax", axis=n.attribute("axis")),
    "log_softmax": lambda w, n: _plain(w, n, "LogSoftmax", axis=n.attribute("axis")),
    "to_layout": _write_identity,
    **MOVING,
}


def _plain(w: Writer, node: Node, operator: str, **attributes: Any) -> None:
    w.add(operator, [w.names[o] for o in node.inputs], node.name, w.names[node.name], **attributes)
