"""Whether a graph is what it says: single assignment, defined before use, and types that inference gives again."""

from __future__ import annotations

from cnnc.diagnostics import CnncError, Diagnostic
from cnnc.ir.graph import LEAVES, Graph, Node
from cnnc.ir.legal import check_attributes, check_operands, check_type
from cnnc.ir.op import OPS, InferenceError
from cnnc.ir.types import PLAIN, TensorType

Operands = tuple[TensorType | None, ...]


def _leaf_problem(node: Node) -> tuple[str, str] | None:
    """What is wrong with an input, a param or a state."""
    if node.operands or node.attributes or len(node.results) != 1:
        return "E0502", f"%{node.name}: {node.op} has a type and nothing else"
    if node.op == "input" and node.type.rank in PLAIN and node.type.layout != PLAIN[node.type.rank]:
        return "E0503", f"input %{node.name} must be in the plain layout {PLAIN[node.type.rank]}"
    try:
        check_type(node.type, f"%{node.name}")
    except InferenceError as e:
        return e.code, e.message
    return None


def _problem(node: Node, types: list[TensorType | None]) -> tuple[str, str] | None:
    """What is wrong with a node whose operands are of these types."""
    if node.op in LEAVES:
        return _leaf_problem(node)
    record = OPS.get(node.op)
    if record is None:
        return "E0502", f"unknown op '{node.op}'"
    least, most = record.arity()
    if len(node.operands) < least or (most is not None and len(node.operands) > most):
        many = f"{least}" if least == most else f"at least {least}" if most is None else f"{least} to {most}"
        return "E0502", f"{node.op} takes {many} operands, not {len(node.operands)}"
    for i, given in enumerate(node.operands):
        if given is None and not (i < len(record.operands) and record.operands[i].endswith("?")):
            return "E0502", f"operand {i} of {node.op} cannot be left out"
    try:
        complete = record.complete(node.attributes)
        check_attributes(record, dict(complete))
        check_operands(record, types)
        inferred = record.infer(types, complete)
        for t in inferred:
            check_type(t, "its result")
    except InferenceError as e:
        return e.code if e.code.startswith("E05") else "E0504", f"%{node.name} = {node.op}: {e.message}"
    except (TypeError, ValueError, AssertionError, AttributeError, IndexError, KeyError) as e:
        return "E0502", f"%{node.name} = {node.op}: its operands or attributes are not of the right kind ({e})"
    if inferred != node.types:
        return "E0504", (
            f"%{node.name} is declared {', '.join(map(str, node.types))}, "
            f"but {node.op} gives {', '.join(map(str, inferred))}"
        )
    return None


class Verifier:
    """Verifies graphs that follow from each other: a node that stood in the last one, with operands of the same types, is as
    right as it was there.
    """

    def __init__(self) -> None:
        self._right: dict[int, tuple[Node, Operands]] = {}

    def __call__(self, graph: Graph) -> None:
        """As `verify`."""
        right: dict[int, tuple[Node, Operands]] = {}
        types: dict[str, TensorType] = {}
        found: list[Diagnostic] = []
        for node in graph.nodes:
            problem = self._node(node, types, right)
            for result, type in zip(node.results, node.types, strict=True):
                if result in types:
                    problem = problem or ("E0502", f"%{result} is defined twice")
                types[result] = type
            if problem is not None:
                origin = node.origin
                found.append(
                    Diagnostic(*problem, origin.span if origin else None, calls=origin.calls if origin else ())
                )
        found += _ends(graph, types)
        if found:
            raise CnncError(found[:20])
        self._right = right

    def _node(
        self, node: Node, types: dict[str, TensorType], right: dict[int, tuple[Node, Operands]]
    ) -> tuple[str, str] | None:
        for operand in node.inputs:
            if operand not in types:
                return "E0502", f"%{operand} is used by %{node.name} before it is defined"
        operands = tuple(None if o is None else types[o] for o in node.operands)
        seen = self._right.get(id(node))
        if seen is None or seen[1] != operands:
            seen = node, operands
            if problem := _problem(node, list(operands)):
                return problem
        right[id(node)] = seen  # which keeps the node, and so its number
        return None


def verify(graph: Graph) -> None:
    """Raises `CnncError` with every node at fault (E0502 structure, E0503 layouts, E0504 types)."""
    Verifier()(graph)


def _ends(graph: Graph, types: dict[str, TensorType]) -> list[Diagnostic]:
    """What is wrong with outputs and updates."""
    found: list[Diagnostic] = []
    leaves = {n.name for n in graph.nodes if n.op in ("param", "state")}
    for label, value in (*graph.outputs, *graph.updates):
        if value not in types:
            found.append(Diagnostic("E0502", f"'{label}' is %{value}, which is not defined"))
    for name, value in graph.updates:
        if name not in leaves:
            found.append(Diagnostic("E0502", f"update of %{name}, which is no param or state"))
        elif value in types and types[value].shape != types[name].shape:
            found.append(Diagnostic("E0504", f"update of %{name}: {types[name]} becomes {types[value]}"))
    labels = [label for label, _ in graph.outputs]
    if len(set(labels)) != len(labels):
        found.append(Diagnostic("E0502", f"two outputs have the same name: {', '.join(labels)}"))
    return found
