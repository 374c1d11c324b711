"""How exact long sums are: errors against float64, beside those of PyTorch's float32 where it is installed.

    python -m tests.peers.exactness                 # every layer
    python -m tests.peers.exactness 1x1 gradient    # those whose name has one of the words
    python -m tests.peers.exactness --fast          # with Winograd's algorithm where it is chosen
    python -m tests.peers.exactness --isa avx2      # by narrower vectors

An error is a share of the exact result's: the largest of the largest value, the root mean square of the root mean square; of
a mean, of the deviation, where that is larger. A layer is marked where ours is more than twice PyTorch's, and more than
rounding the result once loses, of which the largest error may be twice as much.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnnc.driver import build
from cnnc.ir.graph import Graph
from cnnc.ir.interpret import run
from cnnc.ir.types import TensorType, activation, product
from tests.passes.networks import WEIGHTS, Net

Array = np.ndarray[Any, Any]
ROUNDED = 2.0**-24  # what rounding a result once may lose of it


@dataclass(frozen=True)
class Layer:
    """One op; shapes of its operands, of which `weight` is the index of the parameter. Values are of standard normal
    distribution, shifted by `mean`; labels where there are `classes`.
    """

    name: str
    op: str
    shapes: tuple[tuple[int, ...], ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    weight: int | None = None
    mean: float = 0.0
    classes: int = 0
    products: int = 1  # of a result's sum

    def graph(self) -> Graph:
        b, names = Net("layer"), []
        for i, shape in enumerate(self.shapes):
            if i == self.weight:
                names.append(b.param("w", TensorType("f32", shape, WEIGHTS.get(len(shape)))))
            else:
                whole = ("N", *shape[1:])
                names.append(b.input(f"x{i}", activation(whole) if len(shape) > 1 else TensorType("f32", whole)))
        if self.classes:
            names.append(b.input("labels", TensorType("i64", ("N",))))
        b.add(self.op, names, self.attributes, "y")
        return b.finish([(r, r) for r in b.nodes[-1].results])

    def arrays(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """Inputs and parameters by name."""
        rng = np.random.default_rng(product(s for shape in self.shapes for s in shape) % 2**32)
        inputs: dict[str, Array] = {}
        weights: dict[str, Array] = {}
        for i, shape in enumerate(self.shapes):
            array = rng.standard_normal(shape, np.float32) + np.float32(self.mean)
            (weights if i == self.weight else inputs)["w" if i == self.weight else f"x{i}"] = array
        if self.classes:
            inputs["labels"] = rng.integers(0, self.classes, self.shapes[0][0])
        return inputs, weights


def convolution(
    channels: int,
    filters: int,
    kernel: Any,
    size: int,
    images: int = 1,
    stride: int = 1,
    groups: int = 1,
    axes: int = 2,
) -> list[Layer]:
    """A convolution and its two gradients."""
    kernel = (kernel,) * axes if isinstance(kernel, int) else kernel
    padding = [k // 2 for k in kernel]
    out = (size + 2 * padding[0] - kernel[0]) // stride + 1
    shared = {"stride": [stride] * axes, "padding": padding, "groups": groups}
    x, y = (images, channels, *[size] * axes), (images, filters, *[out] * axes)
    w = (filters, channels // groups, *kernel)
    name = f"{'x'.join(map(str, kernel))} {channels}-{filters}, {images}x{size}"
    name += (f", {groups} groups" if groups > 1 else "") + (f", stride {stride}" if stride > 1 else "")
    taps = product(kernel)
    return [
        Layer(f"conv {name}", "conv", (x, w), shared, 1, products=channels // groups * taps),
        Layer(f"data gradient {name}", "conv_data_gradient", (y, w), {**shared, "size": x[2:]}, 1,
              products=filters // groups * taps),
        Layer(f"weight gradient {name}", "conv_weight_gradient", (x, y), {**shared, "kernel": kernel},
              products=images * product(y[2:])),
    ]  # fmt: skip


def linear(inputs: int, outputs: int, rows: int) -> list[Layer]:
    """A fully connected layer and its two gradients."""
    x, y, w, name = (rows, inputs), (rows, outputs), (outputs, inputs), f"linear {inputs}-{outputs}, {rows} rows"
    return [
        Layer(name, "linear", (x, w), {}, 1, products=inputs),
        Layer(f"data gradient {name}", "linear_data_gradient", (y, w), {}, 1, products=outputs),
        Layer(f"weight gradient {name}", "linear_weight_gradient", (x, y), {}, products=rows),
    ]


def sums(shape: tuple[int, ...], mean: float = 0.0) -> list[Layer]:
    """Sums and moments over N and space, over axes of a plain tensor, and the mean over space."""
    name, over = f"{'x'.join(map(str, shape))}" + (f", mean {mean:g}" if mean else ""), shape[0] * product(shape[2:])
    axes = tuple(range(2, len(shape)))
    many = {"expressions": ["a0", "a0 * a0"]}
    found = [
        Layer(f"channel sums {name}", "reduce_channels", (shape,), many, mean=mean, products=over),
        Layer(f"moments {name}", "moments", (shape,), mean=mean, products=over),
        Layer(f"sum of axes (0, 1) {name}", "sum", (shape,), {"axis": (0, 1)}, mean=mean, products=shape[0] * shape[1]),
    ]
    if not axes:
        return found
    return [
        *found,
        Layer(f"mean of space {name}", "global_avgpool", (shape,), mean=mean, products=product(shape[2:])),
        Layer(f"sum of axes {axes} {name}", "sum", (shape,), {"axis": axes}, mean=mean, products=product(shape[2:])),
    ]


def losses(rows: int, classes: int) -> list[Layer]:
    name = f"{rows} rows of {classes}"
    return [
        Layer(f"softmax {name}", "softmax", ((rows, classes),), {"axis": 1}, products=classes),
        Layer(f"cross-entropy {name}", "cross_entropy", ((rows, classes),), classes=classes, products=classes),
    ]


def layers() -> list[Layer]:
    """From what small networks have to the longest sums that large ones do."""
    found: list[list[Layer]] = []
    for channels in (64, 256, 1024, 2048, 4096, 8192):
        found += [convolution(channels, min(channels, 4096), 1, size) for size in (1, 7, 14)]
    found += [convolution(1000, 72, 1, 28, 2), convolution(512, 512, 1, 14, 8, 2), convolution(3, 64, 7, 112, 2, 2)]
    for channels in (64, 256, 512, 1024):
        found += [convolution(channels, channels, 3, size) for size in (7, 14)]
    found += [convolution(512, 64, 3, 28, 4), convolution(2048, 128, 3, 7), convolution(256, 256, 3, 14, 2, 2)]
    found += [convolution(192, 64, 5, 14), convolution(768, 48, 5, 7), convolution(256, 128, (1, 7), 17)]
    found += [convolution(3, 32, 3, 224, 4), convolution(1, 20, 5, 28, 64), convolution(64, 64, 3, 56, 8)]
    found += [convolution(1024, 1024, 3, 14, 1, 1, g) for g in (2, 32, 64)]
    found += [
        convolution(256, 256, 1, 14, 2, 1, 8),
        convolution(96, 96, 1, 28, 1, 1, 8),
        convolution(960, 960, 5, 7, 1, 1, 96),
    ]
    found += [convolution(64, 64, k, 28, 2, 1, 64) for k in (3, 7, 13, 31)]
    found += [convolution(64, 128, 3, 56, 2, 1, 64), convolution(96, 96, 3, 112, 8, 1, 96)]
    found += [
        convolution(64, 64, 3, 12, 1, axes=3),
        convolution(512, 64, 9, 40, 2, axes=1),
        convolution(256, 32, 1, 6, 2, axes=3),
    ]
    for inputs in (512, 4096, 9216, 25088):
        found += [linear(inputs, 1000, rows) for rows in (1, 3, 16, 64)]
    found += [linear(4096, 4096, 1), linear(784, 10, 2048), linear(256, 256, 8192)]
    found += [sums((16, 64, 112, 112)), sums((64, 48, 56, 56)), sums((8, 3, 224, 224)), sums((2, 512, 33, 31), 30.0)]
    found += [sums((16, 24, 64, 64), 1000.0), sums((4096, 20))[:2]]
    found += [losses(1, 1000), losses(256, 21841), losses(4096, 10)]
    return [layer for group in found for layer in group]


def peer(layer: Layer, inputs: Sequence[Any]) -> list[Any] | None:
    """PyTorch's results of the same layer; None where it has no such op."""
    import torch

    functional, a = torch.nn.functional, layer.attributes
    if layer.op.startswith("conv"):
        axes = len(layer.shapes[0]) - 2
        window = (a["stride"], a["padding"], [1] * axes, a["groups"])
        if layer.op == "conv":
            return [getattr(functional, f"conv{axes}d")(*inputs, None, *window)]
        images = layer.shapes[0][0]
        of_input = layer.op == "conv_data_gradient"
        filters, channels = (layer.shapes[1][0], layer.shapes[1][1] * a["groups"]) if of_input else (
            layer.shapes[1][1], layer.shapes[0][1])  # fmt: skip
        dy = inputs[0] if of_input else inputs[1]
        x = torch.empty(images, channels, *a["size"], dtype=dy.dtype) if of_input else inputs[0]
        w = inputs[1] if of_input else torch.empty(filters, channels // a["groups"], *a["kernel"], dtype=dy.dtype)
        mask = [of_input, not of_input, False]
        found = torch.ops.aten.convolution_backward(dy, x, w, None, *window[:3], False, [0] * axes, a["groups"], mask)
        return [found[0 if of_input else 1]]
    table: dict[str, Callable[..., list[Any]]] = {
        "linear": lambda x, w: [functional.linear(x, w)],
        "linear_data_gradient": lambda dy, w: [dy @ w],
        "linear_weight_gradient": lambda x, dy: [dy.T @ x],
        "reduce_channels": lambda x: [x.sum((0, *range(2, x.ndim))), (x * x).sum((0, *range(2, x.ndim)))],
        "moments": lambda x: list(torch.var_mean(x, (0, *range(2, x.ndim)), unbiased=False))[::-1],
        "global_avgpool": lambda x: [x.mean(tuple(range(2, x.ndim)), keepdim=True)],
        "sum": lambda x: [x.sum(a["axis"])],
        "softmax": lambda x: [functional.softmax(x, a["axis"])],
        "cross_entropy": lambda x, labels: [functional.cross_entropy(x, labels)],
    }
    return table[layer.op](*inputs) if layer.op in table else None


def error(got: Any, exact: Array, least: float = 0.0) -> tuple[float, float]:
    """The largest, and the root mean square, as shares of the result's, or of `least` where that is larger."""
    apart = np.abs(np.asarray(got, np.float64) - exact)
    largest, usual = max(np.abs(exact).max(), least), max(np.sqrt(np.mean(exact**2)), least)
    return float(apart.max() / largest), float(np.sqrt(np.mean(apart**2)) / usual)


@dataclass(frozen=True)
class Found:
    layer: Layer
    ours: tuple[float, float]
    theirs: tuple[float, float] | None

    @property
    def worse(self) -> bool:
        if self.theirs is None:
            return False
        floors = (2 * ROUNDED, ROUNDED)
        return any(o > max(2 * t, floor) for o, t, floor in zip(self.ours, self.theirs, floors, strict=True))


def measured(layer: Layer, exact_only: bool = True, target: str = "cpu", beside: bool = True) -> Found:
    """The errors of a layer: of its results the largest."""
    graph, (inputs, weights) = layer.graph(), layer.arrays()
    names = [name for name, _ in graph.outputs]
    reference = run(graph, inputs, weights)
    exact = [np.asarray(reference[name]) for name in names]
    scales = [float(np.sqrt(exact[1].max())), 0.0] if layer.op == "moments" else [0.0] * len(exact)

    def errors(results: Sequence[Any]) -> list[tuple[float, float]]:
        return [error(got, true, scale) for got, true, scale in zip(results, exact, scales, strict=True)]

    found = build(graph, weights, target, exact=exact_only, tune=False).run(inputs)
    ours, theirs = errors([found[name] for name in names]), None
    if beside:
        import torch

        results = peer(layer, [torch.from_numpy({**inputs, **weights}[name]) for name in graph.nodes[-1].inputs])
        theirs = None if results is None else errors([t.numpy() for t in results])

    def worst(pairs: list[tuple[float, float]]) -> tuple[float, float]:
        return max(p[0] for p in pairs), max(p[1] for p in pairs)

    return Found(layer, worst(ours), None if theirs is None else worst(theirs))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.peers.exactness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", help="layers whose name has one of these")
    parser.add_argument("--fast", action="store_true", help="with algorithms that round otherwise than the direct one")
    parser.add_argument("--isa", choices=["avx512", "avx2", "sse2"], help="compile for narrower vectors")
    parser.add_argument("--worse", action="store_true", help="print the marked layers alone")
    arguments = parser.parse_args()
    try:
        import torch  # noqa: F401

        beside = True
    except ImportError:
        beside = False
    target = f"cpu-{arguments.isa}" if arguments.isa else "cpu"
    marked = 0
    print(f"{'layer':44} {'largest':>16} {'rms':>16}")
    for layer in layers():
        if arguments.words and not any(word in layer.name for word in arguments.words):
            continue
        found = measured(layer, not arguments.fast, target, beside)
        marked += found.worse
        if arguments.worse and not found.worse:
            continue
        pairs = [
            f"{o:.1e}" + (f" {t:.1e}" if t is not None else "")
            for o, t in zip(found.ours, found.theirs or (None, None), strict=True)
        ]
        print(f"{layer.name:44} {pairs[0]:>16} {pairs[1]:>16}{' <' if found.worse else ''}", flush=True)
    print(f"{marked} layers are more than twice as far off as PyTorch's", file=sys.stderr)
    return 1 if marked else 0


if __name__ == "__main__":
    sys.exit(main())
