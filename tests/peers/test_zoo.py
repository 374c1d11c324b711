"""The examples beside PyTorch: parameters by its names and shapes, logits, and steps of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnc

torch = pytest.importorskip("torch")
from tests.peers.zoo import ZOO  # noqa: E402

EXAMPLES = Path(__file__).parents[2] / "examples"


def pair(name: str) -> tuple[Any, cnnc.Network]:
    """A module with running statistics that are not those of a fresh one, and our network with its weights."""
    make, file, parameters = ZOO[name]
    torch.manual_seed(0)
    module, net = make().eval(), cnnc.load(EXAMPLES / f"{file}.cnn", **parameters)
    for m in module.modules():
        if isinstance(m, torch.nn.modules.batchnorm._BatchNorm):
            m.running_mean.uniform_(-0.1, 0.1)
            m.running_var.uniform_(0.8, 1.2)
    weights = {k: v.numpy() for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert {k: v.shape for k, v in weights.items()} == {k: v.shape for k, v in net.weights.items()}
    net.weights = weights
    return module, net


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_logits(name: str) -> None:
    """By the reference, whose kernels need no compiling; tests/passes and tests/random_networks compare targets."""
    module, net = pair(name)
    (node,) = net.graph.inputs
    x = np.random.default_rng(0).standard_normal(node.type.concrete(2)).astype(np.float32)
    with torch.inference_mode():
        expected = module(torch.from_numpy(x))
    found = cnnc.compile(net, target="reference").run({node.name: x})
    expected = expected if isinstance(expected, tuple) else (expected,)
    assert len(found) == len(expected)
    for (label, y), wanted in zip(found.items(), expected, strict=True):
        assert y.shape == wanted.shape
        assert np.abs(y - wanted.numpy()).max() <= 1e-4 * np.abs(wanted.numpy()).max(), label


TRAINED = ("squeezenet1_1", "resnet20", "convnetjs", "m5", "r3d", "unet")


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_steps_of_training(name: str) -> None:
    """The loss of PyTorch's first step, and a smaller one after some."""
    module, net = pair(name)
    (node,) = net.graph.inputs
    rng = np.random.default_rng(1)
    x = rng.standard_normal(node.type.concrete(4)).astype(np.float32)
    _, classes, *pixels = net.graph.type(net.graph.outputs[0][1]).shape
    labels = rng.integers(0, min(classes, 10), (4, *pixels))
    for m in module.modules():  # which draw other numbers than ours
        m.p = 0 if isinstance(m, torch.nn.Dropout) else getattr(m, "p", None)
    expected = torch.nn.functional.cross_entropy(module.train()(torch.from_numpy(x)), torch.from_numpy(labels))
    trainer = cnnc.Trainer(net, optimizer=cnnc.sgd(lr=0.02, momentum=0.9), target="reference")
    losses = [trainer.step(x, labels) for _ in range(5)]
    if not any(n.op == "dropout" for n in net.graph.nodes):
        assert losses[0] == pytest.approx(expected.item(), rel=1e-4)
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_auxiliary_heads() -> None:
    """GoogLeNet's weighed losses and their gradients are PyTorch's, both in float64, without dropout."""
    module, net = pair("googlenet")
    text = (EXAMPLES / "googlenet.cnn").read_text()
    plain = cnnc.parse(text.replace("-> dropout(0.7)", "").replace("-> dropout(0.2)", ""), aux=True, size=96)
    plain.weights = net.weights
    rng = np.random.default_rng(1)
    x, labels = rng.standard_normal((3, 3, 96, 96)).astype(np.float32), np.array([3, 700, 20])
    parts = [
        torch.nn.functional.cross_entropy(y, torch.from_numpy(labels))
        for y in module.double().train()(torch.from_numpy(x.astype(np.float64)))
    ]
    expected = parts[0] + 0.3 * (parts[1] + parts[2])
    expected.backward()
    names = ["aux1.fc2.weight", "aux2.conv.conv.weight", "inception3a.branch2.1.conv.weight", "conv1.conv.weight"]
    head = 0.3 * cnnc.loss("cross_entropy")
    losses = {"logits": "cross_entropy", "aux1": head, "aux2": head}
    loss, gradients = cnnc.value_and_grad(plain, losses, wrt=names, target="reference")(x, labels)
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    wanted = dict(module.named_parameters())
    for name in names:
        g = wanted[name].grad.numpy()
        assert np.linalg.norm(gradients[name] - g) <= 1e-5 * np.linalg.norm(g), name
