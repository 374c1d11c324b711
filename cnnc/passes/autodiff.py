"""Reverse accumulation: the gradient of one scalar as ordinary nodes behind the graph that computes it.

Every op says in its record how gradients pass through it, as code that builds nodes with the `Context` here. Only what
leads to a wanted param is built.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cnnc.diagnostics import Origin, error
from cnnc.ir import expression as ex
from cnnc.ir.builder import Builder
from cnnc.ir.expression import Expression
from cnnc.ir.graph import Given, Graph, Operands
from cnnc.ir.op import OPS
from cnnc.ir.rewrite import dependent, rename_values
from cnnc.ir.types import PLAIN, Dim, TensorType


class Context:
    """What an op's `gradient` builds with. Values are named by strings; None is a gradient of zero."""

    def __init__(self, builder: Builder, wanted: frozenset[str]) -> None:
        self.builder = builder
        self._wanted = wanted
        self.stem = "grad"  # of the nodes to come
        self.origin: Origin | None = None

    def wanted(self, value: str | None) -> bool:
        """Whether a wanted param leads to this value, so that its gradient is needed."""
        return value in self._wanted

    def type(self, value: str) -> TensorType:
        return self.builder.type(value)

    def add(self, op: str, operands: Operands, attributes: Given = None) -> str:
        """A node; the first of its results."""
        return self.builder.add(op, operands, attributes, self.stem, self.origin)

    def insert(self, op: str, operands: Operands, attributes: Given = None) -> tuple[str, ...]:
        """A node; all of its results."""
        return self.builder.insert(op, operands, attributes, self.stem, self.origin).results

    def pointwise(
        self, expression: Expression, values: Mapping[str, str], like: TensorType | None = None
    ) -> str | None:
        """A node for an expression over named values, of the values' common shape or that of `like`. None where it is 0
        throughout.
        """
        expression = ex.simplify(expression)
        if expression == ex.const(0):
            return None
        names = ex.variables(expression)
        if expression[0] == "var" and (like is None or self.type(values[names[0]]).shape == like.shape):
            return values[names[0]]
        if not names:
            value = self.add("constant", [], {"value": float(ex.evaluate(expression, {}))})
            return value if like is None else self.expand(value, like)
        if ex.size(expression) > ex.LARGEST:
            expression, parts = ex.taken_apart(expression, ex.LARGEST // 2)
            values = dict(values)
            for name, part in parts.items():
                made = self.pointwise(part, values)
                assert made is not None
                values[name] = made
            names = ex.variables(expression)
        operands = list(dict.fromkeys(values[n] for n in names))
        text = ex.text(ex.rename(expression, {n: f"a{operands.index(values[n])}" for n in names}))
        attributes: dict[str, Any] = {"expressions": [text]}
        if like is not None and all(self.type(o).shape != like.shape for o in operands):
            attributes["shape"] = like.shape
        return self.add("pointwise", operands, attributes)

    def sum(self, a: str | None, b: str | None) -> str | None:
        """a + b, where either may be absent."""
        if a is None or b is None:
            return b if a is None else a
        return self.add("add", [a, b])

    def scale(self, value: str | None, factor: float) -> str | None:
        return (
            value
            if value is None or factor == 1
            else self.pointwise(("mul", ex.var("x"), ex.const(factor)), {"x": value})
        )

    def expand(self, value: str, type: TensorType) -> str:
        """The value broadcast to a type's shape."""
        if self.type(value).shape == type.shape:
            return value
        return self.add(
            "expand",
            [value],
            {"shape": type.shape, "layout": None if type.layout == PLAIN.get(type.rank) else type.layout},
        )

    def reduce_channels(self, expressions: Sequence[Expression], values: Mapping[str, str]) -> tuple[str, ...]:
        """Sums over N and space of expressions over named values, one vector of the channels each."""
        names = list(dict.fromkeys(v for e in expressions for v in ex.variables(e)))
        numbers = {n: f"a{i}" for i, n in enumerate(names)}
        texts = [ex.text(ex.rename(e, numbers)) for e in expressions]
        return self.insert("reduce_channels", [values[n] for n in names], {"expressions": texts})

    def reduce_to(self, value: str | None, operand: str) -> str | None:
        """The gradient of an operand that was broadcast: summed over the axes along which it was repeated."""
        if value is None:
            return None
        whole, shape = self.type(value).shape, self.type(operand).shape
        if whole == shape:
            return value
        if len(whole) < len(shape) or (
            len(whole) == len(shape) and any(a == 1 != b for a, b in zip(whole, shape, strict=True))
        ):
            return self.reduce_to(self.expand(value, self.type(operand)), operand)  # constant along those axes
        if len(whole) >= 2 and len(shape) <= 1:
            if shape == (1,) != whole[1:2]:
                return self.add("reshape", [self._total(value)], {"shape": (1,)})
            return self.reduce_channels([ex.var("x")], {"x": value})[0] if shape else self._total(value)
        if not shape:
            return self._total(value)
        return self._reduce_aligned(value, whole, shape)

    def _total(self, value: str) -> str:
        rank = self.type(value).rank
        if rank >= 2:
            value = self.reduce_channels([ex.var("x")], {"x": value})[0]
        return self.add("sum", [value], {"axis": 0}) if rank else value

    def _reduce_aligned(self, value: str, whole: Sequence[Dim], shape: Sequence[Dim]) -> str:
        leading = len(whole) - len(shape)
        axes = tuple(i for i, d in enumerate(whole) if i < leading or (shape[i - leading] == 1 != d))
        result = self.add("sum", [value], {"axis": axes, "keepdim": True})
        return result if not leading else self.add("reshape", [result], {"shape": tuple(shape)})


def differentiate(
    graph: Graph, value: str, wanted: Iterable[str], weights: str | None = None
) -> tuple[Graph, dict[str, str]]:
    """The graph with nodes for d value / d w added, and the name of each wanted leaf's or inner value's gradient.

    value: a scalar; or of any shape, where `weights` names a value of that shape: then it is sum(value * weights) whose
    gradients are made. What is wanted and does not reach it has a gradient of zeros. The gradient of a value `v` is
    called `grad.v`. Raises `CnncError` (E0807) where an op on the way has no gradient.
    """
    leaves = tuple(dict.fromkeys(wanted))
    context = Context(Builder(graph.name, graph.nodes), dependent(graph, leaves))
    gradients: dict[str, str] = {}
    if context.wanted(value):
        gradients[value] = context.add("constant", [], {"value": 1.0}) if weights is None else weights
    for node in reversed(graph.nodes):
        given = [gradients.get(r) for r in node.results]
        if not node.inputs or all(g is None for g in given) or not any(context.wanted(o) for o in node.inputs):
            continue
        rule = OPS[node.op].gradient
        if rule is None:
            raise error(
                "E0807",
                f"{node.op} has no gradient",
                f"%{node.name} leads from a trained parameter to the loss",
                span=node.origin.span if node.origin else None,
            )
        context.stem, context.origin = f"grad.{node.name}", node.origin
        for operand, part in zip(node.operands, rule(context, node, given), strict=False):
            if part is None or operand is None or not context.wanted(operand):
                continue
            context.stem = f"grad.{operand}"
            total = context.sum(gradients.get(operand), part)
            if total is not None:
                gradients[operand] = total
    context.stem, context.origin = "grad.zero", None
    for leaf in leaves:
        if leaf not in gradients:
            gradients[leaf] = context.expand(context.add("constant", [], {"value": 0.0}), graph.type(leaf))
    return _named(context.builder.finish(graph.outputs, graph.updates), gradients, graph, leaves)


def _named(
    graph: Graph, gradients: Mapping[str, str], before: Graph, leaves: Sequence[str]
) -> tuple[Graph, dict[str, str]]:
    """Each gradient under the name of what it is the gradient of; of several with one value, the param's, then the
    earliest.
    """
    names: dict[str, str] = {}
    ordered = [*leaves, *(r for n in before.nodes for r in n.results if r in gradients and r not in leaves)]
    for v in ordered:
        if gradients[v] not in names and gradients[v] not in before and f"grad.{v}" not in before:
            names[gradients[v]] = f"grad.{v}"
    chosen = set(names.values())
    for node in graph.nodes:  # a name that is needed is taken from the intermediate that has it
        for r in node.results:
            if r in chosen and r not in names and r not in before:
                free = next(n for i in range(1, 1 << 30) if (n := f"{r}.part{i}") not in graph and n not in chosen)
                names[r] = free
                chosen.add(free)
    return rename_values(graph, names), {v: names.get(gradients[v], gradients[v]) for v in leaves}
