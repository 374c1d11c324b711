"""What every part of a random network is drawn with: numbers, values there are already, parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from cnnc.ir.op import InferenceError
from cnnc.ir.types import Dim, TensorType, product
from cnnc.ops.pointwise import broadcast_shapes
from tests.passes.networks import Net

T = TypeVar("T")
CHANNELS = (1, 3, 3, 5, 5, 7, 7, 15, 16, 17, 31, 32, 33)
WORK = 2_000_000  # multiply-adds of a layer, for one image
LARGEST = 12_000  # values of a tensor, for one image

Kind = Callable[["Maker"], str | None]  # a layer or several: the value they give, or None where nothing fits
Kinds = dict[str, tuple[Kind, int, int]]  # by name: how often it is drawn in a whole-number network, and in any


class Maker:
    """A network that is being drawn. whole: most of its values are whole numbers on whole numbers."""

    def __init__(self, name: str, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.whole = seed % 2 == 0
        self.b = Net(name)
        self.values: list[str] = []
        self.weights: dict[tuple[int, ...], list[str]] = {}
        self.count = 0

    # ------------------------------------------------------------------------------------------------ draws

    def below(self, n: int) -> int:
        return int(self.rng.integers(n))

    def chance(self, percent: int) -> bool:
        return self.below(100) < percent

    def one(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    # ------------------------------------------------------------------------------------------------ values

    def add(self, op: str, operands: Iterable[str], **attributes: object) -> str:
        """A node. Raises `InferenceError`."""
        return self.b.add(op, list(operands), attributes, self.name())

    def keep(self, value: str | None) -> None:
        """Let others read a value, unless it is a large one."""
        if value is not None and product(tuple(int(d) for d in self.sizes(value) if d != "N")) <= LARGEST:
            self.values.append(value)

    def sizes(self, value: str) -> tuple[Dim, ...]:
        return self.b.type(value).shape

    def any(self) -> str:
        """A value, most often one of the latest."""
        return self.one(self.values[-4:] if self.chance(75) else self.values)

    def ranked(self) -> str:
        """A value that is no single number."""
        found = [v for v in self.values if self.sizes(v)]
        return self.one(found[-4:] if self.chance(75) else found)

    def image(self) -> str | None:
        """A value [N, C, ...] with axes of space."""
        found = [v for v in self.values if 3 <= self.b.type(v).rank <= 5 and "N" not in self.sizes(v)[1:]]
        return self.one(found[-4:]) if found else None

    def featured(self) -> str | None:
        """A value [N, C, ...]."""
        found = [v for v in self.values if self.b.type(v).rank >= 2 and "N" not in self.sizes(v)[1:]]
        return self.one(found[-4:]) if found else None

    def axis(self, x: str) -> int | None:
        """An axis that is not the batch's."""
        free = [i for i, d in enumerate(self.sizes(x)) if d != "N"]
        return self.one(free) if free else None

    def constant(self, value: float) -> str:
        return self.add("constant", [], value=value)

    def positive(self, x: str) -> str:
        """A value of the same shape, at least 1."""
        return self.add("add", [self.add("abs", [x]), self.constant(1.0)])

    def bounded(self, x: str) -> str:
        """A value of the same shape between -1 and 1."""
        return self.add("sign" if self.whole else "tanh", [x])

    def partner(self, x: str) -> str:
        """A value that broadcasts with another: of its shape, one that does by chance, a vector, a number."""
        t = self.b.type(x)
        fitting = [v for v in self.values if v != x and self.broadcasts(v, x)]
        if fitting and self.chance(70):
            return self.one(fitting)
        if t.rank >= 2 and t.shape[1] != "N" and self.chance(50):
            return self.param((int(t.shape[1]),), "s")
        return self.constant(float(self.one((0, 1, -1, 2))))

    def broadcasts(self, a: str, b: str) -> bool:
        try:
            broadcast_shapes([self.b.type(a), self.b.type(b)])
        except InferenceError:
            return False
        return True

    # ------------------------------------------------------------------------------------------------ parameters

    def param(self, shape: tuple[int, ...], what: str, layout: str | None = None) -> str:
        """A new parameter, or now and then one of the shape that there is already."""
        known = [p for p in self.weights.setdefault(shape, []) if self.b.type(p) == TensorType("f32", shape, layout)]
        if known and self.chance(20):
            return self.one(known)
        self.count += 1
        made = self.b.param(f"{what}{self.count}", TensorType("f32", shape, layout))
        self.weights[shape].append(made)
        return made

    def dense(self, x: str, features: int) -> str:
        operands = [x, self.param((features, int(self.sizes(x)[-1])), "w")]
        if self.chance(60):
            operands.append(self.param((features,), "b"))
        return self.add("linear", operands)
