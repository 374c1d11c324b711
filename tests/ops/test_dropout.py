"""Dropout by channel and by row in networks: trained on the CPU as in the reference, whatever the layout; mistakes."""

from __future__ import annotations

import numpy as np
import pytest

import cnnc

NETWORK = """model m {
    input x: f32[N, 3, 6, 5]
    y = x -> conv(20, 3, padding=1) as a -> relu -> dropout(0.4, by="channel")
    z = y + (y -> conv(20, 3, padding=1) as b -> drop_path(0.5))
    return z -> global_avgpool -> flatten -> dropout(0.3, by="row") -> linear(4) as c
}"""


@pytest.mark.parametrize("batch", [1, 5])
def test_the_cpu_is_the_reference(batch: int) -> None:
    net, rng = cnnc.parse(NETWORK), np.random.default_rng(0)
    x, labels = rng.standard_normal((batch, 3, 6, 5)).astype(np.float32), np.arange(batch) % 4
    (loss, found), (exact, expected), (other, _) = (
        cnnc.value_and_grad(net, target=target, threads=threads)(x, labels, seed=seed)
        for target, threads, seed in (("cpu", 2, 3), ("reference", 1, 3), ("cpu", 1, 4))
    )
    assert loss == pytest.approx(exact, rel=1e-5)
    assert other != loss
    for name, gradient in expected.items():
        assert np.abs(found[name] - gradient).max() <= 1e-4 * max(1e-3, np.abs(gradient).max()), name
    assert np.array_equal(cnnc.compile(net)(x), cnnc.compile(cnnc.parse(NETWORK.replace("0.4", "0.0")))(x))
