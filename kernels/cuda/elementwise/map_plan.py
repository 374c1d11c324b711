"""From views of memory to launches of pointwise maps. Nothing here imports Numba."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...cpu.code.expression import Expression
from ...cpu.launches import Launch, Shape, divide
from .. import Kernel
from ..target import LANES

THREADS, WIDTH = 256, 4
MOST_AXES = 6
IDENTITY: Expression = ("var", "a0")


@dataclass(frozen=True)
class View:
    """How an index over a `Space` becomes a place: a step in floats for each axis, and where it begins. padded: it has places for
    the channels behind the last, which a result writes as zeros.
    """

    steps: tuple[int, ...]
    start: int = 0
    padded: bool = False


@dataclass(frozen=True)
class Space:
    """The indices that a map goes through: those of a tensor of a logical shape, or of its blocks of channels [N, C / 8, ..., 8]."""

    shape: Shape
    blocked: bool = False

    @property
    def axes(self) -> tuple[int, ...]:
        if not self.blocked:
            return self.shape
        return (self.shape[0], divide(self.shape[1], LANES), *self.shape[2:], LANES)

    @property
    def dense(self) -> tuple[int, ...]:
        """The steps along its axes of memory without gaps."""
        return _dense(self.axes)

    def view(self, shape: Shape, blocked: bool = False, steps: Sequence[int] | None = None, start: int = 0) -> View:
        """That of a tensor whose axes are those of the space, or 1. steps: in floats, of a plain one that is not dense.

        Raises ValueError where it cannot be read so: of blocks of channels, by a space that has none.
        """
        if len(shape) != len(self.shape) or any(a not in (1, b) for a, b in zip(shape, self.shape, strict=True)):
            raise ValueError(f"a tensor of shape {shape} does not broadcast to {self.shape}")
        if blocked and not self.blocked:
            raise ValueError("blocks of channels are read by a map over blocks alone")
        if blocked:
            dense = _dense((shape[0], divide(shape[1], LANES), *shape[2:], LANES))
            channels = (dense[1], 1) if shape[1] == self.shape[1] else (0, 0)
            own = [0 if size == 1 else step for size, step in zip(shape, dense, strict=False)]
            return View((own[0], channels[0], *own[2:], channels[1]), start, True)
        own = [0 if size == 1 else step for size, step in zip(shape, steps or _dense(shape), strict=True)]
        if not self.blocked:
            return View(tuple(own), start)
        return View((own[0], LANES * own[1], *own[2:], own[1]), start)


def _dense(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def merged(sizes: Sequence[int], views: Sequence[View], apart: int = -1) -> tuple[list[int], list[list[int]]]:
    """The fewest axes that go through the same places in the same order, and the views' steps along them. apart: an axis that stays as
    it is.
    """
    kept: list[int] = []
    steps: list[list[int]] = [[] for _ in views]
    closed = True  # whether the last axis takes no other
    for axis, size in enumerate(sizes):
        if size == 1 and axis != apart:
            continue
        own = [view.steps[axis] for view in views]
        dense = all(row[-1] == step * size for row, step in zip(steps, own, strict=True)) if kept else False
        if dense and not closed and axis != apart:
            kept[-1] *= size
            for row, step in zip(steps, own, strict=True):
                row[-1] = step
            continue
        kept.append(size)
        for row, step in zip(steps, own, strict=True):
            row.append(step)
        closed = axis == apart
    return (kept or [1]), [row or [0] for row in steps]


def map_sizes(outer: int, views: int) -> tuple[str, ...]:
    """Names of the sizes of a map of so many views over so many outer axes."""
    steps = [f"step{v}_{a}" for v in range(views) for a in range(outer + 1)]
    return ("vectors", "row", "inner", "valid", "channels", *(f"size{a}" for a in range(1, outer)), *steps)


LARGEST = 2**31  # places are int32


def plan_map(
    space: Space, results: Sequence[View], operands: Sequence[View], expressions: Sequence[Expression]
) -> Launch:
    """y0, y1, ...: expressions of a0, a1, ... at every index of the space. A result may lie where an operand of the same view does.

    Raises ValueError for views that need more loops than a kernel has.
    """
    views = [*results, *operands]
    sizes = space.axes
    masked = space.blocked and space.shape[1] % LANES != 0
    axes, steps = merged(sizes, views, 1 if masked else -1)
    _check(space, axes, steps)
    outer, inner = axes[:-1], axes[-1]
    channel = (1 if sizes[0] != 1 else 0) if masked else -1
    kinds = tuple(_kind(view, row) for view, row in zip(views, steps, strict=True))
    row = divide(inner, WIDTH)
    vectors = math.prod(outer) * row
    names = map_sizes(len(outer), len(views))
    numbers = {
        "vectors": vectors,
        "row": row,
        "inner": inner,
        "valid": (space.shape[1] - 1) % LANES + 1 if masked else 0,
        "channels": sizes[1] if masked else 0,
    }
    numbers |= {f"size{a}": outer[a] for a in range(1, len(outer))}
    numbers |= {f"step{v}_{a}": step for v, line in enumerate(steps) for a, step in enumerate(line)}
    buffers = [f"y{i}" for i in range(len(results))] + [f"a{i}" for i in range(len(operands))]
    parameters = {
        "kinds": kinds, "expressions": tuple(expressions), "outer": len(outer), "channel": channel,
        "tail": not masked and inner % WIDTH != 0,
        "padded": tuple(view.padded for view in results),
    }  # fmt: skip
    launch = Launch.of(Kernel("map", tuple(parameters.items())), (*buffers, *names), numbers)
    starts = {name: 4 * view.start for name, view in zip(buffers, views, strict=True)}
    launch = Launch(launch.kernel, {**launch.arguments, **starts}, launch.buffers, 0)
    return launch.cut(divide(vectors, THREADS))


def _check(space: Space, axes: Sequence[int], steps: Sequence[Sequence[int]]) -> None:
    """Raises ValueError for more numbers than places, and more loops than a kernel has."""
    reach = [sum(step * (size - 1) for step, size in zip(row, axes, strict=True)) for row in steps]
    if max(reach) >= LARGEST or math.prod(axes) >= LARGEST:
        raise ValueError(f"a map over {space.shape} has more numbers than places of 32 bits")
    if len(axes) > MOST_AXES:
        raise ValueError(f"a map over {space.shape} needs more than {MOST_AXES} loops")


def _kind(view: View, steps: Sequence[int]) -> str:
    """vector: 4 numbers that lie together, aligned; scalar: one for all; strided: one by one."""
    if steps[-1] == 0:
        return "scalar"
    aligned = steps[-1] == 1 and view.start % WIDTH == 0 and all(step % WIDTH == 0 for step in steps[:-1])
    return "vector" if aligned else "strided"
