"""Layers one by one beside PyTorch's: forward, and forward with backward, at two sizes each.

    python -m tests.bench.layers                      every layer of the list
    python -m tests.bench.layers gelu groupnorm       those whose text holds one of these
    python -m tests.bench.layers --markdown           the table as it stands in tests/bench/README.md

Backward gives the gradients of the input and of the parameters for a given gradient of the result. Both engines get NumPy
arrays and give arrays back; PyTorch's better layout counts. A row says times in milliseconds, medians over blocks that
take turns (`cnnc/bench/timing.py`), and PyTorch's time over ours.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import cnnc
from cnnc.bench import engines, torch_network
from cnnc.bench.timing import alternate
from cnnc.diagnostics import CnncError
from cnnc.driver import build
from cnnc.ir.builder import Builder
from cnnc.ir.graph import Graph
from cnnc.network import Network
from cnnc.passes.autodiff import differentiate
from cnnc.passes.training import training_mode
from cnnc.runtime.threads import cores

Array = np.ndarray[Any, Any]
BOUND = 1e-3  # of the two engines' results, relative to the largest value


@dataclass(frozen=True)
class Line:
    """Layers, and the two inputs that they are timed on, batch first."""

    layers: str
    sizes: tuple[tuple[int, ...], tuple[int, ...]] = ((4, 64, 28, 28), (16, 64, 56, 56))


FLAT = ((16, 1024), (256, 4096))
WIDE = ((4, 64, 14, 14), (16, 128, 28, 28))
ROWS = ((4, 32, 256), (16, 64, 1024))
VOLUME = ((1, 16, 8, 28, 28), (4, 32, 16, 28, 28))
LINES: tuple[Line, ...] = (
    *map(Line, ("relu", "leaky_relu", "elu", "selu", "silu", "sigmoid", "tanh", "softmax", "relu6")),
    *map(
        Line,
        ("gelu", 'gelu("tanh")', "mish", "hardswish", "prelu(64)", "softplus", "hardsigmoid", "celu", "log_softmax"),
    ),
    *map(Line, ("hardtanh", "threshold(0.1, 0)", "softsign", "log_sigmoid", "clamp(-1, 1)", "glu", "maxout(2)")),
    *map(Line, ("abs", "exp", "expm1", "erf", "floor", "sign", "pow(3)", "abs -> sqrt", "abs -> log1p", "exp -> log")),
    *map(
        Line, ("batchnorm", "lrn(5)", "maxpool(2)", "maxpool(3, stride=2, padding=1)", "avgpool(2)", "global_avgpool")
    ),
    Line("conv(64, 3, padding=1)"),
    Line("conv(64, 3, padding=1, groups=64)"),
    Line("conv_transpose(32, 2, stride=2)"),
    *map(
        Line,
        ("adaptive_avgpool(6)", "adaptive_maxpool(6)", "global_maxpool", "lppool(2, 2)", "maxpool(2) -> unpool(x, 2)"),
    ),
    Line("conv_transpose(64, 4, stride=2, padding=1)", WIDE),
    *map(Line, ("upsample(2)", 'upsample(2, mode="bilinear")', 'upsample(2, mode="bicubic")')),
    *map(Line, ("channel_shuffle(2)", "channel_shuffle(4)", "pixel_shuffle(2)", "pixel_unshuffle(2)")),
    *map(Line, ("transpose([0, 2, 3, 1])", 'pad(1, mode="reflect")', 'pad(1, mode="circular")', "pad(1)", "flip(3)")),
    *map(
        Line, ("instancenorm(affine=true)", "groupnorm(8)", "groupnorm(32)", "layernorm", "max([2, 3])", "logsumexp(1)")
    ),
    Line("layernorm(axes=1)", ((8, 96, 14, 14), (16, 96, 56, 56))),
    Line("layernorm(axes=3)", ((8, 14, 14, 384), (16, 56, 56, 96))),
    Line("rmsnorm(axes=3)", ((8, 14, 14, 384), (16, 56, 56, 96))),
    *map(Line, ("mean([2, 3])", "sum(1)", "min(1)", "prod(3)", "norm(axis=1)", "argmax(1)", "cumsum(3)")),
    *map(Line, ("concat([x, x])", "stack([x, x])", "repeat([1, 2, 1, 1])", "gather([3, 1, 2])", "x[:, 8:40, ::2]")),
    Line("matmul(x)"),
    Line("linear(1000)", FLAT),
    Line("linear(384)", ((8, 49, 96), (16, 196, 96))),
    Line("softmax", FLAT),
    Line("conv(32, 3, padding=1)", VOLUME),
    Line("conv(64, 3, padding=1)", ROWS),
)


def network(layers: str, shape: Sequence[int]) -> Network:
    sizes = ", ".join(map(str, shape[1:]))
    value = layers if layers.startswith(("x[", "concat(", "stack(")) else f"x -> {layers}"
    return cnnc.parse(f"model layer {{ input x: f32[N, {sizes}] return {value} }}")


def with_gradients(graph: Graph) -> Graph:
    """The results, and for an input `given`, which is the gradient of the first, those of the inputs and parameters."""
    graph = training_mode(graph)
    first = graph.outputs[0][1]
    b = Builder(graph.name, graph.nodes)
    b.input("given", graph.type(first))
    leaves = [n.name for n in (*graph.inputs, *graph.parameters) if n.name != "seed"]
    longer, gradients = differentiate(b.finish(graph.outputs, graph.updates), first, leaves, weights="given")
    return Graph(
        longer.name, longer.nodes, (*graph.outputs, *((f"grad:{k}", v) for k, v in gradients.items())), longer.updates
    )


def backward_of_torch(
    net: Network, arrays: Sequence[Array], given: Array, threads: int, last: bool
) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(threads)
    module = torch_network.module(net.graph, net.weights).train()
    dy = engines.placed(torch, given, last)
    tensors = [engines.placed(torch, a, last).requires_grad_(True) for a in arrays]

    def call() -> list[Array]:
        for t in (*tensors, *module.parameters()):
            t.grad = None
        y = module(*tensors)
        y.backward(dy)
        leaves = (*tensors, *module.parameters())
        return [y.detach().numpy(), *(t.grad.numpy() for t in leaves if t.grad is not None)]

    return call


def compare(
    line: Line, shape: Sequence[int], backward: bool, threads: int, rounds: int, block: float
) -> tuple[float, float]:
    """Our time and PyTorch's in milliseconds. Raises `AssertionError` where the two do not agree."""
    net = network(line.layers, shape)
    arrays = list(engines.random_inputs(net.graph, shape[0]).values())
    calls: dict[str, Callable[[], Any]] = {}
    if backward:
        graph = with_gradients(net.graph)
        given = np.random.default_rng(1).standard_normal(net.graph.type(net.graph.outputs[0][1]).concrete(shape[0]))
        given = given.astype(np.float32)
        executable = build(graph, net.weights, "cpu", threads)
        inputs = {n.name: a for n, a in zip(net.graph.inputs, arrays, strict=True)} | {"given": given}
        if any(n.name == "seed" for n in graph.inputs):
            inputs["seed"] = np.zeros(2, np.int64)
        calls["cnnc"] = lambda: list(executable.run(inputs).values())
        for layout, last in engines.LAYOUTS.items():
            calls["torch" + layout] = backward_of_torch(net, arrays, given, threads, last)
    else:
        calls = dict(engines.inference(engines.Setting(net, "infer", shape[0], threads, ("torch",))).engines)
    ours, theirs = ([np.asarray(a, np.float64) for a in calls[name]()] for name in ("cnnc", "torch"))
    for a, b in zip(ours, theirs, strict=True):
        assert np.abs(a - b).max(initial=0) <= BOUND * max(1.0, np.abs(b).max(initial=0)), (line.layers, backward)
    times = alternate(calls, rounds, block)
    return times["cnnc"].median, min(t.median for name, t in times.items() if name != "cnnc")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.layers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("layers", nargs="*", metavar="TEXT")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--block", type=float, default=0.2, help="seconds; 3 calls at least")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    for line in LINES:
        if arguments.layers and not any(t in line.layers for t in arguments.layers):
            continue
        ratios: list[float | None] = []
        for shape in line.sizes:
            cells = []
            for backward in (False, True):
                try:
                    a, b = compare(line, shape, backward, arguments.threads, arguments.rounds, arguments.block)
                    cells.append(f"{a:7.3f} {b:7.3f} {b / a:5.2f}")
                    ratios.append(b / a)
                except (CnncError, AssertionError) as e:
                    cells.append(f"{type(e).__name__}: {str(e).splitlines()[0][:60]}")
                    ratios.append(None)
            if not arguments.markdown:
                print("  ".join([f"{line.layers:40}", f"{'x'.join(map(str, shape)):16}", *cells]), flush=True)
        if arguments.markdown:
            print(row(line.layers, ratios), flush=True)
    return 0


def row(layers: str, ratios: Sequence[float | None]) -> str:
    """Of the table: PyTorch's time over ours, forward and with backward, at the small size and at the large."""
    cells = [("" if r is None else f"{r:.2f}" if r < 2 else f"{r:.1f}") for r in ratios]
    return f"| `{layers}` | {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
