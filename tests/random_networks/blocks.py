"""What random networks have of pieces that real ones repeat."""

from __future__ import annotations

from cnnc.ops.window import Window
from tests.passes.networks import WEIGHTS
from tests.random_networks.maker import CHANNELS, Kinds, Maker
from tests.random_networks.windows import activated, convolved, window


def residual(m: Maker) -> str | None:
    """relu(x + conv(x)), with odd kernels and the padding that keeps the size, once or twice with the same weights."""
    x = m.image()
    if x is None:
        return None
    kernel, channels = tuple(m.one((1, 3)) for _ in range(m.b.type(x).rank - 2)), int(m.sizes(x)[1])
    for _ in range(1 + m.below(2)):
        y = convolved(m, x, {"kernel": kernel, "padding": "same"}, channels)
        if y is None:
            return None
        if not m.whole and m.chance(30):
            y = m.b.norm(y, m.name())
        x = m.add("relu", [m.add("add", [x, y])])
    return x


def inverted(m: Maker) -> str | None:
    """A 1x1 convolution and a depthwise one, with an activation between them and behind; the value between is read by
    others too, now and then.
    """
    x = m.image()
    if x is None:
        return None
    wide, axes = m.one(CHANNELS), m.b.type(x).rank - 2
    y = convolved(m, x, {"kernel": (1,) * axes}, wide)
    if y is None:
        return None
    y = activated(m, y)
    if m.chance(15):
        m.keep(y)
    given = window(m, y)
    at = Window.of(given["kernel"], given, axes)
    w = m.param((wide, 1, *at.kernel), "w", WEIGHTS[axes + 2])
    operands = [y, w, *([m.param((wide,), "b")] if m.chance(60) else [])]
    z = m.add("conv", operands, **at.attributes(), groups=wide)
    return activated(m, z) if m.chance(60) else z


def branches(m: Maker) -> str | None:
    """Several convolutions of one image, beside each other."""
    x = m.image()
    if x is None:
        return None
    axes = m.b.type(x).rank - 2
    made = [
        convolved(m, x, {"kernel": (size,) * axes, "padding": "same"}, m.one((3, 8, 16)))
        for size in (1, 3, 1)[: 2 + m.below(2)]
    ]
    parts = [activated(m, y) if m.chance(50) else y for y in made if y is not None]
    return m.add("concat", [*parts, x] if m.chance(30) else parts, axis=1) if parts else None


def attention(m: Maker) -> str | None:
    """Pixels weighed by how alike they are: softmax(q k') v."""
    x = m.image()
    if x is None:
        return None
    one, width = (1,) * (m.b.type(x).rank - 2), m.one((1, 4, 7))
    made = [convolved(m, x, {"kernel": one}, width) for _ in range(3)]
    if any(y is None for y in made):
        return None
    q, k, v = (m.add("flatten", [y], start=2) for y in made if y is not None)
    alike = m.add("matmul", [q, k], transpose_a=True, transpose_b=False)
    return m.add("matmul", [v, m.add("softmax", [alike], axis=2)], transpose_a=False, transpose_b=True)


KINDS: Kinds = {
    "residual": (residual, 1, 1),
    "inverted": (inverted, 1, 1),
    "branches": (branches, 1, 1),
    "attention": (attention, 0, 1),
}
