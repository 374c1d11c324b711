"""The Trainer: against PyTorch, repeatable, in step with the network's weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cnnc import driver
from cnnc.diagnostics import CnncError
from cnnc.network import Network
from cnnc.train import Trainer, adam, sgd
from cnnc.train.schedules import Cosine

TEXT = """
model tiny(classes = 3, rate = 0.0) {
    input image: f32[N, 1, 6, 6]
    x = image -> conv(4, 3, padding=1) as conv -> batchnorm as bn -> relu -> maxpool(2)
    return x -> flatten -> dropout(rate) -> linear(classes) as fc
}
"""
RNG = np.random.default_rng(0)
Y = RNG.integers(0, 3, 50)
X = RNG.random((50, 1, 6, 6)).astype(np.float32)
X[np.arange(50), 0, 2 * Y] += 1
TARGETS = ["reference", "cpu"]


def tiny(**parameters: Any) -> Network:
    return driver.parse(TEXT, **parameters)


def weights(network: Network) -> dict[str, np.ndarray[Any, Any]]:
    return {k: np.array(v) for k, v in network.weights.items()}


def equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(np.array_equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", ["sgd", "nesterov", "adam"])
def test_steps_are_pytorchs(target: str, kind: str) -> None:
    torch = pytest.importorskip("torch")
    network = tiny()
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(36, 3),
    )
    names = {
        "conv.weight": "0.weight",
        "conv.bias": "0.bias",
        "bn.weight": "1.weight",
        "bn.bias": "1.bias",
        "bn.running_mean": "1.running_mean",
        "bn.running_var": "1.running_var",
        "fc.weight": "5.weight",
        "fc.bias": "5.bias",
    }
    state = model.state_dict()
    for ours, theirs in names.items():
        network.weights[ours] = state[theirs].numpy()
    if kind == "adam":
        ours, theirs = adam(lr=0.01, weight_decay=0.1), torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.1)
    else:
        options: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": kind == "nesterov"}
        ours, theirs = sgd(**options), torch.optim.SGD(model.parameters(), **options)
    trainer = Trainer(network, ours, target=target)
    for i in range(5):
        x, y = X[i * 9 : i * 9 + 9], Y[i * 9 : i * 9 + 9]
        loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y))
        theirs.zero_grad()
        loss.backward()
        theirs.step()
        assert trainer.step(x, y) == pytest.approx(loss.item(), rel=1e-4)
    for name, value in model.state_dict().items():
        if name in names.values():
            mine = network.weights[next(k for k, v in names.items() if v == name)]
            np.testing.assert_allclose(mine, value.numpy(), rtol=2e-3, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("target", TARGETS)
def test_fit_learns_and_is_repeatable(target: str) -> None:
    found = []
    for threads in (1, 2):
        network = tiny(rate=0.2)
        trainer = Trainer(network, sgd(lr=0.1, momentum=0.9), seed=3, threads=threads, target=target)
        records = trainer.fit(
            (X[:40], Y[:40], X[40:], Y[40:]), epochs=4, batch=8, schedule=Cosine(warmup=1), quiet=True
        )
        assert [r["epoch"] for r in records] == [1, 2, 3, 4]
        assert set(records[0]) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"}
        assert records[-1]["val_accuracy"] >= 0.9
        assert trainer.evaluate((X[40:], Y[40:])) == pytest.approx(
            (records[-1]["val_loss"], records[-1]["val_accuracy"])
        )
        found.append(weights(network))
    assert equal(*found)
    other = tiny(rate=0.2)
    Trainer(other, sgd(lr=0.1, momentum=0.9), seed=4, target=target).fit(
        (X[:40], Y[:40]), epochs=4, batch=8, quiet=True
    )
    assert not equal(found[0], weights(other))


def test_evaluation_is_the_reference_of_the_inference_graph() -> None:
    network = tiny(rate=0.5)
    trainer = Trainer(network, sgd(lr=0.05), target="reference")
    trainer.fit((X, Y), epochs=1, quiet=True)
    logits = driver.compile(network, target="reference")(X)
    assert isinstance(logits, np.ndarray)
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(50), Y]
    loss, accuracy = trainer.evaluate((X, Y))
    assert loss == pytest.approx(losses.mean())
    assert accuracy == np.mean(logits.argmax(1) == Y)


@pytest.mark.parametrize("target", TARGETS)
def test_weights_show_the_training_and_may_be_assigned(target: str) -> None:
    network = tiny()
    before = weights(network)
    trainer = Trainer(network, sgd(lr=0.1, momentum=0.9), target=target)
    trainer.step(X, Y)
    first = network.weights["fc.weight"]
    assert not np.array_equal(first, before["fc.weight"])
    kept = first.copy()
    trainer.step(X, Y)
    np.testing.assert_array_equal(first, kept)
    assert not np.array_equal(network.weights["fc.weight"], kept)
    network.weights["fc.weight"] = np.zeros((3, 36))
    network.weights["fc.bias"] = np.zeros(3)
    assert trainer.step(X, Y) == pytest.approx(np.log(3), rel=1e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_frozen_weights_may_be_assigned(target: str) -> None:
    network, other = tiny(), tiny()
    trainer = Trainer(network, replace(sgd(lr=0.1, momentum=0.9), frozen=("conv.*",)), target=target)
    trainer.step(X, Y)
    values = {k: np.array(v) for k, v in trainer.values.items()}
    network.weights["conv.weight"] = np.full((4, 1, 3, 3), 0.5)
    found = trainer.step(X, Y)
    for name in other.weights:
        other.weights[name] = values[name]
    other.weights["conv.weight"] = np.full((4, 1, 3, 3), 0.5)
    assert Trainer(other, target=target).step(X, Y) == pytest.approx(found, rel=1e-12 if target == "cpu" else 1e-6)
    assert np.all(network.weights["conv.weight"] == 0.5)


def test_rate_may_be_changed_between_steps() -> None:
    network = tiny()
    trainer = Trainer(network, sgd(lr=0.1), target="reference")
    trainer.learning_rate = 0.0
    before = weights(network)
    trainer.step(X, Y)
    assert equal({k: v for k, v in before.items() if "running" not in k}, weights(network))
    trainer.learning_rate = 0.1
    trainer.step(X, Y)
    assert not np.array_equal(network.weights["fc.weight"], before["fc.weight"])


def test_last_batch_may_be_smaller() -> None:
    network = tiny()
    trainer = Trainer(network, sgd(lr=0.1), target="reference")
    trainer.fit((X, Y), epochs=2, batch=32, quiet=True)
    assert trainer.steps == 4


@pytest.mark.parametrize(
    ("x", "labels", "code"),
    [
        (X, Y + 1, "E0629"),
        (X, Y - 1, "E0629"),
        (X, Y.astype(float), "E0629"),
        (X[:0], Y[:0], "E0630"),
        (X, Y[:3], "E0702"),
        (X, Y[:, None], "E0702"),
        (X[:, 0], Y, "E0702"),
        (X[:, :, :5], Y, "E0702"),
        ("text", Y, "E0701"),
        (X.astype(np.complex64), Y, "E0701"),
        ({"x": X}, Y, "E0703"),
    ],
)
def test_what_a_step_refuses(x: Any, labels: Any, code: str) -> None:
    network = tiny()
    before = weights(network)
    trainer = Trainer(network, target="reference")
    with pytest.raises(CnncError) as e:
        trainer.step(x, labels)
    assert e.value.diagnostics[0].code == code
    assert trainer.steps == 0
    assert equal(before, weights(network))


def test_what_cannot_be_trained() -> None:
    two = driver.parse("model m() { input a: f32[N, 3]  input b: f32[N, 3]  return (a + b) -> linear(2) as fc }")
    trainer = Trainer(two, sgd(lr=0.1), target="reference")
    a = RNG.random((4, 3)).astype(np.float32)
    assert trainer.step({"a": a, "b": a}, np.zeros(4, int)) > trainer.step({"a": a, "b": a}, np.zeros(4, int))
    softmax = driver.parse("model m() { input a: f32[N, 3]  return a -> linear(2) -> softmax }")
    for make, code in (
        (lambda: trainer.fit((a, np.zeros(4, int))), "E0641"),
        (lambda: Trainer(tiny(), loss="l2"), "E0808"),
        (lambda: Trainer(tiny(), seed=-1), "E0706"),
        (lambda: Trainer(softmax), "E0806"),
        (lambda: Trainer(tiny(), target="reference").fit((X, Y + 1)), "E0629"),
        (lambda: Trainer(tiny(), target="reference").fit((X, Y), batch=0), "E0704"),
        (lambda: Trainer(tiny(), target="reference").fit((X, Y), epochs=1.5), "E0704"),
        (lambda: Trainer(tiny(), threads=0), "E0704"),
        (lambda: Trainer(tiny(), optimizer="sgd"), "E0640"),
    ):
        with pytest.raises(CnncError) as e:
            make()
        assert e.value.diagnostics[0].code == code


def test_divergence_is_told() -> None:
    trainer = Trainer(tiny(), sgd(lr=1e38), target="cpu")
    with pytest.raises(CnncError) as e:
        trainer.fit((X, Y), epochs=5, quiet=True)
    assert e.value.diagnostics[0].code == "E0642"
    assert e.value.exit_code == 4


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        ("E0706", {"schedule": "cosine"}),
        ("E0706", {"augment": "random_flip"}),
        ("E0706", {"augment": ["random_flip"]}),
        ("E0704", {"epochs": 0}),
        ("E0704", {"batch": 2.5}),
        ("E0706", {"dataset": (np.zeros((4, 1, 6, 6)),)}),
        ("E0706", {"dataset": None}),
        ("E0629", {"dataset": (np.zeros((4, 1, 6, 6)), ["a", "b", "a", "b"])}),
        ("E0701", {"dataset": ([[1], [1, 2]], [0, 1])}),
    ],
)
def test_what_fit_refuses(code: str, arguments: dict[str, Any]) -> None:
    net = driver.parse("model m { input x: f32[N, 1, 6, 6] return x -> flatten -> linear(3) as fc }")
    data = (np.zeros((4, 1, 6, 6), np.float32), np.array([0, 1, 2, 0]))
    with pytest.raises(CnncError) as e:
        Trainer(net, target="reference").fit(**{"dataset": data, "quiet": True, **arguments})
    assert e.value.diagnostics[0].code == code
