"""The PyTorch module that is written from a graph computes what the graph says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc.bench import torch_network
from cnnc.diagnostics import CnncError
from cnnc.ir.builder import Builder
from cnnc.ir.graph import Graph
from cnnc.ir.interpret import random_values, run
from cnnc.ir.types import TensorType, activation
from tests.networks import EXAMPLES, MIXED
from tests.random_networks.generate import network as random_network

torch = pytest.importorskip("torch")


def agree(graph: Graph, batch: int = 2) -> None:
    inputs, values = random_values(graph, batch)
    inputs = {k: v.astype(np.float32) for k, v in inputs.items()}
    values = {k: v.astype(np.float32) for k, v in values.items()}
    with torch.inference_mode():
        found = torch_network.module(graph, values).eval()(*(torch.from_numpy(inputs[n.name]) for n in graph.inputs))
    found = found if isinstance(found, tuple) else (found,)
    expected = run(graph, inputs, values)
    for (label, _), y in zip(graph.outputs, found, strict=True):
        scale = np.abs(expected[label]).max(initial=0)
        np.testing.assert_allclose(y.numpy(), expected[label], rtol=1e-4, atol=max(1e-5, 1e-5 * scale), err_msg=label)


@pytest.mark.parametrize("seed", range(40))
def test_random_networks(seed: int) -> None:
    graph = random_network(seed)
    try:
        torch_network.forward(graph)
    except CnncError as e:
        reasons = ("padding of at most half a kernel", "no such rule of corners", "no RMS normalization of groups")
        assert any(reason in str(e) for reason in reasons)  # noqa: PT017
        pytest.skip("a layer that PyTorch has not")
    agree(graph)


@pytest.mark.parametrize(
    ("op", "sizes", "attributes"),
    [
        # More than half of the kernel that is not dilated; an image of fewer rows than the kernel; uneven.
        ("maxpool", (5, 6), {"kernel": (3, 2), "padding": (0, 2), "dilation": (1, 3)}),
        ("maxpool", (5, 1, 3), {"kernel": (2, 2, 1), "padding": (0, 1, 0)}),
        ("avgpool", (5, 1, 3), {"kernel": (2, 2, 1), "padding": (0, 1, 0)}),
        ("avgpool", (5, 6), {"kernel": (3, 3), "padding": ((0, 1), (1, 1))}),
    ],
)
def test_pools_that_pytorch_pads_otherwise(op: str, sizes: tuple[int, ...], attributes: dict[str, Any]) -> None:
    b = Builder("case")
    y = b.insert(op, [b.input("x", activation(("N", 3, *sizes)))], attributes, "y")
    agree(b.finish([("y", y.results[0])]))


def test_mixed_network() -> None:
    agree(cnnc.parse(MIXED).graph)


def test_pointwise_node_with_several_results() -> None:
    b = Builder("case")
    x = b.input("x", activation(("N", 4, 3)))
    texts = ["where(a0 > 0.5, max(a0, 0), -a0) / 3", "min(sqrt(abs(a0)), exp(-a0)) - 1", "(a0 > 0) * tanh(a0)"]
    node = b.insert("pointwise", [x], {"expressions": texts}, "y")
    agree(b.finish([(name, name) for name in node.results]))


def test_gradients_and_statistics_are_those_of_training() -> None:
    """Two steps by autograd give what ours give, batch norm's running statistics too."""
    from cnnc.passes.optimizer import SGD

    net = cnnc.parse(MIXED.replace("-> dropout(0.3) ", ""))
    x = np.random.default_rng(0).standard_normal((4, 3, 19, 17)).astype(np.float32)
    labels = np.arange(4)
    module = torch_network.module(net.graph, net.weights).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
    step = cnnc.driver.compile_training(net, optimizer=SGD(momentum=0.9))
    for _ in range(2):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(torch.from_numpy(x)), torch.from_numpy(labels))
        loss.backward()
        optimizer.step()
        ours = step.run({"image": x, "labels": labels, "learning_rate": np.array(0.01, np.float32)})
        assert abs(float(ours["loss"]) - loss.item()) <= 1e-5 * loss.item()
    state = module.state_dict()
    for name, value in step.values.items():
        if not name.startswith("optimizer."):
            theirs = state[torch_network.identifier(name)].numpy()
            np.testing.assert_allclose(value, theirs, rtol=1e-3, atol=1e-5, err_msg=name)


def test_what_pytorch_does_not_have_is_refused() -> None:
    b = Builder("case")
    x = b.input("x", activation(("N", 4, 3)))
    node = b.insert("count", [x])
    with pytest.raises(CnncError, match="'count' cannot be built in PyTorch"):
        torch_network.forward(b.finish([("m", node.name)]))
    b = Builder("case")
    x, seed = b.input("x", activation(("N", 4))), b.input("seed", TensorType("i64", (2,)))
    with pytest.raises(CnncError, match="E0651"):
        torch_network.forward(b.finish([("y", b.add("dropout", [x, seed]))]))


@pytest.mark.parametrize(("file", "parameters"), [("resnet.cnn", {"depth": 18}), ("mobilenetv2.cnn", {})])
def test_examples_read_like_code(file: str, parameters: dict[str, Any]) -> None:
    text = torch_network.forward(cnnc.load(EXAMPLES / file, **parameters).graph)
    compile(text, file, "exec")
    assert "inplace=True" in text
    assert text.count("F.conv2d(x0, self.p_") == 1
