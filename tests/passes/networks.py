"""Small networks as graphs, built in one line each."""

from __future__ import annotations

from typing import Any

import cnnc.ops  # noqa: F401
from cnnc.ir.builder import Builder
from cnnc.ir.graph import Graph
from cnnc.ir.types import TensorType, activation

WEIGHTS = {3: "oiw", 4: "oihw", 5: "oidhw"}


class Net(Builder):
    """A builder with layers that make their own parameters."""

    def image(self, *shape: int, name: str = "x") -> str:
        return self.input(name, activation(("N", *shape)))

    def vector(self, name: str, size: int, state: bool = False) -> str:
        return (self.state if state else self.param)(name, TensorType("f32", (size,)))

    def conv(self, x: str, filters: int, name: str, size: int = 3, bias: bool = True, **attributes: Any) -> str:
        t = self.type(x)
        shape = (filters, int(t.shape[1]) // attributes.get("groups", 1), *[size] * (t.rank - 2))
        operands = [x, self.param(f"{name}.weight", TensorType("f32", shape, WEIGHTS[t.rank]))]
        return self.add("conv", operands + ([self.vector(f"{name}.bias", filters)] if bias else []), attributes, name)

    def norm(self, x: str, name: str, **attributes: Any) -> str:
        c = int(self.type(x).shape[1])
        vectors = [
            self.vector(f"{name}.{n}", c, n.startswith("running"))
            for n in ("weight", "bias", "running_mean", "running_var")
        ]
        return self.add("batchnorm", [x, *vectors], attributes, name)

    def linear(self, x: str, features: int, name: str) -> str:
        w = self.param(f"{name}.weight", TensorType("f32", (features, int(self.type(x).shape[1]))))
        return self.add("linear", [x, w, self.vector(f"{name}.bias", features)], {}, name)


def small(dropout: bool = False, classes: int = 3) -> Graph:
    """conv, batch norm, ReLU, residual, pooling, linear over [N, 2, 6, 6]."""
    b = Net("small")
    x = b.add(
        "relu",
        [b.norm(b.conv(b.image(2, 6, 6), 4, "conv1", bias=False, padding=[1, 1]), "bn1", momentum=0.2)],
        {},
        "relu1",
    )
    y = b.norm(b.conv(x, 4, "conv2", padding=[1, 1]), "bn2")
    y = b.add("relu", [b.add("add", [x, y], {}, "sum")], {}, "relu2")
    y = b.add("flatten", [b.add("maxpool", [y], {"kernel": [2, 2], "stride": [2, 2]}, "pool")], {}, "flat")
    if dropout:
        y = b.add("dropout", [y], {"p": 0.3}, "drop")
    return b.finish([("logits", b.linear(y, classes, "fc"))])
