"""The graph: nodes in topological order, values by name in static single assignment.

A graph is frozen; passes build new ones with `dataclasses.replace` or a `Builder`. A value is referred to by its name,
so two graphs are equal when they print alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cnnc.diagnostics import Origin
from cnnc.ir.display import shown
from cnnc.ir.types import TensorType
from cnnc.locks import lazy

if TYPE_CHECKING:
    import networkx

LEAVES = ("input", "param", "state")
Operands = Sequence[str | None]  # values by name; None where one is left out
Given = Mapping[str, Any] | None  # attributes that are said
OPERANDS: dict[str, tuple[str, ...]] = {}  # of each op, the names of its operands, as its record gives them
DEFAULTS: dict[str, Mapping[str, Any]] = {}  # of each op, the attributes that may be left out


class Attributes(Mapping[str, Any]):
    """A frozen, hashable mapping. Lists become tuples."""

    __slots__ = ("_hash", "_items")

    def __init__(self, items: Mapping[str, Any] | None = None) -> None:
        self._items = {k: freeze(v) for k, v in sorted((items or {}).items())}
        self._hash: int | None = None

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __iter__(self) -> Any:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(tuple(self._items.items()))
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        return Attributes, (self._items,)  # hashes of texts are others in another process

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Attributes) and self._items == other._items

    def __repr__(self) -> str:
        return f"Attributes({self._items})"

    def over(self, defaults: Mapping[str, Any]) -> Attributes:
        """These, and the defaults of those that are not among them."""
        return Attributes({**defaults, **self._items}) if defaults.keys() - self._items.keys() else self

    def with_(self, **changes: Any) -> Attributes:
        """A copy with some attributes set, and those given as None removed."""
        return Attributes({k: v for k, v in {**self._items, **changes}.items() if v is not None})


def freeze(value: Any) -> Any:
    return tuple(freeze(v) for v in value) if isinstance(value, list | tuple) else value


@dataclass(frozen=True, slots=True)
class Node:
    """`results = op(operands) {attributes} : types`. An absent optional operand is None."""

    op: str
    operands: tuple[str | None, ...]
    attributes: Attributes
    results: tuple[str, ...]
    types: tuple[TensorType, ...]
    origin: Origin | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        return self.results[0]

    @property
    def type(self) -> TensorType:
        return self.types[0]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The operands that are there."""
        return tuple(o for o in self.operands if o is not None)

    def operand(self, name: str) -> str:
        """The operand of a name. Raises `KeyError` where it is left out, or the op has none of that name."""
        value = self.optional(name)
        if value is None:
            raise KeyError(f"%{self.name} = {self.op} is without its {name}")
        return value

    def optional(self, name: str) -> str | None:
        """The operand of a name, None where it is left out. Raises `KeyError` where the op has none of that name."""
        if name not in OPERANDS[self.op]:
            raise KeyError(f"{self.op} has no operand {name}")
        at = OPERANDS[self.op].index(name)
        return self.operands[at] if at < len(self.operands) else None

    def attribute(self, name: str) -> Any:
        """An attribute, its default where it is left out. Raises `KeyError` where the op has none of that name."""
        return self.attributes[name] if name in self.attributes else DEFAULTS[self.op][name]


@dataclass(frozen=True)
class Graph:
    """`outputs` are (label, value); `updates` are (param or state, the value that replaces it after a training step)."""

    name: str
    nodes: tuple[Node, ...]
    outputs: tuple[tuple[str, str], ...]
    updates: tuple[tuple[str, str], ...] = ()

    @lazy
    def _producers(self) -> dict[str, tuple[Node, int]]:
        return {r: (n, i) for n in self.nodes for i, r in enumerate(n.results)}

    @lazy
    def _users(self) -> dict[str, tuple[Node, ...]]:
        users: dict[str, list[Node]] = {}
        for n in self.nodes:
            for o in dict.fromkeys(n.inputs):
                users.setdefault(o, []).append(n)
        return {k: tuple(v) for k, v in users.items()}

    @lazy
    def kept(self) -> frozenset[str]:
        """Values that outlive the graph: outputs and updates."""
        return frozenset(v for _, v in (*self.outputs, *self.updates))

    def __contains__(self, value: str) -> bool:
        return value in self._producers

    def node(self, value: str) -> Node:
        return self._producers[value][0]

    def type(self, value: str) -> TensorType:
        node, i = self._producers[value]
        return node.types[i]

    def operand_types(self, node: Node) -> list[TensorType | None]:
        """The types of a node's operands; None for one that is left out."""
        return [None if o is None else self.type(o) for o in node.operands]

    def users(self, value: str) -> tuple[Node, ...]:
        return self._users.get(value, ())

    def only_user(self, value: str) -> Node | None:
        """The one node that reads a value which nothing else needs."""
        users = self.users(value)
        return users[0] if len(users) == 1 and value not in self.kept else None

    def of(self, op: str) -> tuple[Node, ...]:
        return tuple(n for n in self.nodes if n.op == op)

    @property
    def inputs(self) -> tuple[Node, ...]:
        return self.of("input")

    @property
    def parameters(self) -> tuple[Node, ...]:
        return self.of("param")

    @property
    def states(self) -> tuple[Node, ...]:
        return self.of("state")

    def digraph(self) -> networkx.DiGraph[str]:
        """Nodes by name, edges from producer to user: for networkx's algorithms."""
        import networkx

        graph: networkx.DiGraph[str] = networkx.DiGraph()
        graph.add_nodes_from(n.name for n in self.nodes)
        graph.add_edges_from((self.node(o).name, n.name) for n in self.nodes for o in n.inputs)
        return graph

    def __str__(self) -> str:
        return print_graph(self)

    def _repr_svg_(self) -> str:
        return shown("graph", self)


# ------------------------------------------------------------------------------------------------ printing


def print_value(value: Any) -> str:
    """An attribute: true, 3, 0.5, "text" or a list."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, tuple | list):
        return f"[{','.join(map(print_value, value))}]"
    return f'"{value}"'


def print_node(node: Node) -> str:
    operands = ", ".join("_" if o is None else f"%{o}" for o in node.operands)
    attributes = ", ".join(f"{k}={print_value(v)}" for k, v in node.attributes.items())
    head = f"{', '.join(f'%{r}' for r in node.results)} = {node.op}"
    return (
        head
        + (f"({operands})" if node.operands or node.op not in LEAVES else "")
        + (f" {{{attributes}}}" if attributes else "")
        + f" : {', '.join(map(str, node.types))}"
    )


def print_graph(graph: Graph, positions: bool = False) -> str:
    """One line a node; with `positions`, where each came from as a comment."""
    inputs = ", ".join(f"%{n.name}: {n.type}" for n in graph.inputs)
    lines = [f"graph @{graph.name}({inputs}) {{"]
    for node in graph.nodes:
        if node.op != "input":
            where = f"   # {node.origin.span}" if positions and node.origin is not None else ""
            lines.append(f"  {print_node(node)}{where}")
    lines += [f"  update %{name} = %{value}" for name, value in graph.updates]
    outputs = ", ".join(f"%{value}" if label == value else f'%{value} as "{label}"' for label, value in graph.outputs)
    return "\n".join([*lines, f"  return {outputs}", "}", ""])
