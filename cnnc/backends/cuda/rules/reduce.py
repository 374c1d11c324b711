"""Sums over axes on GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnnc.backends.cuda.context import Lowering
from cnnc.backends.cuda.emit import Placed, as_result, at, emit, is_blocked, map_to, scratch, value_at
from cnnc.ir import expression as ex
from cnnc.ir.graph import Node
from cnnc.ir.types import product
from cnnc.kernels.cuda.elementwise.map_plan import Space
from cnnc.kernels.cuda.elementwise.reduce_plan import Reduction, plan_reduce
from cnnc.lowering.plan import Ref
from cnnc.ops.checks import all_axes

FOLDS = {"max": "max", "min": "min", "prod": "mul"}


def fold(
    low: Lowering,
    node: Node,
    reduction: Reduction,
    results: Sequence[Ref],
    operands: Sequence[Placed],
    expressions: Sequence[Any],
) -> None:
    """The steps of a fold; of several parts, another fold of these in their order."""
    made = plan_reduce(low.chip, reduction, [view for _, view in operands], expressions)
    targets = list(results)
    if made.parts > 1:
        targets = [scratch(low, f"{node.name}~parts", made.parts * made.floats) for _ in results]
    buffers = {f"y{i}": ref for i, ref in enumerate(targets)} | {f"a{i}": ref for i, (ref, _) in enumerate(operands)}
    emit(low, node, made.launch, buffers, [f"y{i}" for i in range(len(targets))], _note(made.parts))
    if made.parts > 1:
        space = Space((made.parts, made.floats))
        whole = Reduction(space, (0,), reduction.fold)
        for source, result in zip(targets, results, strict=True):
            total = plan_reduce(low.chip, whole, [space.view(space.shape)], [ex.var("a0")], 1)
            emit(low, node, total.launch, {"a0": source, "y0": result}, ["y0"], f"sum of {made.parts} parts")


def _note(parts: int) -> str:
    return "sums in a fixed order" + (f", {parts} parts" if parts > 1 else "")


def channels(low: Lowering, node: Node) -> None:
    """Sums of expressions for each channel."""
    full = max(node.inputs, key=lambda o: (low.type(o).rank, product(low.shape(o))))
    shape = as_result(low.shape(full))
    space = Space(shape, is_blocked(low.type(full)))
    axes = [a for a in range(len(shape)) if a != 1]
    operands = [value_at(low, space, o) for o in node.inputs]
    expressions = [ex.parse(t) for t in node.attributes["expressions"]]
    fold(low, node, Reduction(space, axes), [low.ref(r) for r in node.results], operands, expressions)


def moments(low: Lowering, node: Node) -> None:
    """The mean, and then the mean of squares of what differs from it."""
    (x,) = node.inputs
    shape = as_result(low.shape(x))
    space = Space(shape, is_blocked(low.type(x)))
    axes = [a for a in range(len(shape)) if a != 1]
    scale = shape[1] / product(shape)
    mean, variance = (low.ref(r) for r in node.results)
    values = value_at(low, space, x)
    fold(low, node, Reduction(space, axes, scale=scale), [mean], [values], [ex.var("a0")])
    own = at(space, mean, (1, shape[1], *[1] * (len(shape) - 2)))
    square = ex.parse("(a0 - a1) * (a0 - a1)")
    fold(low, node, Reduction(space, axes, scale=scale), [variance], [values, own], [square])


def over_axes(low: Lowering, node: Node) -> None:
    """Sums, means, products, largest and least numbers of plain tensors."""
    (x,) = node.inputs
    shape = as_result(low.shape(x))
    axes = all_axes(node.attributes["axis"], len(shape)) if low.type(x).rank else (0,)
    space = Space(shape)
    count = product(tuple(shape[a] for a in axes))
    scale = 1 / count if node.op == "mean" and count else 1.0
    reduction = Reduction(space, axes, FOLDS.get(node.op, "add"), scale)
    fold(low, node, reduction, [low.ref(node.name)], [value_at(low, space, x)], [ex.var("a0")])


def global_average(low: Lowering, node: Node) -> None:
    (x,) = node.inputs
    shape = as_result(low.shape(x))
    space = Space(shape, is_blocked(low.type(x)))
    axes = range(2, len(shape))
    scale = 1 / product(shape[2:])
    reduction = Reduction(space, axes, scale=scale, blocked=is_blocked(node.type))
    fold(low, node, reduction, [low.ref(node.name)], [value_at(low, space, x)], [ex.var("a0")])


def total(low: Lowering, node: Node, terms: Ref, count: int, scale: float) -> None:
    """The node's number: the sum of some, times `scale`."""
    space = Space((count,))
    fold(
        low,
        node,
        Reduction(space, (0,), scale=scale),
        [low.ref(node.name)],
        [at(space, terms, (count,))],
        [ex.var("a0")],
    )


def add_parts(low: Lowering, node: Node, space: Space, target: Placed, parts: Sequence[Placed]) -> None:
    """The sum of what lies in several places, in their order."""
    tree: Any = ex.var("a0")
    for i in range(1, len(parts)):
        tree = ("add", tree, ex.var(f"a{i}"))
    map_to(
        low,
        node,
        space,
        [target],
        parts,
        [tree],
        f"sum of {len(parts)} parts" if len(parts) > 1 else "in the weights' order",
    )
