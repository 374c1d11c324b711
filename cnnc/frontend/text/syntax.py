"""The syntax tree of a `.cnn` file: frozen, each node with the span it was read from.

Chains are flat (`a + b - c` is one `Chain`), so that the depth of a tree is the nesting that a person sees, at most
`scan.NESTING`.
"""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.diagnostics import Span

# --- expressions


@dataclass(frozen=True, slots=True)
class Number:
    span: Span
    value: int | float


@dataclass(frozen=True, slots=True)
class Text:
    span: Span
    value: str


@dataclass(frozen=True, slots=True)
class Word:
    """`true`, `false` or `none`."""

    span: Span
    value: bool | None


@dataclass(frozen=True, slots=True)
class Name:
    span: Span
    name: str


@dataclass(frozen=True, slots=True)
class List:
    """`[a, b]` or `(a, b)`."""

    span: Span
    items: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Dict:
    """`{key: value}`; `{name = value}` has the name as a text for its key."""

    span: Span
    pairs: tuple[tuple[Expression, Expression], ...]


@dataclass(frozen=True, slots=True)
class Attribute:
    span: Span
    value: Expression
    name: Name


@dataclass(frozen=True, slots=True)
class Index:
    span: Span
    value: Expression
    index: Expression


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a call; `name` is None where it is given by position."""

    span: Span
    name: Name | None
    value: Expression


@dataclass(frozen=True, slots=True)
class Call:
    span: Span
    callee: Expression
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Unary:
    """`-x`, `+x` or `not x`."""

    span: Span
    operator: str
    value: Expression


@dataclass(frozen=True, slots=True)
class Chain:
    """`first op a op b ...`, from left to right: sums, products, comparisons, `and`, `or`, and single powers."""

    span: Span
    first: Expression
    rest: tuple[tuple[str, Span, Expression], ...]


@dataclass(frozen=True, slots=True)
class Choose:
    """`condition ? then : otherwise`"""

    span: Span
    condition: Expression
    then: Expression
    otherwise: Expression


@dataclass(frozen=True, slots=True)
class Label:
    """What follows `as`: literal pieces and expressions, joined."""

    span: Span
    parts: tuple[str | Expression, ...]


@dataclass(frozen=True, slots=True)
class Labelled:
    """`value as label`"""

    span: Span
    value: Expression
    label: Label


@dataclass(frozen=True, slots=True)
class Step:
    """`-> callee(arguments) as label`; `arguments` is None where there are no parentheses."""

    span: Span
    callee: Expression
    arguments: tuple[Argument, ...] | None
    label: Label | None


@dataclass(frozen=True, slots=True)
class Pipe:
    span: Span
    start: Expression
    steps: tuple[Step, ...]


Expression = (
    Number | Text | Word | Name | List | Dict | Attribute | Index | Call | Unary | Chain | Choose | Labelled | Pipe
)

# --- statements


@dataclass(frozen=True, slots=True)
class Type:
    """`f32[N, C, H, W]`; a dimension named N is the batch."""

    span: Span
    dtype: Name
    dims: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    span: Span
    name: Name
    value: Expression


@dataclass(frozen=True, slots=True)
class Input:
    span: Span
    name: Name
    type: Type
    settings: tuple[Setting, ...]


@dataclass(frozen=True, slots=True)
class Assign:
    span: Span
    targets: tuple[Name, ...]
    value: Expression


@dataclass(frozen=True, slots=True)
class Range:
    """`start..stop`, without its end."""

    span: Span
    start: Expression
    stop: Expression


@dataclass(frozen=True, slots=True)
class For:
    span: Span
    targets: tuple[Name, ...]
    over: Expression | Range
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class If:
    """Clauses are tried in order; an `else` has None for its condition."""

    span: Span
    clauses: tuple[tuple[Expression | None, tuple[Statement, ...]], ...]


@dataclass(frozen=True, slots=True)
class Expect:
    span: Span
    name: Name
    type: Type


@dataclass(frozen=True, slots=True)
class Return:
    span: Span
    values: tuple[Expression, ...]


Statement = Input | Assign | For | If | Expect | Return

# --- items


@dataclass(frozen=True, slots=True)
class Include:
    span: Span
    path: str


@dataclass(frozen=True, slots=True)
class Const:
    span: Span
    name: Name
    value: Expression
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Parameter:
    """`name` or `name = default`"""

    span: Span
    name: Name
    default: Expression | None


@dataclass(frozen=True, slots=True)
class Block:
    span: Span
    name: Name
    parameters: tuple[Parameter, ...]
    body: tuple[Statement, ...]
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Model:
    span: Span
    name: Name
    parameters: tuple[Parameter, ...]
    body: tuple[Statement, ...]
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Train:
    span: Span
    settings: tuple[Setting, ...]
    doc: str = ""


Item = Include | Const | Block | Model | Train


@dataclass(frozen=True, slots=True)
class File:
    """The items of one file, in order."""

    span: Span
    items: tuple[Item, ...]
