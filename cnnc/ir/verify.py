"""Whether a graph is what it says: single assignment, defined before use, and types that inference gives again."""

from __future__ import annotations

from cnnc.diagnostics import CnncError, Diagnostic
from cnnc.ir.graph import LEAVES, Graph, Node
from cnnc.ir.legal import check_attributes, check_operands, check_type
from cnnc.ir.op import OPS, InferenceError
from cnnc.ir.types import PLAIN, TensorType


def _problem(node: Node, types: dict[str, TensorType]) -> tuple[str, str] | None:
    for operand in node.inputs:
        if operand not in types:
            return "E0502", f"%{operand} is used by %{node.name} before it is defined"
    if node.op in LEAVES:
        if node.operands or node.attributes or len(node.results) != 1:
            return "E0502", f"%{node.name}: {node.op} has a type and nothing else"
        if node.op == "input" and node.type.rank in PLAIN and node.type.layout != PLAIN[node.type.rank]:
            return "E0503", f"input %{node.name} must be in the plain layout {PLAIN[node.type.rank]}"
        try:
            check_type(node.type, f"%{node.name}")
        except InferenceError as e:
            return e.code, e.message
        return None
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
        operands = [None if o is None else types[o] for o in node.operands]
        check_attributes(record, dict(complete))
        check_operands(record, operands)
        inferred = record.infer(operands, complete)
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


def verify(graph: Graph) -> None:
    """Raises `CnncError` with every node at fault (E0502 structure, E0503 layouts, E0504 types)."""
    types: dict[str, TensorType] = {}
    found: list[Diagnostic] = []
    for node in graph.nodes:
        problem = _problem(node, types)
        for result, type in zip(node.results, node.types, strict=True):
            if result in types:
                problem = problem or ("E0502", f"%{result} is defined twice")
            types[result] = type
        if problem is not None:
            found.append(
                Diagnostic(
                    *problem, node.origin.span if node.origin else None, calls=node.origin.calls if node.origin else ()
                )
            )
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
    if found:
        raise CnncError(found[:20])
