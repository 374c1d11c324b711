"""The record of an op, and the registry of all ops.

Everything about an op is in its `Op`: operands, attributes, shape inference, the float64 NumPy reference that defines
it, its gradient as graph-building code, its cost, and how it is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from cnnc.ir.graph import DEFAULTS, OPERANDS, Attributes, Node, freeze
from cnnc.ir.receptive import Field, space_of
from cnnc.ir.types import TensorType

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

Types = Sequence[TensorType | None]
Kind = Literal["pointwise", "convolution", "linear", "pooling", "norm", "shape", "regularization"]
Reference = Callable[[Sequence[Any], Attributes, Sequence[TensorType]], tuple[Any, ...]]
REQUIRED: Any = type("Required", (), {"__repr__": lambda self: "REQUIRED"})()


class InferenceError(Exception):
    """An op does not accept its operands or attributes. `argument` is the language's name of what is at fault."""

    def __init__(
        self,
        message: str,
        argument: str | None = None,
        code: str = "E0204",
        notes: Sequence[str] = (),
        help: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.argument, self.code, self.notes, self.help = message, argument, code, tuple(notes), help


@dataclass(frozen=True)
class Cost:
    """Work of one node at a batch size: multiply-adds, and bytes that must move at least once."""

    macs: int = 0
    bytes: int = 0


def one_result(count: int) -> tuple[str, ...]:
    return ("",) * count


def same_type(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    """Of an op whose result is as its first operand."""
    return (required(types[0]),)


def one_number(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    """Of an op that gives a number."""
    return (TensorType("f32", ()),)


def no_macs(node: Node, types: Types, batch: int) -> int:
    return 0


def same_field(node: Node, types: Types, seen: Field) -> Field:
    """Of an op whose results see what its operands see: element by element, or in another shape."""
    space = space_of(node.type)
    return Field(seen.size, seen.jump, space) if len(space) == len(seen.extent) else seen


def whole_field(node: Node, types: Types, seen: Field) -> Field:
    """Of an op each of whose results reads all of space."""
    return seen.whole()


def undefined(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    raise AssertionError("an op without a reference")


@dataclass(frozen=True)
class Op:
    """One op.

    operands: names; a trailing `?` marks an optional one, a trailing `*` any number of them.
    attributes: names and defaults (`REQUIRED` where there is none); `infer` and `reference` of a registered op are given
        all of them, a `node.attribute(name)` is one.
    infer(types, attributes) -> result types; raises `InferenceError`.
    reference(arrays, attributes, types) -> float64 results; arrays have logical shapes, absent operands are None,
        types are the result types with the batch bound.
    gradient(context, node, gradients) -> one value (or None) for each operand; `context` is the pass's builder.
    macs(node, operand types, batch) -> multiply-adds.
    layout: how the op treats layouts, see `passes/select_layout.py`: "any" (the same on both sides), "plain",
    "window", "planes" ("any" where whole planes or pixels are normalized).
    kind: what a drawing shows it as.
    field(node, operand types, what its operands see together) -> what its results see of the input.
    doc: its algebra, for readers.
    """

    name: str
    operands: tuple[str, ...]
    _: KW_ONLY
    infer: Callable[[Types, Attributes], tuple[TensorType, ...]]
    reference: Reference = undefined
    attributes: Mapping[str, Any] = Attributes()
    gradient: Callable[[Any, Node, Sequence[str | None]], Sequence[str | None]] | None = None
    macs: Callable[[Node, Types, int], int] = no_macs
    results: tuple[str, ...] = ("",)
    layout: str = "plain"
    kind: Kind = "pointwise"
    field: Callable[[Node, Types, Field], Field] = same_field
    pure: bool = True
    doc: str = ""

    def complete(self, given: Mapping[str, Any]) -> Attributes:
        """The attributes with defaults left out, so that a graph prints only what was said."""
        for name in given:
            if name not in self.attributes:
                raise InferenceError(f"{self.name} has no attribute '{name}'", name, "E0502")
        for name, default in self.attributes.items():
            if default is REQUIRED and given.get(name) is None:
                raise InferenceError(f"{self.name} needs the attribute '{name}'", name, "E0502")
        return Attributes(
            {
                k: v
                for k, v in given.items()
                if v is not None and (self.attributes[k] is REQUIRED or freeze(v) != self.attributes[k])
            }
        )

    def result_names(self, count: int) -> tuple[str, ...]:
        return self.results if len(self.results) == count else tuple(str(i) if i else "" for i in range(count))

    def arity(self) -> tuple[int, int | None]:
        """The least and the greatest number of operands."""
        least = sum(1 for o in self.operands if o[-1] not in "?*")
        return least, None if any(o.endswith("*") for o in self.operands) else len(self.operands)


OPS: dict[str, Op] = {}


def register(op: Op) -> Op:
    """Put an op into the registry. What it gives reads attributes at their defaults where a node leaves them out."""
    defaults = {name: default for name, default in op.attributes.items() if default is not REQUIRED}

    def infer(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
        return op.infer(types, attributes.over(defaults))

    def reference(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
        return op.reference(arrays, attributes.over(defaults), types)

    OPS[op.name] = replace(op, infer=infer, reference=reference) if defaults else op
    OPERANDS[op.name], DEFAULTS[op.name] = tuple(o.rstrip("?*") for o in op.operands), defaults
    return OPS[op.name]


def defines(op: Op) -> Callable[[Reference], Reference]:
    """Register an op with the reference that this decorates. What it says of itself is the op's algebra, for readers."""

    def decorate(reference: Reference) -> Reference:
        register(replace(op, reference=reference, doc=op.doc or " ".join((reference.__doc__ or "").split())))
        return reference

    return decorate


def required(type: TensorType | None) -> TensorType:
    """The type of an operand that no node leaves out. Raises `InferenceError`."""
    if type is None:
        raise InferenceError("an operand cannot be left out", code="E0502")
    return type
