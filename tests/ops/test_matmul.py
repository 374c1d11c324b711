"""Products of tensors, and linear layers along the last of several axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc.ir.interpret import random_values, run
from tests.ops.agreeing import trained
from tests.ops.checking import check_gradient, reference

RNG = np.random.default_rng(3)
PAIRS: list[Any] = [
    ((3, 4), (4, 2)),
    ((2, 3, 4), (2, 4, 2)),
    ((2, 3, 1, 4), (2, 3, 4, 2)),
    ((2, 1, 3, 4), (1, 3, 4, 2)),
    ((2, 2, 3, 4), (4, 5)),
    ((3, 4), (2, 4, 1)),
    ((2, 3, 4), (3, 2, 4, 2)),
]
TURNS = [(a, b) for a in (False, True) for b in (False, True)]


def operands(pair: Any, turned: tuple[bool, bool]) -> list[Any]:
    return [
        np.swapaxes(RNG.standard_normal(s), -1, -2) if t else RNG.standard_normal(s)
        for s, t in zip(pair, turned, strict=True)
    ]


@pytest.mark.parametrize("turned", TURNS)
@pytest.mark.parametrize("pair", PAIRS)
def test_values_and_gradients(pair: Any, turned: tuple[bool, bool]) -> None:
    a, b = operands(pair, turned)
    given = dict(zip(("transpose_a", "transpose_b"), turned, strict=True))
    right = [np.swapaxes(v, -1, -2) if t else v for v, t in zip((a, b), turned, strict=True)]
    assert np.allclose(reference("matmul", a, b, **given), right[0] @ right[1])
    check_gradient(lambda g, names: g.add("matmul", names, given), {"a": a, "b": b})


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 2, 3, 4), (2, 1, 2, 1, 4)])
def test_linear_along_the_last_axis(shape: Any) -> None:
    x, w, b = RNG.standard_normal(shape), RNG.standard_normal((5, 4)), RNG.standard_normal(5)
    assert np.allclose(reference("linear", x, w, b), x @ w.T + b)
    check_gradient(lambda g, names: g.add("linear", names), {"x": x, "w": w, "b": b})


# sizes, and what is made of x
NETWORKS = [
    ("37, 20", "a = x -> linear(24)  b = x -> linear(24, bias=false)  "
     "y = matmul((matmul(a, b, transpose_b=true) * 0.01) -> softmax(2), x)"),
    ("3, 21, 8", "y = matmul(matmul(x, x -> linear(8), transpose_a=true), x -> relu, transpose_b=true)"),
    ("2, 3, 300", "y = matmul(x, x -> tanh, transpose_b=true) * 0.1 -> linear(5) -> relu"),
    ("1, 5, 7", "a = x -> conv(17, 1)  y = matmul(a, x -> conv(1, 1), transpose_a=true) -> linear(7) -> batchnorm"),
    ("4, 6", "y = (x -> linear(8) -> layernorm(axes=2) -> relu -> linear(6, bias=false)) + x"),
    ("7", "y = matmul(x -> linear(20), x -> linear(20), transpose_a=true) -> sum(0)  y = (x -> linear(20)) + y * 0.1"),
]  # fmt: skip


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("sizes", "text"), NETWORKS)
def test_the_cpu_is_the_reference(sizes: str, text: str, batch: int) -> None:
    trained(f"model m {{ input x: f32[N, {sizes}] {text} return y -> flatten -> linear(5) }}", batch)


@pytest.mark.parametrize(("sizes", "text"), NETWORKS[:5])
def test_other_programs(sizes: str, text: str) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from cnnc.bench import torch_network
    from tests.interop.test_onnx import agree

    net = cnnc.parse(f"model m {{ input x: f32[N, {sizes}] {text} return y }}")
    agree(net.graph)
    inputs, values = random_values(net.graph, 2)
    module = torch_network.module(net.graph, values).eval()
    (expected,) = run(net.graph, inputs, values).values()
    found = module(torch.from_numpy(inputs["x"].astype(np.float32))).detach().numpy()
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["avx512", "avx2", "sse2"])
@pytest.mark.parametrize("turned", TURNS)
def test_sizes_that_leave_something_over(name: str, turned: tuple[bool, bool]) -> None:
    """On whole numbers results are equal to the bit."""
    from cnnc.kernels.cpu import target as targets
    from cnnc.kernels.cpu.linear.plan import Matmul, plan_matmul
    from tests.kernels.launching import TARGETS, check_guards, guarded, launch, place

    if name not in TARGETS:
        pytest.skip("the machine has no such registers")
    for rows, depth, columns in ((1, 1, 1), (29, 33, 97), (14, 520, 530), (3, 17, 16)):
        a, b = RNG.integers(-3, 4, (2, 1, rows, depth)), RNG.integers(-3, 4, (1, 3, depth, columns))
        problem = Matmul((2, 3), (2, 1), (1, 3), rows, depth, columns, *turned)
        c = guarded((2, 3, rows, columns))
        laid = [np.ascontiguousarray(np.swapaxes(v, -1, -2)) if t else v for v, t in zip((a, b), turned, strict=True)]
        launch(plan_matmul(targets.named(name), problem), name, {"a": place(laid[0]), "b": place(laid[1]), "c": c})
        check_guards(c)
        assert np.array_equal(c, a @ b)


def test_a_transpose_in_front_is_no_step() -> None:
    net = cnnc.parse("model m { input x: f32[N, 5, 7] return matmul(x -> transpose([0, 2, 1]), x) }")
    assert [s.partition(" ")[0] for s in cnnc.compile(net).ir().split(" = ")[1:]] == ["matmul(%x,"]
    x = RNG.integers(-3, 4, (2, 5, 7)).astype(np.float32)
    assert np.array_equal(cnnc.compile(net)(x), np.swapaxes(x, 1, 2) @ x)
