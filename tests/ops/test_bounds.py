"""Which outputs are probabilities, in the graph as written and after all passes."""

from __future__ import annotations

import numpy as np
import pytest

import cnnc
from cnnc import driver
from cnnc.backends.cpu.pipeline import layouts
from cnnc.ir import expression as ex
from cnnc.ops.bounds import are_probabilities, of_expression

PROBABILITIES = [
    "return x -> conv(5, 8) -> softmax -> flatten",
    "return x -> flatten -> linear(4) -> sigmoid",
    "return x -> flatten -> linear(1) -> sigmoid",
    "return x -> conv(5, 3) -> softmax -> global_avgpool -> flatten",
    "return x -> conv(5, 3) -> softmax -> avgpool(6) -> flatten",
    "return x -> conv(5, 3) -> sigmoid -> avgpool(3, padding=1) -> flatten",
    "return x -> conv(5, 3) -> sigmoid -> maxpool(2, padding=1) -> flatten",
    "return x -> conv(5, 8) -> softmax -> mean(axis=[2, 3])",
    "return x -> conv(5, 8) -> softmax -> sum(axis=[2, 3])",
    "return x -> flatten -> linear(4) -> softmax -> dropout -> relu -> abs",
    "a = x -> flatten\n return concat([a -> linear(4) -> softmax, a -> linear(2) -> sigmoid])",
    "a = x -> flatten\n return ((a -> linear(4) -> softmax) + (a -> linear(4) -> softmax)) / 2",
    "a = x -> flatten\n return (a -> linear(4) -> softmax) * (a -> linear(4) -> sigmoid)",
    "a = x -> flatten -> linear(4) -> softmax\n return 1 * a + 0",
    "a = x -> flatten -> linear(4) -> sigmoid\n return 1 - a",
    "a = x -> flatten -> linear(4)\n return (a + 3 -> relu6) / 6",
    "a = x -> flatten -> linear(4) -> tanh\n return (a + 1) / 2",
    "a = x -> flatten -> linear(4)\n return ((a -> erf) + 1) / 2",
    "return x -> flatten -> linear(4) -> hardsigmoid",
    "return x -> flatten -> linear(4) -> clamp(0, 1)",
    "a = x -> flatten -> linear(4) -> softmax\n return (a + a + a) / 3",
]
OTHERS = [
    "return x -> flatten -> linear(4)",
    "return x -> flatten -> linear(4) -> relu",
    "return x -> flatten -> linear(4) -> relu6",
    "return x -> flatten -> linear(4) -> clamp(min=0)",
    "return x -> flatten -> linear(4) -> hardtanh",
    "return x -> flatten -> linear(4) -> tanh",
    "return x -> flatten -> linear(4) -> softmax -> log",
    "return x -> flatten -> linear(4) -> sigmoid -> batchnorm",
    "return x -> conv(5, 8) -> sigmoid -> flatten -> linear(3)",
    "a = x -> flatten -> linear(4) -> softmax\n return a * 100",
    "a = x -> flatten\n return concat([a -> linear(4) -> softmax, a -> linear(2)])",
    "return x -> conv(5, 3) -> sigmoid -> sum(axis=[2, 3])",
]


@pytest.mark.parametrize(
    ("body", "expected"), [*((b, True) for b in PROBABILITIES), *((b, False) for b in OTHERS)], ids=str
)
def test_probabilities_are_told_from_logits(body: str, expected: bool) -> None:
    net = cnnc.parse(f"model m() {{ input x: f32[N, 3, 8, 8]\n {body} }}")
    for graph in (net.graph, driver.optimize(net.graph, layouts(8))[0]):
        assert are_probabilities(graph, graph.outputs[0][1]) is expected, str(graph)


def test_a_range_holds_every_value() -> None:
    rng = np.random.default_rng(0)
    texts = [
        "a0 * a1", "a0 - a1 * a0", "a0 / (3 + abs(a1))", "where(a0 > a1, a0, a1)", "where(a0 < 0, 0, where(a0 > 6, 6, a0))",
        "max(a0, min(a1, 0.5)) + tanh(a0)", "exp(a0) * sigmoid(a1)", "sqrt(abs(a0)) - log(abs(a1))", "a0 * a0 - (a1 > 0)",
        "expm1(a0) * -a1", "a0 / a1", "erf(a0) + log1p(abs(a1))", "floor(a0) * sign(a1)", "normal_cdf(a0) - normal_pdf(a1)",
        "pow(abs(a0), a1)", "softplus(a0) + (a0 >= a1) - (a0 == a1)", "where(a0, a1, 2)", "where(2 * a0 > a1, 2 * a0, a1 * a1)",
    ]  # fmt: skip
    for text in texts:
        e = ex.parse(text)
        for _ in range(20):
            ends = np.sort(rng.integers(-3, 4, (2, 2)).astype(float), axis=1)
            given = {f"a{i}": (float(low), float(high)) for i, (low, high) in enumerate(ends)}
            points = {name: rng.uniform(low, high, 200) for name, (low, high) in given.items()}
            low, high = of_expression(e, given)
            y = np.asarray(ex.evaluate(e, points))
            y = y[np.isfinite(y)]
            assert ((y >= low - 1e-12) & (y <= high + 1e-12)).all(), (text, given)
