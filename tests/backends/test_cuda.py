"""GPUs as a target, over a driver whose GPU is the interpreter of PTX: every step of a Plan runs as it was compiled."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import cnnc
from cnnc import driver
from cnnc.backends.cuda.backend import CudaBackend
from cnnc.backends.cuda.device import CudaBlock, CudaDevice, CudaRunner
from cnnc.backends.cuda.driver import Driver
from cnnc.kernels.cuda.target import named
from cnnc.lowering.plan import parse_plan
from cnnc.lowering.target import Backend, Block, Device, Runner, Target
from tests.backends.test_byte_target import public
from tests.networks import EXAMPLES
from tests.ptx.driver import EmulatedDriver

RNG = np.random.default_rng(11)
SHAPES = """
model shapes() {
  input x: f32[N, 3, 9, 8]
  a = x -> conv(12, 3, padding=1) -> relu -> maxpool(3, stride=2, padding=1)
  b = a -> conv(12, 3, padding=1, bias=false) -> batchnorm
  c = (a + b) -> relu -> conv(16, 1) -> conv(32, 3, padding=1, groups=2, stride=2) -> tanh
  return c -> conv_transpose(5, 2, stride=2) -> avgpool(2) -> flatten -> linear(6)
}
"""
MOVES = """
model moves() {
  input x: f32[N, 3, 5, 4]
  a = x -> conv(16, 1)
  b = x -> conv(12, 3, padding=1) -> relu
  c = [a, b, a] -> concat(axis=1) -> conv(6, 1)
  d = [[a, b] -> concat(axis=1) -> conv(6, 1), c] -> concat(axis=2) -> global_avgpool -> flatten
  e = [x, x] -> concat(axis=3)
  return [d, e -> max(axis=(2, 3)), e -> min(axis=(2, 3)), e -> sum(axis=2) -> prod(axis=2)] -> concat(axis=1)
}
"""
NETWORKS = {
    "lenet5": lambda: cnnc.load(EXAMPLES / "lenet5.cnn"),
    "shapes": lambda: cnnc.parse(SHAPES),
    "moves": lambda: cnnc.parse(MOVES),
}

NORMALIZED = """
model normalized() {
  input x: f32[N, 3, 7, 6]
  a = x -> conv(9, 3, padding=1) -> batchnorm -> relu -> maxpool(3, stride=2)
  b = a -> conv(16, 3, stride=2, padding=1, bias=false) -> batchnorm -> sigmoid
  return b + (a -> conv(16, 1, stride=2)) -> global_avgpool -> flatten -> linear(3)
}
"""
TRAINED = {"lenet5": lambda: cnnc.load(EXAMPLES / "lenet5.cnn"), "normalized": lambda: cnnc.parse(NORMALIZED)}


def emulated(limit: int = 1 << 30) -> tuple[CudaBackend, EmulatedDriver]:
    gpu = EmulatedDriver(limit)
    return CudaBackend(named(gpu.chip()), gpu), gpu


def compiled(net: cnnc.Network, backend: CudaBackend, monkeypatch: pytest.MonkeyPatch, batch: int) -> cnnc.Executable:
    with monkeypatch.context() as patch:
        patch.setattr(driver, "backend", lambda *_: backend)
        return cnnc.compile(net, batch=batch)


def images(net: cnnc.Network, n: int) -> np.ndarray:
    return RNG.standard_normal(net.graph.inputs[0].type.concrete(n)).astype(np.float32)


def test_the_page_has_all_that_a_target_needs() -> None:
    assert public(Backend, Target) <= public(CudaBackend) | {"name"}
    assert public(Block) <= public(CudaBlock) | {"address", "nbytes"}
    assert public(Device) <= public(CudaDevice)
    assert public(Runner) == public(CudaRunner)
    assert public(Driver) <= public(EmulatedDriver)


@pytest.mark.parametrize("name", NETWORKS)
def test_inference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = NETWORKS[name]()
    x = images(net, 1)
    expected = cnnc.compile(net, target="reference")(x)
    backend, gpu = emulated()
    exe = compiled(net, backend, monkeypatch, 1)
    plan = exe.runner.plan(1)
    assert parse_plan(exe.plan(1)) == plan
    assert np.abs(exe(x) - expected).max() <= 1e-5 * np.abs(expected).max()
    assert gpu.launches == len(plan.steps) + len(plan.setup)
    if name == "shapes":
        first = exe(x)
        assert exe(2 * x).shape == first.shape
        assert np.array_equal(exe(x), first), "the same bits, call after call"


def test_weights_can_be_replaced_and_memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    net = cnnc.parse("model m { input x: f32[N, 10] return x -> linear(7) -> relu -> linear(3) }")
    backend, gpu = emulated()
    exe = compiled(net, backend, monkeypatch, 2)
    x = images(net, 2)
    net.weights["linear1.weight"] = 2 * net.weights["linear1.weight"]
    exe.runner.refresh(net.weights)
    expected = cnnc.compile(net, target="reference")(x)
    np.testing.assert_allclose(exe(x), expected, rtol=1e-5, atol=1e-6)
    assert gpu.used
    del exe
    gc.collect()
    assert not gpu.used


def test_memory_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    net = cnnc.parse("model m { input x: f32[N, 64] return x -> linear(64) }")
    backend, _ = emulated(limit=20_000)
    with pytest.raises(cnnc.CnncError, match=r"(?s)E0410.*the GPU's memory") as caught:
        compiled(net, backend, monkeypatch, 2)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("name", TRAINED)
def test_training(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights after a step, beside the processor's."""
    found, batch = {}, 1 if name == "lenet5" else 2
    for where in ("cpu", "gpu"):
        net = TRAINED[name]()
        with monkeypatch.context() as patch:
            if where == "gpu":
                made = emulated()[0]
                patch.setattr(driver, "backend", lambda *_, made=made: made)
            trainer = cnnc.Trainer(net, cnnc.sgd(lr=0.1, momentum=0.9), target="cpu")
            rng = np.random.default_rng(4)
            x = rng.standard_normal(net.graph.inputs[0].type.concrete(batch)).astype(np.float32)
            loss = trainer.step(x, np.array([1, 0])[:batch])
            found[where] = loss, {k: np.array(v) for k, v in trainer.values.items()}
    assert abs(found["gpu"][0] - found["cpu"][0]) <= 1e-5 * found["cpu"][0]
    for key, value in found["cpu"][1].items():
        np.testing.assert_allclose(found["gpu"][1][key], value, rtol=1e-4, atol=1e-5, err_msg=key)
