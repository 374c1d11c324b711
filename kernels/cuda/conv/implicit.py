"""Convolution as a product of matrices, in strict float32: a tile of sums in each thread's registers.

Shared memory of a stage: [ENTRIES][pixels][8], the halves of 16 bytes changed where pixel & 4, against conflicts of banks; then
[ENTRIES][8][filters]. The 8 x 4 threads of a warp are numbered so that threads 2 i, 2 i + 1 read the same filters' neighbors and
threads i, i + 2 the same pixels: then shared memory serves a load of 16 bytes in two cycles instead of four.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from ...cpu.code.emit import F32, I32, I64, Emitter
from ...cpu.code.expression import Expression
from .. import Family
from ..code import gpu as G
from ..code.gpu import ARGUMENTS, BOOL, INT, LONG, constant, emitted, i32, i64
from ..code.program import Program
from ..target import LANES
from .implicit_plan import PACK_SIZES, PACK_THREADS, SIZES
from .tile import ENTRIES, STAGES, Parameters, Tile


class Sums:
    """A thread's part of a tile, and where it lies."""

    def __init__(self, tile: Tile) -> None:
        self.tile, self.count = tile, tile.tall * tile.wide
        self.type = types.UniTuple(types.float32, self.count)
        self.zeros = emitted(self.type, (), lambda e: G.pack(e, [ir.Constant(F32, 0.0)] * self.count))
        self.step = emitted(self.type, (self.type, INT, INT), self._step)

    def place(self, e: Emitter, thread: Any) -> tuple[Any, Any, Any]:
        """The first of a thread's pixels and of its filters in the tile; its row in the warp."""
        b, tile = e.b, self.tile
        warp, lane = b.lshr(thread, constant(5)), b.and_(thread, constant(31))
        down, across = b.udiv(warp, constant(tile.across)), b.urem(warp, constant(tile.across))
        column = b.or_(b.and_(lane, constant(1)), b.and_(b.lshr(lane, constant(1)), constant(2)))
        row = b.or_(b.and_(b.lshr(lane, constant(1)), constant(1)), b.and_(b.lshr(lane, constant(2)), constant(6)))
        pixel = b.add(b.mul(down, constant(tile.pixels // tile.down)), row)
        filter_ = b.add(b.mul(across, constant(tile.filters // tile.across)), b.shl(column, constant(2)))
        return pixel, filter_, row

    def _step(self, e: Emitter, sums: Any, stage: Any, thread: Any) -> Any:
        """Add the products of the entries that lie at `stage` floats of shared memory."""
        b, tile, held = e.b, self.tile, G.unpack(e, sums, self.count)
        pixel, filter_, row = self.place(e, thread)
        changed = b.and_(row, constant(4))  # 4 floats: where the halves are changed
        first = b.add(stage, b.add(b.shl(pixel, constant(3)), changed))
        halves = [first, b.xor(first, constant(4))]
        weights = b.add(stage, b.add(filter_, constant(ENTRIES * LANES * tile.pixels)))
        left = [G.shared(e, half, F32) for half in halves]
        right = G.shared(e, weights, F32)

        def four(start: Any, offset: int) -> list[Any]:
            p = b.bitcast(b.gep(start, [constant(offset)]), G.vector.as_pointer(G.SHARED))
            value = b.load(p, align=16)
            return [b.extract_element(value, constant(i)) for i in range(4)]

        for entry in range(ENTRIES):
            for half in range(2):
                xs = [four(left[half], LANES * (entry * tile.pixels + 8 * i)) for i in range(tile.tall)]
                for k in range(4):
                    at = (entry * LANES + 4 * half + k) * tile.filters
                    ws = [value for g in range(tile.wide // 4) for value in four(right, at + 16 * g)]
                    for i in range(tile.tall):
                        for j in range(tile.wide):
                            n = i * tile.wide + j
                            held[n] = G.intrinsic(e, "llvm.fma.f32", F32, [xs[i][k], ws[j], held[n]])
        return G.pack(e, held)


class _End:
    """What becomes of the sums: the epilogue, and stores of 16 bytes."""

    def __init__(
        self,
        sums: Sums,
        expression: Expression | None,
        operands: tuple[str, ...],
        buffers: tuple[str, ...],
        parts: bool,
    ) -> None:
        self.sums, self.expression, self.operands, self.parts = sums, expression, operands, parts
        self.where = {name: i for i, name in enumerate((*buffers, *SIZES))}

    def __call__(self, e: Emitter, sums: Any, arguments: Any) -> None:
        b, tile = e.b, self.sums.tile
        held = G.unpack(e, sums, self.sums.count)
        raw = {name: b.load(b.gep(arguments, [ir.Constant(I64, at)])) for name, at in self.where.items()}
        size = {name: b.trunc(raw[name], I32) for name in SIZES}
        # which part of the work it is, found once more: registers that the main loop does not have to keep
        (thread,) = G.assembly(e, "mov.u32 $0, %tid.x;", "=r", [], [I32])
        (number,) = G.assembly(e, "mov.u32 $0, %ctaid.x;", "=r", [], [I32])
        part = constant(0)
        if self.parts:
            parts = b.udiv(b.sub(b.add(size["steps"], size["share"]), constant(1)), size["share"])
            number, part = b.udiv(number, parts), b.urem(number, parts)
        number, panel = b.udiv(number, size["panels"]), b.urem(number, size["panels"])
        number, group = b.udiv(number, size["groups"]), b.urem(number, size["groups"])
        first = b.mul(number, constant(tile.pixels))
        pixel, filter_, _ = self.sums.place(e, thread)
        filter_ = b.add(filter_, b.mul(panel, constant(tile.filters)))
        begin = b.add(raw["y_first"], b.mul(raw["part"], b.zext(part, I64)))
        blocks_before = b.udiv(b.mul(group, size["filters"]), constant(LANES))
        for i in range(tile.tall):
            number = b.add(b.add(first, pixel), constant(8 * i))
            image, rest = b.udiv(number, size["area"]), b.urem(number, size["area"])
            z, rest = b.udiv(rest, size["plane"]), b.urem(rest, size["plane"])
            y, x = b.udiv(rest, size["columns"]), b.urem(rest, size["columns"])
            inside = b.add(b.add(b.mul(z, size["y_z"]), b.mul(y, size["y_y"])), b.mul(x, size["y_x"]))
            row = b.add(b.add(begin, b.mul(b.zext(image, I64), raw["y_image"])), b.sext(inside, I64))
            there = b.icmp_unsigned("<", number, size["pixels"])
            for g in range(tile.wide // 4):
                at = b.add(filter_, constant(16 * g))
                block = b.lshr(at, constant(3))
                whose = b.icmp_unsigned("<", b.shl(block, constant(3)), size["filters"])
                block = b.zext(b.add(block, blocks_before), I64)
                place = b.add(b.add(row, b.mul(block, raw["y_block"])), b.zext(b.and_(at, constant(7)), I64))
                value: Any = ir.Constant(G.vector, ir.Undefined)
                for j in range(4):
                    value = b.insert_element(value, held[i * tile.wide + 4 * g + j], constant(j))
                with b.if_then(b.and_(there, whose)):
                    self._store(e, value, raw, place, at, b.add(at, b.mul(group, size["filters"])), size["filters"])

    def _store(
        self, e: Emitter, value: Any, raw: dict[str, Any], place: Any, filter_: Any, channel: Any, filters: Any
    ) -> None:
        b, left = e.b, e.b.sub(filters, filter_)
        if self.expression is not None:
            values = {"y": value}
            for i, kind in enumerate(self.operands):
                address = raw[f"a{i}"]
                if kind == "full":
                    values[f"a{i}"] = G.load(e, address, place, G.vector)
                elif kind == "scalar":
                    values[f"a{i}"] = e.splat(G.load(e, address, constant(0)))
                else:
                    values[f"a{i}"] = G.load_some(e, address, channel, left)
            value = e.expression(self.expression, values)
        lanes = ir.Constant(ir.VectorType(I32, 4), list(range(4)))
        value = e.select(b.icmp_signed("<", lanes, e.splat(left)), value, e.const(0))
        G.store(e, value, raw["y"], place)


class _Fetch:
    """Starts the copies of a step: half of a pixel's numbers for each entry, and a thread's share of the weights."""

    def __init__(self, tile: Tile, deep: bool, sizes: tuple[int, int, int]) -> None:
        """sizes: where those of the input stand among the arguments."""
        self.tile, self.deep, self.sizes = tile, deep, sizes
        self.copies = ENTRIES * 2 * tile.filters // tile.threads
        assert tile.threads == 2 * tile.pixels
        assert self.copies * tile.threads == ENTRIES * 2 * tile.filters

    def __call__(self, e: Emitter, arguments: Any, *values: Any) -> None:
        """pixel, weight: where in shared memory. source: the thread's pixel, before it is moved. table: of the step's entries. z, y, x:
        the pixel's place.
        """
        b, (pixel, weight, source, weights, table, there, z, y, x) = e.b, values
        depth, height, width = (b.trunc(b.load(b.gep(arguments, [ir.Constant(I64, at)])), I32) for at in self.sizes)
        for n in range(ENTRIES):
            four = G.load(e, table, constant(4 * n), ir.VectorType(I32, 4))
            offset, dz, dy, dx = (b.extract_element(four, constant(i)) for i in range(4))
            ok = there
            for move, place, size in ((dy, y, height), (dx, x, width), *([(dz, z, depth)] if self.deep else [])):
                ok = b.and_(ok, b.icmp_unsigned("<", b.add(place, move), size))
            address = b.add(source, b.shl(b.sext(offset, I64), ir.Constant(I64, 2)))
            G.copy16(e, pixel, 4 * n * LANES * self.tile.pixels, address, 0, ok)
        for q in range(self.copies):
            G.copy16(e, weight, 16 * q * self.tile.threads, weights, 16 * q * self.tile.threads)


def make_implicit(
    tile: Parameters, expression: Expression | None, operands: tuple[str, ...], parts: bool, deep: bool
) -> Program:
    """parts: the sums are cut into parts, which lie `part` floats apart. deep: there are three axes."""
    shape = Tile(*tile)
    buffers = ("x", "weights", "table", "y", *(f"a{i}" for i in range(len(operands))))
    sums = Sums(shape)
    zeros, step_tile = sums.zeros, sums.step
    finish = emitted(None, (sums.type, ARGUMENTS), _End(sums, expression, operands, buffers, parts))
    at = {name: i for i, name in enumerate((*buffers, *SIZES))}
    X, W, TABLE = at["x"], at["weights"], at["table"]
    AREA, PLANE, COLUMNS, PIXELS = at["area"], at["plane"], at["columns"], at["pixels"]
    STRIDE_Z, STRIDE_Y, STRIDE_X = at["stride_z"], at["stride_y"], at["stride_x"]
    DEPTH, HEIGHT, WIDTH = at["depth"], at["height"], at["width"]
    X_IMAGE, X_GROUP, STEPS, SHARE = at["x_image"], at["x_group"], at["steps"], at["share"]
    PANELS, GROUPS = at["panels"], at["groups"]
    BM, THREADS, STAGE = shape.pixels, shape.threads, shape.stage
    AHEAD, W_AT, W_STEP = STAGES - 1, ENTRIES * LANES * shape.pixels, ENTRIES * LANES * shape.filters
    fetch = emitted(
        None, (ARGUMENTS, INT, INT, LONG, LONG, LONG, BOOL, INT, INT, INT), _Fetch(shape, deep, (DEPTH, HEIGHT, WIDTH))
    )
    waits = G.wait_for(STAGES - 2)

    def kernel(arguments: Any, block: Any, _: Any) -> None:
        thread, number = G.thread(), i32(block)
        part = i32(0)
        if parts:
            whole = G.divide(number, G.divide(i32(arguments[STEPS] + arguments[SHARE] - 1), i32(arguments[SHARE])))
            part = i32(number - whole * G.divide(i32(arguments[STEPS] + arguments[SHARE] - 1), i32(arguments[SHARE])))
            number = whole
        panels, groups = i32(arguments[PANELS]), i32(arguments[GROUPS])
        rest = G.divide(number, panels)
        panel = i32(number - rest * panels)
        row = G.divide(rest, groups)
        group = i32(rest - row * groups)
        first = i32(row * BM)
        # the pixel, half of whose entries this thread copies
        mine, half = i32(thread >> 1), i32(thread & 1)
        pixel = i32(first + mine)
        there = pixel < i32(arguments[PIXELS])
        area, plane, columns = i32(arguments[AREA]), i32(arguments[PLANE]), i32(arguments[COLUMNS])
        image = G.divide(pixel, area)
        rest = i32(pixel - image * area)
        z = i32(0)
        if deep:
            z = G.divide(rest, plane)
            rest = i32(rest - z * plane)
        y = G.divide(rest, columns)
        x = i32((rest - y * columns) * i32(arguments[STRIDE_X]))
        y, z = i32(y * i32(arguments[STRIDE_Y])), i32(z * i32(arguments[STRIDE_Z]))
        height, width = i32(arguments[HEIGHT]), i32(arguments[WIDTH])
        source = arguments[X] + 4 * (i64(image) * arguments[X_IMAGE] + i64(group) * arguments[X_GROUP])
        source += 4 * i64(i32(((z * height + y) * width + x) * LANES + half * 4))
        here = G.shared_address()
        pixel_at = i32(here + 4 * (mine * LANES + ((half * 4) ^ (mine & 4))))
        weight_at = i32(here + 4 * (W_AT + thread * 4))
        begin = i32(part * i32(arguments[SHARE]))
        end = min(i32(arguments[STEPS]), i32(begin + i32(arguments[SHARE])))
        weights = (
            arguments[W] + 4 * (i64(i32(group * panels + panel)) * arguments[STEPS] + begin) * W_STEP + 16 * i64(thread)
        )
        table = arguments[TABLE]
        held, use, into, step = zeros(), i32(0), i32(0), i32(begin - AHEAD)
        while step < end:
            if step >= begin:
                waits()
                G.sync()
            coming = i32(step + AHEAD)
            if coming < end:
                entries = table + 16 * ENTRIES * i64(coming)
                to_pixel, to_weight = i32(pixel_at + into), i32(weight_at + into)
                fetch(arguments, to_pixel, to_weight, source, weights, entries, there, z, y, x)
                weights += 4 * W_STEP
            G.commit()
            into = i32(into + 4 * STAGE)
            if into == 4 * STAGES * STAGE:
                into = i32(0)
            if step >= begin:
                held = step_tile(held, use, thread)
                use = i32(use + STAGE)
                if use == STAGES * STAGE:
                    use = i32(0)
            step = i32(step + 1)
        finish(held, arguments)

    return Program(kernel, buffers, SIZES, THREADS, shape.shared, shape.resident)


def make_pack() -> Program:
    buffers = ("source", "table", "packed")
    at = {name: i for i, name in enumerate((*buffers, *PACK_SIZES))}
    SOURCE, TABLE, PACKED, TOTAL, WIDTH = at["source"], at["table"], at["packed"], at["total"], at["width"]
    ENTRIES_, PANELS, BLOCKS, FILTERS, CHANNELS = (
        at["entries"],
        at["panels"],
        at["blocks"],
        at["filters"],
        at["channels"],
    )
    TAPS, GROUP, FILTER, CHANNEL = at["taps"], at["group"], at["filter"], at["channel"]

    def kernel(arguments: Any, block: Any, _: Any) -> None:
        number = i32(block * PACK_THREADS + G.thread())
        if number < i32(arguments[TOTAL]):
            width, entries, panels = i32(arguments[WIDTH]), i32(arguments[ENTRIES_]), i32(arguments[PANELS])
            rest = G.divide(number, width)
            filter_ = i32(number - rest * width)
            lane = i32(rest & (LANES - 1))
            rest = i32(rest >> 3)
            row = G.divide(rest, entries)
            entry = i32(rest - row * entries)
            group = G.divide(row, panels)
            filter_ = i32(filter_ + (row - group * panels) * width)
            tap = G.divide(entry, i32(arguments[BLOCKS]))
            channel = i32((entry - tap * i32(arguments[BLOCKS])) * LANES + lane)
            value = G.real(0)
            if filter_ < i32(arguments[FILTERS]) and channel < i32(arguments[CHANNELS]) and tap < i32(arguments[TAPS]):
                base = G.load_int(arguments[TABLE], i32(2 * tap))
                place = i32(
                    group * i32(arguments[GROUP])
                    + filter_ * i32(arguments[FILTER])
                    + channel * i32(arguments[CHANNEL])
                    + base
                )
                value = G.load1(arguments[SOURCE], place)
            G.store1(value, arguments[PACKED], number)

    return Program(kernel, buffers, PACK_SIZES, PACK_THREADS)


FAMILIES = (
    Family(
        "conv_implicit",
        make_implicit,
        "Convolution, or its gradient by x, as a product of matrices. A block is a tile of a part.",
    ),
    Family("conv_pack", make_pack, "Weights in the order of conv_implicit."),
)
