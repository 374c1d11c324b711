"""A target of another kind runs through the whole compiler and runtime: nothing of them is the processor's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cnnc
from cnnc import artifact, driver
from cnnc.backends.cpu import CpuBackend
from cnnc.lowering.target import Backend, Block, Device, Runner, Target
from cnnc.passes.optimizer import SGD
from cnnc.runtime import profile
from cnnc.runtime.compiled import Compiled
from tests.backends.byte_target import ByteBlock, ByteDevice, ByteRunner, ByteTarget
from tests.networks import EXAMPLES

GROUPS = """
model groups() {
  input x: f32[N, 6, 9, 8]
  y = x -> conv(12, 3, groups=3, padding=1) -> batchnorm -> relu -> conv(12, 3, groups=12, stride=2)
  y = [y, y -> conv(12, 1, groups=4)] -> concat(axis=1) -> maxpool(2)
  return y -> global_avgpool -> flatten -> linear(5)
}
"""
NETWORKS = {
    "lenet5": lambda: cnnc.load(EXAMPLES / "lenet5.cnn"),
    "lenet5_relu": lambda: cnnc.load(EXAMPLES / "lenet5_relu.cnn"),
    "groups": lambda: cnnc.parse(GROUPS),
}


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> ByteTarget:
    """The target that everything is compiled for."""
    found = ByteTarget()
    monkeypatch.setattr(driver, "backend", lambda *_: found)
    monkeypatch.setattr(artifact, "native", lambda *_: found)
    return found


def public(*kinds: type) -> set[str]:
    return {name for kind in kinds for name in vars(kind) if not name.startswith("_")}


def test_the_page_has_all_that_a_target_needs() -> None:
    page = public(Backend, Target)
    assert public(ByteTarget) == page
    assert public(Block) <= public(ByteBlock) | {"address", "nbytes"}
    assert public(Device) < public(ByteDevice)
    assert public(Runner) == {"bind"} == public(ByteRunner)
    assert page < public(CpuBackend) | {"exact"}


def images(net: cnnc.Network, n: int, seed: int = 0) -> np.ndarray:
    shape = net.graph.inputs[0].type.concrete(n)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("name", NETWORKS)
def test_inference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = NETWORKS[name]()
    expected = {n: cnnc.compile(net, target="reference")(images(net, n)) for n in (1, 3)}
    with monkeypatch.context() as patch:
        found = ByteTarget()
        patch.setattr(driver, "backend", lambda *_: found)
        exe = cnnc.compile(net, batch=3)
    assert f"plan @{net.graph.name} target=bytes batch=3" in exe.plan(3)
    assert exe.memory(3).total > 0
    for n in (3, 1, 3):
        np.testing.assert_allclose(exe(images(net, n)), expected[n], rtol=1e-4, atol=1e-5)
    assert found.device().launches == 3 * len(exe.runner.plan(3).steps) + len(exe.runner.plan(3).setup)
    assert exe(images(net, 0)).shape == (0, *expected[1].shape[1:])


def test_results_are_memory_of_their_own_and_weights_can_be_replaced(target: ByteTarget) -> None:
    net = NETWORKS["groups"]()
    exe, x = cnnc.compile(net), images(net, 2)
    first = exe(x)
    kept = first.copy()
    exe(images(net, 2, 1))
    np.testing.assert_array_equal(first, kept)
    exe.refresh({name: np.zeros_like(value) for name, value in exe.values.items()})
    assert not exe(x).any()


@pytest.mark.parametrize("name", ["lenet5_relu", "groups"])
def test_training(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of training update values in the device's memory; those that the network is given are taken along."""
    found = {}
    for where in ("reference", "bytes"):
        net = NETWORKS[name]()
        with monkeypatch.context() as patch:
            if where == "bytes":
                made = ByteTarget()
                patch.setattr(driver, "backend", lambda *_, made=made: made)
            trainer = cnnc.Trainer(net, cnnc.sgd(lr=0.1, momentum=0.9), target=where)
            x, labels = images(net, 4), np.array([0, 1, 2, 3])
            losses = [trainer.step(x, labels) for _ in range(2)]
            weight = next(n.name for n in net.graph.parameters if n.name.endswith("weight"))
            net.weights[weight] = net.weights[weight] * np.float32(0.5)
            losses += [trainer.step(x, labels) for _ in range(2)]
            found[where] = losses, {k: np.array(v, np.float32) for k, v in trainer.values.items()}
    np.testing.assert_allclose(found["bytes"][0], found["reference"][0], rtol=1e-4)
    for key, value in found["reference"][1].items():
        np.testing.assert_allclose(found["bytes"][1][key], value, rtol=1e-3, atol=1e-5, err_msg=key)


def test_gradients(target: ByteTarget) -> None:
    net = NETWORKS["groups"]()
    x, labels = images(net, 3), np.array([0, 4, 2])
    loss, gradients = driver.value_and_grad(net)(x, labels=labels)
    assert np.isfinite(loss)
    assert set(gradients) == {n.name for n in net.graph.parameters}
    assert all(np.isfinite(g).all() for g in gradients.values())


def test_steps_are_timed(target: ByteTarget) -> None:
    net = NETWORKS["groups"]()
    exe = driver.compile_training(net, optimizer=SGD())
    assert isinstance(exe.runner, Compiled)
    inputs = {"x": images(net, 2), "labels": np.array([0, 1]), "lr": np.float32(0.1)}
    given = {
        n.name: np.asarray(inputs.get(n.name, 0.1), np.int64 if n.type.dtype == "i64" else np.float32)
        for n in exe.graph.inputs
    }
    timed = profile.steps(exe.runner, given, 1)
    assert [t.step for t in timed] == list(exe.runner.plan(2).steps)


def test_an_artifact(target: ByteTarget, tmp_path: Path) -> None:
    net = NETWORKS["lenet5"]()
    exe, x = cnnc.compile(net), images(net, 2)
    cnnc.save(exe, tmp_path / "m.cnnx", batch=2)
    opened = cnnc.open(tmp_path / "m.cnnx")
    assert opened.plan(2) == exe.plan(2)
    np.testing.assert_array_equal(opened(x), exe(x))
