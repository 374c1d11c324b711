"""Long sums are no further off than sums of parts of some 256 products; `exactness.py` has PyTorch's errors beside ours."""

from __future__ import annotations

import math

import pytest

from tests.peers.exactness import ROUNDED, Layer, convolution, layers, linear, measured, sums

SAMPLE = [
    *convolution(1024, 40, 1, 5),  # flat, and weight gradients of few pixels
    *convolution(520, 24, 3, 7),  # rows joined, channels left over
    *convolution(96, 24, 5, 20, 2),  # copied rows
    *convolution(256, 40, 1, 15, 2, 2),  # strided
    *convolution(3, 20, 11, 40, 2),  # plain input
    *convolution(160, 160, 7, 9, 1, 1, 16),  # groups that are parts of blocks
    *convolution(24, 24, 5, 40, 4, 1, 24)[:2],
    *linear(4096, 24, 1),
    *linear(2048, 40, 20),
    *linear(24, 24, 2000),
    *sums((4, 20, 40, 40)),
]


def bound(products: int) -> float:
    """The root mean square error of sums of parts of 256 products, with a margin: each addition rounds the sum so far by about
    0.4 of `ROUNDED`.
    """
    return 0.6 * ROUNDED * math.sqrt(1 + min(products, 256) / 2 + products / 512)


@pytest.mark.parametrize("layer", SAMPLE, ids=lambda layer: layer.name)
def test_sums_are_of_parts(layer: Layer) -> None:
    assert measured(layer, beside=False).ours[1] <= bound(layer.products)


def test_the_bound_tells_one_long_sum_from_parts() -> None:
    assert bound(4096) < 0.43 * ROUNDED * math.sqrt(4096 / 2) / 2


def test_every_layer_of_the_command_has_a_name_of_its_own() -> None:
    names = [layer.name for layer in layers()]
    assert len(names) == len(set(names))
