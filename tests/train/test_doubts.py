"""Trainings that work and are of little use are warned of, and those without end are ended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnc import driver
from cnnc.data.dataset import Dataset
from cnnc.diagnostics import CnncError
from cnnc.train import Trainer, sgd, train
from cnnc.train.doubts import Watch, doubts

TEXT = """
model tiny(classes = 3) {
    input image: f32[N, 1, 4, 4]
    return image -> conv(2, 3) as conv -> relu -> flatten -> linear(classes) as fc
}
"""
NORMED = TEXT.replace("-> relu", "-> batchnorm as bn -> relu")
RNG = np.random.default_rng(0)


def arrays(labels: Any, scale: float = 1) -> Dataset:
    x = np.random.default_rng(1).random((len(labels), 1, 4, 4), np.float32) * scale
    return Dataset.from_arrays(x, labels, x, labels)


def told(text: str, data: Dataset, batch: int = 8, optimizer: Any = None, **parameters: Any) -> dict[str, str]:
    net = driver.parse(text, **parameters)
    classes = int(net.graph.type(net.graph.outputs[0][1]).shape[1])
    return {d.code: str(d) for d in doubts(net, data, batch, optimizer or sgd(), classes)}


def test_classes() -> None:
    assert told(TEXT, arrays(np.arange(30) % 3)) == {}
    few = told(TEXT, arrays(np.arange(30) % 3), classes=1000)
    assert set(few) == {"W0641"}
    assert "1000 classes apart, the data has 3" in few["W0641"]
    assert "no image is of 3 to 999" in few["W0641"]
    assert "-p classes=3" in few["W0641"]
    assert "linear(2)" in told(TEXT.replace("linear(classes)", "linear(5)"), arrays(np.arange(30) % 2))["W0641"]
    assert "count from 1" in told(TEXT, arrays(1 + np.arange(30) % 2))["W0641"]
    assert "leave the classes out" in told(TEXT, arrays(2 * (np.arange(30) % 2)))["W0641"]
    assert set(told(TEXT, arrays(np.full(30, 2)))) == {"W0642"}
    with pytest.raises(CnncError, match="labels - 1"):
        Trainer(driver.parse(TEXT), target="reference").dataset(arrays(1 + np.arange(30) % 3))
    with pytest.raises(CnncError, match="number the classes from 0"):
        Trainer(driver.parse(TEXT), target="reference").dataset(arrays(np.arange(30) % 3 - 1))
    with pytest.raises(CnncError, match="always 0") as e:
        Trainer(driver.parse(TEXT, classes=1), target="reference")
    assert e.value.diagnostics[0].code == "E0641"


def test_values() -> None:
    labels = np.arange(30) % 3
    assert "taken as they are" in told(TEXT, arrays(labels, scale=255))["W0643"]
    assert told(TEXT, arrays(labels, scale=4)) == {}
    bits = np.random.default_rng(1).integers(0, 2, (30, 1, 4, 4), dtype=np.uint8)
    assert "all but black" in told(TEXT, Dataset.from_arrays(bits, labels, bits, labels))["W0643"]
    assert told(TEXT, Dataset.from_arrays(bits * 255, labels, bits, labels)) == {}
    assert "every value" in told(TEXT, Dataset.from_arrays(bits * 0, labels, bits, labels))["W0643"]


@pytest.mark.parametrize(
    ("images", "batch", "codes"),
    [
        (30, 8, set()),
        (33, 8, {"W0644"}),
        (30, 1, {"W0644"}),
        (30, 30, {"W0645"}),
        (30, 64, {"W0645"}),
        (1, 8, {"W0642", "W0644"}),
    ],
)
def test_batches(images: int, batch: int, codes: set[str]) -> None:
    found = told(NORMED, arrays(np.arange(images) % 3), batch)
    assert set(found) == codes
    if images == 33:
        assert "--set batch=9" in found["W0644"]
    assert "W0644" not in told(TEXT, arrays(np.arange(images) % 3), batch)


def test_a_batch_norm_that_sees_one_value() -> None:
    text = NORMED.replace("4, 4]", "3, 3]")
    x = np.random.default_rng(0).random((33, 1, 3, 3), np.float32)
    data = Dataset.from_arrays(x, np.arange(33) % 3, x, np.arange(33) % 3)
    with pytest.raises(CnncError, match="one value a channel") as e:
        told(text, data, 8)
    assert e.value.diagnostics[0].code == "E0641"
    assert e.value.exit_code == 3
    assert "batch=9" in str(e.value)
    assert told(text, data, 9) == {}
    trainer = Trainer(driver.parse(text), target="reference")
    with pytest.raises(CnncError, match="'bn' sees one value"):
        trainer.step(x[:1], [0])
    assert np.isfinite(trainer.step(x[:2], [0, 1]))


def test_a_growing_loss_ends_or_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = arrays(RNG.integers(0, 3, 64), scale=3)
    with pytest.raises(CnncError, match="the learning rate is 1000") as e:
        Trainer(driver.parse(TEXT), sgd(lr=1000), target="reference").fit(data, epochs=20, batch=8, quiet=True)
    assert e.value.diagnostics[0].code == "E0642"
    assert e.value.exit_code == 4
    with pytest.raises(CnncError, match="lr=100"):
        train(driver.parse(TEXT), data, tmp_path / "a", overrides=["optimizer.lr=1000"], target="reference", quiet=True)
    capsys.readouterr()
    Trainer(driver.parse(TEXT), sgd(lr=12), target="reference").fit(data, epochs=3, batch=8)
    assert capsys.readouterr().err.count("W0646") == 1
    Trainer(driver.parse(TEXT), sgd(lr=0.01), target="reference").fit(data, epochs=3, batch=8)
    assert "W0646" not in capsys.readouterr().err


def test_watching() -> None:
    watch = Watch(10)
    assert not any(watch.step(loss) for loss in [400.0, *[2.3] * 30])  # raw pixels at first
    assert not watch.epoch()
    assert watch.growing(0.1) is None
    watch = Watch(10)
    assert not any(watch.step(loss) for loss in [2.3, 9000.0, *[2.3] * 30]), "a single bad step is no end"
    assert not watch.epoch()
    assert not any(watch.step(9000.0) for _ in range(3))
    assert watch.epoch()
    assert any(watch.step(9000.0) for _ in range(20))


def test_guessing_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    data = arrays(np.arange(60) % 3)
    trainer = Trainer(driver.parse(TEXT), sgd(lr=1e-12), target="reference")
    for name in trainer.network.weights:
        trainer.network.weights[name] = np.zeros_like(trainer.network.weights[name])
    trainer.fit(data, epochs=1)
    assert "always answering the most frequent class is right in 33.3%" in capsys.readouterr().err
    trainer.fit(data, epochs=1, quiet=True)
    assert capsys.readouterr().err == ""


def test_frozen() -> None:
    data = arrays(np.arange(30) % 3)
    some, all_of_it = replace(sgd(), frozen=("bn.*",)), replace(sgd(), frozen=("*",))
    assert "'bn'" in told(NORMED, data, 8, some)["W0649"]
    assert told(NORMED, data, 8, replace(some, frozen_statistics=("bn.*",))) == {}
    assert set(told(NORMED, data, 8, all_of_it)) == {"W0648"}
    assert told(NORMED, data, 1, replace(some, frozen_statistics=("*",))) == {}


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_frozen_statistics_stay_and_are_normalized_by(target: str) -> None:
    """As PyTorch's bn.eval(): in training the network is the one that predicts."""
    text = NORMED.replace("-> flatten", "-> batchnorm as other -> flatten")
    x, y = np.random.default_rng(0).normal(size=(8, 1, 4, 4)).astype(np.float32), np.arange(8) % 3
    nets = [driver.parse(text) for _ in range(2)]
    for net in nets:
        for name in ("bn", "other"):
            net.weights[f"{name}.running_mean"] = np.full(2, 0.25, np.float32)
            net.weights[f"{name}.running_var"] = np.full(2, 0.5, np.float32)
    both = replace(sgd(lr=0.1), frozen_statistics=("*",))
    trainer = Trainer(nets[0], both, target=target)
    logits = driver.compile(nets[0], target=target)(x).astype(np.float64)
    expected = float(np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(8), y]))
    assert trainer.step(x, y) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_array_equal(nets[0].weights["bn.running_mean"], np.full(2, 0.25, np.float32))
    assert not np.array_equal(nets[0].weights["bn.weight"], driver.parse(text).weights["bn.weight"])
    assert trainer.step(x[:1], y[:1]) > 0, "one image is as good as many"
    Trainer(nets[1], replace(both, frozen_statistics=("other.*",)), target=target).step(x, y)
    assert not np.array_equal(nets[1].weights["bn.running_mean"], np.full(2, 0.25, np.float32))
    np.testing.assert_array_equal(nets[1].weights["other.running_var"], np.full(2, 0.5, np.float32))
    with pytest.raises(CnncError, match="no running statistics match"):
        Trainer(nets[1], replace(both, frozen_statistics=("c.*",)), target=target)


def test_frozen_statistics_in_a_recipe(tmp_path: Path) -> None:
    net = driver.parse(NORMED + 'train { freeze = ["bn.*"]  freeze_statistics = ["bn.*"]  epochs = 1  batch = 8 }')
    train(net, arrays(np.arange(30) % 3), tmp_path / "a", target="reference", quiet=True)
    np.testing.assert_array_equal(net.weights["bn.running_mean"], np.zeros(2, np.float32))
    train(
        net,
        arrays(np.arange(30) % 3),
        tmp_path / "b",
        target="reference",
        quiet=True,
        overrides=["freeze_statistics=[]"],
    )
    assert net.weights["bn.running_mean"].any()
    with pytest.raises(CnncError, match=r"--set optimizer\.lr"):
        train(net, arrays(np.arange(30) % 3), tmp_path / "c", overrides=["lr=1"])
    assert [w.code for w in driver.parse(TEXT + 'train { freeze_statistics = ["bn.*"] }').warnings] == ["W0104"]
