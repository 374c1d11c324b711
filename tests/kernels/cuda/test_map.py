"""Maps over views: to the bit on whole numbers, and the processor's own functions."""

from __future__ import annotations

import numpy as np
import pytest

from cnnc.ir import expression as ex
from cnnc.kernels.cpu.code.expression import evaluate
from cnnc.kernels.cuda.elementwise.map_plan import IDENTITY, Space, plan_map
from tests.kernels.cuda.running import block, blocked_like, integers, normal, run, unblock

SUM = ex.parse("max(a0 + a1 * a2, -9)")


@pytest.mark.parametrize("shape", [(1,), (7,), (4, 4), (3, 5), (2, 3, 5), (2, 3, 4, 4), (1, 6, 3, 7)])
def test_plain(shape: tuple[int, ...]) -> None:
    space = Space(shape)
    for other, third in (
        ((1,) * len(shape), shape),
        ((1,) * (len(shape) - 1) + shape[-1:], shape[:1] + (1,) * (len(shape) - 1)),
    ):
        a, b, c = integers(*shape), integers(*other), integers(*third)
        launch = plan_map(space, [space.view(shape)], [space.view(v.shape) for v in (a, b, c)], [SUM])
        found = run(launch, {"a0": a, "a1": b, "a2": c}, {"y0": a})
        assert np.array_equal(found["y0"], np.maximum(a + b * c, -9))


@pytest.mark.parametrize(
    "shape", [(1, 8, 1, 1), (2, 16, 3, 5), (2, 5, 3, 3), (3, 19, 2, 4), (1, 3, 4), (2, 9, 2, 3, 2)]
)
def test_blocked(shape: tuple[int, ...]) -> None:
    """Operands in blocks, a number for each channel, for each image, and one for all; and two results, one where an operand lies."""
    space, ones = Space(shape, True), (1,) * (len(shape) - 2)
    a, b, c, d = integers(*shape), integers(1, shape[1], *ones), integers(shape[0], 1, *ones), integers(1, 1, *ones)
    views = [space.view(shape, True), space.view(b.shape), space.view(c.shape), space.view(d.shape)]
    expressions = [ex.parse("a0 * a1 + a2"), ex.parse("a0 + a3 + 1")]
    launch = plan_map(space, [space.view(shape, True)] * 2, views, expressions)
    like = blocked_like(shape)
    found = run(launch, {"a0": block(a), "a1": b, "a2": c, "a3": d}, {"y0": like, "y1": like}, {"y1": "a0"})
    assert np.array_equal(unblock(found["y0"], shape[1]), a * b + c)
    assert np.array_equal(unblock(found["y1"], shape[1]), a + d + 1)
    if shape[1] % 8 == 0:
        assert found.figures.sectors <= 1.3 * found.figures.sectors_least + 8


@pytest.mark.parametrize("shape", [(2, 8, 4, 4), (2, 5, 3, 3), (3, 19, 2, 5), (1, 1, 7, 7), (2, 12, 6), (2, 30, 1, 1)])
def test_layouts(shape: tuple[int, ...]) -> None:
    x, space = integers(*shape), Space(shape, True)
    plain, blocks = space.view(shape), space.view(shape, True)
    to = run(plan_map(space, [blocks], [plain], [IDENTITY]), {"a0": x}, {"y0": blocked_like(shape)})
    assert np.array_equal(to["y0"], block(x))
    back = run(plan_map(space, [plain], [blocks], [IDENTITY]), {"a0": block(x)}, {"y0": x})
    assert np.array_equal(back["y0"], x)


def test_views_of_parts() -> None:
    """A slice of a plain tensor, turned round, into the middle of another."""
    x = integers(4, 6, 9)
    space = Space((2, 3, 5))
    source = space.view((2, 3, 5), steps=(54, 9, -1), start=54 + 9 + 7)
    target = space.view((2, 3, 5), steps=(40, 10, 1), start=3)
    y = np.zeros((2, 4, 10), np.float32)
    launch = plan_map(space, [target], [source], [IDENTITY])
    found = run(launch, {"a0": x, "y0": y}, {"y0": y}, {"y0": "y0"})
    y[:, :3, 3:8] = x[1:3, 1:4, 7:2:-1]
    assert np.array_equal(found["y0"], y)


@pytest.mark.parametrize(
    "name", ["exp", "log", "tanh", "sigmoid", "softplus", "erf", "expm1", "log1p", "sqrt", "floor", "normal_cdf"]
)
def test_functions(name: str) -> None:
    """Those of the processor, in the same operations: within some units of the last place."""
    x = np.concatenate([normal(500) * 3, [0, -0.0, 1, -1, 80, -80, np.inf, -np.inf, np.nan]]).astype(np.float32)
    if name in ("log", "sqrt"):
        x = np.abs(x)
    tree, space = (name, ("var", "a0")), Space(x.shape)
    found = run(plan_map(space, [space.view(x.shape)], [space.view(x.shape)], [tree]), {"a0": x}, {"y0": x})["y0"]
    expected = np.asarray(evaluate(tree, {"a0": x.astype(np.float64)}))
    finite = np.isfinite(expected)
    assert np.array_equal(found[~finite], expected[~finite].astype(np.float32), equal_nan=True)
    size = np.maximum(np.abs(expected[finite]), 1e-37)
    assert np.max(np.abs(found[finite] - expected[finite]) / size) < 7e-7


def test_powers() -> None:
    x, y = np.abs(normal(128)) + 0.1, normal(128) * 4
    space = Space(x.shape)
    view = space.view(x.shape)
    found = run(
        plan_map(space, [view], [view, view], [("pow", ("var", "a0"), ("var", "a1"))]), {"a0": x, "a1": y}, {"y0": x}
    )["y0"]
    assert np.allclose(found, x.astype(np.float64) ** y, rtol=5e-7)


def test_what_no_kernel_covers() -> None:
    with pytest.raises(ValueError, match="does not broadcast"):
        Space((2, 3)).view((2, 2))
    with pytest.raises(ValueError, match="by a map over blocks alone"):
        Space((2, 3, 4)).view((2, 3, 4), True)
    big = Space((2**20, 2**12))
    with pytest.raises(ValueError, match="places of 32 bits"):
        plan_map(big, [big.view(big.shape)], [big.view(big.shape)], [IDENTITY])
