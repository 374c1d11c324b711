"""PyTorch's word: the same weights, by name, give the same outputs, losses, gradients and running statistics."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

import cnnc
from cnnc.passes.optimizer import SGD

torch = pytest.importorskip("torch")
functional = torch.nn.functional
from tests.peers import networks  # noqa: E402

EXAMPLES = Path(__file__).parents[2] / "examples"


def pair(name, tmp_path, **more):
    """A PyTorch module and our network with its weights, carried over in a file."""
    from safetensors.torch import save_file

    module, (_, file, parameters) = networks.build(name), networks.NETWORKS[name]
    net = cnnc.load(EXAMPLES / file, **parameters, **more)
    save_file({k: v.contiguous() for k, v in module.state_dict().items()}, tmp_path / "weights.safetensors")
    net.load_weights(tmp_path / "weights.safetensors")
    return module, net


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lenet", "alexnet", "resnet50", "mobilenetv2"])
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


def pytorch_step(module, x, labels, dtype):
    """Loss and gradients of a training step in an element type; the module keeps its running statistics."""
    module = copy.deepcopy(module).to(dtype).train()
    loss = functional.cross_entropy(module(torch.from_numpy(x).to(dtype)), torch.from_numpy(labels))
    loss.backward()
    return loss.item(), {k: p.grad.numpy() for k, p in module.named_parameters()}, module.state_dict()


def worst(gradients, expected):
    assert set(gradients) == set(expected)
    return max(relative(gradients[k], expected[k]) for k in expected)


@pytest.mark.slow
def test_gradients_of_resnet18(tmp_path):
    """Every parameter's gradient within 1e-3, images of 64 pixels.

    A ReLU whose input is within rounding of 0 may be open in one computation and shut in another: one such flip among
    the activations moves the first layers' gradients by about 2e-3, PyTorch's own float32 against its own float64 too.
    At 64 pixels most batches have none, at 224 most have some: so three batches of five must be within the bound, and
    none beyond what a few flips explain.
    """
    module, net = pair("resnet18", tmp_path, size=64)
    function, errors = cnnc.value_and_grad(net), []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        x, labels = rng.standard_normal((4, 3, 64, 64)).astype(np.float32), rng.integers(0, 1000, 4)
        loss, expected, _ = pytorch_step(module, x, labels, torch.float32)
        got, gradients = function(x, labels)
        assert abs(got - loss) <= 1e-5 * abs(loss)
        errors.append(worst(gradients, expected))
    assert sorted(errors)[2] <= 1e-3, errors
    assert max(errors) <= 5e-2, errors


@pytest.mark.slow
def test_training_step_of_resnet18(tmp_path):
    """At 224 pixels: loss and running statistics are PyTorch's."""
    module, net = pair("resnet18", tmp_path)
    x, labels = batch_of_four()
    loss, _, after = pytorch_step(module, x, labels, torch.float32)
    got, _ = cnnc.value_and_grad(net)(x, labels)
    assert abs(got - loss) <= 1e-5 * abs(loss)
    step = cnnc.driver.compile_training(net, optimizer=SGD())
    step.run({"image": x, "labels": labels, "learning_rate": np.zeros((), np.float32)})
    for name, value in after.items():
        if "running" in name:
            np.testing.assert_allclose(step.values[name], value.numpy(), rtol=2e-5, atol=1e-6, err_msg=name)


def batch_of_four():
    rng = np.random.default_rng(0)
    return rng.standard_normal((4, 3, 224, 224)).astype(np.float32), rng.integers(0, 1000, 4)


@pytest.mark.slow
def test_gradients_of_a_smooth_resnet18(tmp_path, monkeypatch):
    """Every parameter's gradient within 1e-3 at 224 pixels, with SiLU in place of ReLU, which no rounding can flip."""
    text = (EXAMPLES / "resnet.cnn").read_text().replace("-> relu", "-> silu")
    monkeypatch.setattr(networks.functional, "relu", functional.silu)
    module, net = networks.build("resnet18"), cnnc.parse(text)
    for name, value in module.state_dict().items():
        if name in net.weights:
            net.weights[name] = value.numpy()
    x, labels = batch_of_four()
    _, double, _ = pytorch_step(module, x, labels, torch.float64)
    _, gradients = cnnc.value_and_grad(net)(x, labels)
    assert worst(gradients, double) <= 1e-3
