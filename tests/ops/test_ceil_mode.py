"""Pooling that rounds up: which windows there are, their values and their gradients, as PyTorch has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc import driver
from cnnc.diagnostics import CnncError
from cnnc.ir.builder import Builder
from cnnc.ir.op import InferenceError
from cnnc.ir.types import activation

torch = pytest.importorskip("torch")
F = torch.nn.functional


def theirs(op: str, rank: int, x: Any, given: dict[str, Any]) -> Any:
    """PyTorch's result; None where it refuses."""
    positional = [given["kernel"], given["stride"], given["padding"]]
    try:
        if op == "maxpool":
            return getattr(F, f"max_pool{rank}d")(x, *positional, given["dilation"], given["ceil_mode"])
        return getattr(F, f"avg_pool{rank}d")(x, *positional, given["ceil_mode"], given["count_include_pad"])
    except RuntimeError:
        return None


def cases(rank: int, count: int, rng: np.random.Generator) -> Any:
    """(op, size, attributes) with kernels that may be larger than their input."""
    for _ in range(count):
        op = str(rng.choice(["maxpool", "avgpool"]))
        kernel = rng.integers(1, 6, rank).tolist()
        given: dict[str, Any] = {"kernel": kernel, "stride": rng.integers(1, 5, rank).tolist()}
        given["padding"] = [int(rng.integers(0, k // 2 + 1)) for k in kernel]
        given["ceil_mode"] = bool(rng.random() < 0.8)
        if op == "maxpool":
            given["dilation"] = rng.integers(1, 3, rank).tolist()
        else:
            given["count_include_pad"] = bool(rng.random() < 0.5)
        yield op, rng.integers(1, 7, rank).tolist(), given


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_windows_values_and_gradients_are_pytorch_s(rank: int) -> None:
    rng = np.random.default_rng(rank)
    b, inputs, outputs = Builder("pools"), {}, []
    expected: dict[str, Any] = {}
    for i, (op, size, given) in enumerate(cases(rank, 60 if rank == 3 else 30, rng)):
        x = torch.from_numpy(rng.integers(-50, 50, (2, 3, *size)).astype(np.float64)).requires_grad_()
        y = theirs(op, rank, x, given)
        a = b.input(f"x{i}", activation(("N", 3, *size)))
        inputs[a] = x.detach().numpy().astype(np.float32)
        try:
            value = b.add(op, [a], given, f"y{i}")
        except InferenceError:
            assert y is None, (op, size, given)
            continue
        if y is None:  # PyTorch's average in three dimensions refuses what its others take
            assert (op, rank) == ("avgpool", 3), (size, given)
            continue
        if not torch.isfinite(y).all():  # a dilated window wholly in padding: PyTorch's gradient writes past its memory
            continue
        dy = torch.from_numpy(rng.integers(-9, 9, y.shape).astype(np.float64))
        y.backward(dy)
        d = b.input(f"d{i}", activation(("N", *y.shape[1:])))
        inputs[d] = dy.numpy().astype(np.float32)
        operands = [a, d] if op == "maxpool" else [d]
        gradient = b.add(f"{op}_gradient", operands, {**given, "size": size}, f"g{i}")
        outputs += [(value, value), (gradient, gradient)]
        expected |= {value: y.detach().numpy(), gradient: x.grad.numpy()}
    graph = b.finish(outputs)
    for target in ("reference", "cpu"):
        got = driver.build(graph, {}, target=target)(**inputs)
        assert len(got) > 20
        for name, want in expected.items():
            np.testing.assert_allclose(got[name], want, rtol=1e-6, atol=1e-6, err_msg=f"{target} {name}")


@pytest.mark.parametrize("layer", ["maxpool", "avgpool"])
def test_one_window_larger_than_the_input(layer: str) -> None:
    net = cnnc.parse(f"model m() {{ input x: f32[N, 1, 2, 2]  return x -> {layer}(3, stride=2, ceil_mode=true) }}")
    y = cnnc.compile(net)(np.array([[[[1, 2], [3, 6]]]], np.float32))
    assert y.shape == (1, 1, 1, 1)
    assert y.item() == (6 if layer == "maxpool" else 3)
    with pytest.raises(CnncError, match="kernel 4 exceeds the padded input 2"):
        cnnc.parse(f"model m() {{ input x: f32[N, 1, 2, 2]  return x -> {layer}(4, stride=2, ceil_mode=true) }}")
