"""What random networks have of sums and products over many values: linear layers, reductions, normalization."""

from __future__ import annotations

from tests.random_networks.maker import CHANNELS, Kinds, Maker


def dense(m: Maker) -> str | None:
    flat = [v for v in m.values if m.b.type(v).rank >= 2 and m.sizes(v)[-1] != "N"]
    flat = [v for v in flat if m.b.type(v).rank == 2 or m.chance(15)]
    return m.dense(m.one(flat), m.one(CHANNELS)) if flat else None


def product(m: Maker) -> str | None:
    """A tensor times itself or one that fits, or a matrix of weights, either turned."""
    x = m.any()
    t = m.b.type(x)
    if not 2 <= t.rank <= 4 or "N" in t.shape[1:]:
        return None
    if m.chance(40):
        return m.add("matmul", [x, m.param((int(t.shape[-1]), m.one((1, 3, 16, 17))), "w")])
    turned = m.chance(50) and t.rank > 2
    axis = -2 if turned else -1
    near = [v for v in m.values if m.sizes(v)[:-2] == t.shape[:-2] and m.sizes(v)[axis:][:1] == t.shape[axis:][:1]]
    return m.add("matmul", [x, m.one(near)], transpose_a=turned, transpose_b=not turned)


def reduced(m: Maker, op: str, x: str) -> str | None:
    """Over some axes, to a single number now and then."""
    everything = m.chance(25)
    axes = tuple(a for a in range(m.b.type(x).rank) if everything or m.chance(35 if a else 12))
    return m.add(op, [x], axis=axes, keepdim=m.chance(60)) if axes else None


def extreme(m: Maker) -> str | None:
    return reduced(m, m.one(("max", "min")), m.any())


def factors(m: Maker) -> str | None:
    return reduced(m, "prod", m.bounded(m.any()))


def place(m: Maker) -> str | None:
    """Where along an axis an extreme is."""
    x = m.any()
    axis = m.axis(x)
    return None if axis is None else m.add(m.one(("argmax", "argmin")), [x], axis=axis, keepdim=m.chance(60))


def running(m: Maker) -> str | None:
    x = m.any()
    axis = m.axis(x)
    given = {"reverse": True} if m.chance(30) else {}
    return None if axis is None else m.add("cumsum", [x], axis=axis, **given)


def softmax(m: Maker) -> str | None:
    x = m.any()
    axis = m.axis(x) if m.chance(80) else m.below(max(m.b.type(x).rank, 1))
    return None if axis is None or not m.sizes(x) else m.add(m.one(("softmax", "log_softmax")), [x], axis=axis)


def batch_norm(m: Maker) -> str | None:
    x = m.featured()
    return None if x is None else m.b.norm(x, m.name(), **({"eps": 1e-3, "momentum": 0.3} if m.chance(30) else {}))


def normalize(m: Maker) -> str | None:
    """Over neighboring axes or groups of channels, with weights along the axes, one a channel, or none."""
    x = m.featured()
    if x is None:
        return None
    t = m.b.type(x)
    whole = tuple(range(1, t.rank))
    first = 1 + m.below(t.rank - 1)
    axes = m.one((whole, (1,), tuple(range(first, first + 1 + m.below(t.rank - first)))))
    channels, centered = int(t.shape[1]), m.chance(75)
    groups = m.one([g for g in range(1, channels + 1) if channels % g == 0]) if axes == whole else 1
    by_channel = axes == (1,) or groups > 1 or (axes == whole and m.chance(50))
    shape = (channels,) if by_channel else tuple(int(d) if i in axes else 1 for i, d in enumerate(t.shape))
    weights = [m.param(shape, what) for what in ("w", "b")[: 2 if centered else 1]] if m.chance(70) else []
    return m.add("normalize", [x, *weights], axes=axes, groups=groups, centered=centered, eps=m.one((1e-5, 0.1)))


KINDS: Kinds = {
    "dense": (dense, 1, 1),
    "product": (product, 1, 1),
    "total": (lambda m: reduced(m, "sum", m.any()), 1, 1),
    "mean": (lambda m: reduced(m, "mean", m.any()), 0, 1),
    "logsumexp": (lambda m: reduced(m, "logsumexp", m.any()), 0, 1),
    "extreme": (extreme, 1, 1),
    "factors": (factors, 1, 1),
    "place": (place, 1, 1),
    "running": (running, 1, 1),
    "softmax": (softmax, 0, 1),
    "batch_norm": (batch_norm, 0, 3),
    "normalize": (normalize, 0, 2),
    "dropout": (lambda m: m.add("dropout", [m.any()], p=m.one((0.0, 0.5, 0.5, 0.3))), 1, 1),
}
