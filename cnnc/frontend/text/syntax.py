"""The syntax tree of a `.cnn` file: frozen, each node with the span it was read from.

Chains are flat (`a + b - c` is one `Chain`), so that the depth of a tree is the nesting that a person sees, at most
`scan.NESTING`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, dataclass_transform

from cnnc.diagnostics import Span


@dataclass_transform(frozen_default=True)
@dataclass(frozen=True)
class Syntax:
    """A node, with the place that it was read from. Every class below is a frozen dataclass, whose first field this is."""

    span: Span

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        dataclass(frozen=True)(cls)


# --- expressions


class Number(Syntax):
    value: int | float


class Text(Syntax):
    value: str


class Word(Syntax):
    """`true`, `false` or `none`."""

    value: bool | None


class Name(Syntax):
    name: str


class List(Syntax):
    """`[a, b]` or `(a, b)`."""

    items: tuple[Expression, ...]


class Dict(Syntax):
    """`{key: value}`; `{name = value}` has the name as a text for its key."""

    pairs: tuple[tuple[Expression, Expression], ...]


class Attribute(Syntax):
    value: Expression
    name: Name


class Slice(Syntax):
    """`start:stop:step`; None for what is left out."""

    start: Expression | None
    stop: Expression | None
    step: Expression | None


class Index(Syntax):
    """`value[i]`, and of tensors `value[:, 0:8, ::2]`."""

    value: Expression
    entries: tuple[Expression | Slice, ...]


class Argument(Syntax):
    """An argument of a call; `name` is None where it is given by position."""

    name: Name | None
    value: Expression


class Call(Syntax):
    callee: Expression
    arguments: tuple[Argument, ...]


class Unary(Syntax):
    """`-x`, `+x` or `not x`."""

    operator: str
    value: Expression


class Chain(Syntax):
    """`first op a op b ...`, from left to right: sums, products, comparisons, `and`, `or`, and single powers."""

    first: Expression
    rest: tuple[tuple[str, Span, Expression], ...]


class Choose(Syntax):
    """`condition ? then : otherwise`"""

    condition: Expression
    then: Expression
    otherwise: Expression


class Label(Syntax):
    """What follows `as`: literal pieces and expressions, joined."""

    parts: tuple[str | Expression, ...]


class Labelled(Syntax):
    """`value as label`"""

    value: Expression
    label: Label


class Step(Syntax):
    """`-> callee(arguments) as label`; `arguments` is None where there are no parentheses."""

    callee: Expression
    arguments: tuple[Argument, ...] | None
    label: Label | None


class Pipe(Syntax):
    start: Expression
    steps: tuple[Step, ...]


Expression = (
    Number | Text | Word | Name | List | Dict | Attribute | Index | Call | Unary | Chain | Choose | Labelled | Pipe
)


def is_batch(node: Expression) -> bool:
    """Whether it is the name that the batch has in a shape."""
    return isinstance(node, Name) and node.name == "N"


# --- statements


class Type(Syntax):
    """`f32[N, C, H, W]`; a dimension named N is the batch."""

    dtype: Name
    dims: tuple[Expression, ...]


class Setting(Syntax):
    name: Name
    value: Expression


class Input(Syntax):
    name: Name
    type: Type
    settings: tuple[Setting, ...]


class Param(Syntax):
    """`param name: type = start`"""

    name: Name
    type: Type
    start: Expression


class Assign(Syntax):
    targets: tuple[Name, ...]
    value: Expression


class Range(Syntax):
    """`start..stop`, without its end."""

    start: Expression
    stop: Expression


class For(Syntax):
    targets: tuple[Name, ...]
    over: Expression | Range
    body: tuple[Statement, ...]


class If(Syntax):
    """Clauses are tried in order; an `else` has None for its condition."""

    clauses: tuple[tuple[Expression | None, tuple[Statement, ...]], ...]


class Expect(Syntax):
    name: Name
    type: Type


class Return(Syntax):
    values: tuple[Expression, ...]


Statement = Input | Param | Assign | For | If | Expect | Return

# --- items


class Include(Syntax):
    path: str


class Const(Syntax):
    name: Name
    value: Expression
    doc: str = ""


class Parameter(Syntax):
    """`name` or `name = default`"""

    name: Name
    default: Expression | None


class Definition(Syntax):
    """A block or a model."""

    name: Name
    parameters: tuple[Parameter, ...]
    body: tuple[Statement, ...]
    doc: str = ""


class Block(Definition):
    pass


class Model(Definition):
    pass


class Activation(Syntax):
    """`activation name(x, ...) = value`"""

    name: Name
    parameters: tuple[Parameter, ...]
    value: Expression
    doc: str = ""


class Train(Syntax):
    settings: tuple[Setting, ...]
    doc: str = ""


Item = Include | Const | Block | Model | Activation | Train


class File(Syntax):
    """The items of one file, in order."""

    items: tuple[Item, ...]
