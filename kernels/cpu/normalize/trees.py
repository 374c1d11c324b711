"""The expressions of the walks, over x, its statistics and the operands."""

from __future__ import annotations

from dataclasses import dataclass

from ..code.expression import Expression

X, MEAN, SCALE, A0, A1 = (("var", name) for name in ("x", "mean", "scale", "a0", "a1"))


def normalized(centered: bool) -> Expression:
    """(x - mean) * scale; `rest` is what the rounding of the mean leaves."""
    return ("mul", ("sub", ("sub", X, MEAN), ("var", "rest")) if centered else X, SCALE)


def substituted(tree: Expression, name: str, value: Expression) -> Expression:
    """The expression with another in place of a variable."""
    if tree[0] == "var":
        return value if tree[1] == name else tree
    return tree if tree[0] == "const" else (tree[0], *(substituted(part, name, value) for part in tree[1:]))


@dataclass(frozen=True)
class Trees:
    """deviation: x less the mean as it is known so far. normalized: y. through: dL/dy times the weight where that varies along
    a row; by: the factor of `through` in the second sum. back: dL/dx, from the means `first` and `second` of the two sums.
    """

    centered: bool
    deviation: Expression
    normalized: Expression
    through: Expression
    back: Expression

    @classmethod
    def of(cls, centered: bool, weighted: bool) -> Trees:
        y, dy = normalized(centered), ("mul", A0, A1) if weighted else A0
        less = ("sub", dy, ("var", "first")) if centered else dy
        back = ("mul", SCALE, ("sub", less, ("mul", y, ("var", "second"))))
        return cls(centered, ("sub", X, MEAN) if centered else X, y, dy, back)

    @property
    def square(self) -> Expression:
        return ("mul", self.deviation, self.deviation)

    @property
    def product(self) -> Expression:
        return ("mul", self.through, self.normalized)
