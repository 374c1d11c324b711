"""The builder: how graphs are made, node by node."""

from __future__ import annotations

from collections.abc import Sequence

from cnnc.diagnostics import Origin
from cnnc.ir.graph import Attributes, Given, Graph, Node, Operands
from cnnc.ir.op import OPS, InferenceError
from cnnc.ir.types import ELEMENTS, TensorType

Names = (
    str | Sequence[str] | None
)  # what a node's results are called: after the first, or each; after the op unless told


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
        self, op: str, operands: Operands, attributes: Given = None, name: Names = None, origin: Origin | None = None
    ) -> Node:
        """Add a node of any op, with its types inferred from its operands'. Raises `InferenceError`."""
        record = OPS[op]
        complete = record.complete(attributes or {})
        inferred = record.infer([None if o is None else self._types[o] for o in operands], complete)
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
        self, op: str, operands: Operands, attributes: Given = None, name: Names = None, origin: Origin | None = None
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
