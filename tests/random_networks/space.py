"""What random networks have of layers that change the size of space."""

from __future__ import annotations

from typing import Any

from cnnc.ir.types import product
from cnnc.ops.window import Window
from tests.passes.networks import WEIGHTS

CHANNELS = (1, 3, 3, 5, 5, 7, 7, 15, 16, 17, 31, 32, 33)
WORK = 2_000_000  # multiply-adds of a layer, for one image
WHOLE = ("relu", "relu6", "neg", "abs", "hardtanh", "clamp")


class Space:
    """The part of a maker of networks that draws them."""

    b: Any
    below: Any
    chance: Any
    one: Any
    name: Any
    sizes: Any
    image: Any
    param: Any
    window: Any
    positive: Any

    def _transposed(self) -> str | None:
        x = self.image()
        if x is None:
            return None
        size, channels = tuple(int(d) for d in self.sizes(x)[2:]), int(self.sizes(x)[1])
        window = Window.of((given := self.window(x))["kernel"], given, len(size))
        more = [self.below(s) if self.chance(30) else 0 for s in window.stride]
        made = tuple(
            (n - 1) * window.stride[i] + window.reach(i) - sum(window.padding[i]) + more[i] for i, n in enumerate(size)
        )
        groups = self.one((channels, 1, 2)) if self.chance(30) else 1
        filters = self.one(CHANNELS) if groups == 1 else self.one((1, 1, 2, 16))
        shape = (channels, filters, *window.kernel)
        if channels % groups or groups * filters > 64 or min(made) < 1 or product(shape) * product(size) > WORK:
            return None
        name, operands = self.name(), [x, self.param(shape, "w", WEIGHTS[len(shape)])]
        if self.chance(60):
            operands.append(self.param((groups * filters,), "b"))
        return self.b.add("conv_transpose", operands, {**window.attributes(), "groups": groups, "size": made}, name)

    def _resize(self) -> str | None:
        x = self.image()
        if x is None:
            return None
        size = tuple(1 + self.below(self.one((2, 2, 3)) * int(d) + 1) for d in self.sizes(x)[2:])
        mode, corners = self.one(("nearest", "bilinear", "bicubic")), self.one(("half_pixel", "align_corners"))
        rule = {"mode": mode, "corners": corners} if mode != "nearest" or self.chance(20) else {}
        return self.b.add("upsample", [x], {"size": size, **rule}, self.name())

    def _adaptive(self) -> str | None:
        x = self.image()
        if x is None:
            return None
        size = tuple(1 + self.below(int(d)) for d in self.sizes(x)[2:])
        return self.b.add(self.one(("adaptive_maxpool", "adaptive_avgpool")), [x], {"size": size}, self.name())

    def _unpool(self) -> str | None:
        x = self.image()
        if x is None:
            return None
        kernel = tuple(1 + self.below(3) for _ in self.sizes(x)[2:])
        given = {"kernel": kernel, "stride": kernel, "ceil_mode": self.chance(50)}
        small = self.b.add("maxpool", [x], given, f"{self.name()}.small")
        if self.chance(50):
            small = self.b.add(self.one(WHOLE), [small], {}, self.name())
        return self.b.add("unpool", [small, x], given, self.name())

    def _norm_pool(self) -> str | None:
        x = self.image()
        if x is None:
            return None
        kernel = tuple(1 + self.below(3) for _ in self.sizes(x)[2:])
        given = {"kernel": kernel, "stride": kernel, "ceil_mode": self.chance(50), "norm_type": self.one((1, 2, 3))}
        return self.b.add("lppool", [self.positive(x)], given, self.name())
