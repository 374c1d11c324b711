"""Pointwise expressions and loops as vector code.

`Emitter` is what the register tiles are written with. `vector.py` offers the same operations to kernels that are
written in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .instructions import F32, I1, I32, I64, Value, declare, i64
from .normal import Normal

__all__ = ["F32", "I1", "I32", "I64", "Emitter", "Value", "declare", "i64"]

COMPARISONS: dict[str, Callable[[Any, Value, Value], Value]] = {
    "gt": lambda b, x, y: b.fcmp_ordered(">", x, y),
    "ge": lambda b, x, y: b.fcmp_ordered(">=", x, y),
    "eq": lambda b, x, y: b.fcmp_ordered("==", x, y),
    "ne": lambda b, x, y: b.fcmp_unordered("!=", x, y),
}


def holds(tree: Any, part: Any) -> bool:
    """Whether an expression is or has another."""
    return bool(tree == part or any(isinstance(t, tuple) and holds(t, part) for t in tree[1:]))


class Emitter(Normal):
    """Operations on vectors of the target's `lanes` float32. Pointers are float pointers; indices count floats."""

    def expression(self, tree: Any, variables: Mapping[str, Value]) -> Value:
        """Pointwise mathematics as nested tuples: ("var", name), ("const", number), (operation, operand, ...).

        Comparisons give 1 or 0, where takes any condition that is not 0 (NaN counts as true), max and min hand NaN on. A
        product with an added term is not contracted: the rounding is that of the operations as written.
        """
        b = self.b
        known: dict[Any, Value] = {}
        whole = tree

        functions: dict[str, Callable[..., Value]] = {
            "add": b.fadd, "sub": b.fsub, "mul": b.fmul, "div": b.fdiv, "neg": b.fneg, "max": self.maximum, "min": self.minimum,
            "abs": self.absolute, "exp": self.exp, "expm1": self.expm1, "log": self.log, "log1p": self.log1p, "sqrt": self.sqrt,
            "sigmoid": self.sigmoid, "tanh": self.tanh, "softplus": self.softplus, "erf": self.erf, "floor": self.floor,
            "normal_cdf": self.normal_cdf, "normal_pdf": self.normal_pdf, "sign": self.sign, "pow": self.pow,
        }  # fmt: skip

        def condition(tree: Any) -> Value:
            if tree[0] in COMPARISONS:
                return COMPARISONS[tree[0]](b, visit(tree[1]), visit(tree[2]))
            return b.fcmp_unordered("!=", visit(tree), self.const(0))

        def compute(tree: Any) -> Value:
            operation, *operands = tree
            if operation == "var":
                return variables[operands[0]]
            if operation == "const":
                return self.const(operands[0])
            if operation in COMPARISONS:
                return self.select(condition(tree), self.const(1), self.const(0))
            if operation == "where":
                return self.select(condition(operands[0]), visit(operands[1]), visit(operands[2]))
            both = [(name, operands[0]) for name in ("normal_cdf", "normal_pdf")]
            if tree in both and all(holds(whole, part) for part in both):
                known.update(zip(both, self.normal(visit(operands[0])), strict=True))
                return known[tree]
            return functions[operation](*map(visit, operands))

        def visit(tree: Any) -> Value:
            if tree not in known:
                known[tree] = compute(tree)
            return known[tree]

        return visit(tree)

    def loop(
        self, count: Value, carried: Sequence[Value], body: Callable[[Value, list[Value]], Sequence[Value]]
    ) -> list[Value]:
        """`for i in range(count): carried = body(i, carried)` for count >= 1; returns the last carried values."""
        b, before = self.b, self.b.block
        head, done = b.append_basic_block("loop"), b.append_basic_block("done")
        b.branch(head)
        b.position_at_end(head)
        i, phis = b.phi(I64), [b.phi(value.type) for value in carried]
        out = list(body(i, list(phis)))
        after, step = b.block, b.add(i, i64(1))
        i.add_incoming(i64(0), before)
        i.add_incoming(step, after)
        for phi, start, end in zip(phis, carried, out, strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(end, after)
        b.cbranch(b.icmp_signed("<", step, count), head, done)
        b.position_at_end(done)
        return out
