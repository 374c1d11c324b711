"""What a node is called in the language: the layer that makes it, with its arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cnnc.ir.graph import Graph, Node
from cnnc.ir.layer import LAYERS
from cnnc.ir.op import REQUIRED
from cnnc.ir.types import BATCH
from cnnc.ops.window import Window, spatial

PARAM = "param"  # a statement: a parameter of a block's own
INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/"}


class Unsayable(Exception):
    """What the language has no layer for."""


@dataclass(frozen=True)
class Said:
    """A layer in the language. arguments: all that differ from their defaults, and those that have none, by name.

    label: of its parameters, where it has some. infix: an operator between operands. listed: operands stand in a list.
    called: they stand in front of the arguments. numbers: operands that are numbers, by place. block: it is one.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    infix: str = ""
    listed: bool = False
    called: bool = False
    numbers: Mapping[int, float] = field(default_factory=dict)
    block: Block | None = None

    def given(self) -> Iterator[tuple[str, Any]]:
        """All arguments of the layer by name, defaults included; those of a block."""
        if self.block is not None or self.name == PARAM:
            yield from self.arguments.items()
        if self.name in LAYERS and not self.infix:
            for a in LAYERS[self.name].arguments:
                if a.name not in ("init", "bias_init"):
                    yield a.name, self.arguments.get(a.name, a.default)

    def text(self, names: Mapping[str, str], label: str) -> str:
        """The layer with its arguments, of which `names` has some by name."""
        if self.block is not None:
            shown = ", ".join(f"{k}={names.get(k) or value(v)}" for k, v in self.given())
            return f"{self.block.name}{f'({shown})' if shown else ''} as {label}"
        if self.name == PARAM:
            sizes = ", ".join(names.get(k) or value(v) for k, v in self.given())
            return f"f32[{sizes}] = ones"
        parts, positional = [], True
        for key, v in self.given():
            default = next(a.default for a in LAYERS[self.name].arguments if a.name == key)
            if key not in names and default is not REQUIRED and _same(v, default):
                positional = False
                continue
            shown = names.get(key) or value(v)
            parts.append(shown if positional and default is REQUIRED else f"{key}={shown}")
        if self.infix or not parts:
            text = self.name
        else:
            text = f"{self.name}({', '.join(parts)})"
        return f"{text} as {label}" if label else text

    def join(self, operands: Sequence[str], text: str) -> str:
        """With its operands."""
        if self.infix:
            both = list(operands)
            for place, number in sorted(self.numbers.items()):
                both.insert(place, value(number))
            return f" {self.infix} ".join(both)
        if self.listed:
            head, _, rest = text.partition("(")
            return f"{head}([{', '.join(operands)}]{', ' + rest if rest else ')'}"
        if self.called:
            head, _, rest = text.partition("(")
            return f"{head}({', '.join(operands)}{', ' + rest if rest else ')'}"
        if self.block is not None and len(operands) > 1:
            others, rest = ", ".join(operands[1:]), text.removeprefix(self.block.name)
            text = f"{self.block.name}({others}{', ' + rest[1:] if rest.startswith('(') else ')' + rest}"
        return f"{operands[0]} -> {text}"


@dataclass(frozen=True)
class Item:
    """One layer, or one block with `body`, applied. scope: the path it stands under; label: its own last part."""

    said: Said
    operands: tuple[str, ...]
    results: tuple[str, ...]
    scope: tuple[str, ...] = ()
    label: str = ""
    body: Body | None = None


@dataclass(frozen=True)
class Body:
    """A sequence of items with what comes in and what goes out."""

    items: tuple[Item, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass
class Block:
    """A block of the file. variants: its applications' bodies; names: of its parameters, by the places of arguments."""

    name: str
    variants: list[Body]
    parameters: dict[tuple[int, str], str] = field(default_factory=dict)


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and a == b if isinstance(a, bool) or isinstance(b, bool) else bool(a == b)


def value(v: Any) -> str:
    """A value as it is written."""
    match v:
        case bool():
            return "true" if v else "false"
        case int():
            return str(v)
        case float():
            return str(int(v)) if v == int(v) and abs(v) < 1e9 else repr(v)
        case str():
            return v if v == BATCH else f'"{v}"'
        case None:
            return "none"
        case tuple() | list():
            return "[" + ", ".join(map(value, v)) + "]"
    raise Unsayable(f"the value {v!r}")


def own_parameter(graph: Graph, name: str) -> Said:
    """The statement that makes a parameter which belongs to no layer."""
    return Said(PARAM, {f"size{k}": d for k, d in enumerate(graph.type(name).sizes)}, name)


def even(v: Any) -> Any:
    """A list of equal numbers as one of them."""
    return v[0] if isinstance(v, tuple) and v and all(a == v[0] for a in v) and not isinstance(v[0], tuple) else v


def _window(node: Node, kernel: Sequence[int]) -> dict[str, Any]:
    window = Window.of(kernel, node.attributes, len(kernel))
    return {k: even(v) for k, v in window.attributes().items()}


def leaf(graph: Graph, operand: str) -> str:
    """An operand, or the parameter that it is in another shape."""
    node = graph.node(operand)
    inner = node.op == "reshape" and graph.node(node.inputs[0]).op in ("param", "state")
    return node.inputs[0] if inner else operand


def _stem(graph: Graph, node: Node, names: Sequence[str]) -> str:
    """What the names of a node's parameters begin with. Raises `Unsayable` where no one layer would name them so."""
    stems = set()
    for operand, short in zip([leaf(graph, o) for o in node.inputs[1:]], names, strict=False):
        stem, _, last = operand.rpartition(".")
        stems.add(stem if last == short else "")
    if len(stems) != 1 or "" in stems:
        raise Unsayable(f"the parameters of %{node.name} are not named after one layer: {', '.join(node.inputs[1:])}")
    return stems.pop()


def _conv(graph: Graph, node: Node) -> Said:
    weight = graph.type(node.inputs[1]).sizes
    arguments = {"out_channels": weight[0], "kernel_size": even(weight[2:]), **_window(node, weight[2:])}
    arguments["groups"] = node.attributes.get("groups", 1)
    arguments["bias"] = len(node.inputs) > 2
    return Said("conv", arguments, _stem(graph, node, ("weight", "bias")))


def _conv_transpose(graph: Graph, node: Node) -> Said:
    weight, groups = graph.type(node.inputs[1]).sizes, node.attributes.get("groups", 1)
    window = Window.of(weight[2:], node.attributes, len(weight) - 2)
    more = []
    for axis, (extent, size) in enumerate(
        zip(spatial(graph.type(node.inputs[0])), node.attributes["size"], strict=True)
    ):
        more.append(size - (extent - 1) * window.stride[axis] - window.reach(axis) + sum(window.padding[axis]))
    if any(m < 0 for m in more):
        raise Unsayable(f"%{node.name} has the size {list(node.attributes['size'])}")
    arguments = {"out_channels": weight[1] * groups, "kernel_size": even(weight[2:]), **_window(node, weight[2:])}
    arguments |= {"output_padding": even(tuple(more)), "groups": groups, "bias": len(node.inputs) > 2}
    return Said("conv_transpose", arguments, _stem(graph, node, ("weight", "bias")))


def _linear(graph: Graph, node: Node) -> Said:
    arguments = {"out_features": graph.type(node.inputs[1]).sizes[0], "bias": len(node.inputs) > 2}
    return Said("linear", arguments, _stem(graph, node, ("weight", "bias")))


def of_a_batch(graph: Graph, node: Node) -> bool:
    """Whether a node is the moments of a batch that a batch norm of the same operand alone reads."""
    users = [u for r in node.results for u in graph.users(r)] if node.op == "moments" else []
    return bool(users) and all(u.op == "batchnorm" and u.inputs[3:] == node.results for u in users) and {
        u.inputs[0] for u in users
    } == {node.inputs[0]}  # fmt: skip


def _batchnorm(graph: Graph, node: Node) -> Said:
    if of_a_batch(graph, graph.node(node.inputs[3])):
        return Said(
            "batchnorm", {**node.attributes, "track_running_stats": False}, _stem(graph, node, ("weight", "bias"))
        )
    return Said("batchnorm", node.attributes, _stem(graph, node, ("weight", "bias", "running_mean", "running_var")))


def _pool(graph: Graph, node: Node) -> Said:
    kernel = tuple(node.attributes["kernel"])
    arguments = {"kernel_size": even(kernel), **_window(node, kernel)}
    stride = Window.of(kernel, node.attributes, len(kernel)).stride
    arguments["stride"] = None if stride == kernel else even(stride)
    shared = ("ceil_mode", "count_include_pad", "divisor_override", "norm_type")
    arguments |= {k: v for k, v in node.attributes.items() if k in shared}
    return Said(node.op, arguments, called=len(node.inputs) > 1)


def _upsample(graph: Graph, node: Node) -> Said:
    """By the size, and by the factor where that decides. Raises `Unsayable` for rules that PyTorch has not."""
    mode, corners, rounding = (node.attribute(name) for name in ("mode", "corners", "rounding"))
    if mode == "nearest":
        exact = {("asymmetric", "floor"): "nearest", ("half_pixel", "round_prefer_ceil"): "nearest-exact"}
        arguments: dict[str, Any] = {"mode": exact.get((corners, rounding))}
    else:
        align = {"half_pixel": False, "align_corners": True}.get(corners)
        arguments = {"mode": mode if align is not None else None, "align_corners": align}
    if arguments["mode"] is None:
        raise Unsayable(f"%{node.name} has the corners {corners} and the rounding {rounding}")
    factor = node.attribute("factor")
    return Said(
        "upsample",
        {"size": even(node.attributes["size"])} | arguments if factor is None else {"factor": factor} | arguments,
    )


def _infix(graph: Graph, node: Node) -> Said:
    numbers = {}
    for place, operand in enumerate(node.inputs):
        producer = graph.node(operand)
        if producer.op == "constant":
            numbers[place] = float(producer.attributes["value"])
        elif producer.op == "state":
            raise Unsayable(f"%{node.name} reads the statistic {operand}, which no layer has")
    return Said(node.op, infix=INFIX[node.op], numbers=numbers)


def _normalize(graph: Graph, node: Node) -> Said:
    """The layer of its axes and groups."""
    x, a = graph.type(node.inputs[0]), node.attributes
    axes, groups, affine = tuple(a["axes"]), a.get("groups", 1), len(node.inputs) > 1
    label = _stem(graph, node, ("weight", "bias")) if affine else ""
    arguments: dict[str, Any] = {"eps": a.get("eps", 1e-5), "affine": affine}
    by_channel = not affine or len(graph.type(node.inputs[1]).shape) == 1
    if not a.get("centered", True):
        return Said("rmsnorm", {**arguments, "axes": even(axes)}, label)
    if groups == x.shape[1] and by_channel:
        return Said("instancenorm", arguments, label)
    if groups > 1 or (axes != (1,) and affine and by_channel):
        return Said("groupnorm", {**arguments, "groups": groups}, label)
    return Said("layernorm", {**arguments, "axes": None if axes == tuple(range(1, x.rank)) else even(axes)}, label)


def _prelu(graph: Graph, node: Node) -> Said:
    slope = leaf(graph, node.inputs[1])
    return Said("prelu", {"num_parameters": graph.type(slope).sizes[0]}, _stem(graph, node, ("weight",)))


def _same_name(graph: Graph, node: Node) -> Said:
    """A layer with the op's name and its attributes."""
    layer = LAYERS.get(node.op)
    names = {a.name for a in layer.arguments} if layer is not None else set()
    if layer is None or not names.issuperset(node.attributes):
        raise Unsayable(f"there is no layer for %{node.name} = {node.op}")
    leaves = [o for o in node.inputs if graph.node(o).op in ("param", "state", "constant")]
    if leaves:
        raise Unsayable(f"%{node.name} = {node.op} reads {leaves[0]}, which no layer has")
    several = len(node.inputs) > 1
    return Said(node.op, {k: even(v) for k, v in node.attributes.items()}, called=several)


SAYINGS: dict[str, Callable[[Graph, Node], Said]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "linear": _linear,
    "normalize": _normalize,
    "prelu": _prelu,
    "batchnorm": _batchnorm,
    **dict.fromkeys(("maxpool", "avgpool", "lppool", "unpool"), _pool),
    "upsample": _upsample,
    "concat": lambda graph, node: Said("concat", node.attributes, listed=True),
    **dict.fromkeys(INFIX, _infix),
}


def said(graph: Graph, node: Node) -> Said:
    """What the language calls a node. Raises `Unsayable`."""
    if "epilogue" in node.attributes or len(node.results) > 1 or (node.op not in SAYINGS and node.op not in LAYERS):
        raise Unsayable(f"there is no layer for %{node.name} = {node.op}")
    return SAYINGS.get(node.op, _same_name)(graph, node)
