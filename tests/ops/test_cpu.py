"""The CPU beside the reference: inference and training of a network, at batch 1 and 3."""

from __future__ import annotations

import numpy as np
import pytest

import cnnc

AROUND = [
    "f32[N, 3, 5, 4] return x -> conv(20, 3) -> conv_transpose(24, 2, stride=2) -> relu -> conv(5, 3)",
    "f32[N, 16, 4, 4] return x -> conv_transpose(32, 4, 2, 1, bias=false) -> batchnorm -> relu -> conv_transpose(3, 4, 2, 1) -> tanh",
    "f32[N, 2, 4, 5] return x -> conv_transpose(18, 3, stride=2, padding=1, output_padding=1, dilation=2) -> relu",
    "f32[N, 18, 4, 5] return x -> conv_transpose(18, 3, 2, 1, groups=18, bias=false) -> batchnorm -> relu -> conv(4, 1)",
    "f32[N, 12, 4, 4] return x -> conv(12, 1) -> conv_transpose(24, 3, 2, groups=3, bias=false) -> batchnorm -> conv(4, 1)",
    "f32[N, 16, 6, 6] return x -> conv_transpose(16, 3, padding=[[1, 0], [0, 2]]) -> relu6 -> conv_transpose(20, 3, padding=1)",
    "f32[N, 5, 9] return x -> conv(16, 3) -> conv_transpose(17, 4, 2, 1) -> relu",
    "f32[N, 3, 3, 4, 3] return x -> conv(16, 1) -> conv_transpose(20, 2, stride=2) -> relu -> conv(3, 2)",
    "f32[N, 3, 9, 8] return x -> conv(20, 3) -> adaptive_avgpool([3, 4]) -> conv(5, 1) -> relu -> adaptive_maxpool(2)",
    "f32[N, 3, 9, 8] return x -> conv(17, 3) -> adaptive_maxpool([4, 5]) -> conv(5, 1) -> adaptive_avgpool([3, 2])",
    "f32[N, 18, 11] return x -> conv(18, 3) -> adaptive_maxpool(4) -> adaptive_avgpool(3)",
    "f32[N, 2, 5, 4, 5] return x -> conv(16, 2) -> adaptive_maxpool([3, 2, 3]) -> adaptive_avgpool(2) -> conv(3, 1)",
    "f32[N, 3, 8, 8] return x -> conv(20, 3) -> relu -> lppool(2, 3, stride=2, ceil_mode=true) -> conv(3, 1) -> exp -> lppool(3, 2)",
    "f32[N, 3, 8, 8] return x -> conv(20, 3) -> avgpool(2, padding=1, divisor_override=3) -> conv(3, 1) -> global_maxpool",
    "f32[N, 3, 8, 9] a = x -> conv(20, 3) return a -> maxpool(2) -> conv(20, 1) -> unpool(a, 2) -> conv(4, 3)",
    "f32[N, 3, 8, 9] return x -> maxpool(2, 3, 1) -> exp -> unpool(x, 2, 3, 1)",
    'f32[N, 3, 6, 5] return x -> conv(20, 3) -> upsample(2) -> relu -> conv(3, 3) -> upsample(2, mode="bilinear")',
    'f32[N, 5, 20, 21] return x -> upsample(2, mode="bilinear") -> upsample(size=[9, 70], mode="bicubic", align_corners=true)',
    'f32[N, 3, 5, 6] return x -> conv(18, 1) -> upsample(2, mode="bicubic") -> conv(4, 3) -> upsample([0.5, 1.3])',
    'f32[N, 2, 70] return x -> upsample(5, mode="linear") -> upsample(size=90) -> conv(17, 3) -> upsample(2, mode="linear")',
    'f32[N, 3, 3, 4, 3] return x -> upsample(2, mode="trilinear") -> conv(16, 2) -> upsample([1, 2, 2], mode="trilinear")',
]


@pytest.mark.parametrize("text", AROUND)
def test_layers_among_others(text: str) -> None:
    """Results and gradients of `input x: text` in float32 against those in float64, relative to the largest of each; for
    the gradients a linear layer of three classes stands behind.
    """
    rng = np.random.default_rng(5)
    net = cnnc.parse(f"model m {{ input x: {text} }}")
    trained = cnnc.parse(f"model m {{ input x: {text} -> flatten -> linear(3) }}")
    size = net.graph.inputs[0].type.shape[1:]
    for batch in (1, 3):
        x = rng.standard_normal((batch, *map(int, size))).astype(np.float32)
        expected = cnnc.compile(net, target="reference")(x)
        assert np.abs(cnnc.compile(net)(x) - expected).max() <= 1e-5 * max(1e-3, np.abs(expected).max())
    labels = rng.integers(0, 3, len(x))
    (loss, found), (exact, wanted) = (
        cnnc.value_and_grad(trained, target=target)(x, labels) for target in ("cpu", "reference")
    )
    assert abs(loss - exact) <= 1e-5 * abs(exact)
    for name, gradient in wanted.items():
        assert np.abs(found[name] - gradient).max() <= 1e-4 * max(1e-3, np.abs(gradient).max()), name
