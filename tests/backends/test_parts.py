"""What is concatenated is written into its place, and where it has none it is copied: the results are the same."""

from __future__ import annotations

import numpy as np
import pytest

import cnnc

# a and b go into the last of several results, and then begin others; d is needed twice; f fills no block of channels
SEVERAL = """model Several {
    input x: f32[N, 16, 9, 7]
    a = conv(16, 3, padding=1)(x) -> relu
    b = conv(32, 1)(a)
    c = concat([a, b])
    d = conv(16, 3, padding=1)(c)
    e = concat([a, b, d, d])
    f = conv(5, 1)(e)
    g = concat([c, f, c])
    h = concat([x, a, x])
    return g, h, d, e
}"""
GROWING = """model Growing {
    input x: f32[N, 32, 6, 5]
    a = conv(32, 3, padding=1)(x)
    features = concat([a, conv(16, 3, padding=1)(relu(a))])
    features = concat([features, conv(16, 1)(features)])
    features = concat([features, avgpool(3, 1, padding=1)(conv(16, 1)(features)), maxpool(3, 1, padding=1)(a)])
    return conv(8, 1)(features)
}"""
BRANCHES = """model Branches {
    input x: f32[N, 16, 11, 9]
    x = conv(32, 3)(x) -> relu
    a = conv(48, 1)(x) -> relu
    b = conv(16, 3, padding=1)(x)
    c = conv(32, 3, padding=1, groups=2)(x)
    d = maxpool(3, 1, padding=1)(x)
    e = conv(19, 3, padding=1)(a)
    y = concat([conv(16, 1)(a), b, c, d, conv(5, 1)(e)])
    z = concat([conv(5, 1)(x), conv(16, 5, padding=2)(x), y])
    small = maxpool(2, ceil_mode=true)(y) -> conv(16, 1)
    w = concat([conv(16, 1, stride=2)(y), conv(16, 3, 2, padding=1)(y), small])
    return conv(7, 3)(z), avgpool(2)(w)
}"""
# what a convolution writes with the maxima of the pooling behind it; pieces of a convolution in 3-d; a map from a beginning to an end
POOLED = """model Pooled {
    input x: f32[N, 3, 16, 12]
    a = conv(32, 3, padding=1)(x) -> relu -> maxpool(2)
    b = conv(16, 3, 2, padding=1)(x) -> relu
    c = concat([a, b])
    d = conv(32, 3, padding=1)(c) -> maxpool(2)
    return conv(16, 1)(concat([conv(16, 3, 2, padding=1)(c), d]))
}"""
VOLUME = """model Volume {
    input x: f32[N, 16, 5, 6, 7]
    a = conv(16, 3, padding=1)(x)
    b = conv(32, 1)(x)
    c = conv(16, [3, 1, 1], padding=[1, 0, 0], groups=2)(x)
    return conv(16, 1)(concat([a, b, c]))
}"""
SHIFTED = """model Shifted {
    input x: f32[N, 16, 9, 7]
    a = conv(48, 3, padding=1)(x)
    c = conv(16, 1)(concat([a, conv(16, 1)(x)]))
    y = exp(tanh(a))
    return conv(8, 1)(concat([conv(16, 1)(c), y]))
}"""
LINE = """model Line {
    input x: f32[N, 16, 37]
    return conv(16, 1)(concat([conv(16, 3, padding=1)(x), conv(32, 1)(x)]))
}"""
ALONG = """model Along {
    input x: f32[N, 3, 8, 8]
    y = conv(7, 3)(x)
    return concat([y, y * 2 + 1, relu(y)]), concat([y, relu(y)], axis=2), concat([flatten(y), flatten(relu(y))])
}"""


def copies(exe: cnnc.Executable, batch: int) -> int:
    """The steps of concatenations."""
    graph = exe.graph
    return sum(graph.node(s.node).op == "concat" for s in exe.runner.plan(batch).steps)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (SEVERAL, (6, 11)),
        (GROWING, (0, 5)),
        (BRANCHES, (0, 1)),
        (POOLED, (0, 2)),
        (VOLUME, (0, 1)),
        (SHIFTED, (0, 2)),
        (LINE, (0, 0)),
        (ALONG, (2, 6)),
    ],
    ids=["several", "growing", "branches", "pooled", "volume", "shifted", "line", "along"],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_what_is_not_copied_is_there(text, left, threads):
    net = cnnc.parse(text)
    exe, reference = cnnc.compile(net, threads=threads), cnnc.compile(net, target="reference")
    assert (copies(exe, 1), copies(exe, 3)) == left
    for batch in (1, 2, 3):
        x = np.random.default_rng(batch).standard_normal((batch, *exe.input_shapes["x"][1:])).astype(np.float32)
        got, want = exe.run({"x": x}), reference.run({"x": x})
        for label in want:
            np.testing.assert_allclose(got[label], want[label], rtol=1e-5, atol=1e-5, err_msg=label)
