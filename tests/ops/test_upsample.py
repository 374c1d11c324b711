"""Resizing: values by hand, gradients, PyTorch, ONNX's rules, and the CPU in both layouts."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc.interop.source import source
from cnnc.ops.bands import COORDINATES, ROUNDINGS
from cnnc.summary import summarize
from tests.ops.checking import check_gradient, reference

RNG = np.random.default_rng(17)


def network(size: tuple[int, ...], arguments: str) -> cnnc.Network:
    return cnnc.parse(
        f"model m {{ input x: f32[N, 2, {', '.join(map(str, size))}] return x -> upsample({arguments}) }}"
    )


def test_values() -> None:
    x = np.array([[[0.0, 10.0, 20.0]]])
    assert reference("upsample", x, size=[6]).tolist() == [[[0, 0, 10, 10, 20, 20]]]
    assert reference("upsample", x, size=[2]).tolist() == [[[0, 10]]]
    linear = {"mode": "bilinear", "corners": "half_pixel"}
    assert reference("upsample", x, size=[6], **linear).tolist() == [[[0, 2.5, 7.5, 12.5, 17.5, 20]]]
    corners = {"mode": "bilinear", "corners": "align_corners"}
    assert reference("upsample", x, size=[5], **corners).tolist() == [[[0, 5, 10, 15, 20]]]
    assert reference("upsample", x, size=[1], **corners).tolist() == [[[0]]]
    cubic = reference("upsample", x, size=[6], mode="bicubic", corners="half_pixel")
    assert cubic[0, 0, 2] == 0.87890625 * 10 - 0.10546875 * 20  # 3/4 from the first: 1/4 and 5/4 from the others
    ups = reference("upsample_gradient", np.ones((1, 1, 6)), size=[3])
    assert ups.tolist() == [[[2, 2, 2]]]


# sizes without batch and channels, and arguments
CASES = [
    ((3, 4), "2"),
    ((5, 3), "[1.5, 2.7]"),
    ((4, 7), "size=[9, 3]"),
    ((4, 5), 'size=[7, 3], mode="nearest-exact"'),
    ((3, 4), '2, mode="bilinear"'),
    ((3, 5), 'size=[7, 4], mode="bilinear", align_corners=true'),
    ((1, 4), '3, mode="bilinear"'),
    ((4, 3), '2, mode="bicubic"'),
    ((2, 5), 'size=[5, 1], mode="bicubic", align_corners=true'),
    ((6,), '2.5, mode="linear"'),
    ((6,), "size=4"),
    ((2, 3, 2), '[2, 1, 3], mode="trilinear"'),
    ((3, 2, 4), "size=[4, 4, 2]"),
]


@pytest.mark.parametrize(("size", "arguments"), CASES)
def test_gradient(size: tuple[int, ...], arguments: str) -> None:
    net = network(size, arguments)
    given = net.graph.node(net.graph.outputs[0][1]).attributes
    build = lambda b, names: b.add("upsample", names, given)  # noqa: E731
    check_gradient(build, {"x": RNG.standard_normal((1, 2, *size))})


@pytest.mark.parametrize(("size", "arguments"), CASES)
def test_written_as_a_file(size: tuple[int, ...], arguments: str) -> None:
    graph = network(size, arguments).graph
    again = cnnc.parse(source(graph)).graph
    assert [(n.op, n.attributes) for n in again.nodes] == [(n.op, n.attributes) for n in graph.nodes]


@pytest.mark.parametrize(("size", "arguments"), CASES)
def test_other_programs(size: tuple[int, ...], arguments: str) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from cnnc.bench import torch_network
    from tests.interop.test_onnx import agree as agrees

    net, x = network(size, arguments), RNG.standard_normal((2, 2, *size)).astype(np.float32)
    agrees(net.graph)
    theirs = torch_network.module(net.graph, net.weights)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(cnnc.compile(net, target="reference")(x), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("mode", "corners"), [*product(("bilinear", "bicubic"), COORDINATES), *product(["nearest"], COORDINATES)]
)
def test_the_rules_of_onnx(mode: str, corners: str) -> None:
    pytest.importorskip("onnx")
    from tests.interop.test_onnx import agree as agrees
    from tests.interop.test_onnx import one_op

    for rounding in ROUNDINGS if mode == "nearest" else ("floor",):
        given: dict[str, Any] = {"mode": mode, "corners": corners, "rounding": rounding}
        for size in ([9, 6], [1, 3]):
            agrees(one_op("upsample", [("N", 2, 3, 5)], {**given, "size": size}))
        if corners != "align_corners":
            agrees(one_op("upsample", [("N", 2, 3, 5)], {**given, "size": [4, 8], "factor": [1.5, 1.7]}))


def test_nearest_moves_whole_numbers_and_what_is_not_finite() -> None:
    x = RNG.integers(-9, 9, (2, 2, 5, 7)).astype(np.float32)
    x[0, 1, 2, 3], x[1, 0, 0, 0] = np.inf, np.nan
    for arguments in ("3", "size=[8, 40]"):
        net = network((5, 7), arguments)
        np.testing.assert_array_equal(cnnc.compile(net)(x), cnnc.compile(net, target="reference")(x))


def test_summary() -> None:
    text = (
        'input x: f32[N, 3, 8, 8] return x -> conv(4, 3, padding=1) -> upsample(2, mode="bilinear") as up -> conv(2, 3)'
    )
    rows = {r.name: r for r in summarize(cnnc.parse(f"model m {{ {text} }}").graph).rows}
    assert rows["up"].output == (1, 4, 16, 16)
    assert [rows[n].receptive_field for n in ("conv1", "up", "conv2")] == [3, 4, 6]
