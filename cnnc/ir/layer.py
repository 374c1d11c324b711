"""The record of a layer of the language, and their registry.

A `Layer` says how a layer of the language becomes parameters and nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnc.diagnostics import Origin
from cnnc.ir.builder import Builder
from cnnc.ir.op import REQUIRED
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

    initialization: "uniform_fan_in" (PyTorch's default: U(-1/sqrt(fan_in), 1/sqrt(fan_in))), "zeros" or "ones".
    """

    shape: tuple[int, ...]
    layout: str | None = None
    initialization: str = "uniform_fan_in"
    fan_in: int = 1
    trained: bool = True

    @property
    def type(self) -> TensorType:
        return TensorType("f32", self.shape, self.layout)


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

    def add(self, op: str, operands: Sequence[str], attributes: Mapping[str, Any] | None = None) -> str:
        """The node that gives the result. Raises `InferenceError`."""
        return self.builder.add(op, operands, attributes, self.name, self.origin)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """How a layer of the language becomes nodes.

    operands: how many tensors it applies to; None for a list of them.
    parameters(types, arguments) -> specifications by short name ("weight"); raises `InferenceError`.
    build(site) -> the value it gives; raises `InferenceError`.
    doc, shapes: for readers, what it is, a line of the reference's table, and what becomes of what shape. example: it
    applied to x: f32[N, 3, 32, 32].
    """

    name: str
    arguments: tuple[Argument, ...]
    build: Callable[[Site], str]
    operands: int | None = 1
    parameters: Callable[[Sequence[TensorType], Mapping[str, Any]], dict[str, ParameterSpec]] = no_parameters
    doc: str
    shapes: str = SAME
    example: str

    def __reduce__(self) -> tuple[Any, ...]:
        return registered, (self.name,)  # what it calls may be functions that no other process finds by name


LAYERS: dict[str, Layer] = {}


def registered(name: str) -> Layer:
    """The layer of a name. Raises `KeyError` where this process has none."""
    return LAYERS[name]


def register_layer(layer: Layer) -> Layer:
    LAYERS[layer.name] = layer
    return layer
