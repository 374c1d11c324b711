"""A graph as a PyTorch module: its `forward` is the graph written out as Python, a line a node.

What a person would write by hand, without an interpreter's overhead: `torch.compile` sees plain calls. In training mode
batch norm and dropout are those of training, and the parameters are the graph's, in its order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cnnc.bench.torch_parts import PartWriter
from cnnc.bench.torch_space import unknown
from cnnc.ir import expression as ex
from cnnc.ir.graph import Graph, Node
from cnnc.ir.types import BATCH, Dim
from cnnc.ops.checks import all_axes
from cnnc.ops.definitions import DEFINITIONS
from cnnc.ops.pointwise import channel_aligned, expressions
from cnnc.ops.selection import cuts, sides
from cnnc.ops.transpose import axes_of, turned

INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
CALLS = {f: f"torch.{f}" for f in "exp expm1 log log1p sigmoid tanh sqrt abs pow sign floor erf".split()}
CALLS |= {"max": "torch.maximum", "min": "torch.minimum", "softplus": "F.softplus", "normal_cdf": "torch.special.ndtr"}
COMPARES = {"gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
NAMED = {
    "sigmoid": "torch.sigmoid({0})",
    "tanh": "torch.tanh({0})",
    "leaky_relu": "F.leaky_relu({0}, {negative_slope})",
    "elu": "F.elu({0}, {alpha})",
    "celu": "F.celu({0}, {alpha})",
    "gelu": "F.gelu({0})",
    "gelu_tanh": "F.gelu({0}, approximate='tanh')",
    "softplus": "F.softplus({0}, {beta}, {threshold})",
    "log_sigmoid": "F.logsigmoid({0})",
    "hardtanh": "F.hardtanh({0}, {min_val}, {max_val})",
    "clamp": "torch.clamp({0}, {min}, {max})",
    "threshold": "F.threshold({0}, {threshold}, {value})",
    **{op: f"F.{op}({{0}})" for op in "relu relu6 selu mish softsign hardsigmoid hardswish".split()},
    **{op: f"torch.{op}({{0}}, {{1}})" for op in ("maximum", "minimum")},
}
_DENSITY = ex.parse(f"exp(-0.5 * x * x) * {1 / math.sqrt(2 * math.pi)}")
IN_PLACE = ("relu", "relu6")  # behind a layer whose backward does not read its own output
PRODUCERS = ("conv", "conv_transpose", "linear", "batchnorm", "add")


def number(value: float) -> str:
    """A number as Python writes it."""
    return repr(float(value)) if math.isfinite(value) else f"float('{value}')"


class Writer(PartWriter):
    """Lines of Python over local names; `local` maps values to them."""

    def aligned(self, value: str, rank: int) -> str:
        """An operand so that it broadcasts in NumPy's way: a vector holds one value a channel."""
        shape = self.graph.type(value).shape
        if len(shape) != 1 or rank <= 2:
            return self.local[value]
        return f"{self.local[value]}.reshape({self.dims(channel_aligned(shape, rank))})"

    def dims(self, shape: Sequence[Dim]) -> str:
        return f"({''.join('n, ' if d == BATCH else f'{d}, ' for d in shape)})"

    def expression(self, e: ex.Expression, values: Mapping[str, str]) -> str:
        if e[0] == "var":
            return values[e[1]]
        if e[0] == "const":
            return f"({number(e[1])})"
        if e[0] == "neg":
            return f"(-{self.expression(e[1], values)})"
        if e[0] in COMPARES:
            return f"({self.truth(e, values)}).to(torch.float32)"
        if e[0] == "normal_pdf":
            return self.expression(ex.substitute(_DENSITY, {"x": e[1]}), values)
        if e[0] == "where":
            branches = (self.expression(a, values) for a in e[2:])
            return f"torch.where({self.truth(e[1], values)}, {', '.join(branches)})"
        arguments = [self.expression(a, values) for a in e[1:]]
        if e[0] in INFIX:
            return f"({f' {INFIX[e[0]]} '.join(arguments)})"
        if e[0] in ("max", "min"):  # these take tensors only
            arguments = [f"torch.as_tensor({a})" for a in arguments]
        return f"{CALLS[e[0]]}({', '.join(arguments)})"

    def truth(self, e: ex.Expression, values: Mapping[str, str]) -> str:
        if e[0] in COMPARES:
            left, right = (self.expression(a, values) for a in e[1:])
            if not ex.variables(e):  # two numbers
                left = f"torch.as_tensor({left})"
            return f"({left} {COMPARES[e[0]]} {right})"
        return f"({self.expression(e, values)} != 0)"

    # ---- rules

    def pointwise(self, node: Node) -> str:
        values, known = [self.aligned(o, node.type.rank) for o in node.inputs], DEFINITIONS.get(node.op)
        given = {k: number(node.attributes.get(k, v)) for k, v in (known.defaults.items() if known is not None else ())}
        if node.op in IN_PLACE and self.replaces(node.inputs[0]):
            return f"F.{node.op}({values[0]}, inplace=True)"
        if node.op in NAMED:
            return NAMED[node.op].format(*values, **given)
        if node.op == "prelu" and self.graph.type(node.inputs[1]).rank < 2:
            return f"F.prelu({', '.join(self.local[o] for o in node.inputs)})"
        if node.op == "silu":
            x, beta = values[0], float(given["beta"])
            return f"F.silu({x})" if beta == 1 else f"{x} * torch.sigmoid({beta!r} * {x})"
        named = {f"a{i}": v for i, v in enumerate(values)}
        texts = [self.expression(e, named) for e in expressions(node)]
        if "shape" in node.attributes:
            texts = [f"torch.as_tensor({t}).expand({self.dims(node.type.shape)})" for t in texts]
        return ", ".join(texts)

    def replaces(self, value: str) -> bool:
        return self.graph.node(value).op in PRODUCERS and self.graph.only_user(value) is not None

    def linear(self, node: Node) -> str:
        if "epilogue" in node.attributes:
            raise unknown(node, "it has an epilogue; give the network as written")
        return f"F.linear({', '.join(self.local[o] for o in node.inputs)})"

    def batchnorm(self, node: Node) -> str:
        x, weight, bias, mean, variance = (self.local[o] for o in node.inputs)
        momentum, eps = (float(node.attribute(k)) for k in ("momentum", "eps"))
        if self.graph.node(node.inputs[1]).op == "expand":  # of a constant
            weight = bias = "None"
        if self.graph.node(node.inputs[3]).op == "moments":
            return f"F.batch_norm({x}, None, None, {weight}, {bias}, True, 0.0, {eps!r})"
        return f"F.batch_norm({x}, {mean}, {variance}, {weight}, {bias}, self.training, {momentum!r}, {eps!r})"

    def lrn(self, node: Node) -> str:
        numbers = (node.attribute(k) for k in ("size", "alpha", "beta", "k"))
        return f"F.local_response_norm({self.local[node.inputs[0]]}, {', '.join(map(repr, numbers))})"

    def slice(self, node: Node) -> str:
        found = {axis % node.type.rank: numbers for axis, *numbers in cuts(node.attributes)}
        entries = [":"] * (max(found) + 1)
        for axis, (start, size, step) in found.items():
            entries[axis] = f"{start}:{start + (size - 1) * step + 1}" + (f":{step}" if step != 1 else "")
        return f"{self.local[node.inputs[0]]}[{', '.join(entries)}]"

    def gather(self, node: Node) -> str:
        axis = node.attributes["axis"] % node.type.rank
        return f"{self.local[node.inputs[0]]}[{':, ' * axis}{list(node.attributes['indices'])}]"

    def pad(self, node: Node) -> str:
        around, mode = sides(node.attributes, node.type.rank), node.attribute("mode")
        if any(between for *_, between in around) or (mode != "constant" and len(around) != node.type.rank - 2):
            raise unknown(node, "PyTorch pads around space")
        pads = [n for _, before, after, _ in reversed(around) for n in (before, after)]
        value = f", value={float(node.attribute('value'))!r}" if mode == "constant" else ""
        return f"F.pad({self.local[node.inputs[0]]}, {pads}, {mode!r}{value})"

    def pixel_shuffle(self, node: Node) -> str:
        x, factor = self.local[node.inputs[0]], node.attributes["factor"]
        if node.type.rank == 4:
            return f"F.{node.op}({x}, {factor})"
        sizes, order = turned(node.op, self.graph.type(node.inputs[0]).shape, factor)
        return f"{x}.reshape({self.dims(sizes)}).permute({order}).reshape({self.dims(node.type.shape)})"

    def channel_shuffle(self, node: Node) -> str:
        x, groups = self.local[node.inputs[0]], node.attributes["groups"]
        if node.type.rank > 2:
            return f"F.channel_shuffle({x}, {groups})"
        return f"{x}.unflatten(1, ({groups}, -1)).transpose(1, 2).flatten(1)"

    def dropout(self, node: Node) -> str:
        if len(node.inputs) > 1:
            raise unknown(node, "a dropout with a seed belongs to training; give the network as written")
        x, p, by = self.local[node.inputs[0]], float(node.attribute("p")), node.attribute("by")
        if by == "element":
            return f"F.dropout({x}, {p!r}, self.training)"
        axes = 1 if by == "row" else 2
        ones = f"{x}.new_ones({x}.shape[:{axes}] + (1,) * {node.type.rank - axes})"
        return f"{x} * F.dropout({ones}, {p!r}, self.training)"

    def expand(self, node: Node) -> str:
        return f"{self.aligned(node.inputs[0], node.type.rank)}.expand({self.dims(node.type.shape)})"


Rule = Callable[[Writer, Node], str]
RULES: dict[str, Rule] = {
    **dict.fromkeys((*DEFINITIONS, "pointwise"), Writer.pointwise),
    "constant": lambda w, n: f"torch.tensor({float(n.attributes['value'])!r})",
    "conv": Writer.conv,
    "conv_transpose": Writer.conv_transpose,
    "linear": Writer.linear,
    "matmul": Writer.matmul,
    "maxpool": Writer.pool,
    "avgpool": Writer.pool,
    "adaptive_avgpool": Writer.adaptive,
    "adaptive_maxpool": Writer.adaptive,
    "unpool": Writer.unpool,
    "lppool": Writer.lppool,
    "global_avgpool": lambda w, n: f"{w.local[n.inputs[0]]}.mean({tuple(range(2, n.type.rank))}, True)",
    "upsample": Writer.upsample,
    "batchnorm": Writer.batchnorm,
    "moments": lambda w, n: "None, None",  # batch norm takes them itself
    "normalize": Writer.normalize,
    "lrn": Writer.lrn,
    "dropout": Writer.dropout,
    "flatten": lambda w, n: f"{w.local[n.inputs[0]]}.flatten({n.attribute('start')})",
    "reshape": lambda w, n: f"{w.local[n.inputs[0]]}.reshape({w.dims(n.type.shape)})",
    "concat": lambda w, n: f"torch.cat([{', '.join(w.local[o] for o in n.inputs)}], {n.attribute('axis')})",
    "slice": Writer.slice,
    "gather": Writer.gather,
    "flip": lambda w, n: f"{w.local[n.inputs[0]]}.flip({all_axes(n.attributes['axis'], n.type.rank)})",
    "repeat": lambda w, n: f"{w.local[n.inputs[0]]}.repeat({n.attributes['repeats']})",
    "pad": Writer.pad,
    "channel_shuffle": Writer.channel_shuffle,
    "transpose": lambda w, n: f"{w.local[n.inputs[0]]}.permute({axes_of(n.attributes, n.type.rank)})",
    "pixel_shuffle": Writer.pixel_shuffle,
    "pixel_unshuffle": Writer.pixel_shuffle,
    "sum": Writer.reduction,
    "mean": Writer.reduction,
    "max": Writer.reduction,
    "min": Writer.reduction,
    "prod": Writer.products,
    "logsumexp": Writer.reduction,
    "argmax": Writer.place,
    "argmin": Writer.place,
    "cumsum": Writer.running,
    "expand": Writer.expand,
    "batch_size": lambda w, n: "torch.tensor(float(n))",
    "softmax": lambda w, n: f"{w.local[n.inputs[0]]}.softmax({n.attribute('axis')})",
    "log_softmax": lambda w, n: f"{w.local[n.inputs[0]]}.log_softmax({n.attribute('axis')})",
}


def identifier(name: str) -> str:
    return "p_" + name.replace(".", "_")


def forward(graph: Graph) -> str:
    """The source of `forward`. Raises `CnncError` (E0651) for an op that PyTorch does not have."""
    w = Writer(graph)
    inputs = [n.name for n in graph.inputs]
    w.local.update((name, f"x{i}") for i, name in enumerate(inputs))
    lines = [f"def forward(self, {', '.join(w.local.values())}):"]
    counted = next(((n.name, n.type.shape.index(BATCH)) for n in graph.inputs if BATCH in n.type.shape), None)
    lines += [f"    n = {w.local[counted[0]]}.shape[{counted[1]}]"] if counted else []
    count = 0
    for node in graph.nodes:
        if node.op in ("param", "state"):
            w.local[node.name] = f"self.{identifier(node.name)}"
        elif node.op != "input":
            if node.op not in RULES:
                raise unknown(node)
            text = RULES[node.op](w, node)
            names = [f"v{count + i}" for i in range(len(node.results))]
            count += len(names)
            w.local.update(zip(node.results, names, strict=True))
            lines.append(f"    {', '.join(names)} = {text}")
    lines.append(f"    return {', '.join(w.local[v] for _, v in graph.outputs)}")
    return "\n".join([*lines, ""])


def module(graph: Graph, values: Mapping[str, Any]) -> Any:
    """A `torch.nn.Module` of the graph with copies of its values; it takes the graph's inputs in order."""
    import torch

    scope: dict[str, Any] = {"torch": torch, "F": torch.nn.functional}
    exec(compile(forward(graph), f"<{graph.name}>", "exec"), scope)
    network = type("Network", (torch.nn.Module,), {"forward": scope["forward"]})()
    for node in graph.nodes:
        if node.op in ("param", "state"):
            tensor = torch.from_numpy(np.array(values[node.name], np.float32))
            if node.op == "param":
                network.register_parameter(identifier(node.name), torch.nn.Parameter(tensor))
            else:
                network.register_buffer(identifier(node.name), tensor)
    return network
