"""Transposed convolution: values by hand, gradients, PyTorch, and the CPU in both layouts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc.summary import summarize
from tests.ops.checking import WEIGHTS, check_gradient, reference

RNG = np.random.default_rng(11)


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape)


def layer(size: tuple[int, ...], arguments: str) -> cnnc.Network:
    return cnnc.parse(
        f"model m {{ input x: f32[N, {', '.join(map(str, size))}] return x -> conv_transpose({arguments}) as up }}"
    )


# input without the batch, and arguments: those that PyTorch takes in one order with ours
CASES = [
    ((4, 5, 6), "3, 2, stride=2"),
    ((4, 5, 6), "5, 4, 2, 1"),
    ((4, 3, 5), "6, 3, [2, 3], 1, [1, 2], 2"),
    ((4, 4, 4), "4, [3, 2], 2, [1, 0], groups=4, bias=false"),
    ((4, 5, 4), "4, 3, 2, 1, 1, dilation=2"),
    ((3, 4, 4), "2, 3, 1, 2, 1, dilation=[2, 3]"),
    ((3, 1, 1), "2, 1, stride=3, output_padding=2"),
    ((3, 7), "5, 4, stride=3, padding=1, output_padding=2"),
    ((2, 3, 2, 3), "4, [2, 3, 2], [1, 2, 2], [0, 1, 0]"),
    ((4, 2, 3, 3), "4, 3, 2, 1, 1, 2, dilation=[1, 2, 1]"),
]


def test_values() -> None:
    x, w = np.array([[[1.0, 10.0]]]), np.array([[[1.0, 2.0, 3.0]]])
    assert reference("conv_transpose", x, w, stride=[2], size=[5]).tolist() == [[[1, 2, 13, 20, 30]]]
    assert reference("conv_transpose", x, w, stride=[2], padding=[1], size=[4]).tolist() == [[[2, 13, 20, 30]]]


@pytest.mark.parametrize(("size", "arguments"), CASES)
def test_gradient(size: tuple[int, ...], arguments: str) -> None:
    net = layer(size, arguments)
    node = net.graph.node(net.graph.outputs[0][1])
    arrays = {"x": normal(2, *size), **{n.name.split(".")[1]: normal(*n.type.sizes) for n in net.graph.parameters}}
    build = lambda b, names: b.add("conv_transpose", names, node.attributes)  # noqa: E731
    check_gradient(build, arrays, layouts={"weight": WEIGHTS[node.type.rank]})


@pytest.mark.parametrize(("size", "arguments"), CASES)
def test_pytorch(size: tuple[int, ...], arguments: str) -> None:
    """The arguments' order, the weights' shape, their start, and the values."""
    torch = pytest.importorskip("torch")
    net = layer(size, arguments)
    given = arguments.replace("=false", "=False")
    theirs = eval(f"torch.nn.ConvTranspose{len(size) - 1}d({size[0]}, {given})", {"torch": torch})
    for name, value in theirs.state_dict().items():
        own = net.weights[f"up.{name}"]
        assert own.shape == tuple(value.shape)
        assert np.abs(own).max() <= theirs.weight[0].numel() ** -0.5
        net.weights[f"up.{name}"] = value.numpy()
    x = normal(2, *size).astype(np.float32)
    expected = theirs(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(cnnc.compile(net, target="reference")(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("size", "arguments"), [*CASES, ((3, 5, 5), "4, 3, [1, 2], [[2, 0], [0, 1]]")])
def test_other_programs(size: tuple[int, ...], arguments: str) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from cnnc.bench import torch_network
    from tests.interop.test_onnx import agree as agrees

    net, x = layer(size, arguments), normal(2, *size).astype(np.float32)
    agrees(net.graph)
    theirs = torch_network.module(net.graph, net.weights)(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(cnnc.compile(net, target="reference")(x), theirs, rtol=1e-5, atol=1e-5)


def test_what_is_behind_it_goes_into_it() -> None:
    net = cnnc.parse(
        "model m { input x: f32[N, 4, 3, 3] return x -> conv_transpose(6, 2, 2, groups=2) -> batchnorm -> relu }"
    )
    ops = [n.op for n in cnnc.compile(net).graph.nodes if n.op in ("conv_transpose", "batchnorm", "relu", "pointwise")]
    assert ops.count("conv_transpose") == 1
    assert "relu" not in ops
    assert "batchnorm" not in ops


def test_summary() -> None:
    graph = cnnc.parse(
        "model m { input x: f32[N, 3, 8, 8] return x -> conv(4, 3, padding=1) -> conv_transpose(6, 4, 2, 1) as up -> conv(2, 3) }"
    ).graph
    rows = {r.name: r for r in summarize(graph).rows}
    up = rows["up"]
    assert (up.output, up.params, up.macs) == ((1, 6, 16, 16), 4 * 6 * 16 + 6, 8 * 8 * 4 * 6 * 16)
    assert [rows[n].receptive_field for n in ("conv1", "up", "conv2")] == [3, 4, 6]
