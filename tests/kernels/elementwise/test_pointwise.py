"""`map` against NumPy: to the bit where the arithmetic is exact, in float64 otherwise."""

import numpy as np
import pytest

from cnnc.kernels.cpu import target
from cnnc.kernels.cpu.code.expression import evaluate
from cnnc.kernels.cpu.elementwise.map_plan import Operand, plan_map
from tests.kernels.launching import SIZES, TARGETS, block, check_guards, guarded, launch, place, unblock

A0, A1, A2 = (("var", f"a{k}") for k in range(3))
RELU = ("where", ("gt", ("const", 0.0), A0), ("const", 0.0), A0)
SIGMOID = ("div", ("const", 1.0), ("add", ("const", 1.0), ("exp", ("neg", A0))))


def run(name, shape, blocked, operands, expressions, rng, integers=True):
    lanes = target.named(name).lanes
    logical = [rng.integers(-4, 5, o.shape) if integers else rng.standard_normal(o.shape) * 3 for o in operands]
    logical = [array.astype(np.float32) for array in logical]
    plan = plan_map(target.named(name), shape, blocked, operands, expressions)
    buffers = {
        f"a{k}": place(block(x, lanes) if o.blocked else x)
        for k, (x, o) in enumerate(zip(logical, operands, strict=True))
    }
    stored = block(np.zeros(shape, np.float32), lanes).shape if blocked else shape
    results = {f"y{j}": guarded(stored) for j in range(len(expressions))}
    launch(plan, name, buffers | results)
    values = {f"a{k}": x.astype(np.float64) for k, x in enumerate(logical)}
    for j, expression in enumerate(expressions):
        check_guards(results[f"y{j}"])
        got = unblock(results[f"y{j}"], shape[1]) if blocked else results[f"y{j}"]
        want = np.broadcast_to(evaluate(expression, values), shape)
        if integers:
            np.testing.assert_array_equal(got, want.astype(np.float32))
        else:
            np.testing.assert_allclose(got, want, rtol=2e-6, atol=1e-6)
    return plan


@pytest.mark.parametrize("name", TARGETS)
def test_every_size(name):
    rng = np.random.default_rng(0)
    for size in (*SIZES, 64, 127, 1000):
        run(name, (size,), False, [Operand((size,)), Operand((1,))], [("sub", ("mul", A0, A1), A0)], rng)
        run(name, (3, size, 5, 1), True, [Operand((3, size, 5, 1), True)] * 2, [("sub", ("mul", A0, A1), A0)], rng)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("channels", SIZES)
def test_channel_operands(name, channels):
    rng = np.random.default_rng(channels)
    normalize = [("add", ("mul", A0, A1), A2)]
    for space in ((1, 1), (1, 5), (7, 7)):
        shape, vector = (2, channels, *space), (1, channels, 1, 1)
        for blocked in (False, True):
            run(name, shape, blocked, [Operand(shape, blocked), Operand(vector), Operand(vector)], normalize, rng)
            run(name, shape, blocked, [Operand(shape, blocked), Operand((1, 1, 1, 1))], [("add", A0, A1)], rng)
            run(
                name,
                shape,
                blocked,
                [Operand(shape, blocked), Operand((2, channels, 1, 1), blocked)],
                [("add", A0, A1)],
                rng,
            )
            run(
                name,
                shape,
                blocked,
                [Operand(shape, blocked), Operand((2, channels, 1, space[1]), blocked)],
                [("add", A0, A1)],
                rng,
            )


@pytest.mark.parametrize("name", TARGETS)
def test_padded_lanes_are_masked(name):
    rng = np.random.default_rng(1)
    for channels in (1, 5, 17):
        shape = (2, channels, 3, 5)
        plan = run(name, shape, True, [Operand(shape, True)], [("add", A0, ("const", 1.0))], rng)
        assert dict(plan.kernel.parameters)["masked"] or channels % target.named(name).lanes == 0
        run(name, shape, True, [Operand(shape, True)], [SIGMOID], rng, integers=False)


@pytest.mark.parametrize("name", TARGETS)
def test_plain_broadcasts(name):
    rng = np.random.default_rng(2)
    shape = (3, 5, 7, 17)
    for other in ((1, 1, 1, 17), (3, 1, 1, 1), (1, 5, 7, 1), (3, 1, 7, 1), (1, 5, 1, 17), (3, 5, 7, 17), (1, 1, 7, 17)):
        run(name, shape, False, [Operand(shape), Operand(other)], [("add", A0, ("mul", A1, ("const", 2.0)))], rng)
    run(name, (2, 3, 5, 7, 3), False, [Operand((2, 3, 5, 7, 3)), Operand((1, 3, 1, 7, 1))], [("add", A0, A1)], rng)


@pytest.mark.parametrize("name", TARGETS)
def test_momentum_in_place_and_in_pieces(name):
    """v' = 0.5 v + g and p' = p - lr v', into the operands' own buffers, on a tensor of many chunks; the order of
    chunks is free.
    """
    rng = np.random.default_rng(3)
    size = 100_003
    p, v, g = (place(rng.integers(-8, 9, size)) for _ in range(3))
    rate = place(np.array([0.25]))
    moved = ("add", ("mul", ("const", 0.5), A1), A2)
    expressions = [moved, ("sub", A0, ("mul", ("var", "a3"), moved))]
    plan = plan_map(target.named(name), (size,), False, [Operand((size,))] * 3 + [Operand((1,))], expressions)
    want_v = 0.5 * v + g
    want_p = p - 0.25 * want_v
    assert plan.chunks > 4
    launch(plan, name, {"a0": p, "a1": v, "a2": g, "a3": rate, "y0": v, "y1": p}, order=range(plan.chunks)[::-1])
    np.testing.assert_array_equal(v, want_v)
    np.testing.assert_array_equal(p, want_p)
    for array in (p, v, g):
        check_guards(array)


@pytest.mark.parametrize("name", TARGETS)
def test_nan_passes_relu_everywhere(name):
    x = place(np.full(37, np.nan))
    x[::2] = np.array([-1.0, -0.0, np.inf, -np.inf, 2.0] * 4, np.float32)[:19]
    y = guarded(37)
    launch(plan_map(target.named(name), (37,), False, [Operand((37,))], [RELU]), name, {"a0": x, "y0": y})
    np.testing.assert_array_equal(y, np.where(x < 0, 0, x))


def test_empty():
    assert plan_map(target.named("avx2"), (0, 3, 2, 2), True, [Operand((0, 3, 2, 2), True)], [RELU]).chunks == 0


def test_what_cannot_be_broadcast():
    with pytest.raises(ValueError, match="does not broadcast"):
        plan_map(target.named("avx2"), (2, 3), False, [Operand((3, 3))], [RELU])
