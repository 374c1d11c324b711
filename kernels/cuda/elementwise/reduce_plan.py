"""From views of memory to launches of sums, and other folds, over axes. Nothing here imports Numba."""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ...cpu.code.expression import Expression
from ...cpu.launches import Launch, divide
from .. import Kernel
from ..target import LANES, Chip
from .map_plan import LARGEST, Space, View, merged

THREADS = 256
MOST_AXES = 4
LEAST_SHARE = 2048  # terms of a part at least


def bits(number: float) -> int:
    """The int32 with the bits of a float32."""
    return int(struct.unpack("<i", struct.pack("<f", number))[0])


def reduce_sizes(kept: int, folded: int, views: int) -> tuple[str, ...]:
    """Names of the sizes of a fold over so many axes, with so many left."""
    steps = [f"step{v}_{kind}{a}" for v in range(views) for kind, n in (("k", kept), ("f", folded)) for a in range(n)]
    axes = [f"kept{a}" for a in range(1, kept)] + [f"folded{a}" for a in range(1, folded)]
    head = ("outputs", "terms", "share", "scale", "blocks", "channels", "row", "part")
    return (*head, *axes, *steps, *(f"lane{v}" for v in range(views)))


@dataclass(frozen=True)
class Reduction:
    """What is folded: which of a space's logical axes, and how: "add", "max", "min" or "mul". scale: what the result is multiplied by.
    blocked: whether results are in blocks of channels, as `space` is then.
    """

    space: Space
    axes: Collection[int]
    fold: str = "add"
    scale: float = 1.0
    blocked: bool = False


@dataclass(frozen=True)
class Reduced:
    """A launch, and into how many parts the terms are cut, whose results lie `floats` apart."""

    launch: Launch
    parts: int
    floats: int


def _split(reduction: Reduction) -> tuple[list[int], list[int]]:
    """The space's axes that are kept and those that are folded, without the lanes of blocks."""
    rank = len(reduction.space.shape)
    folded = {a % rank for a in reduction.axes}
    if reduction.space.blocked and 1 in folded:
        raise ValueError("channels in blocks are not folded")
    return [a for a in range(rank) if a not in folded], sorted(folded)


def plan_reduce(
    chip: Chip,
    reduction: Reduction,
    operands: Sequence[View],
    expressions: Sequence[Expression],
    cut: int | None = None,
) -> Reduced:
    """y0, y1, ...: folds of expressions of a0, a1, ... over some axes. cut: into how many parts.

    Threads take terms in turn, and fold theirs in a tree: the order depends on sizes alone.
    """
    space = reduction.space
    sizes, (kept, folded) = space.axes, _split(reduction)

    def along(axes: Sequence[int], apart: int) -> tuple[list[int], list[list[int]]]:
        views = [View(tuple(view.steps[a] for a in axes)) for view in operands]
        return merged([sizes[a] for a in axes], views, apart)

    # blocks of channels stay an axis of their own, the last of those that are kept
    kept_sizes, kept_steps = along(kept, kept.index(1) if space.blocked else -1)
    folded_sizes, folded_steps = along(folded, -1)
    outputs, terms = math.prod(kept_sizes), math.prod(folded_sizes)
    _check(reduction, operands, kept_sizes, folded_sizes)
    width, halves = (LANES, 2) if space.blocked else (1, 1)
    threads = _threads(outputs, terms, halves, folded_steps)
    row = divide(space.shape[1], LANES) * LANES if reduction.blocked else space.shape[1] if space.blocked else outputs
    blocks = divide(space.shape[1], LANES) if space.blocked else outputs
    floats = outputs // blocks * row
    parts = cut or _parts(chip, outputs, terms, threads)
    share = divide(terms, parts)
    parts = divide(terms, share) if share else 1
    views = len(operands)
    numbers = {
        "outputs": outputs, "terms": terms, "share": share, "scale": bits(reduction.scale), "blocks": blocks,
        "channels": space.shape[1] if space.blocked else 0, "row": row, "part": floats,
    }  # fmt: skip
    numbers |= {f"kept{a}": kept_sizes[a] for a in range(1, len(kept_sizes))}
    numbers |= {f"folded{a}": folded_sizes[a] for a in range(1, len(folded_sizes))}
    for v in range(views):
        numbers |= {f"step{v}_k{a}": step for a, step in enumerate(kept_steps[v])}
        numbers |= {f"step{v}_f{a}": step for a, step in enumerate(folded_steps[v])}
        numbers[f"lane{v}"] = operands[v].steps[-1] if space.blocked else 0
    parameters = {
        "expressions": tuple(expressions), "fold": reduction.fold, "kept": len(kept_sizes), "folded": len(folded_sizes),
        "kinds": tuple(_kind(v, kept_steps[i], folded_steps[i], width) for i, v in enumerate(operands)), "threads": threads,
        "blocked": space.blocked, "padded": reduction.blocked,
    }  # fmt: skip
    buffers = [f"y{i}" for i in range(len(expressions))] + [f"a{i}" for i in range(views)]
    names = reduce_sizes(len(kept_sizes), len(folded_sizes), views)
    launch = Launch.of(Kernel("reduce", tuple(parameters.items())), (*buffers, *names), numbers)
    starts = {f"a{i}": 4 * view.start for i, view in enumerate(operands)}
    launch = Launch(launch.kernel, {**launch.arguments, **starts}, launch.buffers, 0)
    return Reduced(launch.cut(divide(outputs, THREADS // threads) * parts), parts, floats)


def _kind(view: View, kept: Sequence[int], folded: Sequence[int], width: int) -> str:
    """How 4 channels are read: "vector", one "scalar" for all, or "strided" one by one."""
    if width == 1 or view.steps[-1] == 0:
        return "scalar"
    together = view.steps[-1] == 1 and view.padded
    return "vector" if together and all(step % 4 == 0 for step in (view.start, *kept, *folded)) else "strided"


def _threads(outputs: int, terms: int, halves: int, steps: Sequence[Sequence[int]]) -> int:
    """How many share an output: one, where neighbors' numbers adjoin and there are many; else as many as have work."""
    far = all(row[-1] > 1 for row in steps) if halves == 1 else False
    if far and outputs >= 128:
        return 1
    if far and terms <= 32:
        return 1
    wanted = max(halves, 32 if terms * halves <= 256 else THREADS)
    return wanted


def _parts(chip: Chip, outputs: int, terms: int, threads: int) -> int:
    blocks = divide(outputs, THREADS // threads)
    return max(1, min(divide(2 * chip.multiprocessors, max(1, blocks)), terms // (LEAST_SHARE if threads > 1 else 64)))


def _check(reduction: Reduction, operands: Sequence[View], kept: Sequence[int], folded: Sequence[int]) -> None:
    """Raises ValueError for more loops than a kernel has, and more numbers than places."""
    shape = reduction.space.shape
    if len(kept) > MOST_AXES or len(folded) > MOST_AXES:
        raise ValueError(f"a fold over {sorted(reduction.axes)} of {shape} needs more than {MOST_AXES} loops")
    if math.prod(reduction.space.axes) >= LARGEST:
        raise ValueError(f"a fold over {shape} has more numbers than places of 32 bits")
