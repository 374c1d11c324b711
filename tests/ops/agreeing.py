"""The CPU beside the reference: inference and training of a network, at batch 1 and 3."""

from __future__ import annotations

import numpy as np

import cnnc


def agree(text: str, batches: tuple[int, ...] = (1, 3), values: float = 1e-5, gradients: float = 1e-4) -> None:
    """Results and gradients of `input x: text` in float32 against those in float64, relative to the largest of each; for
    the gradients a linear layer of three classes stands behind.
    """
    rng = np.random.default_rng(5)
    net = cnnc.parse(f"model m {{ input x: {text} }}")
    trained = cnnc.parse(f"model m {{ input x: {text} -> flatten -> linear(3) }}")
    size = net.graph.inputs[0].type.shape[1:]
    for batch in batches:
        x = rng.standard_normal((batch, *map(int, size))).astype(np.float32)
        expected = cnnc.compile(net, target="reference")(x)
        assert np.abs(cnnc.compile(net)(x) - expected).max() <= values * max(1e-3, np.abs(expected).max())
    labels = rng.integers(0, 3, batches[-1])
    (loss, found), (exact, wanted) = (
        cnnc.value_and_grad(trained, target=target)(x, labels) for target in ("cpu", "reference")
    )
    assert abs(loss - exact) <= values * abs(exact)
    for name, gradient in wanted.items():
        assert np.abs(found[name] - gradient).max() <= gradients * max(1e-3, np.abs(gradient).max()), name
