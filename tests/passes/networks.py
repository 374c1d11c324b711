"""Small networks as graphs, built in one line each."""

from __future__ import annotations

from typing import Any

import numpy as np

import cnnc.ops  # noqa: F401
from cnnc.ir.graph import Builder, Graph
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


def random_network(seed: int) -> Graph:
    """A valid graph of random layers: odd sizes, shared values, concatenations, gates, several outputs."""
    rng = np.random.default_rng(seed)
    b = Net(f"random{seed}")
    values = [b.image(int(rng.choice([1, 2, 3, 4, 5, 8])), int(rng.integers(4, 8)), int(rng.integers(4, 8)))]
    for i in range(int(rng.integers(4, 14))):
        x = values[int(rng.integers(max(0, len(values) - 3), len(values)))]
        t = b.type(x)
        name, channels, room = f"v{i}", int(t.shape[1]), min(int(d) for d in t.shape[2:])
        kind = str(
            rng.choice(
                [
                    "conv",
                    "conv",
                    "conv",
                    "norm",
                    "pointwise",
                    "pointwise",
                    "binary",
                    "binary",
                    "pool",
                    "concat",
                    "slice",
                    "gate",
                    "lrn",
                ]
            )
        )
        alike = [v for v in values if b.type(v).shape == t.shape]
        if kind == "conv":
            groups = int(rng.choice([g for g in (1, 1, 2, channels) if channels % g == 0]))
            size = int(rng.integers(1, 4))
            y = b.conv(
                x,
                groups * int(rng.integers(1, 5)),
                name,
                size,
                bool(rng.integers(2)),
                padding=[size // 2] * 2,
                groups=groups,
            )
        elif kind == "norm":
            y = b.norm(x, name)
        elif kind == "pointwise":
            y = b.add(str(rng.choice(["relu", "sigmoid", "tanh", "silu", "relu6", "neg", "abs"])), [x], {}, name)
        elif kind == "binary":
            other = (
                str(rng.choice(alike))
                if rng.integers(3)
                else b.add("constant", [], {"value": float(rng.choice([0, 1, -1.5]))})
            )
            y = b.add(str(rng.choice(["add", "sub", "mul"])), [x, other], {}, name)
        elif kind == "pool" and room >= 4:
            y = b.add(
                str(rng.choice(["maxpool", "avgpool"])),
                [x],
                {"kernel": [3, 3], "stride": [2, 2], "padding": [1, 1], "ceil_mode": bool(rng.integers(2))},
                name,
            )
        elif kind == "concat":
            near = [v for v in values if b.type(v).shape[2:] == t.shape[2:]]
            y = b.add("concat", [x, str(rng.choice(near))], {}, name)
        elif kind == "slice" and channels > 1:
            start = int(rng.integers(channels - 1))
            y = b.add(
                "slice", [x], {"axis": 1, "start": start, "size": int(rng.integers(1, channels - start + 1))}, name
            )
        elif kind == "gate":
            y = b.add(
                "mul",
                [x, b.add("sigmoid", [b.conv(b.add("global_avgpool", [x], {}), channels, f"{name}.gate", 1)], {})],
                {},
                name,
            )
        else:
            y = b.add("lrn", [x], {"size": 3}, name)
        values.append(y)
    logits = b.linear(b.add("flatten", [b.add("global_avgpool", [values[-1]], {})], {}), 3, "head")
    outputs = [("logits", logits)]
    if rng.integers(2):
        outputs.append(("features", str(rng.choice(values[1:]))))
    return b.finish(outputs)
