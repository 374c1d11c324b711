"""A graph as a `.cnn` file that a person would have written: the same network, with the same names of parameters.

Values that one layer reads are piped into it. Where names of parameters are paths (`layer1.0.conv1.weight`), what
stands under one part of the path is a block; blocks that are alike but for their numbers are one, with parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cnnc.ir.graph import Graph, Node
from cnnc.ir.types import BATCH
from cnnc.ops.definitions import DEFINITIONS
from cnnc.ops.window import Window

WORDS = frozenset(
    "include const block model train input for in if else expect return as and or not true false none activation param".split()
)
WIDTH = 100
Number = int | float


@dataclass(frozen=True)
class Said:
    """A layer in the language: its name and arguments, positional ones first; `label`: of its parameters."""

    name: str
    positional: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    infix: str = ""  # an operator between two operands
    listed: bool = False  # operands stand in a list
    called: bool = False  # several operands: name(a, b, arguments)


class Unsayable(Exception):
    """What the language has no layer for."""


def value(v: Any) -> str:
    """A value as it is written."""
    match v:
        case bool():
            return "true" if v else "false"
        case int():
            return str(v)
        case float():
            short = f"{v:.7g}" if abs(v - float(f"{v:.7g}")) <= 1e-7 * abs(v) else repr(v)
            return str(int(v)) if v == int(v) and abs(v) < 1e9 else short
        case str():
            return v if v == BATCH else f'"{v}"'
        case None:
            return "none"
        case tuple() | list():
            return "[" + ", ".join(map(value, v)) + "]"
    raise AssertionError(v)


def _even(v: Any) -> Any:
    """A list of equal numbers as one of them."""
    return v[0] if isinstance(v, tuple) and v and all(a == v[0] for a in v) and not isinstance(v[0], tuple) else v


def _window(node: Node, kernel: Sequence[int]) -> dict[str, Any]:
    window = Window.of(kernel, node.attributes, len(kernel))
    return {k: _even(v) for k, v in window.attributes().items()}


def _stem(node: Node, names: Sequence[str], operands: Sequence[str]) -> str:
    """What the names of a node's parameters begin with. Raises `Unsayable` where they are not named after one layer."""
    stems = set()
    for operand, short in zip(operands, names, strict=False):
        stem, _, last = operand.rpartition(".")
        if last != short or not stem:
            raise Unsayable(f"%{node.name} has the parameter {operand}, which no layer names so")
        stems.add(stem)
    if len(stems) != 1:
        raise Unsayable(f"the parameters of %{node.name} are not named after one layer")
    return stems.pop()


def _conv(graph: Graph, node: Node) -> Said:
    if "epilogue" in node.attributes:
        raise Unsayable(f"%{node.name} has an epilogue")
    weight = graph.type(node.inputs[1]).sizes
    named = _window(node, weight[2:])
    if node.attributes.get("groups", 1) != 1:
        named["groups"] = node.attributes["groups"]
    if len(node.inputs) < 3:
        named["bias"] = False
    label = _stem(node, ("weight", "bias"), node.inputs[1:])
    return Said("conv", (weight[0], _even(weight[2:])), named, label)


def _linear(graph: Graph, node: Node) -> Said:
    weight = graph.type(node.inputs[1]).sizes
    named = {} if len(node.inputs) > 2 else {"bias": False}
    return Said("linear", (weight[0],), named, _stem(node, ("weight", "bias"), node.inputs[1:]))


def _batchnorm(graph: Graph, node: Node) -> Said:
    label = _stem(node, ("weight", "bias", "running_mean", "running_var"), node.inputs[1:])
    return Said("batchnorm", (), dict(node.attributes), label)


def _pool(graph: Graph, node: Node) -> Said:
    kernel = node.attributes["kernel"]
    named = _window(node, kernel)
    stride = Window.of(kernel, node.attributes, len(kernel)).stride
    named.pop("stride", None)
    if stride != tuple(kernel):
        named = {"stride": _even(stride), **named}
    named |= {k: v for k, v in node.attributes.items() if k in ("ceil_mode", "count_include_pad")}
    return Said(node.op, (_even(tuple(kernel)),), named)


def _pointwise(graph: Graph, node: Node) -> Said:
    infix = {"add": "+", "sub": "-", "mul": "*", "div": "/"}.get(node.op, "")
    if infix:
        return Said(node.op, infix=infix)
    if len(node.inputs) == 1:
        return Said(node.op, (), dict(node.attributes))
    return Said(node.op, (), dict(node.attributes), called=True)


def _plain(*positional: str) -> Callable[[Graph, Node], Said]:
    """A layer with the op's name and attributes, the first of them by position."""

    def say(graph: Graph, node: Node) -> Said:
        given = {k: node.attributes[k] for k in positional if k in node.attributes}
        rest = {k: v for k, v in node.attributes.items() if k not in given}
        return Said(node.op, tuple(given.values()), rest)

    return say


def _slice(graph: Graph, node: Node) -> Said:
    axis, start, size = (node.attributes[k] for k in ("axis", "start", "size"))
    return Said("slice", (axis, start, size))


SAYINGS: dict[str, Callable[[Graph, Node], Said]] = {
    **dict.fromkeys(DEFINITIONS, _pointwise),
    "conv": _conv,
    "linear": _linear,
    "batchnorm": _batchnorm,
    "maxpool": _pool,
    "avgpool": _pool,
    "global_avgpool": _plain(),
    "lrn": _plain("size"),
    "dropout": _plain("p"),
    "softmax": _plain(),
    "flatten": _plain(),
    "mean": _plain("axis"),
    "sum": _plain("axis"),
    "concat": lambda graph, node: Said("concat", (), dict(node.attributes), listed=True),
}
