"""Fully connected layers and their gradients: integers to the bit."""

import itertools
import re

import numpy as np
import pytest

from cnnc.kernels.cpu import target
from cnnc.kernels.cpu.code import compile
from cnnc.kernels.cpu.elementwise.layout_plan import plan_block
from cnnc.kernels.cpu.linear.plan import (
    Linear,
    batched,
    even_tiles,
    panel_weights,
    plan_linear,
    plan_linear_batch,
    plan_linear_data_gradient,
    plan_linear_panels,
    plan_linear_weight_gradient,
)
from cnnc.kernels.cpu.problem import Epilogue
from tests.kernels.launching import TARGETS, block, check_guards, guarded, launch, place
from tests.kernels.packing import pack_weights

SHAPES = [
    *itertools.product((1, 2, 3, 5), (1, 5, 7, 17), (1, 10, 31)),
    (4, 16, 16), (7, 33, 97), (13, 100, 1), (64, 129, 67), (100, 1, 40), (130, 50, 23), (9, 2000, 30), (5, 1537, 13), (200, 70, 130),
]  # fmt: skip


@pytest.mark.parametrize("name", TARGETS)
def test_forward(name):
    this, rng = target.named(name), np.random.default_rng(0)
    relu = ("where", ("gt", ("const", 0.0), ("var", "y")), ("const", 0.0), ("var", "y"))
    for n, i, o in SHAPES:
        x, w, b = rng.integers(-4, 5, (n, i)), rng.integers(-4, 5, (o, i)), rng.integers(-4, 5, o)
        y = guarded((n, o))
        plan = plan_linear(this, Linear(n, i, o, True), Epilogue(relu))
        launch(plan, name, {"x": place(x), "w": place(w), "bias": place(b), "y": y}, order=range(plan.chunks)[::-1])
        np.testing.assert_array_equal(y, np.maximum(x @ w.T + b, 0), str((n, i, o)))
        check_guards(y)


@pytest.mark.parametrize("name", TARGETS)
def test_the_number_of_workers_changes_no_bit(name):
    """Outputs are cut for them, products are not."""
    rng = np.random.default_rng(5)
    for n, i, o in ((1, 784, 512), (1, 2000, 331), (3, 129, 1600), (40, 300, 450)):
        x, w, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((n, i), (o, i), (o,)))
        form = panel_weights(target.named(name), i, o)
        for packed in (False, True):
            results, chunks = [], set()
            for workers in (1, 2, 3, 8):
                this = target.named(name).shared_by(workers)
                plan = plan_linear_panels(this, n, form, True) if packed else plan_linear(this, Linear(n, i, o, True))
                y = guarded((n, o))
                weights = place(pack_weights(w, form).reshape(-1)) if packed else place(w)
                launch(plan, name, {"x": place(x), "w": weights, "bias": place(b), "y": y})
                check_guards(y)
                results.append(np.array(y))
                chunks.add(plan.chunks)
            assert len(chunks) > 1 or n > 1
            for y in results[1:]:
                np.testing.assert_array_equal(y, results[0])
            np.testing.assert_allclose(results[0], x.astype(np.float64) @ w.T + b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", TARGETS)
def test_batch(name):
    """Vectors along the batch, whatever its size: the planner's choice is about speed alone."""
    this, rng = target.named(name), np.random.default_rng(4)
    tree = ("add", ("mul", ("var", "y"), ("var", "a1")), ("mul", ("var", "a0"), ("var", "a2")))
    for n, i, o in [*SHAPES, (37, 1100, 45), (300, 40, 67)]:
        x, w, b = rng.integers(-4, 5, (n, i)), rng.integers(-4, 5, (o, i)), rng.integers(-4, 5, o)
        full, channel = rng.integers(-4, 5, (n, o)), rng.integers(-4, 5, o)
        y = guarded((n, o))
        plan = plan_linear_batch(this, Linear(n, i, o, True), Epilogue(tree, ("full", "channel", "scalar")))
        rows = place(block(x[None], this.lanes))
        buffers = {"a0": place(full), "a1": place(channel), "a2": place(np.array([3.0]))}
        buffers |= {"x": rows, "w": place(w), "bias": place(b), "y": y}
        launch(plan, name, buffers, order=range(plan.chunks)[::-1])
        np.testing.assert_array_equal(y, (x @ w.T + b) * channel + full * 3, str((n, i, o)))
        check_guards(y)


@pytest.mark.parametrize("name", TARGETS)
def test_panels(name):
    """Packed weights, and what follows the last of them in memory is not read."""
    this, rng = target.named(name), np.random.default_rng(6)
    tree = ("add", ("mul", ("var", "y"), ("var", "a1")), ("mul", ("var", "a0"), ("var", "a2")))
    for n, i, o in [*SHAPES, (37, 1100, 45), (300, 40, 67), (16, 129, 7 * this.lanes), (8, 65, 9 * this.lanes + 1)]:
        x, w, b = rng.integers(-4, 5, (n, i)), rng.integers(-4, 5, (o, i)), rng.integers(-4, 5, o)
        full, channel = rng.integers(-4, 5, (n, o)), rng.integers(-4, 5, o)
        y, form = guarded((n, o)), panel_weights(this, i, o)
        plan = plan_linear_panels(this, n, form, True, Epilogue(tree, ("full", "channel", "scalar")))
        buffers = {"a0": place(full), "a1": place(channel), "a2": place(np.array([3.0]))}
        buffers |= {"x": place(x), "w": place(pack_weights(w, form)), "bias": place(b), "y": y}
        launch(plan, name, buffers, order=range(plan.chunks)[::-1])
        np.testing.assert_array_equal(y, (x @ w.T + b) * channel + full * 3, str((n, i, o)))
        check_guards(y)


def test_panels_are_few_and_leave_few_blocks_over():
    this = target.named("avx512")
    assert [panel_weights(this, 10, 16 * blocks).panel for blocks in range(1, 10)] == [1, 2, 3, 4, 4, 3, 3, 4, 3]


def test_rows_are_cut_evenly():
    for count in range(1, 200):
        for most in range(1, 13):
            size, tiles, tall = even_tiles(count, most)
            assert size <= most
            assert tall * size + (tiles - tall) * (size - 1) == count
            assert 0 <= tall <= tiles


def test_full_vectors_of_rows_are_a_batch():
    for this in target.TARGETS.values():
        assert not batched(this, 1)
        assert batched(this, this.lanes)
        assert plan_block(this, (1, this.lanes, 100)).arguments["channels"] == this.lanes


@pytest.mark.parametrize("name", TARGETS)
def test_epilogue_operands_and_strided_rows(name):
    this, rng = target.named(name), np.random.default_rng(1)
    tree = ("add", ("mul", ("var", "y"), ("var", "a1")), ("mul", ("var", "a0"), ("var", "a2")))
    for n, i, o in ((1, 20, 19), (6, 33, 35)):
        wide, w = rng.integers(-4, 5, (n, i + 3)), rng.integers(-4, 5, (o, i))
        full, channel = rng.integers(-4, 5, (n, o)), rng.integers(-4, 5, o)
        y = guarded((n, o))
        plan = plan_linear(this, Linear(n, i, o, False), Epilogue(tree, ("full", "channel", "scalar")), x_row=i + 3)
        buffers = {"a0": place(full), "a1": place(channel), "a2": place(np.array([3.0]))}
        launch(plan, name, buffers | {"x": place(wide), "w": place(w), "y": y})
        np.testing.assert_array_equal(y, (wide[:, :i] @ w.T) * channel + full * 3)
        check_guards(y)


@pytest.mark.parametrize("name", TARGETS)
def test_random_numbers_are_within_the_bound(name):
    this, rng = target.named(name), np.random.default_rng(2)
    for n, i, o in ((1, 4099, 7), (5, 1030, 17)):
        x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((n, i), (o, i)))
        y = guarded((n, o))
        launch(plan_linear(this, Linear(n, i, o, False)), name, {"x": place(x), "w": place(w), "y": y})
        exact = x.astype(np.float64) @ w.astype(np.float64).T
        assert (np.abs(y - exact) <= 2 * i * 2.0**-24 * (np.abs(x) @ np.abs(w).T)).all()
        assert np.abs(y - exact).max() < 1e-4


@pytest.mark.parametrize("name", TARGETS)
def test_gradients(name):
    this, rng = target.named(name), np.random.default_rng(3)
    for n, i, o in SHAPES:
        x, w, dy = rng.integers(-4, 5, (n, i)), rng.integers(-4, 5, (o, i)), rng.integers(-4, 5, (n, o))
        dx, dw = guarded((n, i)), guarded((o, i))
        plan = plan_linear_data_gradient(this, n, i, o)
        launch(plan, name, {"a": place(dy), "b": place(w), "c": dx}, order=range(plan.chunks)[::-1])
        np.testing.assert_array_equal(dx, dy @ w, str((n, i, o)))
        plan = plan_linear_weight_gradient(this, n, i, o)
        launch(plan, name, {"a": place(dy), "b": place(x), "c": dw}, order=range(plan.chunks)[::-1])
        np.testing.assert_array_equal(dw, dy.T @ x, str((n, i, o)))
        check_guards(dx)
        check_guards(dw)


@pytest.mark.parametrize("name", ["avx512", "avx2"])
def test_register_tiles_do_not_spill(name):
    this = target.named(name)
    gradients = (plan(this, 64, 96, 512) for plan in (plan_linear_data_gradient, plan_linear_weight_gradient))
    forward = (plan_linear(this, Linear(4, 512, 96, True)), plan_linear(this, Linear(1, 9216, 4096, True)))
    several = (
        plan_linear_batch(this, Linear(64, 512, 96, True)),
        plan_linear_panels(this, 64, panel_weights(this, 512, 96), True),
    )
    for plan in (*forward, *several, *gradients):
        # Runs of code without a label or a jump.
        loops = re.split(r"\n(?=\.LBB)|\n(?=\tj)", compile.assembly(plan.kernel, this))
        hottest = max(loops, key=lambda text: text.count("vfmadd"))
        assert hottest.count("vfmadd") >= 12
        assert not re.search(r"[xyz]mm\d+, -?\d*\(%rsp\)|\(%rsp\), %[xyz]mm", hottest), str(plan.kernel)
