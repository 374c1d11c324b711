"""Random networks: valid graphs over all ops of the language, small, the same for the same seed.

Odd sizes and channels, one to three axes of space, shared values, shared weights, broadcasting, several outputs (some of
them inputs, some of them twice). An even seed draws mostly ops whose results are whole numbers on whole numbers, so that
much of the network can be compared to the bit; an odd seed draws from all of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnc.ir.graph import Graph
from cnnc.ir.op import InferenceError
from cnnc.ir.types import Dim, TensorType, activation, product
from cnnc.ops.pool import window_of
from cnnc.ops.window import Window
from tests.passes.networks import WEIGHTS, Net
from tests.random_networks.space import CHANNELS, WHOLE, WORK, Space

SPACE = {1: 40, 2: 11, 3: 5}  # the largest size of an axis, by the number of axes
LARGEST = 12_000  # values of a tensor, for one image
SMOOTH = (
    "sigmoid", "tanh", "leaky_relu", "elu", "selu", "silu", "exp", "log", "sqrt", "celu", "gelu", "gelu_tanh", "mish", "softplus",
    "log_sigmoid", "softsign", "hardsigmoid", "hardswish", "erf", "log1p", "pow",
)  # fmt: skip
CONSTANTS = {  # of those that have such
    "leaky_relu": {"negative_slope": 0.2}, "elu": {"alpha": 0.5}, "silu": {"beta": 1.5}, "celu": {"alpha": 0.7},
    "softplus": {"beta": 1.5}, "clamp": {"min": -2.0, "max": 3.0}, "pow": {"exponent": 1.5},
}  # fmt: skip
KINDS = {  # how often each kind of layer is drawn, in a whole-number network and in any
    "convolution": (8, 6),
    "transposed": (2, 2),
    "resize": (1, 2),
    "adaptive": (1, 2),
    "unpool": (1, 1),
    "norm_pool": (0, 1),
    "activation": (3, 3),
    "smooth": (0, 4),
    "binary": (4, 4),
    "choice": (1, 1),
    "division": (0, 1),
    "maximum": (2, 2),
    "average": (0, 2),
    "global_average": (0, 1),
    "norm": (0, 3),
    "lrn": (0, 1),
    "dropout": (1, 1),
    "softmax": (0, 1),
    "concat": (2, 2),
    "slice": (2, 2),
    "gather": (1, 1),
    "flip": (1, 1),
    "repeat": (1, 1),
    "pad": (2, 2),
    "shuffle": (2, 2),
    "transpose": (1, 1),
    "reshape": (1, 1),
    "flatten": (1, 1),
    "dense": (1, 1),
    "total": (1, 1),
    "mean": (0, 1),
    "gate": (0, 1),
    "residual": (1, 1),
    "inverted": (1, 1),
    "normalize": (0, 2),
    "product": (1, 1),
    "extreme": (1, 1),
    "running": (1, 1),
}


def network(seed: int) -> Graph:
    """The network of a seed: from an input or two through up to 14 layers to up to four outputs."""
    return _Maker(seed).network()


class _Maker(Space):
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.b = Net(f"random{seed}")
        self.values: list[str] = []
        self.weights: dict[tuple[int, ...], list[str]] = {}
        self.count = 0
        column = [w[seed % 2] for w in KINDS.values()]
        self.likely = np.array(column) / sum(column)

    # ------------------------------------------------------------------------------------------------ draws

    def below(self, n: int) -> int:
        return int(self.rng.integers(n))

    def chance(self, percent: int) -> bool:
        return self.below(100) < percent

    def one(self, items: Any) -> Any:
        return items[self.below(len(items))]

    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def sizes(self, value: str) -> tuple[Dim, ...]:
        return self.b.type(value).shape

    def any(self) -> str:
        """A value, most often one of the latest."""
        late = self.values[-4:] if self.chance(75) else self.values
        return str(self.one(late))

    def image(self) -> str | None:
        found = [v for v in self.values if self.b.type(v).rank >= 3 and "N" not in self.sizes(v)[1:]]
        return str(self.one(found[-4:])) if found else None

    def param(self, shape: tuple[int, ...], what: str, layout: str | None = None) -> str:
        """A new parameter, or now and then one of the shape that there is already."""
        known = self.weights.setdefault(shape, [])
        if known and self.chance(20):
            return str(self.one(known))
        known.append(self.b.param(f"{what}{self.count}", TensorType("f32", shape, layout)))
        return known[-1]

    # ------------------------------------------------------------------------------------------------ the network

    def network(self) -> Graph:
        axes = self.one((1, 2, 2, 2, 3))
        largest = SPACE[axes] * (4 if self.chance(10) else 1)
        shape = (self.one(CHANNELS), *(1 + self.below(largest) for _ in range(axes)))
        self.values.append(self.b.input("x", activation(("N", *shape))))
        if self.chance(25):
            other = self.one((shape, (self.one(CHANNELS), *shape[1:]), (shape[0], *[1] * axes), (self.one(CHANNELS),)))
            self.values.append(self.b.input("x1", activation(("N", *other))))
        for _ in range(3 + self.below(12)):
            self.layer()
        return self.b.finish(self.outputs())

    def layer(self) -> None:
        kind = str(self.rng.choice(list(KINDS), p=self.likely))
        try:
            made = getattr(self, f"_{kind}")()
        except InferenceError:  # a window larger than its input, shapes that do not broadcast
            return
        if made is not None and product(tuple(int(d) for d in self.sizes(made) if d != "N")) <= LARGEST:
            self.values.append(made)

    def outputs(self) -> list[tuple[str, str]]:
        """Logits first, most often; then others, the last value among them."""
        outputs = []
        if self.chance(80):
            logits = self.logits(self.values[-1] if self.chance(70) else self.any())
            if logits is not None:
                outputs.append(("logits", logits))
        if self.chance(60):
            outputs.append(("last", self.values[-1]))
        for i in range(self.below(3)):
            outputs.append((f"y{i}", self.any()))
        return outputs or [("y", self.values[-1])]

    def logits(self, x: str) -> str | None:
        t = self.b.type(x)
        if t.rank < 2 or t.shape[0] != "N":
            return None
        if t.rank > 2 and self.chance(50):
            x = (
                self.b.add("global_avgpool", [x], {}, self.name())
                if self.chance(60)
                else self.b.add("mean", [x], {"axis": tuple(range(2, t.rank)), "keepdim": True}, self.name())
            )
        if t.rank > 2:
            x = self.b.add("flatten", [x], {}, self.name())
        return self.dense(x, self.one((2, 3, 10, 17))) if self.chance(80) else x

    # ------------------------------------------------------------------------------------------------ layers

    def window(self, value: str, least: int = 0) -> dict[str, Any]:
        """A window over an image; `least` 1 keeps the padding within half of the kernel, as pooling needs it. Without it
        some windows lie in the padding alone.
        """
        axes = self.b.type(value).rank - 2
        kernel = tuple(1 + self.below(self.one((1, 3, 3, 5) if axes < 3 else (1, 2, 3))) for _ in range(axes))
        dilation = tuple(1 + self.below(3) if self.chance(15) else 1 for _ in range(axes))
        stride = tuple(self.one((1, 1, 2, 3)) for _ in range(axes)) if self.chance(50) else (1,) * axes
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        if self.chance(25):
            padding = [(0, 0)] * axes
        else:
            padding = [(self.below(r // 2 + 1), self.below((r if not least else r // 2) + 1)) for r in reach]
            if not least and self.chance(12):
                padding = [(self.below(r + 2), self.below(r + 2)) for r in reach]
        if self.chance(50):
            padding = [(a, a) for a, _ in padding]
        return {"kernel": kernel, "stride": stride, "dilation": dilation, "padding": tuple(padding)}

    def _convolution(self) -> str | None:
        x = self.image()
        if x is None:
            return None
        if self.b.type(x).rank == 4 and self.chance(25):  # what fast algorithms know
            size = self.one((3, 3, 5))
            kernel = (1, size) if self.chance(20) else (size, size)
            return self.convolution(x, {"kernel": kernel, "padding": self.one((0, 1, "same"))})
        if self.b.type(x).rank == 3 and self.chance(50):
            return self.convolution(x, {"kernel": self.one((3, 3, 5)), "padding": self.one((0, 1, "same"))})
        return self.convolution(x, self.window(x))

    def convolution(self, x: str, given: dict[str, Any], filters: int | None = None) -> str | None:
        name, channels = self.name(), int(self.sizes(x)[1])
        groups = 1
        if filters is None:
            divisors = [g for g in range(1, channels + 1) if channels % g == 0]
            groups = self.one((channels, self.one(divisors))) if self.chance(30) else 1
            filters = self.one(CHANNELS) if groups == 1 else groups * self.one((1, 1, 2, 3, 16))
        window = Window.of(given["kernel"], given, self.b.type(x).rank - 2)
        shape = (filters, channels // groups, *window.kernel)
        out = window.output(tuple(int(d) for d in self.sizes(x)[2:]))
        if filters > 64 or product(shape) * product(out) > WORK:
            return None
        operands = [x, self.param(shape, "w", WEIGHTS[len(shape)])]
        if self.chance(60):
            operands.append(self.param((filters,), "b"))
        return self.b.add("conv", operands, {**window.attributes(), "groups": groups}, name)

    def _activation(self) -> str:
        return self.activated(self.any())

    def activated(self, x: str) -> str:
        op = self.one(WHOLE)
        return self.b.add(op, [x], CONSTANTS.get(op, {}), self.name())

    def _smooth(self) -> str:
        x, op = self.any(), self.one(SMOOTH)
        if op == "exp":
            x = self.b.add("tanh", [x], {}, f"{self.name()}.tanh")
        elif op in ("log", "sqrt", "log1p", "pow"):
            x = self.positive(x)
        return self.b.add(op, [x], CONSTANTS.get(op, {}) if op == "pow" or self.chance(50) else {}, self.name())

    def positive(self, x: str) -> str:
        name = self.name()
        one = self.b.add("constant", [], {"value": 1.0}, f"{name}.one")
        return self.b.add("add", [self.b.add("abs", [x], {}, f"{name}.abs"), one], {}, name)

    def _binary(self) -> str:
        x, op = self.any(), self.one(("add", "sub", "mul"))
        pair = [x, self.partner(x)]
        return self.b.add(op, pair if self.chance(50) else pair[::-1], {}, self.name())

    def _choice(self) -> str:
        """The larger or the smaller of two, or by comparing them; or a weighted half-line."""
        x = self.any()
        pair, kind = [x, self.partner(x)], self.below(4)
        if kind < 2:
            return self.b.add(("maximum", "minimum")[kind], pair, {}, self.name())
        if kind == 2:
            mask = self.b.add(self.one(("gt", "ge")), pair, {}, f"{self.name()}.mask")
            return self.b.add("where", [mask, *pair], {}, self.name())
        return self.b.add(self.one(("prelu", "prelu", "swish")), pair, {}, self.name())

    def partner(self, x: str) -> str:
        """A value that broadcasts with another: of its shape, one that does by chance, a vector, a number."""
        t = self.b.type(x)
        fitting = [v for v in self.values if v != x and self.broadcasts(v, x)]
        if fitting and self.chance(70):
            return str(self.one(fitting))
        if t.rank >= 2 and t.shape[1] != "N" and self.chance(50):
            return self.param((int(t.shape[1]),), "s")
        return self.b.add("constant", [], {"value": float(self.one((0, 1, -1, 2)))}, f"c{self.name()}")

    def broadcasts(self, a: str, b: str) -> bool:
        from cnnc.ops.pointwise import broadcast_shapes

        try:
            broadcast_shapes([self.b.type(a), self.b.type(b)])
        except InferenceError:
            return False
        return True

    def _division(self) -> str:
        x = self.any()
        return self.b.add("div", [x, self.positive(self.partner(x))], {}, self.name())

    def pooling(self, op: str) -> str | None:
        x = self.image()
        if x is None:
            return None
        given = self.window(x, least=1)
        if op == "avgpool":
            del given["dilation"]
            given["padding"] = tuple(
                (min(a, k // 2), min(b, k // 2)) for (a, b), k in zip(given["padding"], given["kernel"], strict=True)
            )
        attributes = {"ceil_mode": True} if self.chance(50) else {}
        if op == "avgpool" and self.chance(50):
            attributes["count_include_pad"] = False
        window = window_of(given, self.b.type(x).rank - 2)
        return self.b.add(op, [x], {"kernel": window.kernel, **window.attributes(), **attributes}, self.name())

    def _maximum(self) -> str | None:
        return self.pooling("maxpool")

    def _average(self) -> str | None:
        return self.pooling("avgpool")

    def _global_average(self) -> str | None:
        x = self.image()
        return None if x is None else self.b.add("global_avgpool", [x], {}, self.name())

    def _norm(self) -> str | None:
        x = self.any()
        t = self.b.type(x)
        if t.rank < 2 or t.shape[1] == "N":
            return None
        return self.b.norm(x, self.name(), **({"eps": 1e-3, "momentum": 0.3} if self.chance(30) else {}))

    def _extreme(self) -> str | None:
        return self.reduction(self.one(("max", "min", "max", "logsumexp")))

    def _running(self) -> str | None:
        x = self.any()
        t = self.b.type(x)
        axes = [a for a, d in enumerate(t.shape) if d != "N"]
        given = {"reverse": True} if self.chance(30) else {}
        return self.b.add("cumsum", [x], {"axis": self.one(axes), **given}, self.name()) if axes else None

    def _product(self) -> str | None:
        """A tensor times itself or one that fits, or a matrix of weights, either turned."""
        x, name = self.any(), self.name()
        t = self.b.type(x)
        if not 2 <= t.rank <= 4 or "N" in t.shape[1:]:
            return None
        if self.chance(40):
            shape = (int(t.shape[-1]), self.one((1, 3, 16, 17)))
            return self.b.add("matmul", [x, self.param(shape, "w")], {}, name)
        turned = self.chance(50) and t.rank > 2
        axis = -2 if turned else -1
        near = [
            v
            for v in self.values
            if self.sizes(v)[:-2] == t.shape[:-2] and self.sizes(v)[axis:][:1] == t.shape[axis:][:1]
        ]
        given = {"transpose_a": turned, "transpose_b": not turned}
        return self.b.add("matmul", [x, str(self.one(near))], given, name)

    def _normalize(self) -> str | None:
        """Over neighboring axes or groups of channels, with weights along the axes, one a channel, or none."""
        x, name = self.any(), self.name()
        t = self.b.type(x)
        if t.rank < 2 or "N" in t.shape[1:]:
            return None
        whole = tuple(range(1, t.rank))
        first = 1 + self.below(t.rank - 1)
        axes = self.one((whole, (1,), tuple(range(first, first + 1 + self.below(t.rank - first)))))
        channels, centered = int(t.shape[1]), self.chance(75)
        groups = self.one([g for g in range(1, channels + 1) if channels % g == 0]) if axes == whole else 1
        by_channel = axes == (1,) or groups > 1 or (axes == whole and self.chance(50))
        shape = (channels,) if by_channel else tuple(int(d) if i in axes else 1 for i, d in enumerate(t.shape))
        weights = [self.param(shape, what) for what in ("w", "b")[: 2 if centered else 1]] if self.chance(70) else []
        given = {"axes": axes, "groups": groups, "centered": centered, "eps": self.one((1e-5, 0.1))}
        return self.b.add("normalize", [x, *weights], given, name)

    def _lrn(self) -> str | None:
        x = self.image()
        attributes = {"size": 1 + self.below(6), "alpha": self.one((1e-4, 0.5)), "beta": self.one((0.75, 0.5, 1.0))}
        return None if x is None else self.b.add("lrn", [x], attributes, self.name())

    def _dropout(self) -> str:
        return self.b.add("dropout", [self.any()], {"p": self.one((0.0, 0.5, 0.5, 0.3))}, self.name())

    def _softmax(self) -> str | None:
        x = self.any()
        rank = self.b.type(x).rank
        return None if not rank else self.b.add("softmax", [x], {"axis": self.below(rank)}, self.name())

    def _concat(self) -> str | None:
        x = self.any()
        t = self.b.type(x)
        axis = self.one((1, 1, *range(t.rank))) if t.rank > 1 else 0
        near = [
            v
            for v in self.values
            if self.b.type(v).rank == t.rank
            and all(i == axis or a == b for i, (a, b) in enumerate(zip(self.sizes(v), t.shape, strict=True)))
        ]
        if not t.rank:
            return None
        parts = [x, *(str(self.one(near)) for _ in range(self.below(3)))]
        return self.b.add("concat", parts, {"axis": axis}, self.name())

    def _slice(self) -> str | None:
        x = self.any()
        t = self.b.type(x)
        axis = self.one((1, 1, *range(t.rank))) if t.rank > 1 else 0
        if not t.rank or t.shape[axis] == "N":
            return None
        start, step = self.below(int(t.shape[axis])), self.one((1, 1, 1, 2, 3))
        size = 1 + self.below(-(-(int(t.shape[axis]) - start) // step))
        attributes: dict[str, Any] = {"axis": axis, "start": start, "size": size, "step": step if step > 1 else None}
        other = (axis + 1) % t.rank
        if self.chance(25) and t.shape[other] != "N" and other != axis:
            attributes = {k: v if v is None else (v, 1) for k, v in attributes.items()}
            attributes |= {"axis": (axis, other), "start": (start, int(t.shape[other]) - 1)}
        return self.b.add("slice", [x], attributes, self.name())

    def axis(self, x: str) -> int | None:
        """An axis that is not the batch's."""
        free = [i for i, d in enumerate(self.sizes(x)) if d != "N"]
        return int(self.one(free)) if free else None

    def _gather(self) -> str | None:
        x = self.any()
        axis = self.axis(x)
        if axis is None:
            return None
        size = int(self.sizes(x)[axis])
        indices = [self.below(2 * size) - size for _ in range(1 + self.below(min(size, 20) + 3))]
        return self.b.add("gather", [x], {"axis": axis, "indices": indices}, self.name())

    def _flip(self) -> str | None:
        x = self.any()
        axis = self.axis(x)
        return None if axis is None else self.b.add("flip", [x], {"axis": (axis,)}, self.name())

    def _repeat(self) -> str | None:
        x = self.any()
        repeats = [1 if d == "N" else self.one((1, 1, 1, 2, 3)) for d in self.sizes(x)]
        return self.b.add("repeat", [x], {"repeats": repeats}, self.name()) if repeats else None

    def _pad(self) -> str | None:
        x = self.image()
        if x is None:
            return None
        padding = [(self.below(5) - 1, self.below(5) - 1) for _ in self.sizes(x)[2:]]
        attributes: dict[str, Any] = {"mode": self.one(("constant", "constant", "reflect", "replicate", "circular"))}
        if attributes["mode"] == "constant":
            attributes["value"] = float(self.one((0, 0, 1, -2)))
        return self.b.add("pad", [x], {"padding": padding, **attributes}, self.name())

    def _shuffle(self) -> str | None:
        x = self.image()
        if x is None:
            return None
        t, kind = self.b.type(x), self.one(("channel_shuffle", "pixel_shuffle", "pixel_unshuffle"))
        channels = int(t.shape[1])
        if kind == "channel_shuffle":
            divisors = [g for g in range(2, channels) if channels % g == 0]
            return self.b.add(kind, [x], {"groups": self.one(divisors)}, self.name()) if divisors else None
        if kind == "pixel_shuffle" and channels % 4:
            x = self.convolution(x, {"kernel": (1,) * (t.rank - 2)}, self.one((4, 8, 9, 16, 32)))
        return None if x is None else self.b.add(kind, [x], {"factor": self.one((2, 2, 3))}, self.name())

    def _transpose(self) -> str | None:
        x = self.any()
        axes = list(range(self.b.type(x).rank))
        free = [i for i in axes if self.sizes(x)[i] != "N"]
        for i, j in zip(free, self.rng.permutation(free), strict=True):
            axes[i] = int(j)
        return self.b.add("transpose", [x], {"axes": axes}, self.name()) if axes else None

    def _reshape(self) -> str | None:
        """Two neighbors made one, or one of them two."""
        x = self.any()
        axis, shape = self.axis(x), list(self.sizes(x))
        if axis is None or len(shape) > 4:
            return None
        size = int(shape[axis])
        if axis + 1 < len(shape) and shape[axis + 1] != "N" and self.chance(50):
            shape[axis : axis + 2] = [size * int(shape[axis + 1])]
        else:
            part = self.one([d for d in range(1, size + 1) if size % d == 0])
            shape[axis : axis + 1] = [part, size // part]
        return self.b.add("reshape", [x], {"shape": shape}, self.name())

    def _flatten(self) -> str | None:
        x = self.any()
        t = self.b.type(x)
        if t.rank < 2 or "N" in t.shape[1:]:
            return None
        return self.b.add("flatten", [x], {"start": 1 + self.below(t.rank - 1)}, self.name())

    def _dense(self) -> str | None:
        flat = [v for v in self.values if self.b.type(v).rank >= 2 and self.sizes(v)[-1] != "N"]
        flat = [v for v in flat if self.b.type(v).rank == 2 or self.chance(15)]
        return self.dense(str(self.one(flat)), self.one(CHANNELS)) if flat else None

    def dense(self, x: str, features: int) -> str:
        name = self.name()
        operands = [x, self.param((features, int(self.sizes(x)[-1])), "w")]
        if self.chance(60):
            operands.append(self.param((features,), "b"))
        return self.b.add("linear", operands, {}, name)

    def reduction(self, op: str) -> str | None:
        x = self.any()
        rank = self.b.type(x).rank
        everything = self.chance(15)  # to a single number
        axes = tuple(a for a in range(rank) if everything or self.chance(35 if a else 12))
        if not axes:
            return None
        return self.b.add(op, [x], {"axis": axes, "keepdim": self.chance(60)}, self.name())

    def _total(self) -> str | None:
        return self.reduction("sum")

    def _mean(self) -> str | None:
        return self.reduction("mean")

    def _gate(self) -> str | None:
        """Squeeze and excitation: x times a number in 0..1 for each channel."""
        x = self.image()
        if x is None:
            return None
        mean = self.b.add("global_avgpool", [x], {}, self.name())
        one = (1,) * (self.b.type(x).rank - 2)
        gate = self.convolution(mean, {"kernel": one}, int(self.sizes(x)[1]))
        return self.b.add("mul", [x, self.b.add("sigmoid", [gate], {}, self.name())], {}, self.name())

    def _residual(self) -> str | None:
        """relu(x + conv(x)), with odd kernels and the padding that keeps the size."""
        x = self.image()
        if x is None:
            return None
        kernel = tuple(self.one((1, 3)) for _ in range(self.b.type(x).rank - 2))
        y = self.convolution(x, {"kernel": kernel, "padding": "same"}, int(self.sizes(x)[1]))
        if y is None:
            return None
        return self.b.add("relu", [self.b.add("add", [x, y], {}, self.name())], {}, self.name())

    def _inverted(self) -> str | None:
        """A 1x1 convolution and a depthwise one, with an activation between them and behind; the value between is read by
        others too, now and then.
        """
        x = self.image()
        if x is None:
            return None
        wide, axes = self.one(CHANNELS), self.b.type(x).rank - 2
        y = self.convolution(x, {"kernel": (1,) * axes}, wide)
        if y is None:
            return None
        y = self.activated(y)
        if self.chance(15):
            self.values.append(y)
        given = self.window(y)
        window = Window.of(given["kernel"], given, axes)
        w = self.param((wide, 1, *window.kernel), "w", WEIGHTS[axes + 2])
        operands = [y, w, *([self.param((wide,), "b")] if self.chance(60) else [])]
        z = self.b.add("conv", operands, {**window.attributes(), "groups": wide}, self.name())
        return self.activated(z) if self.chance(60) else z
