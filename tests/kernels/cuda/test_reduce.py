"""Folds over axes: sums to the bit on whole numbers, in one part and in several."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cnnc.ir import expression as ex
from cnnc.kernels.cuda.elementwise.map_plan import IDENTITY, Space
from cnnc.kernels.cuda.elementwise.reduce_plan import Reduction, plan_reduce
from cnnc.kernels.cuda.target import LEAST
from tests.kernels.cuda.running import block, blocked_like, integers, run, unblock

FOLDS = {"add": np.add, "max": np.maximum, "min": np.minimum, "mul": np.multiply}


@pytest.mark.parametrize("shape", [(5,), (4, 6), (3, 300), (300, 3), (2, 5, 4, 3)])
def test_plain(shape: tuple[int, ...]) -> None:
    x, space = integers(*shape), Space(shape)
    for count in range(1, len(shape) + 1):
        for axes in itertools.combinations(range(len(shape)), count):
            made = plan_reduce(LEAST, Reduction(space, axes), [space.view(shape)], [IDENTITY])
            assert made.parts == 1
            expected = np.asarray(x.sum(axes), np.float32).reshape(-1)
            assert np.array_equal(run(made.launch, {"a0": x}, {"y0": expected})["y0"], expected), axes


@pytest.mark.parametrize("fold", FOLDS)
def test_folds(fold: str) -> None:
    x = integers(6, 70)
    if fold == "mul":
        x = np.where(x > 0, 2, -1).astype(np.float32)
        x[:, 20:] = 1
    space = Space(x.shape)
    made = plan_reduce(LEAST, Reduction(space, (1,), fold, -0.5), [space.view(x.shape)], [IDENTITY])
    found = run(made.launch, {"a0": x}, {"y0": np.empty(6, np.float32)})["y0"]
    assert np.array_equal(found, -0.5 * FOLDS[fold].reduce(x, 1))


@pytest.mark.parametrize("shape", [(2, 8, 3, 4), (3, 5, 2, 2), (2, 19, 5), (1, 12, 40, 3)])
@pytest.mark.parametrize("parts", [1, 2])
def test_channels(shape: tuple[int, ...], parts: int) -> None:
    """Two sums for each channel, of blocks and a number for each channel; with those of each image in blocks."""
    x, c = integers(*shape), integers(shape[1])
    space, rest = Space(shape, True), (0, *range(2, len(shape)))
    ones = (1,) * (len(shape) - 2)
    views = [space.view(shape, True), space.view((1, shape[1], *ones))]
    expressions = [ex.parse("a0"), ex.parse("a0 * (a1 + 1)")]
    made = plan_reduce(LEAST, Reduction(space, rest), views, expressions, parts)
    like = np.empty((made.parts, shape[1]), np.float32)
    found = run(made.launch, {"a0": block(x), "a1": c}, {"y0": like, "y1": like})
    assert made.floats == shape[1]
    assert np.array_equal(found["y0"].sum(0), x.sum(rest))
    assert np.array_equal(found["y1"].sum(0), x.sum(rest) * (c + 1))
    made = plan_reduce(LEAST, Reduction(space, rest[1:], scale=2.0, blocked=True), views[:1], expressions[:1])
    y = run(made.launch, {"a0": block(x)}, {"y0": blocked_like((*shape[:2], *ones))})["y0"]
    assert np.array_equal(unblock(y, shape[1]).reshape(shape[:2]), 2 * x.sum(rest[1:]))
    made = plan_reduce(LEAST, Reduction(space, rest[1:]), views[:1], expressions[:1])
    y = run(made.launch, {"a0": block(x)}, {"y0": np.empty(shape[:2], np.float32)})["y0"]
    assert np.array_equal(y, x.sum(rest[1:]))


def test_what_is_not_folded() -> None:
    space = Space((2, 8, 3), True)
    with pytest.raises(ValueError, match="channels in blocks"):
        plan_reduce(LEAST, Reduction(space, (1,)), [space.view((2, 8, 3), True)], [IDENTITY])
    big = Space((2**16, 2**16))
    with pytest.raises(ValueError, match="places of 32 bits"):
        plan_reduce(LEAST, Reduction(big, (0,)), [big.view(big.shape)], [IDENTITY])
