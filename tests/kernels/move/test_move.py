"""Kernels that move values against NumPy's indices, to the bit, on every instruction set of the machine."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import pytest

from cnnc.kernels.cpu import target
from cnnc.kernels.cpu.move.accumulate_plan import Came, plan_accumulate
from cnnc.kernels.cpu.move.lanes_plan import Lanes, plan_lanes
from cnnc.kernels.cpu.move.plan import FILL, Move, Table, joined, plan_move, steps
from tests.kernels.launching import TARGETS, block, check_guards, guarded, launch, place, unblock

RNG = np.random.default_rng(4)


def strides(shape: tuple[int, ...]) -> list[int]:
    return [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]


def selected(shape: tuple[int, ...], indices: dict[int, Any]) -> tuple[Table, ...]:
    """The offsets of each axis, of the places that are selected on some."""
    found = {a: np.asarray(i, np.int64) for a, i in indices.items()}
    axes = [found.get(a, np.arange(n)) for a, n in enumerate(shape)]
    return tuple(np.where(i >= 0, i * s, FILL) for i, s in zip(axes, strides(shape), strict=True))


def turned(shape: tuple[int, ...], order: tuple[int, ...]) -> tuple[Table, ...]:
    return tuple(steps(shape[a], strides(shape)[a]) for a in order)


MOVES: list[tuple[tuple[int, ...], tuple[Table, ...]]] = [
    ((3, 5, 7, 19), selected((3, 5, 7, 19), {2: [-1, -1, *range(7), -1], 3: [-1, *range(19), -1]})),
    ((3, 5, 7, 19), selected((3, 5, 7, 19), {2: [1, *range(7), 5], 3: [2, 1, *range(19), 17]})),
    ((2, 3, 67), selected((2, 3, 67), {2: range(66, -1, -1)})),
    *(((2, 3, 67), selected((2, 3, 67), {2: range(1, 67, step)})) for step in (2, 3, 5)),
    ((2, 3, 67), selected((2, 3, 67), {1: [2, -1, 0], 2: RNG.integers(-1, 67, 40)})),
    ((1, 40_000), selected((1, 40_000), {1: [-1, *range(40_000), -1]})),
    *(((2, c, 7, 11), turned((2, c, 7, 11), (0, 2, 3, 1))) for c in (2, 3, 6, 21)),
    ((2, 7, 11, 3), turned((2, 7, 11, 3), (0, 3, 1, 2))),
    ((2, 3, 2, 2, 5, 13), turned((2, 3, 2, 2, 5, 13), (0, 1, 4, 2, 5, 3))),
]


@pytest.mark.parametrize("name", TARGETS)
def test_moves(name: str) -> None:
    for shape, axes in MOVES:
        x = RNG.standard_normal(shape).astype(np.float32)
        at = reduce(joined, axes)
        want = np.where(at >= 0, x.ravel()[np.maximum(at, 0)], np.float32(2.5))
        y = guarded(want.shape)
        launch(plan_move(target.named(name), Move(axes, 2.5, shape[0])), name, {"x": place(x), "y": y})
        check_guards(y)
        assert np.array_equal(y, want), (shape, [len(a) for a in axes])


@pytest.mark.parametrize("name", TARGETS)
def test_channels_change_their_lanes(name: str) -> None:
    this = target.named(name)
    rows, columns = np.array([-1, 0, 1, 2, 3, 4]), np.array([1, 0, 1, 2, 3, 4, 5])
    for channels, index in ((40, np.arange(40).reshape(2, 20).T.ravel()), (37, RNG.integers(-1, 37, 50))):
        x = RNG.standard_normal((3, channels, 5, 6)).astype(np.float32)
        blocks = block(x, this.lanes)
        plane = 30 * this.lanes
        space = (np.where(rows >= 0, rows * 6 * this.lanes, FILL), columns * this.lanes)
        images = steps(3, blocks.shape[1] * plane)
        there = (index[:, None, None] >= 0) & (rows[:, None] >= 0)
        want = np.where(there, x[:, np.maximum(index, 0)][:, :, np.maximum(rows, 0)][..., columns], np.float32(1.5))
        y = guarded(block(want, this.lanes).shape)
        launch(plan_lanes(this, Lanes(images, index, space, plane, 1.5, True)), name, {"x": place(blocks), "y": y})
        check_guards(y)
        assert np.array_equal(unblock(y, len(index)), want)


@pytest.mark.parametrize("name", TARGETS)
def test_what_an_element_went_to_is_added_up(name: str) -> None:
    edges = {2: ([1, *range(7), 5], 7), 3: ([2, 1, *range(18), 16], 18)}
    tiles = {1: (np.arange(6) % 3, 3), 2: (np.arange(8) % 4, 4), 3: (np.arange(15) % 5, 5)}
    cases: list[tuple[tuple[int, ...], dict[int, tuple[Any, int]]]] = [
        ((2, 3, 9, 21), edges), ((2, 3, 9, 21, 16), edges), ((2, 6, 8, 15), tiles), ((2, 6, 8, 15, 3), tiles),
        ((2, 6, 4, 5), {1: ([3, 1, -1, 1, 1, 0], 4)}),
    ]  # fmt: skip
    for shape, moved in cases:
        axes = [
            Came(np.asarray(moved.get(a, (np.arange(n), n))[0], np.int64), moved.get(a, (None, n))[1], stride)
            for a, (n, stride) in enumerate(zip(shape, strides(shape), strict=True))
        ]
        x = RNG.integers(-4, 5, shape).astype(np.float32)
        want = np.zeros([a.size for a in axes], np.float32)
        places = np.meshgrid(*(a.index for a in axes), indexing="ij")
        there = np.all([p >= 0 for p in places], axis=0)
        np.add.at(want, tuple(p[there] for p in places), x[there])
        y = guarded(want.shape)
        launch(plan_accumulate(target.named(name), axes, shape[0]), name, {"x": place(x), "y": y})
        check_guards(y)
        assert np.array_equal(y, want), shape
