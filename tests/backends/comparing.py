"""A graph of one op or a few on a target, against the float64 reference."""

from __future__ import annotations

import numpy as np

from cnnc import driver
from cnnc.backends import backend
from cnnc.ir.builder import Builder
from cnnc.ir.interpret import random_values
from cnnc.ir.types import TensorType, activation
from cnnc.kernels.cpu import target as targets

TARGETS = [f"cpu-{t.name}" for t in targets.runnable()]


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
