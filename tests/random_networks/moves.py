"""What random networks have of values that change their places: parts, joins, axes, copies."""

from __future__ import annotations

from typing import Any

from tests.random_networks.maker import Kinds, Maker


def any_axis(m: Maker, rank: int) -> int:
    """An axis, of channels most often."""
    return m.one((1, 1, *range(rank))) if rank > 1 else 0


def concat(m: Maker) -> str | None:
    x = m.any()
    t = m.b.type(x)
    if not t.rank:
        return None
    axis = any_axis(m, t.rank)
    near = [
        v
        for v in m.values
        if m.b.type(v).rank == t.rank
        and all(i == axis or a == b for i, (a, b) in enumerate(zip(m.sizes(v), t.shape, strict=True)))
    ]
    return m.add("concat", [x, *(m.one(near) for _ in range(m.below(3)))], axis=axis)


def part(m: Maker) -> str | None:
    x = m.any()
    t = m.b.type(x)
    axis = any_axis(m, t.rank)
    if not t.rank or t.shape[axis] == "N":
        return None
    start, step = m.below(int(t.shape[axis])), m.one((1, 1, 1, 2, 3))
    size = 1 + m.below(-(-(int(t.shape[axis]) - start) // step))
    attributes: dict[str, Any] = {"axis": axis, "start": start, "size": size, "step": step if step > 1 else None}
    other = (axis + 1) % t.rank
    if m.chance(25) and t.shape[other] != "N" and other != axis:
        attributes = {k: v if v is None else (v, 1) for k, v in attributes.items()}
        attributes |= {"axis": (axis, other), "start": (start, int(t.shape[other]) - 1)}
    return m.add("slice", [x], **attributes)


def gather(m: Maker) -> str | None:
    x = m.any()
    axis = m.axis(x)
    if axis is None:
        return None
    size = int(m.sizes(x)[axis])
    indices = [m.below(2 * size) - size for _ in range(1 + m.below(min(size, 20) + 3))]
    return m.add("gather", [x], axis=axis, indices=indices)


def flip(m: Maker) -> str | None:
    x = m.any()
    axis = m.axis(x)
    return None if axis is None else m.add("flip", [x], axis=(axis,))


def repeat(m: Maker) -> str | None:
    x = m.any()
    repeats = [1 if d == "N" else m.one((1, 1, 1, 2, 3)) for d in m.sizes(x)]
    return m.add("repeat", [x], repeats=repeats) if repeats else None


def expand(m: Maker) -> str | None:
    """Axes of one entry made longer."""
    x = m.any()
    shape = [m.one((2, 3, 5)) if d == 1 else d for d in m.sizes(x)]
    return m.add("expand", [x], shape=tuple(shape)) if tuple(shape) != m.sizes(x) else None


def transpose(m: Maker) -> str | None:
    x = m.any()
    axes = list(range(m.b.type(x).rank))
    free = [i for i in axes if m.sizes(x)[i] != "N"]
    for i, j in zip(free, m.rng.permutation(free), strict=True):
        axes[i] = int(j)
    return m.add("transpose", [x], axes=axes) if axes else None


def reshape(m: Maker) -> str | None:
    """Two neighbors made one, or one of them two."""
    x = m.any()
    axis, shape = m.axis(x), list(m.sizes(x))
    if axis is None or len(shape) > 4:
        return None
    size = int(shape[axis])
    if axis + 1 < len(shape) and shape[axis + 1] != "N" and m.chance(50):
        shape[axis : axis + 2] = [size * int(shape[axis + 1])]
    else:
        divisor = m.one([d for d in range(1, size + 1) if size % d == 0])
        shape[axis : axis + 1] = [divisor, size // divisor]
    return m.add("reshape", [x], shape=shape)


def flatten(m: Maker) -> str | None:
    x = m.featured()
    return None if x is None else m.add("flatten", [x], start=1 + m.below(m.b.type(x).rank - 1))


KINDS: Kinds = {
    "concat": (concat, 2, 2),
    "part": (part, 2, 2),
    "gather": (gather, 1, 1),
    "flip": (flip, 1, 1),
    "repeat": (repeat, 1, 1),
    "expand": (expand, 1, 1),
    "transpose": (transpose, 1, 1),
    "reshape": (reshape, 1, 1),
    "flatten": (flatten, 1, 1),
}
