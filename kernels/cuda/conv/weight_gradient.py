"""The gradient of a convolution's weights, in strict float32: a tile of filters x channels of one tap, over a part of the pixels.

Shared memory of a stage: for each of 16 pixels the tile's filters of dy, and its channels of x. Threads of a warp are numbered as
those of `implicit.py`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from ...cpu.code.emit import F32, I32, I64, Emitter
from .. import Family
from ..code import gpu as G
from ..code.gpu import ARGUMENTS, BOOL, INT, LONG, constant, emitted, i32, i64
from ..code.program import Program
from .weight_gradient_plan import PIXELS, SIZES, STAGES, Tile, tile_of

BUFFERS = ("x", "dy", "table", "dw")
AT = {name: i for i, name in enumerate((*BUFFERS, *SIZES))}


class _Sums:
    """A thread's part of the tile."""

    def __init__(self, tile: Tile) -> None:
        self.tile = tile
        self.rows, self.columns = 4 * tile.fours[0], 4 * tile.fours[1]
        self.count = self.rows * self.columns
        self.type = types.UniTuple(types.float32, self.count)

    def place(self, e: Emitter, thread: Any) -> tuple[Any, Any]:
        """The first of a thread's filters, whose fours are 32 apart, and of its channels, 16 apart."""
        b, tile = e.b, self.tile
        warp, lane = b.lshr(thread, constant(5)), b.and_(thread, constant(31))
        down, across = b.udiv(warp, constant(tile.across)), b.urem(warp, constant(tile.across))
        column = b.or_(b.and_(lane, constant(1)), b.and_(b.lshr(lane, constant(1)), constant(2)))
        row = b.or_(b.and_(b.lshr(lane, constant(1)), constant(1)), b.and_(b.lshr(lane, constant(2)), constant(6)))
        filter_ = b.add(b.mul(down, constant(32 * tile.fours[0])), b.shl(row, constant(2)))
        channel = b.add(b.mul(across, constant(16 * tile.fours[1])), b.shl(column, constant(2)))
        return filter_, channel

    def step(self, e: Emitter, sums: Any, stage: Any, thread: Any) -> Any:
        b, held, row = e.b, G.unpack(e, sums, self.count), self.tile.row
        filter_, channel = self.place(e, thread)
        left = G.shared(e, b.add(stage, filter_), F32)
        right = G.shared(e, b.add(b.add(stage, channel), constant(self.tile.filters + 4)), F32)

        def fours(start: Any, offset: int, count: int, apart: int) -> list[Any]:
            found = []
            for g in range(count):
                p = b.bitcast(b.gep(start, [constant(offset + apart * g)]), G.vector.as_pointer(G.SHARED))
                value = b.load(p, align=16)
                found += [b.extract_element(value, constant(i)) for i in range(4)]
            return found

        for k in range(PIXELS):
            ys, xs = fours(left, k * row, self.tile.fours[0], 32), fours(right, k * row, self.tile.fours[1], 16)
            for i, y in enumerate(ys):
                for j, x in enumerate(xs):
                    n = i * self.columns + j
                    held[n] = G.intrinsic(e, "llvm.fma.f32", F32, [y, x, held[n]])
        return G.pack(e, held)

    def finish(self, e: Emitter, sums: Any, arguments: Any) -> None:
        """Stores of 16 bytes, of whole blocks: what lies behind the last filter and channel is zero."""
        b, held, tile = e.b, G.unpack(e, sums, self.count), self.tile
        raw = {name: b.load(b.gep(arguments, [ir.Constant(I64, at)])) for name, at in AT.items()}
        size = {name: b.trunc(raw[name], I32) for name in SIZES}
        (thread,) = G.assembly(e, "mov.u32 $0, %tid.x;", "=r", [], [I32])
        (number,) = G.assembly(e, "mov.u32 $0, %ctaid.x;", "=r", [], [I32])
        number, wide = b.udiv(number, size["wide"]), b.urem(number, size["wide"])
        number, tall = b.udiv(number, size["tall"]), b.urem(number, size["tall"])  # part, group and tap together
        filter_, channel = self.place(e, thread)
        filter_ = b.add(filter_, b.mul(tall, constant(tile.filters)))
        channel = b.add(channel, b.mul(wide, constant(tile.channels)))
        rows, row = b.shl(size["filter_blocks"], constant(3)), b.shl(size["channel_blocks"], constant(3))
        plane = b.mul(b.zext(rows, I64), b.zext(row, I64))
        for i in range(self.rows):
            f = b.add(filter_, constant(i % 4 + 32 * (i // 4)))
            line = b.add(b.mul(b.zext(number, I64), plane), b.mul(b.zext(f, I64), b.zext(row, I64)))
            for g in range(tile.fours[1]):
                c = b.add(channel, constant(16 * g))
                value: Any = ir.Constant(G.vector, ir.Undefined)
                for j in range(4):
                    value = b.insert_element(value, held[i * self.columns + 4 * g + j], constant(j))
                with b.if_then(b.and_(b.icmp_unsigned("<", f, rows), b.icmp_unsigned("<", c, row))):
                    G.store(e, value, raw["dw"], b.add(line, b.zext(c, I64)))


class _Fetch:
    """Starts the copies of a step: for one pixel, half of some blocks of dy and of x."""

    def __init__(self, tile: Tile) -> None:
        self.tile, self.warps = tile, tile.down * tile.across
        assert tile.filters % (8 * self.warps) == 0
        assert tile.channels % (8 * self.warps) == 0

    def __call__(self, e: Emitter, arguments: Any, *values: Any) -> None:
        """place: the pixel's row in shared memory, from the thread's first block on. sources, blocks: of dy and of x; there: whether the
        pixel is, and whether it is one of x's.
        """
        b, (place, from_dy, from_x, dy_block, x_block, there, inside) = e.b, values
        size = {
            n: b.load(b.gep(arguments, [ir.Constant(I64, AT[n])]))
            for n in ("dy_block", "x_block", "filter_blocks", "channel_blocks")
        }
        for source, first, block, blocks, whether, count, at in (
            (from_dy, dy_block, "dy_block", "filter_blocks", there, self.tile.filters, 0),
            (from_x, x_block, "x_block", "channel_blocks", inside, self.tile.channels, self.tile.filters + 4),
        ):
            for q in range(count // 8 // self.warps):
                step = b.mul(size[block], ir.Constant(I64, 4 * q * self.warps))
                number = b.add(first, constant(q * self.warps))
                ok = b.and_(whether, b.icmp_unsigned("<", number, b.trunc(size[blocks], I32)))
                G.copy16(e, place, 4 * (at + 8 * q * self.warps), b.add(source, step), 0, ok)


def make_weight_gradient(tile: tuple[int, int, int, int], deep: bool) -> Program:
    """deep: there are three axes."""
    shape = tile_of(tile)
    sums = _Sums(shape)
    zeros = emitted(sums.type, (), lambda e: G.pack(e, [ir.Constant(F32, 0.0)] * sums.count))
    step_tile = emitted(sums.type, (sums.type, INT, INT), sums.step)
    finish = emitted(None, (sums.type, ARGUMENTS), sums.finish)
    fetch = emitted(None, (ARGUMENTS, INT, LONG, LONG, INT, INT, BOOL, BOOL), _Fetch(shape))
    inside = emitted(BOOL, (INT, INT), lambda e, i, n: e.b.icmp_unsigned("<", i, n))
    waits = G.wait_for(STAGES - 2)
    X, DY, TABLE = AT["x"], AT["dy"], AT["table"]
    TOTAL, AREA, PLANE, COLUMNS, STRIDE, SIZE = (
        AT[n] for n in ("pixels", "area", "plane", "columns", "stride_z", "size_z")
    )
    X_IMAGE, X_GROUP, X_BLOCK = AT["x_image"], AT["x_group"], AT["x_block"]
    DY_IMAGE, DY_GROUP, DY_BLOCK = AT["dy_image"], AT["dy_group"], AT["dy_block"]
    TALL, WIDE, TAPS, GROUPS, SHARE = (AT[n] for n in ("tall", "wide", "taps", "groups", "share"))
    STAGE, ROW, AHEAD = PIXELS * shape.row, shape.row, STAGES - 1
    DOWN, ACROSS = shape.filters // 8, shape.channels // 8

    def kernel(arguments: Any, block: Any, _: Any) -> None:
        thread, number = G.thread(), i32(block)
        rest = G.divide(number, i32(arguments[WIDE]))
        wide = i32(number - rest * i32(arguments[WIDE]))
        number = G.divide(rest, i32(arguments[TALL]))
        tall = i32(rest - number * i32(arguments[TALL]))
        rest = G.divide(number, i32(arguments[TAPS]))
        tap = i32(number - rest * i32(arguments[TAPS]))
        part = G.divide(rest, i32(arguments[GROUPS]))
        group = i32(rest - part * i32(arguments[GROUPS]))
        move_z, move_y = G.load_int(arguments[TABLE], i32(4 * tap)), G.load_int(arguments[TABLE], i32(4 * tap + 1))
        move_x = G.load_int(arguments[TABLE], i32(4 * tap + 2))
        mine, half, first = i32(thread & 15), i32((thread >> 4) & 1), i32(thread >> 5)
        share = i32(arguments[SHARE])
        pixel = i32(part * share * PIXELS + mine)
        last = min(i32((part + 1) * share * PIXELS), i32(arguments[TOTAL]))
        dy_block, x_block = i32(tall * DOWN + first), i32(wide * ACROSS + first)
        dy_base = arguments[DY] + 4 * (
            i64(group) * arguments[DY_GROUP] + i64(dy_block) * arguments[DY_BLOCK] + half * 4
        )
        x_base = arguments[X] + 4 * (i64(group) * arguments[X_GROUP] + i64(x_block) * arguments[X_BLOCK] + half * 4)
        height, width = i32(arguments[SIZE + 1]), i32(arguments[SIZE + 2])
        here = i32(G.shared_address() + 4 * (mine * ROW + first * 8 + half * 4))
        held, use, into, step = zeros(), i32(0), i32(0), i32(-AHEAD)
        while step < share:
            if step >= 0:
                waits()
                G.sync()
            if i32(step + AHEAD) < share:
                there = pixel < last
                image = G.divide(pixel, i32(arguments[AREA]))
                spot = i32(pixel - image * i32(arguments[AREA]))
                rest, z = spot, i32(0)
                if deep:
                    z = G.divide(spot, i32(arguments[PLANE]))
                    rest = i32(spot - z * i32(arguments[PLANE]))
                    z = i32(z * i32(arguments[STRIDE]) + move_z)
                y = G.divide(rest, i32(arguments[COLUMNS]))
                x = i32((rest - y * i32(arguments[COLUMNS])) * i32(arguments[STRIDE + 2]) + move_x)
                y = i32(y * i32(arguments[STRIDE + 1]) + move_y)
                ok = there and inside(y, height) and inside(x, width)
                if deep:
                    ok = ok and inside(z, i32(arguments[SIZE]))
                from_dy = dy_base + 4 * (i64(image) * arguments[DY_IMAGE] + 8 * i64(spot))
                from_x = x_base + 4 * (i64(image) * arguments[X_IMAGE] + 8 * i64(i32((z * height + y) * width + x)))
                fetch(arguments, i32(here + into), from_dy, from_x, dy_block, x_block, there, ok)
            G.commit()
            pixel = i32(pixel + PIXELS)
            into = i32(into + 4 * STAGE)
            if into == 4 * STAGES * STAGE:
                into = i32(0)
            if step >= 0:
                held = step_tile(held, use, thread)
                use = i32(use + STAGE)
                if use == STAGES * STAGE:
                    use = i32(0)
            step = i32(step + 1)
        finish(held, arguments)

    return Program(kernel, BUFFERS, SIZES, shape.threads, shape.shared, 512 // shape.threads)


FAMILIES = (
    Family(
        "conv_weight_gradient", make_weight_gradient, "The gradient of weights. A block is a tile of a tap of a part."
    ),
)
