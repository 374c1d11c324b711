"""Every op through passes, lowering and kernels, on every instruction set that this machine executes, against the
float64 reference.

Integers from -4 to 4 keep sums exact: where an op has no division, results agree to the bit.
"""

from __future__ import annotations

import numpy as np
import pytest

from cnnc import driver
from cnnc.backends import backend
from cnnc.ir.builder import Builder
from cnnc.ir.interpret import random_values
from cnnc.ir.types import TensorType, activation
from cnnc.kernels.cpu import target as targets
from tests.kernels.convolving import error_of_long_weight_gradient
from tests.kernels.launching import in_turn

TARGETS = [f"cpu-{t.name}" for t in targets.runnable()]
ODD = (1, 3, 5, 7, 15, 16, 17, 31, 33)


def graph_of(build, *shapes, weights=()):
    """A graph of one op (or a few) over inputs x0, x1, ... and params w0, w1, ..."""
    b = Builder("case")
    values = [
        b.input(f"x{i}", activation(("N", *s)) if not isinstance(s, TensorType) else s) for i, s in enumerate(shapes)
    ]
    values += [b.param(f"w{i}", t) for i, t in enumerate(weights)]
    result = build(b, *values)
    results = result if isinstance(result, tuple) else (result,)
    return b.finish([(f"y{i}", r) for i, r in enumerate(results)])


def weights4(*shape):
    return TensorType("f32", shape, "oihw")


def vector(n):
    return TensorType("f32", (n,))


def compare(graph, target, batch=2, exact=True, tolerance=3e-6, seed=0, threads=2):
    inputs, values = random_values(graph, batch, seed, integers=exact)
    inputs = {k: np.asarray(v, np.int64 if graph.type(k).dtype == "i64" else np.float32) for k, v in inputs.items()}
    values = {k: np.asarray(v, np.float32) for k, v in values.items()}
    expected = backend("reference").prepare(graph, values).run(inputs)
    got = driver.build(graph, values, target, threads, exact=exact).run(inputs)
    for label, want in expected.items():
        assert got[label].shape == want.shape
        if exact:
            np.testing.assert_array_equal(got[label], want, err_msg=f"{label} of\n{graph}")
        else:
            scale = np.abs(want[np.isfinite(want)]).max(initial=1e-30)
            np.testing.assert_allclose(
                got[label], want, rtol=tolerance, atol=tolerance * scale, err_msg=f"{label} of\n{graph}"
            )


def conv(channels, filters, kernel, size=(9, 8), groups=1, bias=True, **attributes):
    spec = [weights4(filters, channels // groups, *kernel), *([vector(filters)] if bias else [])]
    if groups > 1:
        attributes["groups"] = groups
    return graph_of(lambda b, x, *w: b.add("conv", [x, *w], attributes), (channels, *size), weights=spec)


CONVOLUTIONS = {
    **{f"channels {c}": conv(c, 17, (3, 3), padding=(1, 1)) for c in ODD},
    **{f"filters {k}": conv(5, k, (3, 3), padding=(1, 1)) for k in ODD},
    "1x1": conv(33, 35, (1, 1)),
    "1x1 stride 2": conv(33, 35, (1, 1), stride=(2, 2)),
    "1x1 of one pixel": conv(33, 35, (1, 1), (1, 1)),
    "7x7 stride 2": conv(3, 33, (7, 7), (21, 19), stride=(2, 2), padding=(3, 3)),
    "11x11 stride 4": conv(3, 18, (11, 11), (35, 27), stride=(4, 4), padding=(2, 2)),
    "asymmetric": conv(19, 5, (2, 4), padding=((1, 0), (0, 3))),
    "dilated": conv(19, 5, (3, 2), (11, 13), dilation=(2, 3), padding=(1, 2)),
    "stride 3": conv(17, 16, (3, 3), (13, 11), stride=(3, 3)),
    "stride beyond kernel": conv(17, 16, (1, 2), (13, 11), stride=(3, 4)),
    "whole image": conv(17, 16, (9, 8)),
    "one row": conv(17, 16, (1, 3), (1, 37), padding=(0, 1)),
    "one column": conv(17, 16, (3, 1), (37, 1)),
    "prime": conv(7, 31, (3, 3), (23, 29), padding=(1, 1), bias=False),
    "groups of whole blocks": conv(64, 32, (3, 3), groups=2, padding=(1, 1)),
    **{f"groups of {c}": conv(4 * c, 8, (3, 3), groups=4, padding=(1, 1)) for c in (1, 3, 5, 7)},
    "depthwise": conv(19, 19, (3, 3), groups=19, padding=(1, 1), stride=(2, 2)),
    "depthwise multiplier": conv(5, 15, (3, 3), groups=5),
    "groups merged to blocks": conv(128, 128, (3, 3), groups=16, padding=(1, 1)),
    "groups of 4 to 2": conv(128, 64, (3, 3), groups=32, padding=(1, 1)),
    "groups merged to one": conv(48, 48, (3, 3), groups=2, padding=(1, 1)),
    "groups of 10 to 5": conv(90, 45, (3, 3), groups=9, padding=(1, 1), stride=(2, 1)),
    "groups left over": conv(40, 40, (3, 3), groups=5, padding=(1, 1), stride=(2, 2)),
    "groups left over, 1x1": conv(40, 80, (1, 1), groups=5),
    "many groups of one": conv(41, 123, (3, 3), groups=41),
    "groups in one dimension": graph_of(
        lambda b, x, w: b.add("conv", [x, w], {"groups": 3, "padding": (2,)}),
        (21, 31),
        weights=[TensorType("f32", (15, 7, 5), "oiw")],
    ),
    "groups in three dimensions": graph_of(
        lambda b, x, w: b.add("conv", [x, w], {"groups": 3}),
        (6, 4, 5, 3),
        weights=[TensorType("f32", (9, 2, 2, 3, 1), "oidhw")],
    ),
    "one dimension": graph_of(
        lambda b, x, w, c: b.add("conv", [x, w, c], {"padding": (2,), "stride": (2,)}),
        (17, 31),
        weights=[TensorType("f32", (9, 17, 5), "oiw"), vector(9)],
    ),
    "three dimensions": graph_of(
        lambda b, x, w, c: b.add("conv", [x, w, c], {"padding": (1, 0, 1), "stride": (1, 2, 1)}),
        (5, 4, 7, 6),
        weights=[TensorType("f32", (6, 5, 3, 3, 2), "oidhw"), vector(6)],
    ),
}


@pytest.mark.parametrize(("target", "name"), in_turn(CONVOLUTIONS, targets=TARGETS))
def test_convolution(name, target):
    compare(CONVOLUTIONS[name], target)


GRADIENTS = [
    "channels 3",
    "channels 17",
    "filters 33",
    "1x1 stride 2",
    "7x7 stride 2",
    "11x11 stride 4",
    "asymmetric",
    "dilated",
    "stride 3",
    "stride beyond kernel",
    "whole image",
    "groups of whole blocks",
    "groups of 3",
    "groups merged to blocks",
    "groups of 4 to 2",
    "groups merged to one",
    "groups of 10 to 5",
    "groups left over",
    "groups left over, 1x1",
    "groups in one dimension",
    "many groups of one",
    "groups in three dimensions",
    "depthwise",
    "one dimension",
    "three dimensions",
]


@pytest.mark.parametrize(("target", "name"), in_turn(GRADIENTS, targets=TARGETS))
def test_convolution_gradients(name, target):
    (node,) = CONVOLUTIONS[name].of("conv")
    forward = CONVOLUTIONS[name]
    x, w = forward.type("x0"), forward.type("w0")
    shared = {k: v for k, v in node.attributes.items() if k != "layout"}
    b = Builder("gradients")
    x0, dy, w0 = b.input("x0", x), b.input("dy", node.type), b.param("w0", w)
    # a second convolution in front makes x blocked, so that both ways of reading it are met
    data = b.add("conv_data_gradient", [dy, w0], {**shared, "size": x.shape[2:]})
    weight = b.add("conv_weight_gradient", [x0, dy], {**shared, "kernel": w.shape[2:]})
    compare(b.finish([("dx", data), ("dw", weight)]), target, batch=3)


def epilogue(op):
    def build(b, x, other, w, bias, scale):
        y = b.add(op, [x, w, bias])
        y = b.add("mul", [b.add("sub", [y, other]), scale])
        return b.add("relu", [y])

    return build


@pytest.mark.parametrize(("target", "kernel"), in_turn([3, 5], targets=TARGETS))
def test_winograd_of_groups(kernel, target):
    """Every group by itself, between the others' channels: forward with an epilogue, and both gradients."""
    groups, channels, filters, size, batch = 3, 96, 192, (24, 23), 24
    around = {"padding": (kernel // 2,) * 2, "groups": groups}
    b = Builder("groups")
    x, other, dy = (
        b.input(n, activation(("N", c, *size))) for n, c in (("x", channels), ("other", filters), ("dy", filters))
    )
    w, bias = b.param("w", weights4(filters, channels // groups, kernel, kernel)), b.param("bias", vector(filters))
    y = b.add("relu", [b.add("add", [b.add("conv", [x, w, bias], around), other])])
    dx = b.add("conv_data_gradient", [dy, w], {**around, "size": size})
    dw = b.add("conv_weight_gradient", [x, dy], {**around, "kernel": (kernel, kernel)})
    graph = b.finish([("y", y), ("dx", dx), ("dw", dw)])
    plan = driver.build(graph, random_values(graph, 1, 0)[1], target).runner.plan(batch)
    kernels = [s.kernel.family for s in plan.steps if "winograd" in s.kernel.family]
    assert kernels.count("winograd_weight_gradient") == groups
    assert kernels.count("winograd") >= 2 * groups
    compare(graph, target, batch, exact=False, tolerance=2e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_epilogues(target):
    compare(
        graph_of(epilogue("conv"), (5, 6, 7), (19, 4, 5), weights=[weights4(19, 5, 3, 3), vector(19), vector(19)]),
        target,
    )
    compare(
        graph_of(epilogue("linear"), (23,), (19,), weights=[TensorType("f32", (19, 23)), vector(19), vector(19)]),
        target,
    )

    # f(0) is not 0: padded lanes must not become 1/2, or the next convolution would see them
    def chain(b, x, w, v):
        return b.add("conv", [b.add("sigmoid", [b.add("conv", [x, w])]), v])

    compare(graph_of(chain, (5, 6, 7), weights=[weights4(19, 5, 3, 3), weights4(3, 19, 1, 1)]), target, exact=False)


@pytest.mark.parametrize(
    ("target", "shape", "batch"),
    in_turn([(1, 1), (7, 5), (17, 33), (2450, 10), (100, 129)], [1, 2, 9, 12], targets=TARGETS),
)
def test_linear(shape, batch, target):
    inputs, outputs = shape
    b = Builder("linear")
    x, dy = b.input("x", activation(("N", inputs))), b.input("dy", activation(("N", outputs)))
    w, c = b.param("w", TensorType("f32", (outputs, inputs))), b.param("c", vector(outputs))
    results = [
        b.add("linear", [x, w, c]),
        b.add("linear_data_gradient", [dy, w]),
        b.add("linear_weight_gradient", [x, dy]),
    ]
    compare(b.finish([(f"y{i}", r) for i, r in enumerate(results)]), target, batch)


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
            b.add("dropout", [x, seed], {"p": 0.4, "salt": 3}),
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


@pytest.mark.parametrize("target", TARGETS)
def test_winograd_weight_gradient_unless_exact(target):
    """Chunks split the tiles, and what they add does not depend on the number of threads either."""

    def build(b, x, dy):
        return b.add("conv_weight_gradient", [x, b.add("relu", [dy])], {"kernel": (3, 3), "padding": (1, 1)})

    graph = graph_of(build, (64, 33, 30), (70, 33, 30))
    inputs, values = random_values(graph, 2, 0, integers=False)
    inputs = {k: np.asarray(v, np.float32) for k, v in inputs.items()}
    want = backend("reference").prepare(graph, values).run(inputs)["y0"]
    results = {}
    for exact in (False, True):
        first, second = (driver.build(graph, values, target, n, exact=exact) for n in (1, 3))
        families = {s.kernel.family for s in first.runner.plan(2).steps}
        names = ("winograd_weight_gradient" in families, "conv_weight_gradient" in families)
        assert names == (not exact, exact)
        results[exact] = first.run(inputs)["y0"]
        np.testing.assert_array_equal(results[exact], second.run(inputs)["y0"])
    one, padding, dy = (1, 1), ((1, 1), (1, 1)), np.maximum(inputs["x1"], 0)
    long = error_of_long_weight_gradient(inputs["x0"], dy, (3, 3), one, padding, one)
    for y in results.values():
        assert np.sqrt(np.mean((y - want) ** 2)) <= 4 * long


@pytest.mark.parametrize(("target", "op"), in_turn(["conv", "conv_data_gradient"], targets=TARGETS))
def test_winograd_unless_exact(op, target):
    """Enough channels and tiles take Winograd's algorithm; its bits do not depend on the number of threads."""

    def build(b, x, w):
        attributes = {"kernel": (3, 3), "padding": (1, 1)} if op == "conv" else {"padding": (1, 1), "size": (33, 30)}
        return b.add("relu", [b.add(op, [x, w], attributes if op != "conv" else {"padding": (1, 1)})])

    graph = graph_of(build, (80, 33, 30), weights=[weights4(80, 80, 3, 3)])
    inputs, values = random_values(graph, 2, 0, integers=False)
    inputs, values = ({k: np.asarray(v, np.float32) for k, v in d.items()} for d in (inputs, values))
    want = backend("reference").prepare(graph, values).run(inputs)["y0"]
    results = {}
    for exact in (False, True):
        first, second = (driver.build(graph, values, target, n, exact=exact) for n in (1, 3))
        families = {s.kernel.family for s in first.runner.plan(2).steps}
        assert ("winograd" in families, "conv_direct" in families) == (not exact, exact)
        results[exact] = first.run(inputs)["y0"]
        np.testing.assert_array_equal(results[exact], second.run(inputs)["y0"])
    error = {exact: np.sqrt(np.mean((y - want) ** 2)) for exact, y in results.items()}
    assert error[False] <= 4 * error[True]


@pytest.mark.parametrize(("target", "size"), in_turn([(16, 12), (15, 12)], targets=TARGETS))
def test_max_pooling_behind_winograd(target, size):
    """An even number of rows and columns is pooled by the convolution's own step, to the same bits."""

    def build(b, x, w, bias, pooled=True):
        y = b.add("relu", [b.add("conv", [x, w, bias], {"padding": (1, 1)})])
        z = b.add("maxpool", [y], {"kernel": (2, 2), "stride": (2, 2)})
        return z if pooled else (z, y)

    weights = [weights4(80, 80, 3, 3), vector(80)]
    graphs = [graph_of(lambda *a, p=p: build(*a, pooled=p), (80, *size), weights=weights) for p in (True, False)]
    inputs, values = random_values(graphs[0], 4, 0, integers=False)
    inputs, values = ({k: np.asarray(v, np.float32) for k, v in d.items()} for d in (inputs, values))
    both = [driver.build(graph, values, target, 2) for graph in graphs]
    families = [[s.kernel.family for s in exe.runner.plan(4).steps] for exe in both]
    assert all("winograd" in names for names in families)
    assert ["maxpool" in names for names in families] == [size[0] % 2 == 1, True]
    alone, kept = (exe.run(inputs)["y0"] for exe in both)
    np.testing.assert_array_equal(alone, kept)
    want = backend("reference").prepare(graphs[0], values).run(inputs)["y0"]
    np.testing.assert_allclose(alone, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())


@pytest.mark.parametrize("target", TARGETS)
def test_max_pooling_behind_a_first_layer(target):
    """One step for the convolution and the maxima, to the bit."""
    attributes = {"kernel": (2, 2), "stride": (2, 2)}

    def build(b, x, w, bias):
        return b.add("maxpool", [b.add("relu", [b.add("conv", [x, w, bias], {"padding": (2, 2)})])], attributes)

    for size, pooled in (((28, 28), True), ((6, 9), False)):
        graph = graph_of(build, (1, *size), weights=[weights4(20, 1, 5, 5), vector(20)])
        compare(graph, target, batch=3)
        values = {k: np.asarray(v, np.float32) for k, v in random_values(graph, 3, 0, integers=True)[1].items()}
        steps = driver.build(graph, values, target, 2).runner.plan(3).steps
        assert ("maxpool" in {s.kernel.family for s in steps}) is not pooled
