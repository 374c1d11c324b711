"""Direct convolution with a register tile: forward, data gradients, and their packed weights.

One kernel family covers every kernel size, stride, dilation and padding, because it knows a tap only as an offset into
its input. This module has the register tile; the loops around it are in `rows.py`, `matrix.py`,
`flat.py` and `spread.py`. `plan.py` computes the arguments and says what they mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from numba import types

from .. import Family
from ..code.channels import gather_body
from ..code.emit import F32, Emitter, i64
from ..code.loops import picking, pointers
from ..code.partial import Own, in_parts, most_terms, own_sums, room_for
from ..code.vector import FLOATS, INTEGERS, Linked, indices
from ..target import Target
from . import flat, matrix, rows, spread
from .arguments import DIRECT_ARGUMENTS
from .rows import bands_of, pixel_of

# Weights come from the second level cache; asking for them this many input channels ahead is worth 2%.
AHEAD = 16
LINE_FLOATS = 16
A = indices(DIRECT_ARGUMENTS)
OPERANDS = len(DIRECT_ARGUMENTS)


Body = Callable[..., None]
_N = types.int64
GATHER = (INTEGERS, FLOATS, _N, _N)
# those of `_Given`, then tall, wide
TILE = (FLOATS, INTEGERS, _N, FLOATS, FLOATS, _N, _N, _N, INTEGERS, FLOATS, _N, _N, _N, _N, _N)


@dataclass(frozen=True)
class Tile:
    """A register tile: sums of `pixels` x `vectors` vectors, or where some tiles are `uneven` of one pixel less, or of a `tail` of
    single vectors.

    `form` is that of the input (`rows.pixel_of`). Neighboring outputs meet pixels that lie `apart`. An entry of "spread" pixels
    stands for `near` taps that follow each other in a row. Where `masked`, zero weights make no zero of an infinite input, and only
    the channels that there are keep a value. Nor do weights between channels of different groups, which bands of channels have, and
    those of groups that were `merged`: where sums are not finite, products with them are left out.
    """

    pixels: int
    vectors: int
    uneven: bool
    tail: bool
    form: str
    masked: bool
    expression: Any
    operands: tuple[str, ...]
    apart: int = 1
    near: int = 1
    merged: bool = False


class _Given(NamedTuple):
    """What a tile is called with, beside whether it has all pixels and vectors.

    It adds up `count` entries: of the tap table `taps`, each a place behind `x`, or of copied pixels; of "scattered" outputs `taps`
    is the table of their places. An entry of a banded or shifted tap table says besides how many channels it stands for. Of shifted
    outputs, which are no whole block, the first `last` lanes are stored.

    Weights that later tiles read are asked for from `ahead` on, `pace` floats for each input channel, and pixels that lie `reach`
    floats from those of this tile. `place` is the tile's offset in y and in every operand of its shape. `scratch` begins with the
    panel's channel vectors: the bias, then those of the operands. The `first` entries start from the bias, later ones are added to
    y; with the `last` the expression is applied. `valid` are the channels of the panel that there are.
    """

    x: Any
    taps: Any
    count: Any
    w: Any
    ahead: Any
    pace: Any
    reach: Any
    place: Any
    arguments: Any
    scratch: Any
    first: Any
    last: Any
    valid: Any


class _Outputs:
    """The outputs of a tile of pixels x size vectors, and operands of their shape, in memory."""

    def __init__(self, e: Emitter, tile: Tile, shape: tuple[int, int], given: _Given) -> None:
        self.e, self.b, self.given, self.form = e, e.b, given, tile.form
        self.pixels, self.size = shape
        self.shifted = bands_of(tile.form)[1]
        self.y, self.y_pixel, self.y_block = self.tensor(A.y), self.argument(A.y_pixel), self.argument(A.y_block)

    def argument(self, index: int) -> Any:
        return self.b.load(self.b.gep(self.given.arguments, [i64(index)]), align=8)

    def tensor(self, index: int) -> Any:
        """The tile's first output in the tensor of that argument."""
        return self.b.gep(self.b.inttoptr(self.argument(index), F32.as_pointer()), [self.given.place])

    def places(self, pointer: Any) -> list[list[Any]]:
        """[pixel][vector] pointers of the outputs, or of an operand of the same shape."""
        b, heads = self.b, pointers(self.e, pointer, self.y_block, self.size)
        out = [heads]
        if self.form == "scattered":
            found = [b.load(b.gep(self.given.taps, [i64(p)]), align=8) for p in range(self.pixels)]
            return [[b.gep(head, [at]) for head in heads] for at in found]
        for _ in range(self.pixels - 1):
            heads = [b.gep(head, [self.y_pixel]) for head in heads]
            out.append(heads)
        return out

    def _lie(self) -> tuple[Any, Any, Any, Any]:
        """Of shifted outputs, which lanes lie in the block where they begin; those that are stored of these, and of the
        next block's; how far that is.
        """
        e, b, lanes = self.e, self.b, self.e.lanes
        within = e.first_lanes(b.sub(i64(lanes), b.and_(self.given.place, i64(lanes - 1))))
        kept = e.first_lanes(self.given.last)
        return within, b.and_(kept, within), b.and_(kept, b.not_(within)), b.sub(self.y_block, i64(lanes))

    def load(self, at: Any) -> Any:
        e = self.e
        if not self.shifted:
            return e.load(at)
        within, here, there, beyond = self._lie()
        return e.select(within, e.masked_load(at, here), e.masked_load(self.b.gep(at, [beyond]), there))

    def store(self, value: Any, at: Any) -> None:
        if not self.shifted:
            self.e.store(value, at)
            return
        _, here, there, beyond = self._lie()
        self.e.masked_store(value, at, here)
        self.e.masked_store(value, self.b.gep(at, [beyond]), there)

    def read(self) -> list[Any]:
        return [self.load(at) for line in self.places(self.y) for at in line]

    def write(self, sums: list[Any]) -> None:
        for value, at in zip(sums, [at for line in self.places(self.y) for at in line], strict=True):
            self.store(value, at)


class _Products:
    """The products that are added up for pixels x size vectors.

    One `getelementptr` per loop level: where the index is computed as a whole in the innermost loop, LLVM 22 spills
    accumulators.
    """

    def __init__(self, e: Emitter, tile: Tile, shape: tuple[int, int], outputs: _Outputs) -> None:
        self.e, self.b, self.tile, self.given = e, e.b, tile, outputs.given
        self.pixels, self.size = pixels, size = shape
        self.step, self.depth = pixel_of(e.target, tile.form)
        self.step *= tile.apart
        self.banded, _, self.flat = bands_of(tile.form)
        self.copied = tile.form in ("matrix", "scattered")
        # Two steps in one body make LLVM hold both steps' weights: only where there are registers for them.
        self.unroll = min(2 if pixels * size + 4 * size + 8 < e.target.registers else 1, self.depth)
        # of the last block only the channels that there are
        b, given = e.b, outputs.given
        self.fresh = b.icmp_signed("!=", given.first, i64(0))
        ended = b.icmp_signed("!=", given.last, i64(0))
        self.ending = b.select(ended, b.sub(given.count, outputs.argument(A.tap_count)), given.count)
        self.few = b.sdiv(outputs.argument(A.last_channels), i64(self.unroll))

    def bias(self) -> list[Any]:
        """What the sums of a pixel begin with."""
        e = self.e
        return [e.select(self.fresh, e.load(self.given.scratch, e.lanes * v), e.const(0)) for v in range(self.size)]

    def sums(self, outputs: _Outputs) -> list[Any]:
        e, tile, given = self.e, self.tile, self.given
        start = self.bias() * self.pixels
        carried = [*([given.x] if self.copied else []), given.w, given.ahead]
        # an infinite input makes all vectors of its pixel infinite or NaN
        own = Own(self.own, self.size) if self.banded or tile.merged else None
        most = most_terms(self.depth * tile.near)
        return in_parts(e, given.count, most, self.fresh, carried, start, self.over_taps, outputs, own)

    def over_channels(self, _: Any, carried: list[Any]) -> list[Any]:
        e, size, lanes = self.e, self.size, self.e.lanes
        xt, wt, later, *acc = carried
        for line in range(0, size * lanes, LINE_FLOATS):
            e.prefetch(e.at(wt, AHEAD * size * lanes + line))
        for k in range(self.unroll):
            e.prefetch(later, 2)
            later = self.b.gep(later, [self.given.pace])
            ws = [e.load(wt, lanes * (k * size + v)) for v in range(size)]
            for p in range(self.pixels):
                xv = e.broadcast(xt, p * self.step + k)
                for v in range(size):
                    acc[p * size + v] = e.fma(xv, ws[v], acc[p * size + v])
        return [e.at(xt, self.unroll), e.at(wt, self.unroll * size * lanes), later, *acc]

    def entry(self, t: Any) -> tuple[Any, Any]:
        """Entry t of the tap table, and what it meets."""
        found = self.b.gep(self.given.taps, [self.b.shl(t, i64(1)) if self.banded else t])
        return found, self.b.gep(self.given.x, [self.b.load(found, align=8)])

    def channels(self, entry: Any) -> Any:
        """How many channels a banded entry stands for."""
        return self.b.load(self.b.gep(entry, [i64(1)]), align=8)

    def over_taps(self, t: Any, carried: list[Any]) -> list[Any]:
        e, b = self.e, self.b
        following: list[Any] = []
        if self.copied:
            xt, wt, later, *acc = carried
            following = [e.at(xt, self.tile.pixels * self.step)]
        else:
            wt, later, *acc = carried
            entry, xt = self.entry(t)
        if self.flat:  # an entry's pixels are far from the last one's, so that no processor foresees them
            there = b.gep(xt, [self.given.reach])
            for line in sorted({p * self.step // LINE_FLOATS for p in range(self.pixels)}):
                e.prefetch(e.at(there, line * LINE_FLOATS))
        if self.banded:
            steps = b.udiv(self.channels(entry), i64(self.unroll))
            _, wt, later, *out = e.loop(steps, [xt, wt, later, *acc], self.over_channels)
            return [wt, later, *out]
        if self.tile.form == "spread":
            acc = self.met(xt, wt, acc)
            return [e.at(wt, self.tile.near * e.lanes), later, *acc]
        if self.depth == self.unroll:
            _, _, later, *out = self.over_channels(None, [xt, wt, later, *acc])
        else:
            steps = b.select(b.icmp_signed("<", t, self.ending), i64(self.depth // self.unroll), self.few)
            _, _, later, *out = e.loop(steps, [xt, wt, later, *acc], self.over_channels)
        return [*following, e.at(wt, self.depth * self.size * e.lanes), later, *out]

    def met(self, xt: Any, wt: Any, acc: list[Any]) -> list[Any]:
        """The sums with spread pixels: lanes meet the input's lanes, and a pixel all outputs that it is near to."""
        e, near = self.e, self.tile.near
        ws = [e.load(wt, e.lanes * j) for j in range(near)]
        for q in range(self.pixels + near - 1):
            xv = e.load(xt, q * self.step)
            for p, w in ((q - j, w) for j, w in enumerate(ws) if 0 <= q - j < self.pixels):
                acc[p] = e.fma(xv, w, acc[p])
        return acc

    def own(self, done: Any, length: Any, carried: list[Any]) -> list[Any]:
        """The sums of `length` entries after the first `done`, without products between groups, pixel by pixel."""
        e, b, size, lanes = self.e, self.b, self.size, self.e.lanes
        *line, begin_w, _ = carried
        room, bias = room_for(e, self.pixels * size), b.and_(self.fresh, b.icmp_signed("==", done, i64(0)))
        start = [e.select(bias, e.load(self.given.scratch, lanes * v), e.const(0)) for v in range(size)]

        def over_pixels(p: Any, _: list[Any]) -> list[Any]:
            moved = b.mul(p, i64(self.step))

            def over_entries(t: Any, carried: list[Any]) -> list[Any]:
                wt, *acc = carried
                t, channels = b.add(done, t), i64(self.depth)
                if self.copied:
                    xt = b.gep(line[0], [b.mul(b.sub(t, done), i64(self.tile.pixels * self.step))])
                else:
                    entry, xt = self.entry(t)
                if self.banded:
                    channels = self.channels(entry)
                elif self.depth > 1:
                    channels = b.select(b.icmp_signed("<", t, self.ending), channels, b.mul(self.few, i64(self.unroll)))
                acc = own_sums(e, acc, b.gep(xt, [moved]), wt, channels, size)
                return [b.gep(wt, [b.mul(channels if self.banded else i64(self.depth), i64(size * lanes))]), *acc]

            _, *acc = e.loop(length, [begin_w, *start], over_entries)
            for v, value in enumerate(acc):
                e.store(value, room, b.mul(b.add(b.mul(p, i64(size)), i64(v)), i64(lanes)))
            return []

        e.loop(i64(self.pixels), [], over_pixels)
        return [e.load(room, i * lanes) for i in range(self.pixels * size)]


def _tile(e: Emitter, tile: Tile, shape: tuple[int, int], given: _Given) -> None:
    """The outputs of pixels x size vectors: their sums, and the expression of them."""
    b, size, outputs = e.b, shape[1], _Outputs(e, tile, shape, given)
    # Operands of the expression come from afar, and are wanted all at once when the sums are done.
    where = [
        outputs.places(outputs.tensor(OPERANDS + i)) if kind == "full" else None for i, kind in enumerate(tile.operands)
    ]
    for spot in [spot for operand in where if operand for line in operand for spot in line]:
        e.prefetch(spot)
    sums = _Products(e, tile, shape, outputs).sums(outputs)
    if tile.expression is None and not tile.masked and not outputs.shifted:
        outputs.write(sums)
        return
    finish, keep, end = (b.append_basic_block(name) for name in ("epilogue", "keep", "end"))
    b.cbranch(b.icmp_signed("!=", given.last, i64(0)), finish, keep)
    b.position_at_end(keep)
    outputs.write(sums)
    b.branch(end)
    b.position_at_end(finish)
    masks = [e.first_lanes(b.sub(given.valid, i64(e.lanes * v))) for v in range(size)] if tile.masked else []
    for p, line in enumerate(outputs.places(outputs.y)):
        for v, at in enumerate(line):
            variables = {"y": sums[p * size + v]}
            for i, full in enumerate(where):
                channel = e.lanes * (tile.vectors * (i + 1) + v)
                variables[f"a{i}"] = outputs.load(full[p][v]) if full else e.load(given.scratch, channel)
            value = variables["y"] if tile.expression is None else e.expression(tile.expression, variables)
            outputs.store(e.select(masks[v], value, e.const(0)) if tile.masked else value, at)
    b.branch(end)
    b.position_at_end(end)


def tiles_body(tile: Tile) -> Body:
    """A body that picks the tile: `tall` for all pixels, else one less; `wide` for a panel, else one block."""

    def body(e: Emitter, shape: tuple[int, int], *values: Any) -> None:
        _tile(e, tile, shape, _Given(*values))

    return picking(body, (tile.pixels, tile.vectors), tile.uneven, tile.tail)


def _make_direct(target: Target, **parameters: Any) -> Linked:
    tile = Tile(**parameters)
    bodies = {
        "gather": (GATHER, gather_body(tile.operands, A.bias, OPERANDS, tile.vectors)),
        "tile": (TILE, tiles_body(tile)),
    }
    if tile.form == "flat":
        return Linked(flat.outer(target, tile.pixels, tile.apart, GATHER, TILE), bodies)
    if tile.form in ("matrix", "scattered"):
        return Linked(matrix.outer(target, tile.pixels, tile.form, GATHER, TILE), bodies)
    if tile.form == "spread":
        return Linked(spread.outer(target, GATHER, TILE), bodies)
    return Linked(rows.outer(target, tile.form, GATHER, TILE), bodies)


FAMILIES = (
    Family(
        "conv_direct", DIRECT_ARGUMENTS, _make_direct, "Direct convolution on blocked or plain input, with an epilogue."
    ),
)
