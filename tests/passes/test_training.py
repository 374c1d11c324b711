"""Training graphs: against PyTorch step by step, and the diagnostics of networks that cannot be trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc.backends.reference import BACKEND
from cnnc.diagnostics import CnncError
from cnnc.ir.graph import Graph
from cnnc.ir.interpret import random_values, run
from cnnc.ir.types import TensorType
from cnnc.ir.verify import verify
from cnnc.passes.autodiff import differentiate
from cnnc.passes.losses import attach_loss
from cnnc.passes.optimizer import SGD, Adadelta, Adagrad, Adam, Optimizer, RMSprop
from cnnc.passes.training import training_graph, training_mode
from tests.passes.networks import Net, small


def train(graph: Graph, optimizer: Optimizer, steps: int) -> tuple[list[float], dict[str, Any], dict[str, Any]]:
    """Some steps on one batch: the losses, the values at first and at last."""
    step_graph = training_graph(graph, optimizer=optimizer)
    verify(step_graph)
    inputs, values = random_values(step_graph, 5, 1)
    for node in step_graph.states:
        if node.name.startswith("optimizer."):
            values[node.name] = np.zeros(node.type.concrete(1))
    runner, losses = BACKEND.prepare(step_graph, values), []
    scalars = {n.name for n in step_graph.inputs if n.type.shape == ()}
    for step in range(1, steps + 1):
        assert set(optimizer.scalars(step)) == scalars
        losses.append(float(runner.run({**inputs, **optimizer.scalars(step)})["loss"]))
    return losses, values, runner.values


def torch_network(torch: Any, values: dict[str, Any]) -> Any:
    nn = torch.nn

    class Small(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4, momentum=0.2)
            self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
            self.fc = nn.Linear(36, 3)

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.bn1(self.conv1(x)))
            x = torch.relu(x + self.bn2(self.conv2(x)))
            return self.fc(torch.nn.functional.max_pool2d(x, 2).flatten(1))

    net = Small().double()
    missing = net.load_state_dict(
        {n: torch.from_numpy(np.array(v)) for n, v in values.items() if not n.startswith("optimizer.")}, strict=False
    )
    assert all(m.endswith("num_batches_tracked") for m in missing.missing_keys)
    return net


OPTIMIZERS = [
    (SGD(lr=0.1), "SGD", {"lr": 0.1}),
    (SGD(lr=0.1, momentum=0.9, weight_decay=0.01), "SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    (SGD(lr=0.1, momentum=0.9, nesterov=True), "SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (SGD(lr=0.1, momentum=0.8, dampening=0.3), "SGD", {"lr": 0.1, "momentum": 0.8, "dampening": 0.3}),
    (Adam(lr=0.02), "Adam", {"lr": 0.02}),
    (
        Adam(lr=0.02, beta1=0.8, beta2=0.95, eps=1e-4, weight_decay=0.1),
        "Adam",
        {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.1},
    ),
    (Adam(lr=0.02, weight_decay=0.1, decoupled=True), "AdamW", {"lr": 0.02, "weight_decay": 0.1}),
    (Adadelta(lr=0.5, weight_decay=0.01), "Adadelta", {"lr": 0.5, "weight_decay": 0.01}),
    (RMSprop(lr=0.02, alpha=0.8, weight_decay=0.01), "RMSprop", {"lr": 0.02, "alpha": 0.8, "weight_decay": 0.01}),
    (
        RMSprop(lr=0.02, momentum=0.7, centered=True, eps=1e-3),
        "RMSprop",
        {"lr": 0.02, "momentum": 0.7, "centered": True, "eps": 1e-3},
    ),
    (Adagrad(lr=0.1, lr_decay=0.3, weight_decay=0.01), "Adagrad", {"lr": 0.1, "lr_decay": 0.3, "weight_decay": 0.01}),
]


@pytest.mark.parametrize(
    ("ours", "name", "arguments"), OPTIMIZERS, ids=[f"{n}{i}" for i, (_, n, _) in enumerate(OPTIMIZERS)]
)
def test_steps_are_pytorch_s(ours: Optimizer, name: str, arguments: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    graph = small()
    losses, first, last = train(graph, ours, 4)
    net = torch_network(torch, first)
    optimizer = getattr(torch.optim, name)(net.parameters(), **arguments)
    inputs, _ = random_values(training_graph(graph, optimizer=ours), 5, 1)
    for expected in losses:
        loss = torch.nn.functional.cross_entropy(net(torch.from_numpy(inputs["x"])), torch.from_numpy(inputs["labels"]))
        assert loss.item() == pytest.approx(expected, rel=1e-9)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for key, tensor in net.state_dict().items():
        if not key.endswith("num_batches_tracked"):  # running statistics included
            np.testing.assert_allclose(last[key], tensor.numpy(), rtol=1e-8, atol=1e-10, err_msg=key)


def test_frozen_rates_and_undecayed() -> None:
    graph = small()
    options: dict[str, Any] = {
        "frozen": ("conv1.*", "bn1.*"),
        "rates": (("conv2.*", 0.1), ("*.bias", 2.0)),
        "weight_decay": 0.5,
        "decay_vectors": False,
    }
    _, before, after = train(graph, SGD(lr=0.1, **options), 1)
    gradients = training_graph(graph, gradients=True)
    inputs, _ = random_values(gradients, 5, 1)
    found = run(gradients, inputs, before)
    for name, rate, decay in (
        ("conv1.weight", 0, 0),
        ("bn1.weight", 0, 0),
        ("conv2.weight", 0.01, 0.5),
        ("conv2.bias", 0.02, 0),
        ("bn2.weight", 0.1, 0),
        ("fc.weight", 0.1, 0.5),
        ("fc.bias", 0.2, 0),
    ):
        np.testing.assert_allclose(
            after[name], before[name] - rate * (found[f"grad:{name}"] + decay * before[name]), rtol=1e-10, atol=1e-12
        )
    step = training_graph(graph, optimizer=SGD(momentum=0.9, frozen=("conv*", "bn*")))
    assert {n.name for n in step.states if n.name.startswith("optimizer.")} == {
        "optimizer.momentum.fc.weight",
        "optimizer.momentum.fc.bias",
    }
    assert not step.of("conv_weight_gradient")
    assert not step.of("conv_data_gradient")


def test_the_first_layer_needs_no_data_gradient() -> None:
    graph = training_graph(small(), gradients=True)
    assert len(graph.of("conv_weight_gradient")) == 2
    assert len(graph.of("conv_data_gradient")) == 1


def test_inputs_outputs_and_updates() -> None:
    graph = training_graph(small(dropout=True), optimizer=Adam(), gradients=True, wanted=["fc.weight", "conv1.weight"])
    assert [n.name for n in graph.inputs] == ["x", "seed", "labels", "learning_rate", "correction1", "correction2"]
    assert [label for label, _ in graph.outputs] == ["loss", "accuracy", "grad:conv1.weight", "grad:fc.weight"]
    assert [name for name, _ in graph.updates] == [
        "bn1.running_mean",
        "bn1.running_var",
        "bn2.running_mean",
        "bn2.running_var",
        "conv1.weight",
        "optimizer.first_moment.conv1.weight",
        "optimizer.second_moment.conv1.weight",
        "fc.weight",
        "optimizer.first_moment.fc.weight",
        "optimizer.second_moment.fc.weight",
    ]
    plain = training_graph(small())
    assert [n.name for n in plain.inputs] == ["x", "labels"]
    assert not plain.of("constant")


def test_dropouts_draw_their_own_noise() -> None:
    b = Net("g")
    x = b.image(200)
    y = b.add("add", [b.add("dropout", [x], {}, "d1"), b.add("dropout", [x], {}, "d2")], {}, "y")
    graph = training_mode(b.finish([("y", y)]))
    assert [n.attributes.get("salt", 0) for n in graph.of("dropout")] == [0, 1]
    inputs, values = random_values(graph, 3)
    found = run(graph, inputs, values, keep=["d1", "d2"]).kept
    assert not np.array_equal(found["d1"] == 0, found["d2"] == 0)


def test_a_batch_norm_used_twice_updates_twice() -> None:
    b = Net("g")
    x = b.image(3, 4, 4)
    y = b.norm(x, "bn")
    z = b.add(
        "batchnorm",
        [b.add("mul", [y, y], {}), *(f"bn.{n}" for n in ("weight", "bias", "running_mean", "running_var"))],
        {},
        "again",
    )
    graph = training_mode(b.finish([("z", z)]))
    verify(graph)
    inputs, values = random_values(graph, 2)
    found = run(graph, inputs, values, keep=["bn.mean", "again.mean"])
    expected = 0.9 * (0.9 * values["bn.running_mean"] + 0.1 * found.kept["bn.mean"]) + 0.1 * found.kept["again.mean"]
    np.testing.assert_allclose(found.updates["bn.running_mean"], expected)


def test_one_value_a_channel_in_training() -> None:
    b = Net("g")
    graph = training_graph(b.finish([("y", b.norm(b.image(3), "bn"))]))
    inputs, values = random_values(graph, 1)
    found = run(graph, inputs, values)
    np.testing.assert_allclose(found.updates["bn.running_var"], 0.9 * values["bn.running_var"])
    assert np.isfinite(found["loss"])


def test_a_parameter_that_the_loss_does_not_reach() -> None:
    b = Net("g")
    y = b.linear(b.image(4), 3, "fc")
    b.vector("unused", 5)
    graph = training_graph(b.finish([("y", y)]), optimizer=SGD(), gradients=True)
    inputs, values = random_values(graph, 2)
    found = run(graph, inputs, values)
    assert found["grad:unused"].tolist() == [0] * 5
    np.testing.assert_array_equal(found.updates["unused"], values["unused"])


def test_gradients_have_names_of_their_own() -> None:
    b = Net("g")
    b.input("grad.x", TensorType("f32", ("N", 3)))
    x = b.image(4)
    logits = b.add("add", [b.linear(x, 3, "fc"), "grad.x"], {}, "grad.fc")
    graph = training_graph(b.finish([("y", logits)]), gradients=True)
    verify(graph)
    assert len({r for n in graph.nodes for r in n.results}) == sum(len(n.results) for n in graph.nodes)


# ------------------------------------------------------------------------------------------------ diagnostics


def failure(call: Any) -> tuple[str, str]:
    with pytest.raises(CnncError) as e:
        call()
    return e.value.diagnostics[0].code, str(e.value)


def test_a_softmax_at_the_end() -> None:
    b = Net("g")
    graph = b.finish([("y", b.add("softmax", [b.linear(b.image(4), 3, "fc")], {}, "p"))])
    code, text = failure(lambda: training_graph(graph))
    assert code == "E0806"
    assert "remove the softmax" in text


@pytest.mark.parametrize(
    "end", ["softmax", "sigmoid", "softmax -> flatten", "sigmoid -> relu", "softmax -> dropout", "linear(3) -> sigmoid"]
)
def test_probabilities_at_the_end(end: str) -> None:
    net = cnnc.parse(f"model m() {{ input x: f32[N, 4]  return x -> linear(3) -> {end} }}")
    code, text = failure(lambda: training_graph(net.graph))
    assert code == "E0806"
    assert f"remove the {end.removeprefix('linear(3) -> ').split()[0]}" in text


def test_an_output_that_nothing_would_train() -> None:
    head = "model m() { input x: f32[N, 4]  h = x -> linear(5) as one -> relu  "
    for body in (
        "return h -> linear(3), x -> linear(2)",
        "return h -> linear(3), h -> linear(2)",
        "y = h -> linear(3)  return y, y -> linear(2)",
        "y = h -> linear(3)  return y, h, h -> batchnorm",
        "same = linear(5)  return h -> same, x -> linear(5) -> relu -> same",
    ):
        code, text = failure(lambda body=body: training_graph(cnnc.parse(f"{head}{body} }}").graph))
        assert code == "E0820"
        assert "first output" in text
    for body in (
        "return h -> linear(3), h",
        "y = h -> linear(3)  return {logits: y, probabilities: y -> softmax, features: h -> relu, given: x}",
    ):
        assert training_graph(cnnc.parse(f"{head}{body} }}").graph, gradients=True).outputs[0][0] == "loss"


def test_outputs_that_are_no_logits() -> None:
    b = Net("g")
    code, text = failure(lambda: attach_loss(b.finish([("y", b.add("global_avgpool", [b.image(3, 4, 4)]))])))
    assert code == "E0806"
    assert "flatten" in text


def test_names_that_training_needs() -> None:
    b = Net("g")
    code, text = failure(lambda: attach_loss(b.finish([("y", b.linear(b.image(4, name="labels"), 3, "fc"))])))
    assert code == "E0806"
    assert "labels" in text
    for name in ("seed", "labels", "learning_rate", "optimizer.momentum.fc.weight"):
        b = Net("g")
        graph = b.finish([("y", b.linear(b.add("relu", [b.image(4)], {}, name), 3, "fc"))])
        code, text = failure(lambda graph=graph: training_graph(graph, optimizer=SGD(momentum=0.9)))
        assert code == "E0806"
        assert f"'{name}'" in text


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: training_graph(small(), loss="cross_entrpy"), "did you mean 'cross_entropy'"),
        (lambda: training_graph(small(), optimizer=SGD(frozen=("conv3.*",))), "no parameter matches 'conv3.*'"),
        (lambda: training_graph(small(), gradients=True, wanted=["fc.wait"]), "did you mean 'fc.weight'"),
        (lambda: SGD(nesterov=True), "nesterov needs a momentum"),
    ],
)
def test_options_that_do_not_fit(call: Any, words: str) -> None:
    code, text = failure(call)
    assert code == ("E0830" if "fc.weight" in words else "E0808")
    assert words in text


def test_an_op_without_a_gradient() -> None:
    b = Net("g")
    w = b.param("w", TensorType("f32", (2, 3)))
    y = b.add("sum", [b.add("softmax_gradient", [w, w], {}, "s")], {"axis": [0, 1]}, "y")
    code, text = failure(lambda: differentiate(b.finish([("y", y)]), y, ["w"]))
    assert code == "E0807"
    assert "softmax_gradient has no gradient" in text


# ------------------------------------------------------------------------------------------------ central differences


def test_gradients_of_a_whole_network() -> None:
    """Every parameter of a network with batch norm in training mode, a residual sum, pooling and dropout."""
    graph = training_graph(small(dropout=True), gradients=True)
    inputs, values = random_values(graph, 3)
    gradients = run(graph, inputs, values)
    rng = np.random.default_rng(0)
    for node in graph.parameters:
        analytic = gradients[f"grad:{node.name}"]
        for i in rng.choice(analytic.size, min(5, analytic.size), replace=False):
            losses = []
            for step in (1e-6, -1e-6):
                moved = values[node.name].copy()
                moved.flat[i] += step
                losses.append(float(run(graph, inputs, {**values, node.name: moved})["loss"]))
            numeric = (losses[0] - losses[1]) / 2e-6
            # a bias before a batch norm has no gradient: there both sides are rounding
            assert abs(numeric - analytic.flat[i]) <= 1e-5 * max(np.abs(analytic).max(), 1e-3), node.name
