"""Pools, functions of single numbers, shapes, sums, losses and normalizations on every instruction set of this machine."""

from __future__ import annotations

import numpy as np
import pytest

from cnnc import driver
from cnnc.backends import backend
from cnnc.ir.builder import Builder
from cnnc.ir.types import TensorType, activation
from tests.backends.comparing import TARGETS, compare, graph_of, vector, weights4
from tests.kernels.launching import in_turn

POOLS = [
    ("maxpool", {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)}),
    ("maxpool", {"kernel": (2, 2), "stride": (2, 2), "ceil_mode": True}),
    ("maxpool", {"kernel": (2, 3), "dilation": (2, 1), "stride": (1, 2)}),
    ("maxpool", {"kernel": (1, 1), "stride": (3, 2)}),
    ("avgpool", {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)}),
    ("avgpool", {"kernel": (2, 2), "stride": (2, 2), "ceil_mode": True}),
    ("avgpool", {"kernel": (3, 2), "padding": (1, 1), "count_include_pad": False, "stride": (1, 2)}),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("blocked", [False, True])
@pytest.mark.parametrize(("op", "attributes"), POOLS, ids=str)
def test_pooling(op, attributes, blocked, target):
    layout = f"nchw{backend(target).lanes}c"

    def build(b, x, dy=None):
        x, dy = (v if v is None or not blocked else b.add("to_layout", [v], {"layout": layout}) for v in (x, dy))
        y = b.add(op, [x], attributes)
        if dy is None:
            return y
        return y, b.add(f"{op}_gradient", [x, dy] if op == "maxpool" else [dy], {**attributes, "size": (9, 7)})

    shape = graph_of(build, (19, 9, 7)).type
    out = shape(graph_of(build, (19, 9, 7)).outputs[0][1]).shape[1:]
    compare(graph_of(build, (19, 9, 7), out), target, exact=op == "maxpool")


ELEMENTWISE = ["relu", "relu6", "sigmoid", "tanh", "leaky_relu", "elu", "selu", "silu", "exp", "abs", "neg"]


@pytest.mark.parametrize(("target", "op"), in_turn(ELEMENTWISE, targets=TARGETS))
def test_elementwise(op, target):
    exact = op in ("relu", "relu6", "abs", "neg")
    compare(graph_of(lambda b, x: b.add(op, [x]), (19, 5, 3)), target, exact=exact)
    compare(graph_of(lambda b, x: b.add(op, [x]), (33,)), target, exact=exact)


@pytest.mark.parametrize("target", TARGETS)
def test_broadcasting(target):
    def build(b, x, gate, one, v, w):
        h = b.add("conv", [x, w])  # blocked from here on
        g = b.add("conv", [gate, w])
        return (
            b.add("mul", [h, g]),
            b.add("add", [h, v]),
            b.add("sub", [b.add("constant", [], {"value": 2.0}), h]),
            b.add("mul", [h, one]),
        )

    compare(graph_of(build, (19, 5, 3), (19, 1, 1), (1, 5, 3), weights=[vector(21), weights4(21, 19, 1, 1)]), target)


@pytest.mark.parametrize(("target", "sizes"), in_turn([(16, 32, 16), (5, 18, 1), (3,)], targets=TARGETS))
def test_concat_and_slice(sizes, target):
    def build(b, *values):
        xs, ws = values[: len(sizes)], values[len(sizes) :]
        y = b.add("concat", [b.add("conv", [x, w]) for x, w in zip(xs, ws, strict=True)])
        cut = b.add("slice", [y], {"axis": 1, "start": sizes[0] // 2, "size": sum(sizes) - sizes[0] // 2})
        rows = b.add("slice", [y], {"axis": 2, "start": 1, "size": 3})
        return y, cut, rows

    compare(graph_of(build, *((4, 5, 3) for _ in sizes), weights=[weights4(s, 4, 1, 1) for s in sizes]), target)


@pytest.mark.parametrize("target", TARGETS)
def test_reductions(target):
    def build(b, x):
        mean, variance = b.insert("moments", [x]).results
        return (
            b.add("mean", [x], {"axis": (2, 3)}),
            b.add("sum", [x], {"axis": (0,)}),
            b.add("mean", [x], {"axis": (1,), "keepdim": True}),
            b.add("sum", [x], {"axis": (0, 1, 2, 3)}),
            mean,
            variance,
            b.add("count", [x]),
            b.add("batch_size", [x]),
            b.add("reduce_channels", [x], {"expressions": ("a0 * a0",)}),
            b.add("global_avgpool", [x]),
        )

    compare(graph_of(build, (19, 5, 3)), target, batch=3, exact=False)


@pytest.mark.parametrize("target", TARGETS)
def test_softmax_and_losses(target):
    def build(b, x, other, labels):
        g = b.add("softmax_gradient", [b.add("softmax", [x]), other])
        one = b.add("constant", [], {"value": 1.5})
        return (
            b.add("softmax", [x]),
            g,
            b.add("cross_entropy", [x, labels]),
            b.add("cross_entropy_gradient", [x, labels, one]),
            b.add("accuracy", [x, labels]),
        )

    compare(graph_of(build, (13,), (13,), TensorType("i64", ("N",))), target, batch=7, exact=False)


@pytest.mark.parametrize(("target", "blocked"), in_turn([False, True], targets=TARGETS))
def test_local_response_norm_and_dropout(blocked, target):
    layout = f"nchw{backend(target).lanes}c"

    def build(b, x, dy, seed):
        if blocked:
            x, dy = (b.add("to_layout", [v], {"layout": layout}) for v in (x, dy))
        a = {"size": 5, "alpha": 0.5, "beta": 0.75, "k": 2.0}
        return (
            b.add("lrn", [x], a),
            b.add("lrn_gradient", [x, dy], a),
            *(b.add("dropout", [x, seed], {"p": 0.4, "salt": 3, "by": by}) for by in ("element", "channel", "row")),
        )

    compare(graph_of(build, (19, 5, 3), (19, 5, 3), TensorType("i64", (2,))), target, exact=False)


def test_logits_far_out():
    """Softmax and cross-entropy at +-1e4 and with -inf; a label that is no class."""
    b = Builder("far")
    x, labels = b.input("x", activation(("N", 3))), b.input("labels", TensorType("i64", ("N",)))
    graph = b.finish([("p", b.add("softmax", [x])), ("loss", b.add("cross_entropy", [x, labels]))])
    exe = driver.build(graph, {}, "cpu")
    far = np.array([[1e4, -1e4, 0], [-np.inf, 0, 0]], np.float32)
    good = exe(far, np.array([0, 1]))
    np.testing.assert_allclose(good["p"], [[1, 0, 0], [0, 0.5, 0.5]])
    np.testing.assert_allclose(good["loss"], np.log(2) / 2, rtol=1e-6)
    assert np.isnan(exe(far, np.array([0, 3]))["loss"])
    assert np.isnan(exe(far, np.array([-1, 0]))["loss"])


@pytest.mark.parametrize("target", TARGETS)
def test_nan_and_infinity_pass(target):
    """NaN through ReLU and through max pooling, in the vector body and in the tail; all-negative input does not meet
    the padding's zero.
    """
    x = -np.ones((1, 19, 9, 7), np.float32)
    x[0, 2, 4, 4], x[0, 18, 0, 0], x[0, 5] = np.nan, np.nan, -np.inf
    graph = graph_of(
        lambda b, x: (
            b.add("relu", [x]),
            b.add("maxpool", [x], {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)}),
        ),
        (19, 9, 7),
    )
    got = driver.build(graph, {}, target).run({"x0": x})
    assert np.isnan(got["y0"]).sum() == 2
    assert np.nanmax(got["y1"]) == -1
    assert np.isnan(got["y1"][0, 2]).any()
    assert np.isnan(got["y1"][0, 18, 0, 0])
    assert (got["y1"][0, 5] == -np.inf).all()


@pytest.mark.parametrize("target", TARGETS)
def test_batch_norm_of_far_mean_and_no_variance(target):
    """Means of 1e4 at deviation 1 keep the variance; zero variance does not divide by zero."""
    rng = np.random.default_rng(0)
    x = (1e4 + rng.standard_normal((4, 5, 6, 7))).astype(np.float32)
    x[:, 3] = 7
    graph = graph_of(lambda b, x: b.insert("moments", [x]).results, (5, 6, 7))
    got = driver.build(graph, {}, target).run({"x0": x})
    np.testing.assert_allclose(got["y0"], x.astype(np.float64).mean((0, 2, 3)), rtol=1e-7)
    np.testing.assert_allclose(got["y1"], x.astype(np.float64).var((0, 2, 3)), rtol=2e-4, atol=0)
    assert got["y1"][3] == 0
