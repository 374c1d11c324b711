"""Pointwise maps and numbers on GPUs."""

from __future__ import annotations

from cnnc.backends.cuda.context import Lowering
from cnnc.backends.cuda.emit import as_result, at, is_blocked, map_to, value_at
from cnnc.ir import expression as ex
from cnnc.ir.graph import Node
from cnnc.ir.types import DTYPES, TensorType, product
from cnnc.kernels.cuda.elementwise.map_plan import Space
from cnnc.lowering.plan import Ref
from cnnc.ops.pointwise import expressions


def pointwise(low: Lowering, node: Node) -> None:
    space = Space(as_result(low.shape(node.name)), is_blocked(node.type))
    results = [value_at(low, space, r) for r in node.results]
    map_to(low, node, space, results, [value_at(low, space, o) for o in node.inputs], expressions(node))


def expand(low: Lowering, node: Node) -> None:
    space = Space(as_result(low.shape(node.name)), is_blocked(node.type))
    map_to(low, node, space, [value_at(low, space, node.name)], [value_at(low, space, node.inputs[0])])


def copy(low: Lowering, node: Node, source: Ref, target: Ref, t: TensorType) -> None:
    size = t.bytes(low.batch) // DTYPES[t.dtype].itemsize
    space = Space((size,))
    map_to(low, node, space, [at(space, target, (size,))], [at(space, source, (size,))])


def _number(low: Lowering, node: Node, value: float) -> None:
    space = Space((1,))
    map_to(low, node, space, [at(space, low.ref(node.name), (1,))], [], [ex.const(value)])


def constant(low: Lowering, node: Node) -> None:
    _number(low, node, float(node.attributes["value"]))


def count(low: Lowering, node: Node) -> None:
    """How many values a channel has."""
    shape = low.shape(node.inputs[0])
    _number(low, node, product(shape) / shape[1] if len(shape) > 1 else float(product(shape)))


def batch_size(low: Lowering, node: Node) -> None:
    _number(low, node, float(low.shape(node.inputs[0])[0]))
