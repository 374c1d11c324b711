"""Normalizations by planned kernels against the op's reference, on every instruction set, and how exact they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnc.kernels.cpu import target as targets
from cnnc.kernels.cpu.normalize.plan import Normalization, plan_normalize, plan_normalize_gradient
from cnnc.kernels.cpu.problem import Epilogue
from tests.kernels.launching import TARGETS, block, check_guards, guarded, in_turn, launch, place, unblock
from tests.ops.checking import reference

RNG = np.random.default_rng(5)
PLAIN = ("mul", ("var", "y"), ("const", 1.0))


def normalize(n: Normalization, name: str, x: Any) -> Any:
    """Without weights, by the kernel."""
    target = targets.named(name)
    given = place(block(x, target.lanes) if n.blocked else x)
    y = guarded(given.shape)
    launch(plan_normalize(target, n, Epilogue(PLAIN, ())), name, {"x": given, "y": y})
    check_guards(y)
    return unblock(y, x.shape[1]) if n.blocked else y


# shape, axes, groups, blocked, centered
PROBLEMS = [
    ((3, 5, 7, 3), (1, 2, 3), 1, False, True),
    ((2, 6, 3, 3), (1, 2, 3), 3, False, True),
    ((2, 5, 3, 40), (1,), 1, False, False),
    ((2, 3, 5, 3), (1, 2), 1, False, True),
    ((2, 3, 5, 37), (3,), 1, False, True),
    ((5, 33), (1,), 1, False, False),
    ((3, 24), (1,), 4, False, True),
    ((2, 19, 5, 3), (1,), 1, True, True),
    ((2, 19, 5, 3), (1, 2, 3), 1, True, False),
    ((2, 24, 5, 3), (1, 2, 3), 2, True, True),
    ((2, 18, 5, 3), (1, 2, 3), 6, True, True),
    ((2, 19, 5, 3), (1, 2, 3), 19, True, False),
]


@pytest.mark.parametrize(("name", "problem"), in_turn(PROBLEMS))
def test_values_and_gradients(name: str, problem: Any) -> None:
    shape, axes, groups, blocked, centered = problem
    target, attributes = targets.named(name), {"axes": axes, "groups": groups, "centered": centered}
    x, dy = (RNG.standard_normal(shape).astype(np.float32) for _ in range(2))
    n = Normalization(shape, blocked, axes, groups, centered=centered)
    expected = reference("normalize", x + 2, **attributes)
    assert np.abs(normalize(n, name, x + 2) - expected).max() <= 3e-6 * np.abs(expected).max()
    kind = "channel" if groups > 1 or axes == (1,) else "image"
    w = RNG.standard_normal(shape[1] if kind == "channel" else [d if i in axes else 1 for i, d in enumerate(shape)])
    n = Normalization(shape, blocked, axes, groups, centered=centered, weight=kind)
    plan, parts = plan_normalize_gradient(target, n)
    laid_out = (lambda a: block(a, target.lanes)) if blocked else np.asarray
    along = laid_out(w) if w.ndim > 1 else w
    buffers = {"x": place(laid_out(x)), "a0": place(laid_out(dy)), "a1": place(along)}
    buffers |= {"y": guarded(laid_out(x).shape), "dweight": guarded((parts, *along.shape))}
    buffers["dbias"] = guarded((parts, *along.shape))
    launch(plan, name, buffers)
    dx, *others = reference("normalize_gradient", dy, x, w, **attributes)
    found = unblock(buffers["y"], shape[1]) if blocked else buffers["y"]
    assert np.abs(found - dx).max() <= 1e-5 * np.abs(dx).max()
    for key, d in zip(("dweight", "dbias"), others, strict=False):
        check_guards(buffers[key])
        assert np.abs(buffers[key].astype(np.float64).sum(0) - laid_out(d) if w.ndim > 1 else
                      buffers[key].astype(np.float64).sum(0) - d).max() <= 1e-5 * np.abs(d).max()  # fmt: skip


@pytest.mark.parametrize("name", TARGETS[-1:])
@pytest.mark.parametrize("mean", [0, 1000, -30000])
@pytest.mark.parametrize(
    ("shape", "axes", "blocked"),
    [((1, 16, 200, 200), (1, 2, 3), False), ((1, 3000, 3, 3), (1,), False), ((1, 16, 200, 200), (1, 2, 3), True)],
)
def test_long_sums_far_from_zero(name: str, mean: float, shape: Any, axes: Any, blocked: bool) -> None:
    """Of x as it is rounded, results are off by a few roundings, whatever the mean; a trend and a first part that is not like
    the others hide nothing.
    """
    x = (RNG.standard_normal(shape) + mean).astype(np.float32)
    x += np.linspace(-2, 2, x.size, dtype=np.float32).reshape(shape)
    x[:, : max(1, shape[1] // 16)] += 5
    expected = reference("normalize", x.astype(np.float64), axes=axes)
    off = normalize(Normalization(shape, blocked, axes), name, x) - expected
    assert np.abs(off).max() <= 2e-6 * np.abs(expected).max()
