"""Windows over images: their largest numbers, their averages, and the gradients of both.

A thread has one place, of 4 channels where they are in blocks. Gradients go through the places of the input and add up what
windows that they are in give them, in the windows' order: no two threads write one place.
"""

from __future__ import annotations

from typing import Any

from ...cpu.code.emit import Emitter
from .. import Family
from ..code import gpu as G
from ..code.gpu import INT, constant, emitted, f32, i32
from ..code.program import Program
from ..target import LANES
from .windows_plan import SIZES, THREADS


def _first_window(e: Emitter, i: Any, reach: Any, stride: Any) -> Any:
    """The least window that reaches a place, at `stride` times its number: windows are `reach` long."""
    b = e.b
    past = b.sub(b.add(i, constant(1)), reach)
    up = b.udiv(b.sub(b.add(past, stride), constant(1)), stride)
    return b.select(b.icmp_signed("<=", past, constant(0)), constant(0), up)


first_window = emitted(INT, (INT, INT, INT), _first_window)
# the end of a window along an axis, less its beginning, in the image or in the padded one
count_there = emitted(
    INT, (INT, INT, INT, INT),
    lambda e, start, kernel, size, after: e.b.sub(_least(e, e.b.add(start, kernel), size), _most(e, start, constant(0))),
)  # fmt: skip
count_padded = emitted(
    INT, (INT, INT, INT, INT),
    lambda e, start, kernel, size, after: e.b.sub(_least(e, e.b.add(start, kernel), e.b.add(size, after)), start),
)  # fmt: skip


def _least(e: Emitter, x: Any, y: Any) -> Any:
    return e.b.select(e.b.icmp_signed("<", x, y), x, y)


def _most(e: Emitter, x: Any, y: Any) -> Any:
    return e.b.select(e.b.icmp_signed(">", x, y), x, y)


class _Arguments:
    """Where the arguments of a kernel over so many buffers stand; of sizes along the axes the first, z's."""

    def __init__(self, *buffers: str) -> None:
        self.buffers = buffers
        self.of = {name: i for i, name in enumerate((*buffers, *SIZES))}

    def axes(self) -> tuple[int, ...]:
        names = ("size", "out", "kernel", "stride", "before", "after", "dilation")
        return tuple(self.of[f"{name}_z"] for name in names)

    def head(self) -> tuple[int, ...]:
        return tuple(self.of[name] for name in ("total", "area", "plane", "columns", "divisor"))


def make_pool(what: str, blocked: bool, counts: str) -> Program:
    """what: "max", "average", or the gradient of one of them. counts: what an average is divided by: "given", or how many numbers a window
    has, "there" in the image or "padded".
    """
    if what == "max_gradient":
        return _max_gradient(blocked)
    return (
        _average_gradient(blocked, counts) if what == "average_gradient" else _forward(what == "max", blocked, counts)
    )


def _forward(most: bool, blocked: bool, counts: str) -> Program:
    V, WIDTH, HALVES = G.vectors(4 if blocked else 1), LANES if blocked else 1, 2 if blocked else 1
    names = _Arguments("x", "y")
    X, Y = names.of["x"], names.of["y"]
    TOTAL, AREA, PLANE, COLUMNS, DIVISOR = names.head()
    SIZE, _OUT, KERNEL, STRIDE, BEFORE, AFTER, DILATION = names.axes()
    given, count = counts == "given", count_padded if counts == "padded" else count_there

    def kernel(arguments: Any, block: Any, _: Any) -> None:
        number = i32(block * THREADS + G.thread())
        if number < i32(arguments[TOTAL]):
            half = G.remainder(number, i32(HALVES))
            rest = G.divide(number, i32(HALVES))
            plane = G.divide(rest, i32(arguments[AREA]))
            pixel = i32(rest - plane * i32(arguments[AREA]))
            target = i32((plane * i32(arguments[AREA]) + pixel) * WIDTH + half * 4)
            z = G.divide(pixel, i32(arguments[PLANE]))
            pixel = i32(pixel - z * i32(arguments[PLANE]))
            y = G.divide(pixel, i32(arguments[COLUMNS]))
            x = i32(pixel - y * i32(arguments[COLUMNS]))
            z = i32(z * i32(arguments[STRIDE]) - i32(arguments[BEFORE]))
            y = i32(y * i32(arguments[STRIDE + 1]) - i32(arguments[BEFORE + 1]))
            x = i32(x * i32(arguments[STRIDE + 2]) - i32(arguments[BEFORE + 2]))
            depth, height, width = i32(arguments[SIZE]), i32(arguments[SIZE + 1]), i32(arguments[SIZE + 2])
            base = i32(plane * depth * height * width * WIDTH + half * 4)
            value = V.minus_infinity() if most else V.zero()
            for dz in range(i32(arguments[KERNEL])):
                iz = i32(z + dz * i32(arguments[DILATION]))
                if 0 <= iz < depth:
                    for dy in range(i32(arguments[KERNEL + 1])):
                        iy = i32(y + dy * i32(arguments[DILATION + 1]))
                        if 0 <= iy < height:
                            for dx in range(i32(arguments[KERNEL + 2])):
                                ix = i32(x + dx * i32(arguments[DILATION + 2]))
                                if 0 <= ix < width:
                                    one = V.load(arguments[X], i32(base + ((iz * height + iy) * width + ix) * WIDTH))
                                    value = V.maximum(value, one) if most else value + one
            if not most:
                n = i32(arguments[DIVISOR])
                if not given:
                    n = count(z, i32(arguments[KERNEL]), depth, i32(arguments[AFTER]))
                    n = i32(n * count(y, i32(arguments[KERNEL + 1]), height, i32(arguments[AFTER + 1])))
                    n = i32(n * count(x, i32(arguments[KERNEL + 2]), width, i32(arguments[AFTER + 2])))
                value = value / V.splat(f32(n))
            V.store(value, arguments[Y], target)

    return Program(kernel, names.buffers, SIZES, THREADS)


def _average_gradient(blocked: bool, counts: str) -> Program:
    V, WIDTH, HALVES = G.vectors(4 if blocked else 1), LANES if blocked else 1, 2 if blocked else 1
    names = _Arguments("dy", "y")
    DY, Y = names.of["dy"], names.of["y"]
    TOTAL, AREA, PLANE, COLUMNS, DIVISOR = names.head()
    SIZE, OUT, KERNEL, STRIDE, BEFORE, AFTER, _DILATION = names.axes()
    given, count = counts == "given", count_padded if counts == "padded" else count_there

    def kernel(arguments: Any, block: Any, _: Any) -> None:
        number = i32(block * THREADS + G.thread())
        if number < i32(arguments[TOTAL]):
            half = G.remainder(number, i32(HALVES))
            rest = G.divide(number, i32(HALVES))
            plane = G.divide(rest, i32(arguments[AREA]))
            pixel = i32(rest - plane * i32(arguments[AREA]))
            target = i32((plane * i32(arguments[AREA]) + pixel) * WIDTH + half * 4)
            z = G.divide(pixel, i32(arguments[PLANE]))
            pixel = i32(pixel - z * i32(arguments[PLANE]))
            y = G.divide(pixel, i32(arguments[COLUMNS]))
            x = i32(pixel - y * i32(arguments[COLUMNS]) + i32(arguments[BEFORE + 2]))
            y, z = i32(y + i32(arguments[BEFORE + 1])), i32(z + i32(arguments[BEFORE]))
            kz, ky, kx = i32(arguments[KERNEL]), i32(arguments[KERNEL + 1]), i32(arguments[KERNEL + 2])
            sz, sy, sx = i32(arguments[STRIDE]), i32(arguments[STRIDE + 1]), i32(arguments[STRIDE + 2])
            oz, oy, ox = i32(arguments[OUT]), i32(arguments[OUT + 1]), i32(arguments[OUT + 2])
            base = i32(plane * oz * oy * ox * WIDTH + half * 4)
            value = V.zero()
            for wz in range(first_window(z, kz, sz), min(i32(G.divide(z, sz) + 1), oz)):
                for wy in range(first_window(y, ky, sy), min(i32(G.divide(y, sy) + 1), oy)):
                    for wx in range(first_window(x, kx, sx), min(i32(G.divide(x, sx) + 1), ox)):
                        one = V.load(arguments[DY], i32(base + ((wz * oy + wy) * ox + wx) * WIDTH))
                        n = i32(arguments[DIVISOR])
                        if not given:
                            start = i32(wz * sz - i32(arguments[BEFORE]))
                            n = count(start, kz, i32(arguments[SIZE]), i32(arguments[AFTER]))
                            start = i32(wy * sy - i32(arguments[BEFORE + 1]))
                            n = i32(n * count(start, ky, i32(arguments[SIZE + 1]), i32(arguments[AFTER + 1])))
                            start = i32(wx * sx - i32(arguments[BEFORE + 2]))
                            n = i32(n * count(start, kx, i32(arguments[SIZE + 2]), i32(arguments[AFTER + 2])))
                        value = value + one / V.splat(f32(n))
            V.store(value, arguments[Y], target)

    return Program(kernel, names.buffers, SIZES, THREADS)


def _max_gradient(blocked: bool) -> Program:
    V, WIDTH, HALVES = G.vectors(4 if blocked else 1), LANES if blocked else 1, 2 if blocked else 1
    names = _Arguments("x", "dy", "y")
    X, DY, Y = names.of["x"], names.of["dy"], names.of["y"]
    TOTAL, AREA, PLANE, COLUMNS, _DIVISOR = names.head()
    SIZE, OUT, KERNEL, STRIDE, BEFORE, _AFTER, DILATION = names.axes()

    def kernel(arguments: Any, block: Any, _: Any) -> None:
        number = i32(block * THREADS + G.thread())
        if number < i32(arguments[TOTAL]):
            half = G.remainder(number, i32(HALVES))
            rest = G.divide(number, i32(HALVES))
            plane = G.divide(rest, i32(arguments[AREA]))
            own = i32(rest - plane * i32(arguments[AREA]))
            depth, height, width = i32(arguments[SIZE]), i32(arguments[SIZE + 1]), i32(arguments[SIZE + 2])
            base = i32(plane * i32(arguments[AREA]) * WIDTH + half * 4)
            z = G.divide(own, i32(arguments[PLANE]))
            rest = i32(own - z * i32(arguments[PLANE]))
            y = G.divide(rest, i32(arguments[COLUMNS]))
            x = i32(rest - y * i32(arguments[COLUMNS]) + i32(arguments[BEFORE + 2]))
            y, z = i32(y + i32(arguments[BEFORE + 1])), i32(z + i32(arguments[BEFORE]))
            kz, ky, kx = i32(arguments[KERNEL]), i32(arguments[KERNEL + 1]), i32(arguments[KERNEL + 2])
            sz, sy, sx = i32(arguments[STRIDE]), i32(arguments[STRIDE + 1]), i32(arguments[STRIDE + 2])
            dz, dy, dx = i32(arguments[DILATION]), i32(arguments[DILATION + 1]), i32(arguments[DILATION + 2])
            oz, oy, ox = i32(arguments[OUT]), i32(arguments[OUT + 1]), i32(arguments[OUT + 2])
            given = i32(plane * oz * oy * ox * WIDTH + half * 4)
            total = V.zero()
            for wz in range(first_window(z, i32((kz - 1) * dz + 1), sz), min(i32(G.divide(z, sz) + 1), oz)):
                for wy in range(first_window(y, i32((ky - 1) * dy + 1), sy), min(i32(G.divide(y, sy) + 1), oy)):
                    for wx in range(first_window(x, i32((kx - 1) * dx + 1), sx), min(i32(G.divide(x, sx) + 1), ox)):
                        # the first largest number of this window: `mine` is 1 where it is this thread's
                        best, mine, some = V.zero(), V.zero(), False
                        for tz in range(kz):
                            iz = i32(wz * sz - i32(arguments[BEFORE]) + tz * dz)
                            if 0 <= iz < depth:
                                for ty in range(ky):
                                    iy = i32(wy * sy - i32(arguments[BEFORE + 1]) + ty * dy)
                                    if 0 <= iy < height:
                                        for tx in range(kx):
                                            ix = i32(wx * sx - i32(arguments[BEFORE + 2]) + tx * dx)
                                            if 0 <= ix < width:
                                                spot = i32((iz * height + iy) * width + ix)
                                                value = V.load(arguments[X], i32(base + spot * WIDTH))
                                                flag = V.splat(f32(spot == own))
                                                if some:
                                                    found = V.better(value, best)
                                                    best = V.select(found, value, best)
                                                    mine = V.select(found, flag, mine)
                                                else:
                                                    best, mine, some = value, flag, True
                        one = V.load(arguments[DY], i32(given + ((wz * oy + wy) * ox + wx) * WIDTH))
                        total = V.select(mine > V.zero(), total + one, total)
            V.store(total, arguments[Y], i32(base + own * WIDTH))

    return Program(kernel, names.buffers, SIZES, THREADS)


FAMILIES = (
    Family("pool", make_pool, "Largest numbers and averages of windows, and their gradients. A block is 128 places."),
)
