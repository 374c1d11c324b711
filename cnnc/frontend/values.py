"""What an expression of the language can be at compile time, and the scopes that its layers are named in.

Numbers, texts, `true`, `false` and `none` are Python's; lists are tuples, dicts are dicts. Everything else is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cnnc.diagnostics import Span
from cnnc.frontend.text import syntax
from cnnc.ir.expression import Expression
from cnnc.ir.layer import Layer, ParameterSpec
from cnnc.ir.start import Start
from cnnc.ir.types import BATCH, TensorType

Value = Any


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value of the graph."""

    value: str
    type: TensorType


@dataclass(frozen=True, slots=True)
class Formula:
    """An expression of single numbers, in the body of an activation."""

    expression: Expression


@dataclass(frozen=True, slots=True)
class Batch:
    """The batch: a size that is not known at compile time."""


@dataclass(frozen=True, slots=True)
class Poison:
    """Comes of a statement that has failed; whatever reads it fails silently."""


BATCH_SIZE = Batch()
POISON = Poison()
MISSING: Any = object()  # what a body gives that has not returned


@dataclass(frozen=True, slots=True)
class Given:
    """An argument's value and where it was written."""

    value: Value
    span: Span


@dataclass(eq=False, slots=True)
class Scope:
    """Names of layers within one block.

    path: what they are prefixed with, "" for the model itself.
    memory: what has been made under each label; a shared block keeps it, so that its next use finds its parameters.
    reserved: labels written out in the body; running numbers step around them.
    """

    path: str
    memory: dict[str, Any] = field(default_factory=dict)
    reserved: frozenset[str] = frozenset()
    taken: dict[str, Span] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)

    def full(self, label: str) -> str:
        return f"{self.path}.{label}" if self.path else label

    def running(self, stem: str, span: Span) -> str:
        """The stem with the next free number."""
        number = self.counters.get(stem, 0) + 1
        while f"{stem}{number}" in self.taken or f"{stem}{number}" in self.reserved:
            number += 1
        self.counters[stem] = number
        self.taken[f"{stem}{number}"] = span
        return f"{stem}{number}"


@dataclass(eq=False, slots=True, kw_only=True)
class Shareable:
    """A layer or a block. A bare name makes a new one wherever it is applied; one with arguments, written at `span`, is
    one, and all its applications share its parameters.

    home: the scope and label its parameters are named by, once it has any.
    """

    span: Span | None = None
    scope: Scope | None = None
    home: tuple[Scope, str] | None = None

    @property
    def bare(self) -> bool:
        return self.span is None


@dataclass(eq=False, slots=True)
class LayerValue(Shareable):
    """A layer: `act = relu` is bare, `conv(32, 3)` is not."""

    layer: Layer
    arguments: Mapping[str, Given] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class BlockValue(Shareable):
    """A block, with the arguments it has been given so far. With arguments and no tensor it is shared, like a layer."""

    block: syntax.Block
    module: Module
    positional: tuple[Given, ...] = ()
    keywords: Mapping[str, Given] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Function:
    """A function on compile-time values: `len`, `min`, `max`, `int`, `round`; or one that gives a start: `normal`."""

    name: str


@dataclass(eq=False, slots=True)
class Module:
    """The items that one file can name: its own and those it includes."""

    consts: dict[str, tuple[syntax.Const, Module]] = field(default_factory=dict)
    blocks: dict[str, tuple[syntax.Block, Module]] = field(default_factory=dict)
    models: dict[str, tuple[syntax.Model, Module]] = field(default_factory=dict)
    activations: dict[str, tuple[syntax.Activation, Module]] = field(default_factory=dict)
    trains: list[tuple[syntax.Train, Module]] = field(default_factory=list)
    defined: set[str] = field(default_factory=set)  # in the file itself
    values: dict[str, Value] = field(default_factory=dict)
    pending: set[str] = field(default_factory=set)
    made: dict[str, Layer | None] = field(default_factory=dict)  # layers of its activations; None where one is wrong


@dataclass(eq=False, slots=True)
class Made:
    """The parameters of a layer: specifications and value names by short name."""

    specs: dict[str, ParameterSpec]
    values: dict[str, str]
    span: Span


def tensors_in(value: Value) -> bool:
    """Whether a value is a tensor, a formula or a failed one, or a list with one in it."""
    return isinstance(value, Tensor | Formula | Poison) or (
        isinstance(value, tuple) and any(tensors_in(v) for v in value)
    )


def is_plain(value: Value) -> bool:
    """Whether a value is a number, a text, a truth, none, a start, the batch, or a list of such."""
    return (
        value is None
        or isinstance(value, bool | int | float | str | Start | Batch)
        or (isinstance(value, tuple) and all(is_plain(v) for v in value))
    )


def plain(value: Value) -> Value:
    """A plain value as layers are given it: the batch is N."""
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    return BATCH if isinstance(value, Batch) else value


def kind(value: Value) -> str:
    """The kind of a value, in words."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, tuple):
        return "a list of tensors" if value and all(isinstance(v, Tensor) for v in value) else "a list"
    if isinstance(value, dict):
        return "a dict"
    if isinstance(value, Tensor):
        return f"a tensor {shown_type(value.type)}"
    if isinstance(value, Formula):
        return "an expression"
    if isinstance(value, LayerValue):
        return "a layer"
    if isinstance(value, BlockValue):
        return "a block"
    if isinstance(value, Function):
        return "a function"
    if isinstance(value, Start):
        return "a start"
    return "the batch size"


def show(value: Value) -> str:
    """A value as it would be written."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return f'"{value}"' if len(value) < 60 else f'"{value[:57]}..."'
    if isinstance(value, tuple):
        return "[" + ", ".join(map(show, value[:8])) + (", ..." if len(value) > 8 else "") + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{show(k)}: {show(v)}" for k, v in list(value.items())[:8]) + "}"
    if isinstance(value, LayerValue):
        return value.layer.name
    if isinstance(value, BlockValue):
        return value.block.name.name
    if isinstance(value, Start):
        return str(value)
    return "N" if isinstance(value, Batch) else kind(value)


def shown_type(type: TensorType) -> str:
    """A type as the language writes it: `f32[N, 64, 56, 56]`."""
    return f"{type.dtype}[{', '.join(map(str, type.shape))}]"
