"""Layer, group, instance and RMS normalization, standardized weights, and batch norm without weights or statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc.ir.builder import Builder
from cnnc.ir.graph import Graph
from tests.ops.agreeing import trained
from tests.ops.checking import check_gradient, reference

RNG = np.random.default_rng(3)
SHAPES: list[Any] = [(2, 6), (2, 6, 3), (2, 6, 3, 2), (1, 6, 2, 1, 3)]


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape)


def network(layers: str, sizes: str = "6, 5, 4") -> str:
    return f"model m {{ input x: f32[N, {sizes}] return x -> {layers} -> flatten -> linear(5) }}"


def test_values() -> None:
    x = np.array([[[1.0, 3.0], [2.0, 6.0]]])
    assert reference("normalize", x, axes=(2,), eps=0.0).tolist() == [[[-1, 1], [-1, 1]]]
    assert reference("normalize", x, axes=(1,), eps=0.0).tolist() == [[[-1, -1], [1, 1]]]
    assert np.allclose(reference("normalize", x, axes=(1, 2), eps=0.5), (x - 3) / 2)
    assert np.allclose(reference("normalize", x, axes=(2,), eps=0.0, centered=False)[0, 0], x[0, 0] / np.sqrt(5))
    assert reference("normalize", x, [2.0, 3.0], [1.0, 0.0], axes=(1, 2), groups=2, eps=0.0).tolist() == [
        [[-1, 3], [-3, 3]]
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients(shape: Any) -> None:
    whole = tuple(range(1, len(shape)))
    for axes in {(1,), whole, whole[1:] or whole, whole[-1:]}:
        along = tuple(d if i in axes else 1 for i, d in enumerate(shape)) if axes != (1,) else shape[1:2]
        for centered in (True, False):
            build = lambda b, n, a=axes, c=centered: b.add("normalize", n, {"axes": a, "eps": 0.01, "centered": c})  # noqa: E731
            weights = {"w": normal(*along)} | ({"b": normal(*along)} if centered else {})
            check_gradient(build, {"x": normal(*shape)} | weights)
    for groups in (1, 2, 6):
        build = lambda b, n, g=groups: b.add("normalize", n, {"axes": whole, "groups": g, "eps": 0.01})  # noqa: E731
        check_gradient(build, {"x": normal(*shape), "w": normal(6), "b": normal(6)})
        check_gradient(build, {"x": normal(*shape)})


PLAIN = [
    "layernorm -> relu",
    "layernorm(axes=1) -> rmsnorm(axes=3)",
    "layernorm(axes=[1, 2]) -> rmsnorm(axes=-2, affine=false)",
    "layernorm(axes=[2, 3]) -> layernorm(axes=[2, 3], affine=false)",
    "groupnorm(3) -> relu -> groupnorm(2, affine=false) -> relu -> instancenorm(affine=true, eps=1e-3)",
    "flatten -> layernorm -> relu -> groupnorm(4) -> rmsnorm",
    "batchnorm(affine=false) -> batchnorm(track_running_stats=false) -> relu",
]


BLOCKED = [
    ("conv(20, 3) -> layernorm -> relu -> conv(16, 1)", "3, 7, 6"),
    (
        "conv(20, 3) -> layernorm(axes=1) as a -> conv(24, 1) -> groupnorm(3) -> relu -> conv(20, 1) -> groupnorm(1)",
        "3, 7, 6",
    ),
    (
        "conv(18, 3) -> groupnorm(6) -> relu -> conv(20, 1, bias=false) -> instancenorm(affine=true) -> rmsnorm(axes=1) -> conv(5, 1)",
        "3, 7, 6",
    ),
    ("conv(20, 3) -> groupnorm(2) -> layernorm(axes=1) -> conv(8, 3)", "3, 9"),
    ("conv(20, 2) -> instancenorm -> layernorm(axes=1) -> conv(8, 2)", "3, 4, 4, 3"),
    (
        "conv(20, 3, weight_standardization=true) -> relu -> conv(16, 3, groups=4, weight_standardization=true)",
        "3, 7, 6",
    ),
]


@pytest.mark.parametrize(("layers", "sizes"), [*((layers, "6, 5, 4") for layers in PLAIN), *BLOCKED])
def test_the_cpu_is_the_reference(layers: str, sizes: str) -> None:
    trained(network(layers, sizes), 3 if layers in PLAIN or "instance" in layers else 1)


def test_what_follows_is_fused() -> None:
    text = network("conv(20, 3) -> groupnorm(2) as n -> relu", "3, 7, 6")
    plan = cnnc.compile(cnnc.parse(text)).plan(2)
    assert "normalize_planes" in plan
    assert " map" not in plan


def test_parameters_are_pytorch_s() -> None:
    net = cnnc.parse(network("layernorm as a -> groupnorm(2) as b -> instancenorm as c -> rmsnorm(axes=1) as d"))
    shapes = {n.name: n.type.shape for n in net.graph.parameters if n.name[1] == "."}
    assert shapes == {"a.weight": (6, 5, 4), "a.bias": (6, 5, 4), "b.weight": (6,), "b.bias": (6,), "d.weight": (6,)}
    assert not [n for n in cnnc.parse(network("batchnorm(affine=false, track_running_stats=false)")).graph.states]


@pytest.mark.parametrize(
    ("shapes", "attributes"),
    [
        ([(2, 6, 3)], {"axes": (0, 1)}),
        ([(2, 6, 3)], {"axes": (2, 1)}),
        ([(2, 6, 3)], {"axes": 1}),
        ([(2, 6, 3)], {"axes": (-1,)}),
        ([(2, 6, 3)], {"axes": (1,), "groups": 2}),
        ([(2, 6, 3), (3,)], {"axes": (2,)}),
        ([(2, 6, 3), (1, 1, 3)], {"axes": (2,)}),
        ([(2, 6, 3), (6,), (6,)], {"axes": (1,), "centered": False}),
        ([(2, 6, 3)], {"axes": (1,), "eps": "x"}),
    ],
)
def test_operands_that_do_not_fit(shapes: Any, attributes: Any) -> None:
    from cnnc.ir.op import InferenceError

    with pytest.raises(InferenceError):
        reference("normalize", *(normal(*s) for s in shapes), **attributes)


def graph(layers: str) -> Graph:
    return cnnc.parse(network(layers)).graph


EVERY = [*PLAIN, "conv(8, 3, weight_standardization=true)"]


@pytest.mark.parametrize("layers", EVERY)
def test_onnx(layers: str) -> None:
    pytest.importorskip("onnx")
    from tests.interop.test_onnx import agree

    agree(graph(layers))


@pytest.mark.parametrize("layers", EVERY)
def test_pytorch_agrees(layers: str) -> None:
    """Values, and gradients of all parameters and the input, in training."""
    torch = pytest.importorskip("torch")
    from cnnc.bench import torch_network
    from cnnc.ir.interpret import random_values, run
    from tests.bench.layers import with_gradients

    net = cnnc.parse(network(layers))
    _, values = random_values(net.graph, 3)
    longer = with_gradients(net.graph)
    x, given = normal(3, 6, 5, 4), normal(3, 5)
    ours = run(longer, {"x": x, "given": given}, values)
    module = torch_network.module(net.graph, values).double().train()
    for (name, parameter), node in zip(module.named_parameters(), net.graph.parameters, strict=True):
        assert name == torch_network.identifier(node.name)
        parameter.data = torch.from_numpy(values[node.name].copy())
    z = torch.from_numpy(x).requires_grad_()
    y = module(z)
    y.backward(torch.from_numpy(given))
    found = {"output": y.detach().numpy(), "grad:x": z.grad.numpy()}
    found |= {f"grad:{n.name}": p.grad.numpy() for n, p in zip(net.graph.parameters, module.parameters(), strict=True)}
    for name, value in found.items():
        np.testing.assert_allclose(value, ours[name], rtol=1e-7, atol=1e-7, err_msg=name)


def test_statistics_of_prediction() -> None:
    """Without running statistics prediction takes its batch's."""
    net = cnnc.parse("model m { input x: f32[N, 3, 4] return x -> batchnorm(affine=false, track_running_stats=false) }")
    y = cnnc.compile(net)((normal(5, 3, 4) * 3 + 1).astype(np.float32))
    assert np.abs(y.mean((0, 2))).max() < 1e-6
    assert np.abs(y.var((0, 2)) - 1).max() < 1e-4


def test_builder() -> None:
    b = Builder("g")
    x = b.input("x", cnnc.parse(network("relu")).graph.inputs[0].type)
    assert b.type(b.add("normalize", [x], {"axes": (1, 2, 3), "groups": 3})) == b.type(x)
