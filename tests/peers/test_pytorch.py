"""PyTorch's word: the same weights, by name, give the same outputs, losses, gradients and running statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cnnc

torch = pytest.importorskip("torch")
functional = torch.nn.functional
from tests.peers import networks  # noqa: E402

EXAMPLES = Path(__file__).parents[2] / "examples"


def pair(name, tmp_path):
    """A PyTorch module and our network with its weights, carried over in a file."""
    from safetensors.torch import save_file

    module, (_, file, parameters) = networks.build(name), networks.NETWORKS[name]
    net = cnnc.load(EXAMPLES / file, **parameters)
    save_file({k: v.contiguous() for k, v in module.state_dict().items()}, tmp_path / "weights.safetensors")
    net.load_weights(tmp_path / "weights.safetensors")
    return module, net


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lenet", "alexnet", "vgg16", "resnet18", "resnet50"])
def test_inference(name, tmp_path):
    module, net = pair(name, tmp_path)
    (node,) = net.graph.inputs
    x = np.random.default_rng(0).standard_normal(node.type.concrete(2)).astype(np.float32)
    with torch.inference_mode():
        expected = module.eval()(torch.from_numpy(x)).numpy()
    got = cnnc.compile(net)(x)
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()


def relative(a, b):
    return np.linalg.norm(a.astype(np.float64) - b) / max(np.linalg.norm(b.astype(np.float64)), 1e-30)


@pytest.mark.slow
def test_training_of_resnet18(tmp_path):
    """Loss, every gradient and the running statistics of a training step on a batch of 4."""
    module, net = pair("resnet18", tmp_path)
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((4, 3, 224, 224)).astype(np.float32), rng.integers(0, 1000, 4)
    module.train()
    loss = functional.cross_entropy(module(torch.from_numpy(x)), torch.from_numpy(labels))
    loss.backward()
    got_loss, gradients = cnnc.value_and_grad(net)(x, labels)
    assert abs(got_loss - loss.item()) <= 1e-5 * abs(loss.item())
    wrong = {k: r for k, p in module.named_parameters() if (r := relative(gradients[k], p.grad.numpy())) > 1e-3}
    assert set(gradients) == {k for k, _ in module.named_parameters()}
    assert not wrong, wrong
    step = cnnc.driver.compile_training(net, optimizer=cnnc.sgd(lr=0.0).graph_part())
    step.run({"image": x, "labels": labels, "learning_rate": np.zeros((), np.float32)})
    for name, value in module.state_dict().items():
        if "running" in name:
            np.testing.assert_allclose(step.values[name], value.numpy(), rtol=2e-5, atol=1e-6, err_msg=name)
