"""The record of a layer of the language, and their registry.

A `Layer` says how a layer of the language becomes parameters and nodes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cnnc.diagnostics import Origin, error
from cnnc.ir.builder import Builder
from cnnc.ir.graph import Given, Operands
from cnnc.ir.op import REQUIRED, InferenceError
from cnnc.ir.start import Start, check
from cnnc.ir.types import TensorType


@dataclass(frozen=True)
class Argument:
    """An argument of a layer in the language. doc: what it is, for readers."""

    name: str
    default: Any = REQUIRED
    doc: str = ""


@dataclass(frozen=True)
class ParameterSpec:
    """A trained parameter, or a running statistic (`trained=False`), and how it starts.

    initialization: the layer's own start, PyTorch's for it: "uniform_fan_in" (U(-1/sqrt(fan_in), 1/sqrt(fan_in))),
    "zeros", "ones", or a `Start`. told: the start that `init=` or `bias_init=` has named. groups: of a convolution.
    """

    shape: tuple[int, ...]
    layout: str | None = None
    initialization: str | Start = "uniform_fan_in"
    fan_in: int = 1
    trained: bool = True
    groups: int = 1
    told: Start | None = None

    @property
    def type(self) -> TensorType:
        return TensorType("f32", self.shape, self.layout)

    def start(self, init: Start | None = None, bias_init: Start | None = None) -> Start:
        """How it is drawn: as the layer was told, else by a default of the recipe or the model, else as its layer starts.

        init, bias_init: these defaults, for weights and biases of layers whose own start is "uniform_fan_in".
        """
        own = self.initialization if isinstance(self.initialization, Start) else Start(self.initialization)
        default = init if len(self.shape) > 1 else bias_init
        return self.told or (default if default is not None and own.name == "uniform_fan_in" else own)


STARTS_OF_LAYERS = (
    Argument("init", None, "how the weight starts, such as kaiming_normal(); unless told as in PyTorch"),
    Argument("bias_init", None, "how the bias starts"),
)


def told(specs: Mapping[str, ParameterSpec], arguments: Mapping[str, Any]) -> dict[str, ParameterSpec]:
    """The parameters of a layer, with the starts among its arguments. Raises `InferenceError` (E0203)."""
    result = dict(specs)
    for argument, short in (("init", "weight"), ("bias_init", "bias")):
        begin = arguments.get(argument)
        if begin is None or (short in result and result[short].told is not None):  # the layer has read it itself
            continue
        if not isinstance(begin, Start):
            what = f"{argument} is a start such as kaiming_normal(), not {begin!r}"
            raise InferenceError(what, argument, "E0203")
        if short not in result:
            raise InferenceError(f"{argument} is for a {short}, and there is none here", argument, "E0203")
        try:
            check(begin, result[short].shape)
        except InferenceError as e:
            raise InferenceError(e.message, argument, e.code, e.notes, e.help) from None
        result[short] = replace(result[short], told=begin)
    return result


def no_parameters(types: Sequence[TensorType], arguments: Mapping[str, Any]) -> dict[str, ParameterSpec]:
    return {}


SAME = "any shape -> the same"


@dataclass(frozen=True)
class Site:
    """One application of a layer: what its `build` is given.

    operands: the values that it is applied to. parameters: the values of its own, by short name, in the order in which
    the layer's `parameters` gave them. arguments: all of them, by name. name, origin: of the node that gives the result.
    """

    builder: Builder
    operands: tuple[str, ...]
    parameters: Mapping[str, str]
    arguments: Mapping[str, Any]
    name: str
    origin: Origin | None = None

    @property
    def type(self) -> TensorType:
        """The type of the first operand."""
        return self.builder.type(self.operands[0])

    def add(self, op: str, operands: Operands, attributes: Given = None) -> str:
        """The node that gives the result. Raises `InferenceError`."""
        return self.builder.add(op, operands, attributes, self.name, self.origin)

    def part(self, index: int, op: str, operands: Operands, attributes: Given = None) -> str:
        """A node beside others, called by the layer's name and a number. Raises `InferenceError`."""
        return self.builder.add(op, operands, attributes, f"{self.name}.{index}", self.origin)


Build = Callable[[Site], str | tuple[str, ...]]
Parameters = Callable[[Sequence[TensorType], Mapping[str, Any]], dict[str, ParameterSpec]]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """How a layer of the language becomes nodes.

    operands: how many tensors it applies to; None for a list of them.
    parameters(types, arguments) -> specifications by short name ("weight"); raises `InferenceError`.
    build(site) -> the value it gives, or several; raises `InferenceError`.
    doc, shapes: for readers, what it is, a line of the reference's table, and what becomes of what shape. example: it
    applied to x: f32[N, 3, 32, 32].
    """

    name: str
    arguments: tuple[Argument, ...]
    build: Build
    operands: int | None = 1
    parameters: Parameters = no_parameters
    doc: str
    shapes: str = SAME
    example: str

    def __reduce__(self) -> tuple[Any, ...]:
        return registered, (self.name,)  # what it calls may be functions that no other process finds by name


LAYERS: dict[str, Layer] = {}
WORDS = frozenset(  # of the language, which name nothing else
    "include const block model train input for in if else expect return as and or not true false none".split()
)


def registered(name: str) -> Layer:
    """The layer of a name. Raises `CnncError` (E0832) where this process has none."""
    if name not in LAYERS:
        help = "import the module that registers it, and read this again"
        raise error("E0832", f"there is no layer '{name}' in this process", help=help)
    return LAYERS[name]


def register_layer(layer: Layer, replace: bool = False) -> Layer:
    """Add a layer to the language of this process, and give it back. replace: in place of one of the same name. Raises
    `CnncError` (E0831, E0706).
    """
    if not isinstance(layer, Layer):
        raise error("E0706", f"register_layer takes a cnnc.Layer, not {type(layer).__name__}")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", layer.name) or layer.name in WORDS:
        raise error("E0831", f"'{layer.name}' is no name for a layer", help="a name is letters, digits and '_'")
    if layer.name in LAYERS and not replace:
        help = "give it another name, or register_layer(layer, replace=True)"
        raise error("E0831", f"there is a layer '{layer.name}' already", help=help)
    LAYERS[layer.name] = layer
    return layer


def named_op(
    op: str, *arguments: Argument, operands: int | None = 1, shapes: str = SAME, example: str, doc: str
) -> Layer:
    """Register the layer that is the op of its name, with the op's attributes as arguments."""

    def build(site: Site) -> str:
        return site.add(op, site.operands, site.arguments)

    layer = Layer(name=op, arguments=arguments, build=build, operands=operands, shapes=shapes, example=example, doc=doc)
    return register_layer(layer)


def builds(
    name: str,
    *arguments: Argument,
    operands: int | None = 1,
    parameters: Parameters = no_parameters,
    shapes: str = SAME,
    example: str,
    doc: str = "",
) -> Callable[[Build], Build]:
    """Register a layer with the function that builds it, which this decorates. What that says of itself is the layer's
    line for readers.
    """

    def decorate(build: Build) -> Build:
        line = doc or " ".join((build.__doc__ or "").split())
        layer = Layer(name=name, arguments=arguments, build=build, doc=line, example=example)
        register_layer(replace(layer, operands=operands, parameters=parameters, shapes=shapes))
        return build

    return decorate
