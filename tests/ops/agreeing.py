"""The CPU beside the reference: inference and training of a whole network."""

from __future__ import annotations

import numpy as np

import cnnc


def trained(text: str, batch: int) -> None:
    """Inference, loss and gradients of the CPU are those of the reference."""
    net, rng = cnnc.parse(text), np.random.default_rng(7)
    for name in [p.name for p in net.graph.parameters]:
        net.weights[name] = rng.standard_normal(net.weights[name].shape).astype(np.float32)
    x = (2 * rng.standard_normal((batch, *map(int, net.graph.inputs[0].type.shape[1:]))) + 3).astype(np.float32)
    expected = cnnc.compile(net, target="reference")(x)
    assert np.abs(cnnc.compile(net)(x) - expected).max() <= 1e-5 * np.abs(expected).max()
    labels = np.arange(batch) % 5
    (loss, found), (exact, gradients) = (
        cnnc.value_and_grad(net, target=target)(x, labels) for target in ("cpu", "reference")
    )
    assert abs(loss - exact) <= 1e-5 * max(abs(exact), np.abs(expected).max())
    largest = max(np.abs(g).max() for g in gradients.values())
    for name, gradient in gradients.items():
        assert np.abs(found[name] - gradient).max() <= 1e-4 * max(1e-3 * largest, np.abs(gradient).max()), name
