"""Softmax, cross-entropy and accuracy against float64, also where exponentials overflow."""

import numpy as np
import pytest

from cnnc.kernels.cpu import target
from cnnc.kernels.cpu.elementwise.loss_plan import (
    plan_accuracy,
    plan_cross_entropy,
    plan_cross_entropy_gradient,
    plan_softmax,
)
from tests.kernels.launching import SIZES, TARGETS, check_guards, guarded, launch, place


def log_softmax(x, axis):
    x = x.astype(np.float64)
    with np.errstate(invalid="ignore"):
        shifted = x - x.max(axis, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("log", [False, True])
def test_softmax_and_gradient(name, log):
    this, rng = target.named(name), np.random.default_rng(0)
    shapes = [((3, size), -1) for size in (*SIZES, 1000)] + [
        ((2, 5, 7, 3), 1),
        ((2, 17, 33), 1),
        ((7, 1), 0),
        ((5, 64), 0),
    ]
    for shape, axis in shapes:
        for scale in (1, 1e4):
            x = (scale * rng.standard_normal(shape)).astype(np.float32)
            dy = rng.standard_normal(shape).astype(np.float32)
            want = log_softmax(x, axis)
            want = want if log else np.exp(want)
            y, dx = guarded(shape), guarded(shape)
            launch(plan_softmax(this, shape, axis, log), name, {"x": place(x), "y": y})
            np.testing.assert_allclose(y, want, rtol=5e-6, atol=1e-6 if scale == 1 else 4e-3 if log else 1e-6)
            check_guards(y)
            exact = want.astype(np.float32).astype(np.float64)
            launch(
                plan_softmax(this, shape, axis, log, gradient=True),
                name,
                {"y": place(exact), "dy": place(dy), "dx": dx},
            )
            if log:
                gradient = dy - np.exp(exact) * dy.astype(np.float64).sum(axis, keepdims=True)
            else:
                gradient = exact * (dy - (dy * exact).sum(axis, keepdims=True))
            np.testing.assert_allclose(dx, gradient, rtol=2e-5, atol=1e-5)
            check_guards(dx)


@pytest.mark.parametrize("name", TARGETS)
def test_softmax_of_minus_infinity_and_nan(name):
    this = target.named(name)
    x = np.array([[0, -np.inf, 1, -np.inf, 2], [np.nan, 1, 2, 3, 4], [-np.inf] * 5, [1, 2, 3, 4, np.inf]], np.float32)
    y = guarded(x.shape)
    launch(plan_softmax(this, x.shape, 1), name, {"x": place(x), "y": y})
    np.testing.assert_allclose(y, np.exp(log_softmax(x, 1)), rtol=1e-6)


@pytest.mark.parametrize("name", TARGETS)
def test_cross_entropy(name):
    this, rng = target.named(name), np.random.default_rng(1)
    for n in (1, 3, 65):
        for classes in (*SIZES, 10, 1000):
            for scale in (1, 1e4):
                x = (scale * rng.standard_normal((n, classes))).astype(np.float32)
                if classes > 2:
                    x[0, 1] = -np.inf
                labels = rng.integers(0, classes, n)
                labels[0] = 0
                loss, dx, factor = guarded(1), guarded(x.shape), np.array([0.5], np.float32)
                launch(plan_cross_entropy(this, n, classes), name, {"x": place(x), "labels": labels, "loss": loss})
                logs = log_softmax(x, 1)
                np.testing.assert_allclose(loss[0], -logs[np.arange(n), labels].mean(), rtol=2e-6, atol=1e-6)
                buffers = {"x": place(x), "labels": labels, "scale": factor, "dx": dx}
                launch(plan_cross_entropy_gradient(this, n, classes), name, buffers)
                want = (np.exp(logs) - np.eye(classes)[labels]) * 0.5 / n
                np.testing.assert_allclose(dx, want, rtol=5e-6, atol=1e-7)
                check_guards(dx)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("label", [-1, 7, 2**62, -(2**63), -100])
def test_a_label_out_of_range_gives_nan(name, label):
    this = target.named(name)
    x, labels = np.zeros((3, 7), np.float32), np.array([1, label, 2])
    loss, dx = guarded(1), guarded(x.shape)
    launch(plan_cross_entropy(this, 3, 7), name, {"x": place(x), "labels": labels, "loss": loss})
    assert np.isnan(loss[0])
    launch(
        plan_cross_entropy_gradient(this, 3, 7),
        name,
        {"x": place(x), "labels": labels, "scale": np.ones(1, np.float32), "dx": dx},
    )
    assert np.isnan(dx[1]).all()
    assert np.isfinite(dx[[0, 2]]).all()


@pytest.mark.parametrize("name", TARGETS)
def test_accuracy(name):
    this, rng = target.named(name), np.random.default_rng(2)
    for n, classes in ((1, 1), (7, 10), (100, 5)):
        x, labels = rng.integers(0, 3, (n, classes)).astype(np.float32), rng.integers(-1, classes + 1, n)
        x[0, -1] = np.nan
        y = guarded(1)
        launch(plan_accuracy(this, n, classes), name, {"x": place(x), "labels": labels, "y": y})
        np.testing.assert_allclose(y[0], (x.argmax(1) == labels).mean(), rtol=1e-6)


@pytest.mark.parametrize("name", TARGETS)
def test_the_loss_of_a_sure_network_and_its_gradient_keep_their_digits(name):
    this = target.named(name)
    for gap in (0, 1, 5, 10, 17, 20, 40, 80):
        for classes in (2, 3, 17, 1000):
            x = np.zeros((2, classes), np.float32)
            x[0, 1] = x[1, 0] = gap  # row 0 is right, row 1 is as sure and wrong
            labels = np.array([1, 1])
            rest = (classes - 1) * np.exp(-float(gap))  # what the others have, of the largest class's 1
            right = np.log1p(rest)
            loss, dx, one = guarded(1), guarded(x[:1].shape), np.array([1], np.float32)
            launch(plan_cross_entropy(this, 1, classes), name, {"x": place(x[:1]), "labels": labels[:1], "loss": loss})
            np.testing.assert_allclose(loss[0], right, rtol=5e-6, atol=0)
            launch(plan_cross_entropy(this, 2, classes), name, {"x": place(x), "labels": labels, "loss": loss})
            np.testing.assert_allclose(loss[0], right + gap / 2, rtol=5e-6, atol=0)
            buffers = {"x": place(x[:1]), "labels": labels[:1], "scale": one, "dx": dx}
            launch(plan_cross_entropy_gradient(this, 1, classes), name, buffers)
            want = np.full(classes, np.exp(-float(gap)) / (1 + rest))
            want[1] = -rest / (1 + rest)
            np.testing.assert_allclose(dx[0], want, rtol=5e-6, atol=0)
