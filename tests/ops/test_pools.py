"""Adaptive and Lp pooling, global maxima, unpooling, and PyTorch's rules of windows."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc.interop.source import source
from tests.ops.checking import check_gradient, reference

RNG = np.random.default_rng(23)


def network(size: tuple[int, ...], layers: str) -> cnnc.Network:
    return cnnc.parse(f"model m {{ input x: f32[N, 3, {', '.join(map(str, size))}] return x -> {layers} }}")


def last(net: cnnc.Network) -> Any:
    return net.graph.node(net.graph.outputs[0][1])


def test_values() -> None:
    x = np.array([[[1.0, 5.0, 2.0, 4.0, 3.0]]])
    assert reference("adaptive_avgpool", x, size=[2]).tolist() == [[[8 / 3, 3]]]
    assert reference("adaptive_maxpool", x, size=[3]).tolist() == [[[5, 5, 4]]]
    assert reference("adaptive_maxpool_gradient", x, np.array([[[1.0, 10, 100]]]), size=[5]).tolist() == [
        [[0, 11, 0, 100, 0]]
    ]
    assert reference("lppool", np.array([[[3.0, 4.0, 0.0, 2.0]]]), norm_type=2, kernel=[2], stride=[2]).tolist() == [
        [[5, 2]]
    ]
    assert reference("lppool", x, norm_type=1, kernel=[2], stride=[2], ceil_mode=True).tolist() == [[[6, 6, 6]]]
    assert reference("unpool", np.array([[[7.0, 8.0]]]), x, kernel=[2], stride=[2]).tolist() == [[[0, 7, 0, 8, 0]]]
    assert reference("unpool_gradient", x, x * 10, kernel=[2], stride=[2]).tolist() == [[[50, 40]]]
    assert reference("avgpool", x, kernel=[2], stride=[2], divisor_override=4).tolist() == [[[1.5, 1.5]]]


# sizes, and layers that PyTorch has too
CASES = [
    ((7, 5), "adaptive_avgpool([3, 2])"),
    ((7, 5), "adaptive_maxpool([3, 4])"),
    ((3, 4), "adaptive_avgpool([5, 7])"),
    ((9,), "adaptive_maxpool(4)"),
    ((5, 4, 3), "adaptive_avgpool([2, 3, 2])"),
    ((5, 4, 3), "adaptive_maxpool([2, 4, 2])"),
    ((5, 4), "global_maxpool"),
    ((6, 4), "adaptive_avgpool([3, 2])"),
    ((6, 5), "exp -> lppool(2, 2)"),
    ((7, 6), "exp -> lppool(3, [3, 2], stride=2, ceil_mode=true)"),
    ((7,), "lppool(1, 3, stride=2)"),
    ((5, 4, 4), "exp -> lppool(1.5, 2)"),
    ((7, 6), "avgpool(3, stride=2, padding=1, divisor_override=5)"),
    ((7, 6), "avgpool(2, ceil_mode=true, divisor_override=3)"),
    ((6, 7), "maxpool(2) -> exp -> unpool(x, 2)"),
    ((7, 5), "maxpool(2, stride=3, padding=1, ceil_mode=true) -> unpool(x, 2, 3, 1, true)"),
    ((7,), "maxpool(3) -> unpool(x, 3)"),
    ((4, 5, 4), "maxpool(2) -> unpool(x, 2)"),
]


@pytest.mark.parametrize(("size", "layers"), CASES)
def test_other_programs(size: tuple[int, ...], layers: str) -> None:
    """Values, and gradients of the input, are PyTorch's; values are ONNX Runtime's."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from cnnc.bench import torch_network
    from tests.interop.test_onnx import agree as agrees

    net, x = network(size, layers), RNG.standard_normal((2, 3, *size)).astype(np.float32)
    if not (len(size) == 1 and "unpool" in layers):  # ONNX Runtime unpools images alone
        agrees(net.graph)
    given = torch.from_numpy(x).requires_grad_()
    theirs = torch_network.module(net.graph, net.weights)(given)
    ours = cnnc.compile(net, target="reference")(x)
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("size", "layers"), [c for c in CASES if "unpool" not in c[1]])
def test_gradient(size: tuple[int, ...], layers: str) -> None:
    node = last(network(size, layers))
    x = np.abs(RNG.standard_normal((2, 3, *size))) + 0.1
    check_gradient(lambda b, names: b.add(node.op, names, node.attributes), {"x": x})


@pytest.mark.parametrize(("size", "layers"), CASES)
def test_written_as_a_file(size: tuple[int, ...], layers: str) -> None:
    graph = network(size, layers).graph
    again = cnnc.parse(source(graph)).graph
    assert [(n.op, n.attributes) for n in again.nodes] == [(n.op, n.attributes) for n in graph.nodes]


def test_gradient_of_unpool() -> None:
    for shape, window in (
        ((2, 2, 5, 4), {"kernel": (2, 2), "stride": (2, 3), "ceil_mode": True}),
        ((1, 3, 7), {"kernel": (3,), "stride": (3,)}),
    ):
        x = RNG.permutation(int(np.prod(shape))).reshape(shape).astype(np.float64)
        small = reference("maxpool", x, **window).shape
        check_gradient(lambda b, n, w=window: b.add("unpool", n, w), {"y": RNG.standard_normal(small)}, {"x": x})


def test_a_window_of_zeros_has_a_gradient_of_zero() -> None:
    net = network((2, 2), "relu -> lppool(2, 2) -> flatten -> linear(2)")
    x = -np.ones((1, 3, 2, 2), np.float32)
    for target in ("cpu", "reference"):
        _, gradients = cnnc.value_and_grad(net, target=target, wrt=["x"])(x, np.array([1]))
        assert (gradients["x"] == 0).all()


def test_even_windows_are_ordinary_pools() -> None:
    for layers, op in (
        ("adaptive_avgpool(1)", "global_avgpool"), ("adaptive_avgpool([2, 3])", "avgpool"), ("adaptive_maxpool(1)", "maxpool"),
        ("global_maxpool", "maxpool"), ("adaptive_maxpool(4)", "adaptive_maxpool"),
    ):  # fmt: skip
        assert last(network((6, 6), layers)).op == op


def test_maxima_move_whole_numbers_and_what_is_not_finite() -> None:
    x = RNG.integers(-3, 4, (2, 3, 7, 9)).astype(np.float32)
    x[0, 0, 1, 1], x[0, 1, 2, 3], x[1, 2, 4] = np.inf, np.nan, -np.inf
    for layers in ("adaptive_maxpool([3, 4])", "global_maxpool", "maxpool(2) -> unpool(x, 2)"):
        net = network((7, 9), layers)
        np.testing.assert_array_equal(cnnc.compile(net)(x), cnnc.compile(net, target="reference")(x))


@pytest.mark.parametrize(
    "layers", ["adaptive_maxpool([3, 4])", "global_maxpool", "maxpool(9, 3, 4)", "maxpool([2, 17])"]
)
def test_the_first_of_equals_has_the_gradient(layers: str) -> None:
    """In plain tensors and in blocks, whose windows are as wide as a vector and wider."""
    x = RNG.integers(0, 2, (2, 3, 7, 35)).astype(np.float32)
    for front in ("", "relu -> conv(3, 1, groups=3, bias=false, init=ones) -> "):
        net = network((7, 35), f"{front}{layers} -> relu -> flatten -> linear(2)")
        (_, ours), (_, exact) = (
            cnnc.value_and_grad(net, target=target, wrt=["x"])(x, np.array([1, 0])) for target in ("cpu", "reference")
        )
        np.testing.assert_array_equal(ours["x"] != 0, exact["x"] != 0)


def test_pytorch_counts_as_many_windows() -> None:
    """Over all ranks, paddings and both ways to round: shapes and values."""
    torch = pytest.importorskip("torch")
    draw, compared = random.Random(4), 0
    for _ in range(300):
        rank, kernel = draw.choice((1, 2, 3)), draw.randint(1, 4)
        stride, padding, ceil = draw.randint(1, 5), draw.randint(0, kernel // 2), draw.random() < 0.6
        x = RNG.standard_normal((1, 2, *(draw.randint(1, 9) for _ in range(rank))))
        call = getattr(torch.nn.functional, f"{(kind := draw.choice(('max', 'avg')))}_pool{rank}d")
        given = {"kernel": [kernel] * rank, "stride": [stride] * rank, "padding": [padding] * rank, "ceil_mode": ceil}
        try:
            theirs = call(torch.from_numpy(x), kernel, stride, padding, ceil_mode=ceil)
        except RuntimeError:  # no window, or in three dimensions an image smaller than it
            continue
        compared += 1
        np.testing.assert_allclose(reference(f"{kind}pool", x, **given), theirs.numpy(), rtol=1e-12, atol=1e-12)
    assert compared > 150
