"""Random networks: valid graphs over all layers and ops of the language, small, the same for the same seed.

Odd sizes and channels, one to three axes of space, one to three inputs, shared values, shared weights, broadcasting, several
outputs (some of them inputs, some of them twice, some a single number). An even seed draws mostly ops whose results are whole
numbers on whole numbers, so that much of the network can be compared to the bit; an odd seed draws from all of them.
"""

from __future__ import annotations

import numpy as np

from cnnc.ir.graph import Graph
from cnnc.ir.op import InferenceError
from cnnc.ir.types import activation
from tests.random_networks import blocks, layers, moves, pointwise, sums, windows
from tests.random_networks.maker import CHANNELS, Kinds, Maker

SPACE = {1: 40, 2: 11, 3: 5}  # the largest size of an axis, by the number of axes
KINDS: Kinds = {
    **layers.KINDS, **windows.KINDS, **pointwise.KINDS, **moves.KINDS, **sums.KINDS, **blocks.KINDS,
}  # fmt: skip


def network(seed: int) -> Graph:
    """The network of a seed: from one to three inputs through up to 14 layers to up to four outputs."""
    m = Maker(f"random{seed}", seed)
    likely = np.array([(whole if m.whole else any_) for _, whole, any_ in KINDS.values()], np.float64)
    inputs(m)
    for kind in m.rng.choice(list(KINDS), 3 + m.below(12), p=likely / likely.sum()):
        try:
            m.keep(KINDS[str(kind)][0](m))
        except InferenceError:  # a window larger than its input, shapes that do not broadcast
            continue
    return m.b.finish(outputs(m))


def inputs(m: Maker) -> None:
    axes = m.one((1, 2, 2, 2, 3))
    largest = SPACE[axes] * (4 if m.chance(10) else 1)
    shape = (m.one(CHANNELS), *(1 + m.below(largest) for _ in range(axes)))
    m.values.append(m.b.input("x", activation(("N", *shape))))
    for i in range(m.one((0, 0, 0, 1, 2))):
        other = m.one((shape, (m.one(CHANNELS), *shape[1:]), (shape[0], *[1] * axes), (m.one(CHANNELS),)))
        m.values.append(m.b.input(f"x{i + 1}", activation(("N", *other))))


def outputs(m: Maker) -> list[tuple[str, str]]:
    """Logits first, most often; then others, the last value among them."""
    found = []
    if m.chance(80):
        made = logits(m, m.values[-1] if m.chance(70) else m.any())
        if made is not None:
            found.append(("logits", made))
    if m.chance(60):
        found.append(("last", m.values[-1]))
    for i in range(m.below(3)):
        found.append((f"y{i}", m.any()))
    x = m.any()
    if m.chance(15) and m.sizes(x):  # a single number
        found.append(("number", m.add(m.one(("sum", "max")), [x], axis=tuple(range(m.b.type(x).rank)))))
    return found or [("y", m.values[-1])]


def logits(m: Maker, x: str) -> str | None:
    t = m.b.type(x)
    if t.rank < 2 or t.shape[0] != "N" or "N" in t.shape[1:]:
        return None
    if t.rank > 2 and m.chance(50):
        over = tuple(range(2, t.rank))
        x = m.add("global_avgpool", [x]) if m.chance(60) and t.rank < 6 else m.add("mean", [x], axis=over, keepdim=True)
    if t.rank > 2:
        x = m.add("flatten", [x])
    return m.dense(x, m.one((2, 3, 10, 17))) if m.chance(80) else x
