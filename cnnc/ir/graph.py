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
from cnnc.ir.types import ELEMENTS, TensorType
from cnnc.locks import lazy

if TYPE_CHECKING:
    import networkx

LEAVES = ("input", "param", "state")


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
        from cnnc.ir.text import print_graph

        return print_graph(self)

    def _repr_svg_(self) -> str:
        return shown("graph", self)


class Builder:
    """Appends nodes; each is inferred as it is added."""

    def __init__(self, name: str, nodes: Sequence[Node] = ()) -> None:
        self.name = name
        self.nodes: list[Node] = []
        self._types: dict[str, TensorType] = {}
        self._counters: dict[str, int] = {}
        for node in nodes:
            self.append(node)

    def __contains__(self, value: str) -> bool:
        return value in self._types

    def type(self, value: str) -> TensorType:
        return self._types[value]

    def fresh(self, stem: str) -> str:
        """`stem` itself where it is free, else with a running number."""
        if stem not in self._types:
            return stem
        count = self._counters.get(stem, 1)
        while f"{stem}.{count}" in self._types:
            count += 1
        self._counters[stem] = count + 1
        return f"{stem}.{count}"

    def append(self, node: Node) -> Node:
        for result, type in zip(node.results, node.types, strict=True):
            if result in self._types:
                raise AssertionError(f"%{result} is defined twice")
            self._types[result] = type
        self.nodes.append(node)
        return node

    def insert(
        self,
        op: str,
        operands: Sequence[str | None],
        attributes: Mapping[str, Any] | None = None,
        name: str | Sequence[str] | None = None,
        origin: Origin | None = None,
        types: Sequence[TensorType] | None = None,
    ) -> Node:
        """Add a node of any op, with its types inferred from its operands'. Raises `InferenceError`."""
        from cnnc.ir.op import OPS, InferenceError

        record = OPS[op]
        complete = record.complete(attributes or {})
        inferred = (
            tuple(types)
            if types is not None
            else record.infer([None if o is None else self._types[o] for o in operands], complete)
        )
        for type in inferred:
            if type.elements >= ELEMENTS:
                raise InferenceError(
                    f"a result of {type.elements:,} numbers an image: they must be below 2^45", None, "E0402"
                )
        if name is None or isinstance(name, str):
            stem = name or op
            names = [self.fresh(stem)]
            names += [self.fresh(f"{names[0]}.{suffix}") for suffix in record.result_names(len(inferred))[1:]]
        else:
            names = list(name)
        return self.append(Node(op, tuple(operands), complete, tuple(names), inferred, origin))

    def add(
        self,
        op: str,
        operands: Sequence[str | None],
        attributes: Mapping[str, Any] | None = None,
        name: str | Sequence[str] | None = None,
        origin: Origin | None = None,
    ) -> str:
        """`insert`, giving the name of the first result."""
        return self.insert(op, operands, attributes, name, origin).name

    def _leaf(self, op: str, name: str, type: TensorType, origin: Origin | None) -> str:
        return self.append(Node(op, (), Attributes(), (name,), (type,), origin)).name

    def input(self, name: str, type: TensorType, origin: Origin | None = None) -> str:
        return self._leaf("input", name, type, origin)

    def param(self, name: str, type: TensorType, origin: Origin | None = None) -> str:
        return self._leaf("param", name, type, origin)

    def state(self, name: str, type: TensorType, origin: Origin | None = None) -> str:
        return self._leaf("state", name, type, origin)

    def finish(self, outputs: Sequence[tuple[str, str]], updates: Sequence[tuple[str, str]] = ()) -> Graph:
        """The graph, its inputs first."""
        return Graph(
            self.name, tuple(sorted(self.nodes, key=lambda n: n.op != "input")), tuple(outputs), tuple(updates)
        )
