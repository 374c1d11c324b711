"""Between plain and blocked layouts (`block`, `unblock`), constants (`fill`), and dropout, whose random numbers do not depend on the
layout.

Copies of strided regions and concatenation are maps: see `plan_copy` and `plan_concat`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from .. import Family
from ..code.emit import I64, Emitter, Value, i64
from ..code.loops import transpose
from ..code.vector import FLOATS, INTEGERS, emitted, vectors
from ..target import Target


def _clipped(e: Emitter, index: int, count: Value) -> tuple[Value, Value]:
    """index where it is below count, else 0; and whether it is."""
    inside = e.b.icmp_signed("<", i64(index), count)
    return e.b.select(inside, i64(index), i64(0)), inside


def _converting(target: Target, tile: Any, whole_tile: Any, plain: int, blocked: int) -> Any:
    """A kernel that goes through tiles of L channels by L pixels. tile(e, plain, stride, channels, pixels, blocked) and whole_tile(e,
    plain, stride, blocked) emit one; `stride` is from channel to channel, `plain` and `blocked` are the arguments that are tensors.
    """
    lanes, V = target.lanes, vectors(target)
    some = emitted(target, None, (FLOATS, types.int64, types.int64, types.int64, FLOATS), tile)
    all_ = emitted(target, None, (FLOATS, types.int64, FLOATS), whole_tile)

    def kernel(arguments, chunk, scratch):
        channels, plane, pieces, piece = arguments[0], arguments[1], arguments[2], arguments[3]
        per_image, stride = arguments[4], arguments[5]
        blocks = (channels + lanes - 1) // lanes
        unit = chunk // pieces
        n, cb = unit // blocks, unit % blocks
        valid = min(lanes, channels - cb * lanes)
        x = V.offset(V.floats(arguments[plain]), n * per_image + cb * lanes * stride)
        y = V.offset(V.floats(arguments[blocked]), unit * plane * lanes)
        stop = min(plane, (chunk % pieces + 1) * piece)
        for p in range(chunk % pieces * piece, stop, lanes):
            if valid == lanes and stop - p >= lanes:
                all_(V.offset(x, p), stride, V.offset(y, p * lanes))
            else:
                some(V.offset(x, p), stride, valid, stop - p, V.offset(y, p * lanes))

    return kernel


def make_block(target: Target) -> Any:
    lanes = target.lanes

    def tile(e: Emitter, x: Value, stride: Value, channels: Value, pixels: Value, y: Value) -> None:
        mask, rows = e.first_lanes(pixels), []
        for c in range(lanes):
            row, inside = _clipped(e, c, channels)
            pointer = e.at(x, e.b.mul(row, stride))
            # Whole tiles, the common case, must not pay for masks that LLVM cannot see through.
            rows.append(e.b.select(inside, e.masked_load(pointer, mask), e.const(0)))
        for p, vector in enumerate(transpose(e, rows)):
            with e.b.if_then(e.b.icmp_signed("<", i64(p), pixels)):
                e.store(vector, y, p * lanes)

    def whole_tile(e: Emitter, x: Value, stride: Value, y: Value) -> None:
        rows = [e.load(e.at(x, e.b.mul(i64(c), stride))) for c in range(lanes)]
        for p, vector in enumerate(transpose(e, rows)):
            e.store(vector, y, p * lanes)

    return _converting(target, tile, whole_tile, 6, 7)


def make_unblock(target: Target) -> Any:
    lanes = target.lanes

    def tile(e: Emitter, y: Value, stride: Value, channels: Value, pixels: Value, x: Value) -> None:
        rows = []
        for p in range(lanes):
            row, _ = _clipped(e, p, pixels)
            rows.append(e.load(e.at(x, e.b.mul(row, i64(lanes)))))
        mask = e.first_lanes(pixels)
        for c, vector in enumerate(transpose(e, rows)):
            with e.b.if_then(e.b.icmp_signed("<", i64(c), channels)):
                e.masked_store(vector, e.at(y, e.b.mul(i64(c), stride)), mask)

    def whole_tile(e: Emitter, y: Value, stride: Value, x: Value) -> None:
        for c, vector in enumerate(transpose(e, [e.load(x, p * lanes) for p in range(lanes)])):
            e.store(vector, e.at(y, e.b.mul(i64(c), stride)))

    return _converting(target, tile, whole_tile, 7, 6)


def make_move_channels(target: Target) -> Any:
    V, lanes = vectors(target), target.lanes

    def kernel(arguments, chunk, scratch):
        plane, channels, x_blocks, y_blocks = arguments[0], arguments[1], arguments[2], arguments[3]
        x_first, y_first, last = arguments[4], arguments[5], arguments[6] != 0
        first_block = y_first // lanes
        touched = (y_first + channels - 1) // lanes - first_block + 1
        n, block = chunk // touched, first_block + chunk % touched
        low, high = max(y_first, block * lanes), min(y_first + channels, (block + 1) * lanes)
        source, count, lane = low - y_first + x_first, high - low, low - block * lanes
        x = V.offset(V.floats(arguments[7]), (n * x_blocks + source // lanes) * plane * lanes)
        y = V.offset(V.floats(arguments[8]), (n * y_blocks + block) * plane * lanes + lane)
        shift, width = source % lanes, lanes - lane if last and block == first_block + touched - 1 else count
        for p in range(plane):
            # Two neighbouring blocks side by side, then the channels that are wanted. What follows the last one is
            # padding.
            V.store(V.load(x, p * lanes), scratch, 0)
            if shift + count > lanes:
                V.store(V.load(x, (plane + p) * lanes), scratch, lanes)
            V.store_first(V.load_first(scratch, shift, count), y, p * lanes, width)

    return kernel


# ---- dropout

LOW = 0xFFFFFFFF


def philox(e: Emitter, counter: list[Value], key: list[Value]) -> list[Value]:
    """Philox4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, 2011) on vectors of int64 that hold 32
    bits each.
    """
    b, kind = e.b, counter[0].type

    def const(value: int) -> Value:
        return ir.Constant(kind, [value] * e.lanes)

    def parts(product: Value) -> tuple[Value, Value]:
        return b.lshr(product, const(32)), b.and_(product, const(LOW))

    c, k = list(counter), list(key)
    for _ in range(10):
        high0, low0 = parts(b.mul(c[0], const(0xD2511F53)))
        high1, low1 = parts(b.mul(c[2], const(0xCD9E8D57)))
        c = [b.xor(b.xor(high1, c[1]), k[0]), low1, b.xor(b.xor(high0, c[3]), k[1]), low0]
        k = [
            b.and_(b.add(word, const(step)), const(LOW)) for word, step in zip(k, (0x9E3779B9, 0xBB67AE85), strict=True)
        ]
    return c


def make_dropout(target: Target, blocked: bool) -> Any:
    lanes = target.lanes

    def emit(e: Emitter, x: Value, y: Value, count: Value, index: Value, stride: Value, *drawn: Value) -> None:
        """One vector: lane k has the logical index `index + k * stride`."""
        b, kind = e.b, ir.VectorType(I64, e.lanes)
        state, salt, threshold, scale = drawn

        def words(value: Value) -> tuple[Value, Value]:
            value = value if value.type == kind else e.splat(value)
            low = ir.Constant(kind, [LOW] * lanes)
            return b.and_(value, low), b.lshr(value, ir.Constant(kind, [32] * lanes))

        steps = b.mul(ir.Constant(kind, list(range(lanes))), e.splat(stride))
        seed, epoch = b.load(state), b.load(b.gep(state, [i64(1)]))
        counter = [*words(b.add(e.splat(index), steps)), words(salt)[0], words(epoch)[0]]
        bits = philox(e, counter, list(words(seed)))[0]
        keep = b.icmp_signed(">=", bits, e.splat(threshold))
        mask = e.first_lanes(count)
        value = b.fmul(e.masked_load(x, mask), e.splat(b.fptrunc(scale, ir.FloatType())))
        e.masked_store(b.select(keep, value, e.const(0)), y, mask)

    integer, V = types.int64, vectors(target)
    kinds = (FLOATS, FLOATS, integer, integer, integer, INTEGERS, integer, integer, types.float64)
    one = emitted(target, None, kinds, emit)

    def kernel(arguments, chunk, scratch):
        channels, plane, pieces, piece = arguments[0], arguments[1], arguments[2], arguments[3]
        salt, threshold, scale, state = arguments[4], arguments[5], V.real(arguments[6]), V.integers(arguments[7])
        x, y = V.floats(arguments[8]), V.floats(arguments[9])
        start = chunk % pieces * piece
        stop = min(plane, start + piece)
        if blocked:
            blocks = (channels + lanes - 1) // lanes
            unit = chunk // pieces
            first = (unit // blocks * channels + unit % blocks * lanes) * plane
            for p in range(start, stop):
                at = (unit * plane + p) * lanes
                one(V.offset(x, at), V.offset(y, at), lanes, first + p, plane, state, salt, threshold, scale)
        else:
            for p in range(start, stop, lanes):
                one(V.offset(x, p), V.offset(y, p), stop - p, p, 1, state, salt, threshold, scale)

    return kernel


_CONVERSION = ("channels", "plane", "pieces", "piece")


def make_fill(target: Target) -> Any:
    V = vectors(target)
    lanes = target.lanes

    def kernel(arguments, chunk, scratch):
        size, piece = arguments[0], arguments[1]
        value, y = V.splat(V.real(arguments[2])), V.floats(arguments[3])
        for i in range(chunk * piece, min((chunk + 1) * piece, size), lanes):
            V.store_first(value, y, i, size - i)

    return kernel


FAMILIES = (
    Family(
        "fill",
        ("size", "piece", "value", "y"),
        make_fill,
        "y[size] = value, a float64's bits. A chunk is a piece, a multiple of the lanes.",
    ),
    Family(
        "block",
        (*_CONVERSION, "x_image", "x_channel", "x", "y"),
        make_block,
        "Plain x[N][C][plane] to blocked y[N][CB][plane][L], padded lanes zero. A chunk is a piece of the plane of an image's block.",
    ),
    Family(
        "unblock",
        (*_CONVERSION, "y_image", "y_channel", "x", "y"),
        make_unblock,
        "Blocked x[N][CB][plane][L] to plain y[N][C][plane]. A chunk is a piece of the plane of an image's block.",
    ),
    Family(
        "move_channels",
        ("plane", "channels", "x_blocks", "y_blocks", "x_first", "y_first", "last", "x", "y"),
        make_move_channels,
        "Channels from x_first of a blocked x to y_first of a blocked y; with last, zeros in the lanes behind. A chunk is a block of y.",
    ),
    Family(
        "dropout",
        (*_CONVERSION, "salt", "threshold", "scale", "state", "x", "y"),
        make_dropout,
        "y = x * scale where the random bits of the element reach the threshold, else 0; state points to int64 seed and step.",
    ),
)
